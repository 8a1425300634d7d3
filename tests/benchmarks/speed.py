"""The speed table: ratios of what ``detect`` takes to what it could not do without.

    python -m tests.benchmarks speed [--rows 1,3,4] [--json FILE] [--folder DIR] [--device cuda]

Rows 1 to 8 are for a CPU, 9 to 12 for one GPU. Scenes are rendered here; the two sides of a ratio take turns.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from rscd import DetectConfig, detect, load_model
from rscd.core.contract import Contract
from rscd.inference.predictor import Predictor, tune
from rscd.inference.workers import in_workers
from rscd.model.checkpoint import build_network
from rscd.model.encoders import normalisation
from rscd.model.registry import Model
from rscd.scene.raster import Raster
from rscd.scene.windows import WindowPlan
from tests.benchmarks import encoder, memory, plain, vectorise
from tests.benchmarks.pairs import turns
from tests.benchmarks.scenes import write_pair
from tests.conftest import Pointwise

Figures = dict[str, float | int]
SLEEP_S = 0.10
"""What the fake device of row 2 takes for an output Mpx, s."""


def run(folder: Path | None = None, rows: str = "", device: str = "cpu") -> Figures:
    """Measure some rows, by number and comma; default: those of the device."""
    chosen = [int(r) for r in rows.split(",")] if rows else list(range(9, 13) if device != "cpu" else range(1, 9))
    figures: Figures = {"threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        for row in chosen:
            found = ROWS[row](Path(name), device)
            print(f"row {row}: {json.dumps(found)}", file=sys.stderr, flush=True)
            figures |= found
    return figures


def config(place: Path, side: int, **more) -> DetectConfig:
    """Detect on a square scene, with probability raster, anew each time."""
    before, after = write_pair(place / str(side), side, side)
    output, probability = place / f"{side}.gpkg", place / f"{side}.tif"
    return DetectConfig(before, after, output, probability=probability, overwrite=True, **more)


def forward_alone(model, plan: WindowPlan, device: str = "cpu") -> Callable[[bool], None]:
    """The forward passes of a plan on batches that are in memory already: side by side as in detect, or in turn."""
    options = DetectConfig(Path("unused"), Path("unused"), Path("unused.gpkg"), device=device)
    predictor = Predictor.of(Model.of(model), options, plan.rows.window)
    tune(predictor, plan.rows.window, plan)
    shape = predictor.batch_size, 3, plan.rows.window, plan.rows.window
    rng = np.random.default_rng(0)
    pair = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in "ab"]

    def forward(side_by_side: bool) -> None:
        passes = range(plan.rows.count * -(-plan.cols.count // predictor.batch_size))
        if side_by_side:
            for _ in in_workers(lambda _: predictor(*pair), passes, predictor.backend.workers, 8):
                pass
        else:
            for _ in passes:
                predictor(*pair)

    return forward


def end_to_end(place: Path, side: int, pairs: int, model, name: str, goal: float, device: str = "cpu") -> Figures:
    """Detect through its forward passes alone."""
    contract = model[1]
    settings = config(place, side, device=device)
    forward = forward_alone(model, WindowPlan.over(side, side, contract.window, contract.overlap), device)
    ways = (lambda: detect(settings, model=model)), (lambda: forward(True)), (lambda: forward(False))
    whole, *alone = turns(*ways, times=pairs)
    return {
        f"{name} end to end, s/Mpx": whole / side**2 * 1e6,
        f"{name} forward alone, side by side, s/Mpx": alone[0] / side**2 * 1e6,
        f"{name} forward alone, all threads on one, s/Mpx": alone[1] / side**2 * 1e6,
        f"{name} ratio of {pairs} turns to the faster (goal <= {goal:.2f})": whole / min(alone),
    }


def row_1(place: Path, device: str) -> Figures:
    model = load_model("buildings")
    small = end_to_end(place, 3000, 7, model, "1 lite 3k", 1.10)
    return small | end_to_end(place, 6000, 3, model, "1 lite 6k", 1.10)


class Sleeper(torch.nn.Module):
    """A device that takes its time and no CPU, a pass after the other: the logit is the difference of the reds."""

    busy = Lock()

    def __init__(self, plan: WindowPlan) -> None:
        super().__init__()
        self.window_s = SLEEP_S * plan.rows.size * plan.cols.size / 1e6 / plan.count

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        with self.busy:
            time.sleep(self.window_s * len(before))
        return (after[:, 0].float() - before[:, 0].float() - 80) / 16


def stand_in() -> Contract:
    """A contract for networks that are none."""
    return Contract("stand-in", "1", "lite", 8, (0.0,) * 3, (1.0,) * 3, trained_on="nothing")


def row_2(place: Path, device: str) -> Figures:
    contract, side = stand_in(), 10_000
    network = Sleeper(WindowPlan.over(side, side, contract.window, contract.overlap))
    return end_to_end(place, side, 3, (network, contract), "2 fake device 10k", 1.08)


def row_3(place: Path, device: str) -> Figures:
    """A scene whose left third is nodata in both dates."""
    width, height, hidden = 3100, 2000, 1000
    before, after = write_pair(place / "hidden", width, height, hidden)
    contract = stand_in()
    plan = WindowPlan.over(height, width, contract.window, contract.overlap)
    blind = sum(plan.cols.start(j) + plan.cols.window <= hidden for j in range(plan.cols.count)) * plan.rows.count
    flat = replace(contract, threshold=0.9)
    result = detect(DetectConfig(before, after, place / "hidden.gpkg"), model=(Pointwise(), flat))
    return {"3 windows planned less blind ones": plan.count - blind, "3 windows forwarded (equal)": result.windows}


def row_4(place: Path, device: str) -> Figures:
    """Blocks that reads touch, each read counted anew, so that none is forgiven for GDAL's cache."""
    settings = config(place, 5000)
    decoded, read, sampling = {"rows": 0, "inspection": 0}, Raster.read, [True]

    def counted(self: Raster, window):
        height, width = self.dataset.block_shapes[0]
        down = -(-window.row_stop // height) - window.row // height
        across = -(-window.col_stop // width) - window.col // width
        decoded["inspection" if sampling[0] else "rows"] += down * across
        return read(self, window)

    Raster.read = counted  # type: ignore[method-assign]
    told = []

    def on_start(line: str) -> None:
        told.append(line)
        sampling[0] = len(told) < 3  # the third line is the inspection's, the last before the bands

    try:
        detect(settings, model=(Pointwise(), replace(stand_in(), threshold=0.9)), on_start=on_start)
    finally:
        Raster.read = read  # type: ignore[method-assign]
    blocks = 2 * (-(-5000 // 512)) ** 2
    return {
        "4 blocks in both files": blocks,
        "4 decoded / in files (goal <= 1.05)": decoded["rows"] / blocks,
        "4 decoded again by inspection's sample": decoded["inspection"],
    }


def row_5(place: Path, device: str) -> Figures:
    figures: Figures = {}
    for width, height in ((10_000, 10_000), (10_000, 40_000), (5_000, 5_000), (20_000, 20_000)):
        figures |= {f"5 {k}": v for k, v in memory.measure(place, width, height).items()}
    low, high, small, large = (v for k, v in figures.items() if k.startswith("5 peak_mb"))
    figures["5 height 40k / 10k (goal <= 1.05)"] = high / low
    figures["5 20k square less 5k square, MB (goal <= 100)"] = large - small
    return figures


def row_6(place: Path, device: str) -> Figures:
    """10k x 10k at 3 % change."""
    mask = place / "mask.tif"
    vectorise.write_mask(mask, 10_000, 50_000, share=0.37)
    best = vectorise.compare(mask, place, 3)
    names = {"seconds": "time (goal <= 0.75)", "peak_mb": "memory (goal <= 0.30)"}
    told: Figures = {f"6 {way} {key}": value for way, found in best.items() for key, value in found.items()}
    return told | {f"6 ratio of {n}": best["rscd"][k] / best["rasterio"][k] for k, n in names.items()}


def row_7(place: Path, device: str) -> Figures:
    return dict(encoder.against_official_on_cpu(7))


CHILD = """
import sys, time
from pathlib import Path
from rscd import DetectConfig, detect, load_model
from tests.benchmarks.plain import plain

way, before, after, output, raster = sys.argv[1], *map(Path, sys.argv[2:])
model = load_model("buildings")
start = time.perf_counter()
if way == "detect":
    detect(DetectConfig(before, after, output, probability=raster, overwrite=True), model=model)
else:
    output.unlink(missing_ok=True)
    plain(before, after, output, raster)
print(time.perf_counter() - start)
"""


def row_8(place: Path, device: str) -> Figures:
    """Three kilopixels square, against tests/benchmarks/plain.py; a process each, for the heap is the process."""
    side, model, times = 3000, load_model("buildings"), 5
    settings = config(place, side)
    tiles = len(plain.starts(side)) ** 2
    least = {"detect": math.inf, "plain": math.inf}
    for _ in range(times):
        for way in least:
            paths = settings.before, settings.after, place / f"{way}8.gpkg", place / f"{way}8.tif"
            command = [sys.executable, "-c", CHILD, way, *map(str, paths)]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            least[way] = min(least[way], float(told.split()[-1]))
    contract = model[1]
    windows = WindowPlan.over(side, side, contract.window, contract.overlap).count
    pair = torch.zeros(2, 1, 3, contract.window, contract.window, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model[0](*pair)
    tera = counter.get_total_flops() / 1e12
    return {
        "8 detect, s": least["detect"],
        "8 the plain way, s": least["plain"],
        "8 detect, TFLOP": windows * tera,
        "8 the plain way, TFLOP": tiles * tera,
        f"8 ratio of {times} turns (goal <= 0.70)": least["detect"] / least["plain"],
    }


def row_9(place: Path, device: str) -> Figures:
    """Random weights; what starting and compiling take is in the first, unmeasured run of ``turns``' least."""
    figures: Figures = {}
    for name, goal in (("vit_h", 1.10), ("vit_b", 1.5)):
        mean, std = normalisation(name)
        contract = Contract(name, "1", name, 64, mean, std, trained_on="nothing", threshold=0.999)
        model = build_network(contract).eval(), contract
        figures |= end_to_end(place, 20_000, 2, model, f"9 {name} 20k", goal, device)
    return figures


def row_10(place: Path, device: str) -> Figures:
    return dict(encoder.on_cuda(device))


def row_12(place: Path, device: str) -> Figures:
    return dict(encoder.positions_on_cuda(device))


ROWS: dict[int, Callable[[Path, str], Figures]] = {
    **{1: row_1, 2: row_2, 3: row_3, 4: row_4, 5: row_5, 6: row_6, 7: row_7, 8: row_8},
    **{9: row_9, 10: row_10, 11: lambda place, device: {}, 12: row_12},  # 11 is told with 10
}
