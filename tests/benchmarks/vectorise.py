"""Vectorising a speckled mask: bands through rscd against rasterio.features.shapes and geopandas on the whole.

    python -m tests.benchmarks.vectorise [--side 20000] [--polygons 200000] [--repeats 1] [--mask FILE]

Each way runs in a process of its own, so that its peak memory is its own; the two take turns, and the least of
each is told, as wall time and as CPU time, which a busy machine stretches less. Both read the same GeoTIFF of
probabilities and write a GeoPackage. Prints a table and, last, JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS

THRESHOLD = 128
BAND = 512


def write_mask(path: Path, side: int, polygons: int, share: float = 1.0) -> None:
    """Blobs of a few pixels, each apart from the next: one in this share of the cells of an even lattice."""
    cell = int(side / np.sqrt(polygons))
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": "uint8", "nodata": 255}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "zstd", "zstd_level": 1}
    profile |= {"crs": CRS.from_epsg(32614), "transform": Affine(0.5, 0, 600_000, 0, -0.5, 3_350_000)}
    rng = np.random.default_rng(5)
    row, col = np.indices((cell, cell))
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.scales = (1 / 254,)
        held = np.zeros((0, side), np.uint8)
        done = 0
        while done < side:
            strip = rng.integers(0, 100, (cell, side), dtype=np.uint8)
            for start in range(0, side - cell + 1, cell):
                u, v = rng.uniform(cell * 0.3, cell * 0.7, 2)
                a, b = rng.uniform(2, cell * 0.28, 2)
                blob = ((row - u) / a) ** 2 + ((col - v) / b) ** 2 + rng.normal(0, 0.1, row.shape) < 1
                if share < 1 and rng.random() >= share:
                    continue
                part = strip[:, start : start + cell]
                part[blob] = rng.integers(THRESHOLD, 255, blob.sum())
            held = np.concatenate([held, strip])
            while len(held) >= BAND or (len(held) and done + len(held) >= side):
                take = min(BAND, len(held), side - done)
                dataset.write(held[:take], 1, window=rasterio.windows.Window(0, done, side, take))
                held, done = held[take:], done + take
                if done >= side:
                    break


def by_rscd(mask: Path, output: Path) -> int:
    from rscd.options.detect import PolygonsConfig
    from rscd.workflows.polygons import polygons

    return polygons(PolygonsConfig(mask, output, threshold=THRESHOLD / 254, min_area_m2=0.0)).polygons


def by_rasterio(mask: Path, output: Path) -> int:
    """shapes over the whole mask, a GeoDataFrame, the area column, and to_file."""
    import geopandas
    from rasterio.features import shapes

    with rasterio.open(mask) as dataset:
        values, transform, crs = dataset.read(1), dataset.transform, dataset.crs
    changed = (values >= THRESHOLD) & (values != 255)
    found = shapes(changed.astype(np.uint8), mask=changed, connectivity=4, transform=transform)
    frame = geopandas.GeoDataFrame.from_features(
        ({"type": "Feature", "geometry": geometry, "properties": {}} for geometry, _ in found), crs=crs
    )
    frame["area_m2"] = frame.geometry.area
    frame.to_file(output, layer="changes", driver="GPKG")
    return len(frame)


def child(way: str, mask: Path, output: Path) -> None:
    import resource

    import geopandas  # noqa: F401 - neither way is charged with imports
    import rasterio.features

    import rscd.workflows.polygons  # noqa: F401
    from tests.benchmarks.memory import status_mb

    with rasterio.Env(GDAL_CACHEMAX=256):
        start = time.perf_counter()
        count = {"rscd": by_rscd, "rasterio": by_rasterio}[way](mask, output)
        seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    told = {"seconds": seconds, "cpu_s": used.ru_utime + used.ru_stime, "peak_mb": status_mb("VmHWM")}
    print(json.dumps(told | {"polygons": count}))


def compare(mask: Path, folder: Path, repeats: int) -> dict[str, dict[str, float]]:
    """The least of each figure of each way, which take turns."""
    runs: dict[str, list[dict]] = {"rscd": [], "rasterio": []}
    for turn in range(repeats):
        for way in runs:
            output = folder / f"{way}{turn}.gpkg"
            module = "tests.benchmarks.vectorise"
            command = [sys.executable, "-m", module, "--child", way, str(mask), str(output)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            runs[way].append(json.loads(done.stdout.splitlines()[-1]))
    return {way: {key: min(run[key] for run in some) for key in some[0]} for way, some in runs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--polygons", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--mask", type=Path, help="use this raster, and do not make one")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], *map(Path, options.child[1:]))
        return
    with tempfile.TemporaryDirectory() as folder:
        mask = options.mask or Path(folder) / "mask.tif"
        if options.mask is None:
            write_mask(mask, options.side, options.polygons)
        best = compare(mask, Path(folder), options.repeats)
    ratio = {key: best["rscd"][key] / best["rasterio"][key] for key in best["rscd"]}
    print(f"{'':>10} {'seconds':>9} {'CPU s':>9} {'peak MB':>9} {'polygons':>9}   {options.side} px square")
    for way, told in best.items():
        values = told["seconds"], told["cpu_s"], told["peak_mb"], told["polygons"]
        print(f"{way:>10} {values[0]:9.2f} {values[1]:9.2f} {values[2]:9.0f} {values[3]:9.0f}")
    print(f"{'ratio':>10} " + " ".join(f"{value:9.2f}" for value in ratio.values()))
    print(json.dumps({"side": options.side, "cpus": os.cpu_count(), "best": best, "ratio": ratio}))


if __name__ == "__main__":
    main()
