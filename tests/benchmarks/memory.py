"""Is memory bounded by the band? Peak RSS less RSS after model load, each run in a fresh process.

Width 12,000 px at two heights, a stand-in network, probability raster and polygons included. The scene is a
rendered tile repeated, so that there is real change everywhere.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rscd.output.geotiff import write_geotiff
from rscd.simulate import Scene, SceneSpec
from rscd.types import Grid, Window

WIDTH, HEIGHTS = 12_000, (3_000, 12_000)
TILE = 1024

CHILD = """
import json, sys
from pathlib import Path
from tests.conftest import Pointwise
from rscd import DetectConfig, detect
from rscd.model.contract import Contract

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(l for l in lines if l.startswith(key)).split()[1]) / 1024

folder = Path(sys.argv[1])
contract = Contract("stand-in", "1", "lite", 8, (0.0,) * 3, (1.0,) * 3, threshold=0.9, trained_on="nothing")
import rscd.detection, torch
model = Pointwise(), contract
loaded = status("VmRSS")
config = DetectConfig(folder / "before.tif", folder / "after.tif", folder / "c.gpkg", probability=folder / "p.tif")
result = detect(config, model=model)
print(json.dumps({"peak_mb": status("VmHWM") - loaded, "polygons": result.written.polygons,
                  "seconds": result.seconds, "windows": result.windows}))
"""


def run(folder: Path | None = None) -> dict[str, float | int]:
    """Measure both heights; figures by name, memory in MB."""
    figures: dict[str, float | int] = {}
    scene = Scene(SceneSpec(seed=5, width=TILE, height=TILE, layout="suburb"))
    view = scene.render(Window(0, 0, TILE, TILE))
    with tempfile.TemporaryDirectory(dir=folder) as name:
        for height in HEIGHTS:
            place = Path(name) / str(height)
            place.mkdir()
            grid = Grid(scene.grid.crs, scene.grid.transform, WIDTH, height)
            for date in ("before", "after"):
                write_geotiff(place / f"{date}.tif", grid, _strips(getattr(view, date), height))
            command = [sys.executable, "-c", CHILD, str(place)]
            told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            figures |= {f"{key} at {WIDTH} x {height}": value for key, value in told.items()}
    low, high = (figures[f"peak_mb at {WIDTH} x {height}"] for height in HEIGHTS)
    return figures | {"ratio of peaks (goal <= 1.15)": high / low, "peak (goal <= 600 MB)": float(high)}


def _strips(tile: np.ndarray, height: int) -> Iterator[np.ndarray]:
    """The tile repeated over the width, a strip of its own height at a time."""
    row = np.tile(tile, (1, 1, -(-WIDTH // TILE)))[:, :, :WIDTH]
    for start in range(0, height, TILE):
        yield row[:, : min(TILE, height - start)]
