"""The demo scene: rendered to GeoTIFFs; detect's polygons are compared with what was built there."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from rasterio.features import shapes
from shapely.geometry import shape

from rscd.core.errors import OutputError
from rscd.core.publish import publishing
from rscd.core.types import Grid, Window
from rscd.output.geotiff import write_geotiff
from rscd.output.report.pictures import write_quicklook
from rscd.simulate.scene import Scene
from rscd.simulate.score import ObjectScore, differencing, match_objects
from rscd.simulate.spec import Rendered, SceneSpec

WIDTH, HEIGHT = 1536, 1280
LEAST_PX = 40
"""Objects smaller than this (10 m2) are not counted for plain differencing: they would all be false."""


@dataclass(frozen=True)
class Place:
    """A rendered scene on disk, and its ground truth."""

    before: Path
    """GeoTIFF of the earlier date."""
    after: Path
    """GeoTIFF of the later date, with a nodata border."""
    grid: Grid
    """Grid of both files."""
    view: Rendered
    """Pixels, validity and label."""
    built: np.ndarray
    """Footprints (shapely, in the CRS) of changed buildings of which both dates show at least half."""


def render_pair(folder: Path, seed: int) -> Place:
    """Render the layout ``demo``, which no model is trained on, and write before.tif and after.tif.

    Raises:
        OutputError: The folder or a file cannot be written.
    """
    scene = Scene(SceneSpec(seed=seed, width=WIDTH, height=HEIGHT, layout="demo", collar=True))
    view = scene.render(Window(0, 0, HEIGHT, WIDTH))
    paths = folder / "before.tif", folder / "after.tif"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, pixels in zip(paths, (view.before, view.after), strict=True):
            with publishing(path) as temporary:
                write_geotiff(temporary, scene.grid, [pixels], nodata=0)
    except OSError as error:
        raise OutputError(f"cannot be written: {error}", path=folder, remedy="choose another folder") from error
    footprints = np.array([b.footprint for b in scene.changed_buildings()], dtype=object)
    return Place(*paths, scene.grid, view, _seen(footprints, view, scene.grid))


def _seen(footprints: np.ndarray, view: Rendered, grid: Grid) -> np.ndarray:
    """Footprints that are at least half visible, cut to the grid."""
    valid = view.before_valid & view.after_valid
    parts = shapes(valid.astype(np.uint8), mask=valid, transform=grid.affine)
    seen = shapely.union_all([shape(geometry) for geometry, _ in parts])
    visible = shapely.intersection(footprints, seen)
    kept = visible[shapely.area(visible) >= 0.5 * shapely.area(footprints)]
    return np.asarray(kept)


def score(place: Place, geopackage: Path, picture: Path) -> dict[str, Any]:
    """Compare detect's polygons, and plain differencing, with what was built; draw the quicklook."""
    found = pyogrio.read_dataframe(geopackage, layer="changes").geometry.to_numpy()
    write_quicklook(picture, place.view.before, place.view.after, found, place.grid)
    in_pixels = shapely.transform(place.built, lambda xy: np.column_stack(~place.grid.affine @ tuple(xy.T)))
    valid = place.view.before_valid & place.view.after_valid
    threshold, plain = differencing(place.view.before, place.view.after, valid, in_pixels, LEAST_PX)
    return {
        "built": len(place.built),
        "model": _plain(match_objects(place.built, found)),
        "differencing": {"threshold": threshold, **_plain(plain)},
    }


def _plain(score: ObjectScore) -> dict[str, float]:
    return {**asdict(score), "recall": round(score.recall, 4), "false_share": round(score.false_share, 4)}
