"""Two workers against one, one thread each: many pairs, and one large scene. Best of interleaved runs.

The scene is a rendered tile repeated. Give the machine two free cores: on a busy one the ratio says little.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import numpy as np

from rscd import DetectConfig, detect
from rscd.core.types import Grid, Window
from rscd.options.batch import BatchConfig
from rscd.output.geotiff import write_geotiff
from rscd.simulate.scene import Scene
from rscd.simulate.spec import SceneSpec
from rscd.workflows.batch import batch

TILE = 512
PAIRS, PAIR_SIDE, REPEATS = 12, 1024, 3
SCENE_SIDE = 10_000


def run(folder: Path | None = None, side: int = PAIR_SIDE) -> dict[str, float | int]:
    """Throughput of two workers over that of one, over equal pairs."""
    figures: dict[str, float | int] = {"pairs": PAIRS, "side, px": side}
    best: dict[int, float] = {}
    with tempfile.TemporaryDirectory(dir=folder) as name, clusters() as addresses:
        place = Path(name)
        scene(place, side)
        lines = [f"p{i},before.tif,after.tif" for i in range(PAIRS)]
        (place / "m.csv").write_text("\n".join(["id,before,after", *lines]))
        for turn in range(REPEATS + 1):  # the first one loads the model
            for count, address in addresses.items():
                shared = DetectConfig(Path(), Path(), output=Path())
                most = count if turn == 0 else None
                out = place / f"{turn}_{count}"
                config = BatchConfig(out, shared, manifest=place / "m.csv", scheduler=address, max_pairs=most)
                result = batch(config)
                assert result.done == (most or PAIRS), result.failed
                if turn:
                    figures[f"run {turn}, {count} worker(s), s"] = result.seconds
                    best[count] = min(best.get(count, result.seconds), result.seconds)
    return figures | {"throughput of 2 over 1 (goal >= 1.5)": best[1] / best[2]}


def run_split(folder: Path | None = None, side: int = SCENE_SIDE) -> dict[str, float | int]:
    """One scene: plain detect on one worker against the split over two; the rasters must be the same bytes."""
    from distributed import Client

    with tempfile.TemporaryDirectory(dir=folder) as name, clusters() as addresses:
        place = Path(name)
        before, after = scene(place, side)
        configs = [
            DetectConfig(before, after, output=place / f"{n}.gpkg", probability=place / f"{n}.tif") for n in (1, 2)
        ]
        start = perf_counter()
        with Client(addresses[1], set_as_default=False) as client:
            alone = client.submit(detect, configs[0], pure=False).result()
        one = perf_counter() - start
        start = perf_counter()
        split = detect(configs[1], scheduler=addresses[2])
        two = perf_counter() - start
        rasters = [(place / f"{n}.tif").read_bytes() for n in (1, 2)]
    assert rasters[0] == rasters[1], "the rasters differ"
    assert alone.written.polygons == split.written.polygons
    return {
        "side, px": side,
        "windows": alone.windows,
        "polygons": alone.written.polygons,
        "one worker, s": one,
        "two workers, s": two,
        "wall time of 2 over 1": two / one,
        "rasters identical": 1,
    }


@contextmanager
def clusters() -> Iterator[dict[int, str]]:
    """A cluster of one worker and one of two, a process and a thread each; addresses by their number."""
    from distributed import LocalCluster

    os.environ["OMP_NUM_THREADS"] = "1"
    common = {"threads_per_worker": 1, "resources": {"GPU": 1}, "memory_limit": 0}
    hidden = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    common |= {"scheduler_kwargs": hidden, "silence_logs": logging.CRITICAL}
    with LocalCluster(n_workers=1, **common) as one, LocalCluster(n_workers=2, **common) as two:
        yield {1: one.scheduler_address, 2: two.scheduler_address}


def scene(folder: Path, side: int) -> tuple[Path, Path]:
    """Write before.tif and after.tif."""
    rendered = Scene(SceneSpec(seed=5, width=TILE, height=TILE, layout="suburb"))
    view = rendered.render(Window(0, 0, TILE, TILE))
    grid = Grid(rendered.grid.crs, rendered.grid.transform, side, side)
    for date in ("before", "after"):
        row = np.tile(getattr(view, date), (1, 1, -(-side // TILE)))[:, :, :side]
        strips = (row[:, : min(TILE, side - start)] for start in range(0, side, TILE))
        write_geotiff(folder / f"{date}.tif", grid, strips)
    return folder / "before.tif", folder / "after.tif"
