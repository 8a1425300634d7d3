"""Labels of a pair of GeoTIFFs: polygons burnt on its grid where they are asked for, or a raster.

Reviewed outputs give labelled pairs: a GeoPackage of detect or polygons, or the summary of an archive.
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
"""The layer that detect writes, and that is taken where a file has it."""
ANSWERS = {
    "yes": CHANGED,
    "accepted": CHANGED,
    "no": UNCHANGED,
    "rejected": UNCHANGED,
    "": IGNORED,
    "unsure": IGNORED,
}
"""What may stand in the column ``review``, and what it makes of a polygon's pixels."""
UNREADABLE = (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError)
COLLAR_PX = 8
"""So far around an answered polygon the ground was looked at too: what is in no polygon there is unchanged."""


class Label(Protocol):
    """Labels on a pair's grid."""

    def read(self, window: Window) -> ByteArray:
        """The label (h, w) of a window: UNCHANGED, CHANGED and IGNORED."""


@dataclass(frozen=True)
class VectorLabel:
    """Shapes painted over one another."""

    ground: int
    """What a pixel is that no shape covers."""
    layers: tuple[tuple[Any, int], ...]
    """Shapely shapes in pixel coordinates of the grid, and what they make of their pixels; the last one wins."""

    def read(self, window: Window) -> ByteArray:
        """The label (h, w) of a window of the grid."""
        label = np.full((window.height, window.width), self.ground, np.uint8)
        for shape, value in self.layers:
            label[burn(shape, window)] = value
        return label


@dataclass(frozen=True)
class RasterLabel:
    """A raster on the same grid: 0 unchanged, 1 or 255 changed; what its mask or nodata value hides is ignored."""

    path: Path
    """A GeoTIFF of one band."""
    grid: Grid
    """The grid."""

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
    """The labels of a pair whose full grid this is.

    Raises:
        DataError: A raster on another grid; a vector file without polygons, or with none on the grid; answers in
            ``review`` that mean nothing, or none at all where a review was promised.
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
        raise DataError("does not lie on the pair's grid", path=path, remedy=remedy)
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
    """Names of a vector file's layers; none of a file that is none."""
    try:
        return [str(name) for name, _ in pyogrio.list_layers(path)]
    except pyogrio.errors.DataSourceError:
        return []  # read_vectors says it better


def answers_of(path: Path, frame: Any, without: int) -> np.ndarray:  # noqa: ANN401
    """What each polygon of a frame is; where nothing is reviewed, all are ``without``.

    Raises:
        DataError: Answers beyond ANSWERS.
    """
    if "review" not in frame.columns:
        return np.full(len(frame), without)
    said = frame["review"].fillna("").astype(str).str.strip().str.lower()
    if "mean_probability" in frame.columns:  # polygons without it are those that people drew
        said = said.mask((said == "") & frame["mean_probability"].isna(), "accepted")
    if not (said != "").any():
        return np.full(len(frame), without)
    odd = sorted(set(said) - ANSWERS.keys())
    if odd:
        remedy = "use yes (or accepted), no (or rejected), or leave it empty"
        raise DataError(f"column review holds {', '.join(map(repr, odd[:5]))}", path=path, remedy=remedy)
    return np.asarray(said.map(ANSWERS))


PAIRS, OUTPUT = "pairs", "changes.gpkg"
"""Layer of a summary that lists its pairs, and what each pair's own output is called."""


def reviewed_pairs(path: Path, aoi: Path | None) -> list[PairSource]:
    """The pairs that a reviewed file judges: one, or of a summary those with answers.

    Args:
        path: What detect, polygons or batch wrote.
        aoi: Inside this area of interest all was looked over.

    Raises:
        DataError: It is none of those, nothing in it is reviewed, or an image is gone or is another one.
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
    """Pair -> rows of the summary's changes that are of it, for pairs with answers.

    A polygon that somebody drew has no pair: it is of the one on whose ground it lies.

    Raises:
        DataError: It lies on the ground of several, or of none.
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
            raise DataError(problem, path=path, remedy="fill its column pair_id with the pair that it is of")
        of[row] = on[0]
    return {pair: tuple(np.flatnonzero(of == pair).tolist()) for pair in dict.fromkeys(of[answered])}


def detected_from(path: Path, aoi: Path | None) -> PairConfig:
    """How detect read the pair that it made this GeoPackage from, by the provenance in it.

    Raises:
        DataError: It is no output of detect, or a date is gone, or is not the file that it was.
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
