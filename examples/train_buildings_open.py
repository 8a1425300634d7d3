"""The recipe that made the embedded model ``buildings-open``: from rendered scenes alone, free for any use.

    python examples/train_buildings_open.py OUTPUT.safetensors [SHARED_DATA]
    python -m torch.distributed.run --nproc-per-node 2 examples/train_buildings_open.py ...   # two cores

The encoder starts from ImageNet's weights (Apache-2.0). Training, epoch, threshold and calibration know rendered
scenes alone; no label that people drew is looked at. With SHARED_DATA the result is then measured on the validation
tiles of LEVIR-CD, which chose nothing.

The embedded weights had two epochs more before these: of scenes without the layouts with villas and apartment
buildings, whose dates fitted exactly, and without ``other_sensors``; presence was told to be equal next to edges
of unchanged buildings until the third of the eight. So a rerun gives similar weights, not these. Two hours of two
CPU cores that had other work too.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from rscd.inference.device import own_process
from rscd.options.training import EvaluateConfig, TrainConfig
from rscd.training.data.batches import rendered_crop
from rscd.training.data.tiles import CHANGED
from rscd.training.parallel import leads
from rscd.workflows.evaluate import evaluate
from rscd.workflows.train import train

SIDE = 768
"""Of a rendered tile, px."""
LEARN, JUDGE = (8, 3_000_000), (24, 2_000_000)
"""Tiles, and the seed of the first: apart from those that ``simulated`` draws from, and from tests and demo."""


def main(output: Path, data: Path | None) -> None:
    """Render what it is judged on, train, measure."""
    own_process("cpu")  # freed memory is kept, as rscd train does: a fifth of a step
    folders = [output.with_name(f"{output.stem}-{name}") for name in ("learn", "judge")]
    if leads():
        for folder, (count, seed) in zip(folders, (LEARN, JUDGE), strict=True):
            for number in range(0 if folder.exists() else count):
                render(folder, seed + number)
    config = TrainConfig(
        data=(folders[0],),
        validation=(folders[1],),
        output=output,
        name="buildings-open",
        simulated=0.95,  # the rest are the few tiles of the folder, which are rendered too
        other_sensors=0.5,
        epochs=8,
        crops=3200,
        batch_size=16,
        rate=1e-3,
        encoder_factor=0.3,
        scale=(0.6, 1.5),
        gsd_m=(0.3, 1.0),
        threads=1,
        class_name="building change",
        minimum_mapping_m2=40.0,
        trained_on="rendered scenes alone",
        licence="Apache-2.0",
    )
    train(config, on_epoch=print)
    if data is not None and leads():
        for name in ("0.5m_1024", "1m_512"):
            found = evaluate(EvaluateConfig((data / "levir" / "val" / name,), model=str(output)))
            print(name, found.total)


def render(folder: Path, seed: int) -> None:
    """Write a rendered tile."""
    crop = rendered_crop(seed, SIDE)
    parts = {
        "A": np.moveaxis(crop.before, 0, 2),
        "B": np.moveaxis(crop.after, 0, 2),
        "label": (crop.label == CHANGED).astype(np.uint8) * 255,
    }
    for part, pixels in parts.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / part / f"{seed}.png")


main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
