"""The recipe that made the embedded model ``urban-s2``: Sentinel-2 at 10 m, seen by the network at 5 m.

    python examples/train_urban_s2.py SHARED_DATA OUTPUT.safetensors START.safetensors

START is the model of stage 3 of ``train_buildings.py`` (``buildings`` 2): of all its stages the one that ends best
here. Changes at 10 m are a few pixels wide and the network decides on a grid of 4 px, so the images are enlarged
twice, as ``rscd detect`` does when the contract says 5 m.

Eight of OSCD's fourteen training cities overfit within minutes and the end depends on the order of the crops, so
three runs of different seeds are averaged. First they learn from eight cities; two more choose epoch, threshold and
temperature; and on the last four, which chose nothing, the mean is measured. Then the same three runs learn from
all fourteen; the two cities, which are among them, choose the epoch, and that was the last in each run. Their mean
is what is shipped, with the threshold and temperature of before.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
import torch
from PIL import Image

from rscd.core.contract import Contract
from rscd.inference.device import own_process
from rscd.model.checkpoint import load_mean, save_checkpoint
from rscd.model.network import ChangeNetwork
from rscd.options.training import EvaluateConfig, TrainConfig
from rscd.training.data.tiles import find_tiles
from rscd.training.validation import judge, validate
from rscd.workflows.evaluate import evaluate
from rscd.workflows.train import train

LEFT_OUT = ("beirut", "mumbai", "paris", "saclay_e")
CHOOSE = ("hongkong", "rennes")
SEEDS = (0, 1, 2)
ENLARGED, TILE, STEP = 2, 512, 384
PARTS = 3
"""Rows and columns of tiles that a city is cut into to choose by."""
NAMES = {"A": "rgb_t1.tif", "B": "rgb_t2.tif", "label": "label.tif"}


def main(data: Path, output: Path, start: Path) -> None:
    """Cut tiles, train for choosing, measure, train for shipping."""
    own_process("cpu")
    cities = sorted((data / "oscd" / "train").iterdir())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for city in cities:
            cut(city, folder / "all", boxes)
            if city.name in CHOOSE:
                cut(city, folder / "choose", parts)
            elif city.name not in LEFT_OUT:
                cut(city, folder / "eight", boxes)
        judged = output.with_name(f"{output.stem}-left-out.safetensors")
        network, contract = mean_of_runs(folder / "eight", folder / "choose", 480, start)
        verdict = judge(validate(network, find_tiles([folder / "choose"], print), torch.device("cpu"), True).counts)
        chosen = {"threshold": round(verdict.threshold, 3), "temperature": round(verdict.temperature, 4)}
        save_checkpoint(judged, network, replace(contract, **chosen), half=True)
        left_out = tuple(city for city in cities if city.name in LEFT_OUT)
        print(evaluate(EvaluateConfig(left_out, model=str(judged), align="off")).total)

        network, contract = mean_of_runs(folder / "all", folder / "choose", 840, start)
        save_checkpoint(output, network, replace(contract, **chosen), half=True)


def mean_of_runs(learn: Path, choose: Path, crops: int, start: Path) -> tuple[ChangeNetwork, Contract]:
    """Train once a seed; the mean of the weights, and a contract."""
    runs = [learn.with_name(f"{learn.name}{seed}.safetensors") for seed in SEEDS]
    for seed, run in zip(SEEDS, runs, strict=True):
        config = TrainConfig(
            data=(learn,),
            validation=(choose,),
            output=run,
            name="urban-s2",
            init=start,
            fine=0,
            presence=False,
            epochs=4,
            crops=crops,
            encoder_factor=0.3,
            ema=0.99,
            scale=(0.7, 1.4),
            gsd_m=(5.0, 5.0),
            seed=seed,
            threads=1,
            class_name="urban change",
            minimum_mapping_m2=0.0,
            trained_on="OSCD, its training cities",
            licence="CC BY-NC-SA 4.0 (OSCD's labels; contains modified Copernicus data)",
        )
        train(config, on_epoch=print)
    return load_mean(dict.fromkeys(runs, 1 / len(runs)))


Box = tuple[int, int, int, int]
"""Left, top, right, bottom, px."""


def cut(city: Path, folder: Path, boxes: Callable[[int, int], list[Box]]) -> None:
    """Write a city, enlarged, as tiles."""
    for part, name in NAMES.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        with rasterio.open(city / name) as dataset:
            pixels = dataset.read()
        label = part == "label"
        image = Image.fromarray(pixels[0] * 255 if label else np.moveaxis(pixels, 0, 2))
        kernel = Image.Resampling.NEAREST if label else Image.Resampling.BILINEAR
        image = image.resize((image.width * ENLARGED, image.height * ENLARGED), kernel)
        for box in boxes(*image.size):
            image.crop(box).save(folder / part / f"{city.name}_{box[1]}_{box[0]}.png")


def boxes(width: int, height: int) -> list[Box]:
    """Tiles that overlap; the last of a row or column is moved inside."""
    found = []
    for row in range(0, max(height - TILE // 4, 1), STEP):
        for col in range(0, max(width - TILE // 4, 1), STEP):
            top, left = min(row, height - TILE), min(col, width - TILE)
            found.append((left, top, left + TILE, top + TILE))
    return found


def parts(width: int, height: int) -> list[Box]:
    """Tiles that share no pixel."""
    rows, cols = ([side * i // PARTS for i in range(PARTS + 1)] for side in (height, width))
    return [(cols[j], rows[i], cols[j + 1], rows[i + 1]) for i in range(PARTS) for j in range(PARTS)]


main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
