"""The recipe that made the embedded model ``urban-s2``: Sentinel-2 at 10 m, seen by the network at 5 m.

    python examples/train_urban_s2.py SHARED_DATA OUTPUT.safetensors [START.safetensors]

Ten of OSCD's fourteen training cities are used: eight to learn from, two to choose epoch, threshold and
calibration. Beirut, Mumbai, Paris and Saclay are left out altogether; ``rscd evaluate`` scores them. Changes at
10 m are a few pixels wide and the network decides on a grid of 4 px, so the images are enlarged twice, as
``rscd detect`` does when the contract says 5 m. The embedded weights started from stage 2 of ``buildings``
(``examples/train_buildings.py``); the default start is its last stage.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

from rscd.options.training import TrainConfig
from rscd.workflows.train import train

LEFT_OUT = ("beirut", "mumbai", "paris", "saclay_e")
CHOOSE = ("hongkong", "rennes")
ENLARGED, TILE, STEP = 2, 512, 384
NAMES = {"A": "rgb_t1.tif", "B": "rgb_t2.tif", "label": "label.tif"}


def main(data: Path, output: Path, start: Path) -> None:
    """Cut tiles, train from ``buildings``."""
    with tempfile.TemporaryDirectory() as folder:
        learn, choose = Path(folder) / "learn", Path(folder) / "choose"
        for city in sorted((data / "oscd" / "train").iterdir()):
            if city.name not in LEFT_OUT:
                cut(city, choose if city.name in CHOOSE else learn, whole=city.name in CHOOSE)
        config = TrainConfig(
            data=(learn,),
            validation=(choose,),
            output=output,
            name="urban-s2",
            init=start,
            epochs=5,
            crops=480,
            encoder_factor=0.3,
            ema=0.99,
            scale=(0.7, 1.4),
            gsd_m=(5.0, 5.0),
            threads=1,
            class_name="urban change",
            trained_on="OSCD, eight of its training cities",
            licence="CC BY-NC-SA 4.0 (OSCD's labels; contains modified Copernicus data)",
        )
        train(config, on_epoch=print)


def cut(city: Path, folder: Path, *, whole: bool) -> None:
    """Write a city, enlarged, as tiles."""
    for part, name in NAMES.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        with rasterio.open(city / name) as dataset:
            pixels = dataset.read()
        label = part == "label"
        image = Image.fromarray(pixels[0] * 255 if label else np.moveaxis(pixels, 0, 2))
        kernel = Image.Resampling.NEAREST if label else Image.Resampling.BILINEAR
        image = image.resize((image.width * ENLARGED, image.height * ENLARGED), kernel)
        for left, top, box in [(0, 0, (0, 0, *image.size))] if whole else boxes(*image.size):
            image.crop(box).save(folder / part / f"{city.name}_{top}_{left}.png")


def boxes(width: int, height: int) -> list[tuple[int, int, tuple[int, int, int, int]]]:
    """Left, top and box of tiles that overlap; the last of a row or column is moved inside."""
    found = []
    for row in range(0, max(height - TILE // 4, 1), STEP):
        for col in range(0, max(width - TILE // 4, 1), STEP):
            top, left = min(row, height - TILE), min(col, width - TILE)
            found.append((left, top, (left, top, left + TILE, top + TILE)))
    return found


main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3] if len(sys.argv) > 3 else "buildings"))
