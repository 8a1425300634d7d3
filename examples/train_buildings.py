"""The recipe that made the embedded model ``buildings``: about an hour on two CPU cores.

    python examples/train_buildings.py SHARED_DATA OUTPUT.safetensors

Stage 1 ran on real tiles alone, with a schedule for 14 epochs, and was stopped after its second. From there two
runs of 9 epochs parted: one on real tiles alone, one with 30 % rendered scenes. The second is the embedded one.
Both scores are in README. One thread a run, so that both fit on two cores.
"""

import sys
from pathlib import Path

from rscd.config import TrainConfig
from rscd.training.loop import Epoch, train

FOLDERS = ("1m_512_a", "1m_512_b", "0.5m_256", "0.5m_256_jittered", "0.5m_1024_jittered")


class Stop(Exception):
    """Raised to end stage 1 early."""


def main(data: Path, output: Path) -> None:
    """Train both stages and write the two checkpoints that README compares."""
    levir = data / "levir"
    common = {
        "data": tuple(levir / "train" / name for name in FOLDERS),
        "validation": (levir / "val" / "0.5m_1024", levir / "val" / "1m_512"),
        "name": "buildings",
        "threads": 1,
        "trained_on": "LEVIR-CD training scenes (1 m and 0.5 m)",
        "licence": "research and non-commercial use: trained on LEVIR-CD",
    }
    first = output.with_name("stage1.safetensors")

    def stop_after_two(epoch: Epoch) -> None:
        if epoch.number == 3:  # the checkpoint of epoch 2 has been written by then
            raise Stop

    try:
        train(TrainConfig(output=first, epochs=14, seed=0, **common), on_epoch=stop_after_two)
    except Stop:
        pass
    for target, simulated in ((output.with_name("real-only.safetensors"), 0.0), (output, 0.3)):
        config = TrainConfig(output=target, epochs=9, seed=1, init=first, simulated=simulated, **common)
        train(config, on_epoch=print)


main(Path(sys.argv[1]), Path(sys.argv[2]))
