"""Scenes of any size for measurements: a rendered place repeated, so that there is real change everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from rscd.core.types import Grid, Window
from rscd.output.geotiff import write_geotiff
from rscd.simulate.scene import Scene
from rscd.simulate.spec import SceneSpec

TILE = 1024


@cache
def _tile() -> tuple[Scene, Any]:
    scene = Scene(SceneSpec(seed=5, width=TILE, height=TILE, layout="suburb"))
    return scene, scene.render(Window(0, 0, TILE, TILE))


def write_pair(folder: Path, width: int, height: int, hidden: int = 0) -> tuple[Path, Path]:
    """Write ``before.tif`` and ``after.tif``; the first ``hidden`` columns of both are nodata (0)."""
    folder.mkdir(parents=True, exist_ok=True)
    scene, view = _tile()
    grid = Grid(scene.grid.crs, scene.grid.transform, width, height)
    paths = folder / "before.tif", folder / "after.tif"
    for path in paths:
        if not path.exists():
            strips = _strips(getattr(view, path.stem), width, height, hidden)
            write_geotiff(path, grid, strips, nodata=0 if hidden else None)
    return paths


def _strips(tile: np.ndarray, width: int, height: int, hidden: int) -> Iterator[np.ndarray]:
    row = np.tile(tile, (1, 1, -(-width // TILE)))[:, :, :width]
    if hidden:
        row = np.maximum(row, 1)
        row[:, :, :hidden] = 0
    for start in range(0, height, TILE):
        yield row[:, : min(TILE, height - start)]
