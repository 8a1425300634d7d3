"""Shared fixtures: small real GeoTIFFs, a stand-in pointwise network, the shared data where it is."""

from __future__ import annotations

import atexit
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from rasterio.crs import CRS

import rscd.inference.backends  # noqa: F401 - before tests import OpenVINO, which would report that to its maker
from rscd.core.types import Grid

UTM = CRS.from_epsg(32614).to_wkt()
REPOSITORY = Path(__file__).parent.parent
os.environ["RSCD_CACHE_DIR"] = tempfile.mkdtemp(prefix="rscd-cache-")  # of the commands that tests start, too
atexit.register(shutil.rmtree, os.environ["RSCD_CACHE_DIR"], ignore_errors=True)


OPT_IN = ("faults", "slow")
"""Marks of tests that run only where ``-m`` names them, or the command line the test itself."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what has to be asked for."""
    if any("::" in argument for argument in config.args):
        return
    unasked = [mark for mark in OPT_IN if mark not in config.getoption("markexpr")]
    left_out = [item for item in items if any(item.get_closest_marker(mark) for mark in unasked)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def utm_grid(height: int, width: int, gsd: float = 0.5) -> Grid:
    """A north-up grid in UTM 14N."""
    return Grid(UTM, (gsd, 0.0, 600_000.0, 0.0, -gsd, 3_350_000.0), width, height)


def write_image(path: Path, pixels: np.ndarray, grid: Grid | None = None, **profile) -> Path:
    """Write pixels (bands, rows, columns) as a tiled GeoTIFF."""
    bands, height, width = pixels.shape
    grid = grid or utm_grid(height, width)
    defaults = {
        "driver": "GTiff",
        "count": bands,
        "height": height,
        "width": width,
        "dtype": pixels.dtype,
        "crs": CRS.from_wkt(grid.crs) if grid.crs else None,
        "transform": Affine(*grid.transform),
        "tiled": True,
        "blockxsize": 128,
        "blockysize": 128,
        "compress": "deflate",
    }
    mask = profile.pop("mask", None)
    with rasterio.open(path, "w", **(defaults | profile)) as dataset:
        dataset.write(pixels)
        if mask is not None:
            dataset.write_mask(mask)
    return path


class Pointwise(torch.nn.Module):
    """A stand-in network that looks at one pixel at a time: logit = (red after - red before) / 16."""

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        return (after[:, 0].float() - before[:, 0].float()) / 16


def pointwise_probability(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """What Pointwise gives for whole images (bands, rows, columns)."""
    logit = (after[0].astype(np.float64) - before[0]) / 16
    return 1 / (1 + np.exp(-logit))


def contents_of_raster(path: Path) -> tuple:
    """All of a probability raster but where its inputs lie, seen from its folder: tags, layout, values a level."""
    levels = []
    with rasterio.open(path) as dataset:
        run = json.loads(dataset.tags()["RSCD_RUN"])
        for file in run["inputs"].values():
            file["path"] = Path(file["path"]).name
        layout = str(dataset.profile), dataset.tags(ns="IMAGE_STRUCTURE"), dataset.scales
        count = len(dataset.overviews(1))
    for level in range(-1, count):
        with rasterio.open(path, **({} if level < 0 else {"overview_level": level})) as dataset:
            levels.append(dataset.read(1).tobytes())
    return run, layout, levels


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real labelled imagery; tests that need it skip where it is missing."""
    folder = Path(os.environ.get("RSCD_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "levir").is_dir():
        pytest.skip(f"no shared data at {folder}; set RSCD_DATA")
    return folder


@pytest.fixture(scope="session")
def tiny_tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six labelled tiles of 128 px in A/, B/ and label/: bright squares appear on noise."""
    return write_squares(tmp_path_factory.mktemp("tiles"), count=6, side=128, square=40, margin=8, seed=7)


def write_squares(folder: Path, *, count: int, side: int, square: int, margin: int, seed: int) -> Path:
    """Labelled tiles in A/, B/ and label/: on noise appears a bright square, at least a margin from two sides."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    for part in ("A", "B", "label"):
        (folder / part).mkdir(parents=True)
    for i in range(count):
        before = rng.integers(60, 120, (side, side, 3), dtype=np.uint8)
        after, label = before.copy(), np.zeros((side, side), np.uint8)
        row, col = rng.integers(margin, side - square - margin, 2)
        after[row : row + square, col : col + square] = 230
        label[row : row + square, col : col + square] = 255
        for part, image in (("A", before), ("B", after), ("label", label)):
            Image.fromarray(image).save(folder / part / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """A Dask cluster of two worker processes on loopback, one thread and one slot each."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        resources={"GPU": 1},
        memory_limit=0,
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        silence_logs=logging.CRITICAL,
    ) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def place() -> Any:
    """A rendered place of 512 px, to cut pairs from: its ``before`` and ``after`` are (3, 512, 512)."""
    from rscd.core.types import Window
    from rscd.simulate.scene import Scene
    from rscd.simulate.spec import SceneSpec

    return Scene(SceneSpec(seed=12, width=512, height=512, layout="suburb")).render(Window(0, 0, 512, 512))


def write_pair(folder: Path, name: str, place: Any, row: int, col: int, side: int = 128) -> str:
    """Cut a pair from a rendered place and write it; its line of a manifest."""
    for date in ("before", "after"):
        (folder / date).mkdir(parents=True, exist_ok=True)
        pixels = getattr(place, date)[:, row : row + side, col : col + side]
        transform = Affine(0.5, 0, 600_000 + 0.5 * col, 0, -0.5, 3_350_000 - 0.5 * row)
        write_image(folder / date / f"{name}.tif", pixels, transform=transform)
    return f"{name},before/{name}.tif,after/{name}.tif"


CHANGED_BOXES = ((40, 60, 50, 70), (200, 300, 60, 40))
"""Row, column, height and width of what changes in ``labelled_scene``, px."""


def write_polygons(path: Path, boxes, grid: Grid, crs: str | None = None, **columns) -> Path:
    """Write boxes (row, column, height, width) of a grid's pixels as polygons, in another CRS if one is given."""
    import geopandas
    import shapely

    a, _, c, _, e, f = grid.transform
    shapes = [shapely.box(c + a * x, f + e * (y + h), c + a * (x + w), f + e * y) for y, x, h, w in boxes]
    frame = geopandas.GeoDataFrame(columns, geometry=shapes, crs=grid.crs)
    frame.to_crs(crs or grid.crs).to_file(path, layer="changes" if path.suffix == ".gpkg" else None)
    return path


@pytest.fixture(scope="session")
def labelled_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene of 320 x 420 px where two boxes become bright: before, after, and label as raster and as polygons."""
    folder = tmp_path_factory.mktemp("scene")
    rng = np.random.default_rng(11)
    before = rng.integers(40, 120, (3, 320, 420), dtype=np.uint8)
    after, label = before.copy(), np.zeros((1, 320, 420), np.uint8)
    for row, col, height, width in CHANGED_BOXES:
        after[:, row : row + height, col : col + width] = 230
        label[:, row : row + height, col : col + width] = 1
    for name, pixels in (("before", before), ("after", after), ("label", label)):
        write_image(folder / f"{name}.tif", pixels)
    write_polygons(folder / "drawn.gpkg", CHANGED_BOXES, utm_grid(320, 420), "EPSG:4326")
    return folder
