"""The recipe that made the embedded model ``buildings``: some three hours of one CPU core.

    python examples/train_buildings.py SHARED_DATA OUTPUT.safetensors

Three stages, each from the best epoch of the one before:

1. real tiles alone, a schedule of 14 epochs that was stopped after its second;
2. 9 epochs with 30 % rendered scenes;
3. 12 longer epochs with 20 % rendered scenes and a faster encoder.

Weights were first averaged, and tiles first drawn by their area, in stage 3; the code does so in all of them now,
so a rerun gives like weights, not these. No scene of the validation folders is trained on, and nothing was chosen
by ``scenes/vhr_austin_0.5m``.
"""

import sys
from pathlib import Path

from rscd.config import TrainConfig
from rscd.training.loop import train
from rscd.training.state import state_path

FOLDERS = ("1m_512_a", "1m_512_b", "0.5m_256", "0.5m_256_jittered", "0.5m_1024_jittered")


def main(data: Path, output: Path) -> None:
    """Train the stages in turn; each goes on where it was if it was cut short."""
    levir = data / "levir"
    common = {
        "data": tuple(levir / "train" / name for name in FOLDERS),
        "validation": (levir / "val" / "0.5m_1024", levir / "val" / "1m_512"),
        "name": "buildings",
        "threads": 1,
        "trained_on": "LEVIR-CD training scenes (1 m and 0.5 m)",
        "licence": "research and non-commercial use: trained on LEVIR-CD",
        "class_name": "building change",
        "minimum_mapping_m2": 40.0,  # chosen by object F1 on the validation tiles at 0.5 m
    }
    first, second = (output.with_name(f"{output.stem}-stage{n}.safetensors") for n in (1, 2))
    stages = (
        TrainConfig(output=first, epochs=2, seed=0, **common),
        TrainConfig(output=second, epochs=9, seed=1, init=first, simulated=0.3, **common),
        TrainConfig(
            output=output,
            epochs=12,
            crops=2048,
            seed=2,
            init=second,
            simulated=0.2,
            encoder_factor=0.3,
            **common,
        ),
    )
    for config in stages:
        if not config.output.exists() or state_path(config.output).exists():
            train(config, on_epoch=print)


main(Path(sys.argv[1]), Path(sys.argv[2]))
