"""Is memory bounded by the band? Peak RSS less RSS after model load, each run in a fresh process.

Width 12,000 px at two heights, a stand-in network, probability raster and polygons included. The scene is a
rendered tile repeated, so that there is real change everywhere.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.scenes import write_pair

WIDTH, HEIGHTS = 12_000, (3_000, 12_000)

CHILD = """
import json, sys
from pathlib import Path
from tests.conftest import Pointwise
from rscd import DetectConfig, detect
from rscd.core.contract import Contract

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(l for l in lines if l.startswith(key)).split()[1]) / 1024

folder = Path(sys.argv[1])
contract = Contract("stand-in", "1", "lite", 8, (0.0,) * 3, (1.0,) * 3, threshold=0.9, trained_on="nothing")
# libraries are not what is measured
import rscd.workflows.detect, torch, pyogrio, scipy.sparse.csgraph, scipy.spatial
model = Pointwise(), contract
loaded = status("VmRSS")
config = DetectConfig(folder / "before.tif", folder / "after.tif", folder / "c.gpkg", probability=folder / "p.tif")
result = detect(config, model=model)
print(json.dumps({"peak_mb": status("VmHWM") - loaded, "polygons": result.written.polygons,
                  "seconds": result.seconds, "windows": result.windows}))
"""


def status_mb(key: str) -> float:
    """What Linux says of this process, MB (10^6 bytes); of its own alone, unlike getrusage."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024 / 1e6


def run(folder: Path | None = None) -> dict[str, float | int]:
    """Measure both heights; figures by name, memory in MB."""
    figures: dict[str, float | int] = {}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        for height in HEIGHTS:
            figures |= measure(Path(name), WIDTH, height)
    low, high = (figures[f"peak_mb at {WIDTH} x {height}"] for height in HEIGHTS)
    return figures | {"ratio of peaks (goal <= 1.15)": high / low, "peak (goal <= 600 MB)": float(high)}


def measure(folder: Path, width: int, height: int) -> dict[str, float | int]:
    """One size, in a fresh process."""
    place = folder / f"{width}x{height}"
    write_pair(place, width, height)
    command = [sys.executable, "-c", CHILD, str(place)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    shutil.rmtree(place)
    return {f"{key} at {width} x {height}": value for key, value in told.items()}
