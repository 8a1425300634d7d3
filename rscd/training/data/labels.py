"""Labels of a pair of GeoTIFFs: polygons rasterised on its grid on demand, or a raster.

Reviewed outputs also give labelled pairs: a GeoPackage of detect or polygons, or the summary of an archive.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyogrio
import rasterio

from rscd.core.errors import DataError
from rscd.core.grid import Mapping, name_of
from rscd.core.types import ByteArray, Grid, Window
from rscd.options.pair import PairConfig
from rscd.output.provenance import pair_of
from rscd.scene.aoi import burn, read_vectors, to_grid
from rscd.scene.blocks import BadBlocks, find_blocks
from rscd.scene.raster import GDAL_OPTIONS, Raster, open_raster
from rscd.training.data.tiles import CHANGED, IGNORED, RASTERS, UNCHANGED, PairSource, check_values

LAYER = "changes"
"""The layer that detect writes; it is used if the file has it."""
ANSWERS = {
    "yes": CHANGED,
    "accepted": CHANGED,
    "no": UNCHANGED,
    "rejected": UNCHANGED,
    "": IGNORED,
    "unsure": IGNORED,
}
"""Allowed values of the column ``review`` -> label of the polygon's pixels."""
UNREADABLE = (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError)
COLLAR_PX = 8
"""Buffer around a reviewed polygon, px: the reviewer saw it too, so its pixels in no polygon are unchanged."""


class Label(Protocol):
    """Labels on a pair's grid."""

    def read(self, window: Window) -> ByteArray:
        """The label (h, w) of a window: UNCHANGED, CHANGED and IGNORED."""


@dataclass(frozen=True)
class VectorLabel:
    """Shapes painted one over the other."""

    ground: int
    """Label of pixels that no shape covers."""
    layers: tuple[tuple[Any, int], ...]
    """Shapely shapes in pixel coordinates of the grid with the label of their pixels; later ones are on top."""

    def read(self, window: Window) -> ByteArray:
        """The label (h, w) of a window of the grid."""
        label = np.full((window.height, window.width), self.ground, np.uint8)
        for shape, value in self.layers:
            label[burn(shape, window)] = value
        return label


@dataclass(frozen=True)
class RasterLabel:
    """A raster on the same grid: 0 unchanged, 1 or 255 changed; pixels masked or equal to nodata are ignored."""

    path: Path
    """A GeoTIFF of one band."""
    grid: Grid
    """Grid of the raster."""

    def read(self, window: Window) -> ByteArray:
        """The label (h, w) of a window of the grid.

        Raises:
            DataError: It cannot be read, or holds other values.
        """
        with rasterio.Env(**GDAL_OPTIONS), open_raster(self.path) as dataset:
            bad_blocks = BadBlocks("stop")
            blocks = find_blocks(self.path, dataset, (1,), cut="stop")
            pixels, valid = Raster(self.path, dataset, (1,), self.grid, blocks, bad_blocks).read(window)
        check_values(np.unique(pixels[0][valid]), self.path)
        return np.where(valid, np.where(pixels[0] > 0, CHANGED, UNCHANGED), IGNORED).astype(np.uint8)


def open_label(source: PairSource, grid: Grid) -> Label:
    """The labels of a pair, on its full grid.

    Raises:
        DataError: A raster is on another grid; a vector file has no polygons, or none on the grid; ``review`` has
            unknown values, or no value although reviews are required.
    """
    if source.labels.suffix.lower() in RASTERS:
        return _raster_label(source.labels, grid)
    return _vector_label(source, grid)


def _raster_label(path: Path, grid: Grid) -> RasterLabel:
    with rasterio.Env(**GDAL_OPTIONS), open_raster(path) as dataset:
        crs = dataset.crs.to_wkt() if dataset.crs else grid.crs
        own = Grid(crs, tuple(dataset.transform)[:6], dataset.width, dataset.height)
    if own.shape != grid.shape:
        sizes = f"{own.width} x {own.height} px, and the pair's grid {grid.width} x {grid.height}"
        raise DataError(f"has {sizes}", path=path, remedy="make it on the pair's grid, or give polygons")
    if Mapping(grid, own).offset != (0, 0):
        remedy = f"gdalwarp it onto the pair's grid ({name_of(grid)}), or give polygons"
        raise DataError("is not on the pair's grid", path=path, remedy=remedy)
    return RasterLabel(path, grid)


def _vector_label(source: PairSource, grid: Grid) -> VectorLabel:
    path, reviewed, looked_over = source.labels, source.reviewed, source.config.aoi is not None
    layer = LAYER if path.is_file() and LAYER in layers_of(path) else None
    frame = read_vectors(path, layer=layer)
    if source.rows is not None:
        frame = frame.iloc[list(source.rows)]
    answers = answers_of(path, frame, IGNORED if reviewed else CHANGED)
    if reviewed and not np.any(answers != IGNORED):
        remedy = "open it in QGIS and fill the column review of layer changes with accepted or rejected"
        raise DataError("no polygon of it is reviewed", path=path, remedy=remedy)
    shapes = {
        value: to_grid(frame.geometry.to_numpy()[answers == value], frame.crs, grid)
        for value in (IGNORED, UNCHANGED, CHANGED)
    }
    found = {value: shape for value, shape in shapes.items() if shape is not None}
    if len(frame) and not found:
        raise DataError("holds no polygon", path=path, remedy="draw changes as polygons")
    if found and not any(shape.area > 0 for shape in found.values()):
        raise DataError("lies outside the scene", path=path, remedy="give the labels of this pair")
    if np.all(answers == CHANGED) and not reviewed:
        return VectorLabel(UNCHANGED, tuple((shape, CHANGED) for shape in found.values()))
    around = tuple((found[v].buffer(COLLAR_PX), UNCHANGED) for v in (UNCHANGED, CHANGED) if v in found)
    return VectorLabel(
        UNCHANGED if looked_over else IGNORED, (*around, *((shape, value) for value, shape in found.items()))
    )


def layers_of(path: Path) -> list[str]:
    """Names of a vector file's layers; empty if it is not one."""
    try:
        return [str(name) for name, _ in pyogrio.list_layers(path)]
    except pyogrio.errors.DataSourceError:
        return []  # read_vectors reports it better


def answers_of(path: Path, frame: Any, without: int) -> np.ndarray:  # noqa: ANN401
    """Label of each polygon of a frame; ``without`` for all if nothing is reviewed.

    Raises:
        DataError: A value is not in ANSWERS.
    """
    if "review" not in frame.columns:
        return np.full(len(frame), without)
    said = frame["review"].fillna("").astype(str).str.strip().str.lower()
    if "mean_probability" in frame.columns:  # polygons without it were drawn by a person
        said = said.mask((said == "") & frame["mean_probability"].isna(), "accepted")
    if not (said != "").any():
        return np.full(len(frame), without)
    odd = sorted(set(said) - ANSWERS.keys())
    if odd:
        remedy = "use yes (or accepted), no (or rejected), or leave it empty"
        raise DataError(f"column review holds {', '.join(map(repr, odd[:5]))}", path=path, remedy=remedy)
    return np.asarray(said.map(ANSWERS))


PAIRS, OUTPUT = "pairs", "changes.gpkg"
"""Layer of a summary that lists its pairs, and file name of each pair's own output."""


def reviewed_pairs(path: Path, aoi: Path | None) -> list[PairSource]:
    """The pairs that a reviewed file covers: one; or, for a summary, those with reviews.

    Args:
        path: Output of detect, polygons or batch.
        aoi: Area of interest that was reviewed completely.

    Raises:
        DataError: It is none of these, nothing in it is reviewed, or an image is missing or has changed.
    """
    if not (path.is_file() and PAIRS in layers_of(path)):
        return [PairSource(str(path), detected_from(path, aoi), path, reviewed=True)]
    rows = _rows_of_pairs(path)
    if not rows:
        remedy = "open it in QGIS and fill the column review of layer changes with accepted or rejected"
        raise DataError("no polygon of it is reviewed", path=path, remedy=remedy)
    return [
        PairSource(f"{path}, pair {pair}", detected_from(path.parent / pair / OUTPUT, aoi), path, True, where)
        for pair, where in rows.items()
    ]


def _rows_of_pairs(path: Path) -> dict[str, tuple[int, ...]]:
    """Pair -> rows of its changes in the summary, for pairs with reviews.

    A polygon that a person drew has no pair: it belongs to the pair on whose grid it lies.

    Raises:
        DataError: It lies in several pairs, or in none.
    """
    frame, pairs = read_vectors(path, layer=LAYER), read_vectors(path, layer=PAIRS)
    pairs = pairs[pairs["status"] == "done"]
    answered = answers_of(path, frame, IGNORED) != IGNORED
    of = frame["pair_id"].fillna("").astype(str).to_numpy(dtype=object)
    for row in np.flatnonzero((of == "") & answered):
        on = pairs[pairs.geometry.intersects(frame.geometry.iloc[row])]["pair_id"].tolist()
        if len(on) != 1:
            where = f"of {', '.join(on)}" if on else "of no pair"
            problem = f"a polygon drawn at {frame.geometry.iloc[row].centroid.wkt} lies on the ground {where}"
            raise DataError(problem, path=path, remedy="fill its column pair_id with the pair that it belongs to")
        of[row] = on[0]
    return {pair: tuple(np.flatnonzero(of == pair).tolist()) for pair in dict.fromkeys(of[answered])}


def detected_from(path: Path, aoi: Path | None) -> PairConfig:
    """How detect read the pair behind this GeoPackage, from its provenance.

    Raises:
        DataError: It is not an output of detect, or an image is missing or has changed.
    """
    other = f"or name them: --pair BEFORE AFTER '{path}'"
    try:
        metadata = pyogrio.read_info(path, layer=LAYER)["layer_metadata"] or {}
        origin = {name: json.loads(metadata[name]) for name in ("inputs", "options")}
        return replace(pair_of(origin, path.parent), aoi=aoi)
    except (*UNREADABLE, KeyError, TypeError, ValueError) as error:
        remedy = "give a GeoPackage that rscd detect wrote, " + other
        raise DataError("does not say which pair it was made from", path=path, remedy=remedy) from error
    except DataError as error:
        raise DataError(error.problem, path=path, remedy=f"{error.remedy}, {other}") from error
