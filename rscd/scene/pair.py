"""Opens the pair: two GeoTIFFs and the common grid on which both are read; or refuses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio

from rscd.core.errors import DataError
from rscd.core.grid import Mapping, Overlap, check_place, gsd_m, moved, name_of, unwrapped
from rscd.core.types import BoolArray, Grid, Window, intersection
from rscd.options.pair import PairConfig
from rscd.scene.aligned import DateReader, PlainReader, WarpReader
from rscd.scene.aoi import MARGIN, Aoi, read_aoi
from rscd.scene.bands import Bands, choose_bands
from rscd.scene.blocks import BadBlocks, find_blocks
from rscd.scene.files import check_sidecars
from rscd.scene.masks import Mask, check_lies_on, check_mask, mask_error
from rscd.scene.raster import GDAL_OPTIONS, WITH_SIDECARS, Raster, check_raster, gdal_errors, open_raster

RGB = ("red", "green", "blue")
MOST_COLUMNS, MOST_PIXELS = 1 << 17, 1 << 35
"""Limits of the common grid, or of its part in the area of interest, px: memory grows with its width."""
MOST_RATIO = 10.0
"""Maximum ratio of the pixel sizes of the two dates."""


@dataclass(frozen=True)
class Pair:
    """Two dates on one grid. Each reader is for one thread at a time."""

    before: DateReader
    """The earlier date."""
    after: DateReader
    """The later date."""
    full: Grid
    """The grid of the date that defines it; the readers' windows refer to it."""
    crop: Window
    """The part of ``full`` that is the common grid: all of it, or the area of interest with a margin."""
    overlap: Overlap
    """The part of ``full`` that both dates cover."""
    grid_from: Literal["before", "after"] = "before"
    """Date whose grid ``full`` is."""
    aoi: Aoi | None = None
    """Area of interest; nothing outside it is mapped."""

    @property
    def bad_blocks(self) -> BadBlocks:
        """Handles the blocks of both dates that cannot be decoded."""
        return self.before.raster.bad_blocks

    @property
    def grid(self) -> Grid:
        """The common grid."""
        transform = moved(self.full.transform, self.crop.row, self.crop.col)
        return Grid(self.full.crs, transform, self.crop.width, self.crop.height)

    def outside_aoi(self, row: int, height: int) -> BoolArray:
        """Pixels (height, width) of rows of the common grid that are outside the area of interest."""
        if self.aoi is None:
            return np.zeros((height, self.crop.width), np.bool_)
        return ~self.aoi.mask(Window(self.crop.row + row, self.crop.col, height, self.crop.width))

    @property
    def one_scale(self) -> bool:
        """Whether the values of both files are comparable: 8-bit values of one date are not with 16-bit ones."""
        return self.before.raster.dtype == self.after.raster.dtype

    @property
    def region(self) -> Window:
        """The part of ``full`` that is read: the intersection of crop and overlap."""
        return intersection(self.crop, self.overlap.window)

    def with_margin(self, px: int) -> Pair:
        """The pair with at least this margin in px around the area of interest, if there is one.

        The margin is the windows' overlap: then all windows that count inside the area belong to the plan.
        """
        return self if self.aoi is None else replace(self, crop=self.aoi.crop(max(MARGIN, px)))


@contextmanager
def open_pair(config: PairConfig, names: tuple[str, ...] = RGB) -> Iterator[Pair]:
    """Open both dates and relate their grids. Pixels are not read yet.

    Args:
        config: The files and how to join them.
        names: The model's bands, in order.

    Raises:
        DataError: A file cannot be used (missing, not a GeoTIFF, not georeferenced, complex, too few bands), or
            the two do not overlap, differ too much in pixel size, or are too large.
        UsageError: The bands are invalid.
    """
    paths, masks = (config.before, config.after), (config.before_mask, config.after_mask)
    for path in (*paths, *masks):
        if path is not None:
            check_sidecars(path, wanted=config.sidecars)
    options = GDAL_OPTIONS | (WITH_SIDECARS if config.sidecars else {})
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(**options))
        files = [(path, stack.enter_context(open_raster(path, remote=config.remote))) for path in paths]
        known = [_crs(path, dataset) for path, dataset in files]
        if config.assume_same_crs:
            known = [known[0] or known[1], known[1] or known[0]]
        for (path, dataset), crs in zip(files, known, strict=True):
            with gdal_errors(path):
                check_raster(path, dataset, crs)
        chosen = choose_bands(files, config, names)
        bad_blocks = BadBlocks(config.bad_blocks)
        rasters = [
            _raster(path, dataset, crs, bands, bad_blocks)
            for (path, dataset), crs, bands in zip(files, known, chosen, strict=True)
        ]
        pair = _join(rasters[0], rasters[1], config)
        opened = [_open_mask(path, pair.full, known[0], config, stack) for path in masks]
        before, after = (replace(d, mask=m) for d, m in zip((pair.before, pair.after), opened, strict=True))
        yield replace(pair, before=before, after=after)


def refuse_same_file(config: PairConfig) -> None:
    """Refuse the same file as both dates, under any names.

    Raises:
        DataError: Both dates are the same file.
    """
    same = False
    with suppress(OSError):
        same = config.before.samefile(config.after)
    if same:
        raise DataError("is given as both dates", path=config.after, remedy="name the image of the other date")


def _open_mask(path: Path | None, grid: Grid, crs: Any, config: PairConfig, stack: ExitStack) -> Mask | None:  # noqa: ANN401
    """A date's mask, checked against the common grid.

    Raises:
        DataError: It cannot be used.
    """
    if path is None:
        return None
    dataset = stack.enter_context(open_raster(path))
    own = _crs(path, dataset) or (crs if config.assume_same_crs else None)
    with gdal_errors(path):
        check_raster(path, dataset, own)
        check_mask(path, dataset)
    try:
        mask = Mask(_raster(path, dataset, own, Bands((1,)), BadBlocks()), config.mask_values)
    except DataError as error:
        raise mask_error(error) from error
    check_lies_on(mask, grid)
    return mask


def _crs(path: Path, dataset: Any) -> Any:  # noqa: ANN401
    """The CRS of a file, possibly that of its ground control points; None if it has none."""
    with gdal_errors(path):
        return dataset.crs or (dataset.gcps[1] if dataset.gcps[0] else None)


def _raster(
    path: Path,
    dataset: Any,  # noqa: ANN401
    crs: Any,  # noqa: ANN401
    bands: Bands,
    bad_blocks: BadBlocks,
) -> Raster:
    grid = Grid(crs.to_wkt(), tuple(dataset.transform)[:6], dataset.width, dataset.height)
    check_place(path, dataset.transform, grid.crs)
    read = bands.read if bands.nir is None else (*bands.read, bands.nir)
    with gdal_errors(path):
        blocks = find_blocks(path, dataset, read, cut=bad_blocks.policy)
    return Raster(path, dataset, bands.read, grid, blocks, bad_blocks, bands.nir, bands.alpha, bands.notes)


def _join(before: Raster, after: Raster, config: PairConfig) -> Pair:
    """Bring the other date to the grid of the date that defines it."""
    reference, other = (before, after) if config.grid == "before" else (after, before)
    try:
        other = replace(other, grid=unwrapped(reference.grid, other.grid))
    except DataError as error:
        raise DataError(error.problem, path=other.path, remedy=error.remedy) from error
    mapping = Mapping(reference.grid, other.grid)
    if mapping.overlap.share <= 0:
        problem = f"does not overlap {reference.path}: {_where(other.grid)}; {_where(reference.grid)}"
        raise DataError(problem, path=other.path, remedy="give two dates of the same place, or check their CRS")
    if not 1 / MOST_RATIO <= mapping.ratio <= MOST_RATIO:
        sizes = f"{gsd_m(other.grid):.3g} m and {gsd_m(reference.grid):.3g} m"
        problem = f"pixels of {sizes} cannot be compared: their sizes differ by more than {MOST_RATIO:g}"
        raise DataError(problem, path=other.path, remedy="use dates of similar resolution")
    readers: list[DateReader] = [PlainReader(reference, reference.grid)]
    if mapping.offset is not None:
        readers.append(PlainReader(other, reference.grid, mapping.offset))
    else:
        readers.append(WarpReader(other, reference.grid))
    if reference is after:
        readers.reverse()
    crop, aoi = Window(0, 0, *reference.grid.shape), None
    if config.aoi is not None:
        aoi = read_aoi(config.aoi, reference.grid)
        crop = aoi.crop()
    if crop.width > MOST_COLUMNS or crop.width * crop.height > MOST_PIXELS:
        problem = f"{crop.height:,} rows of {crop.width:,} px are to be compared; the maximum is {MOST_PIXELS:,} px"
        remedy = f"limit them to parts with --aoi, each at most {MOST_COLUMNS:,} px wide"
        raise DataError(problem, path=reference.path, remedy=remedy)
    pair = Pair(readers[0], readers[1], reference.grid, crop, mapping.overlap, config.grid, aoi)
    if min(pair.region[2:]) <= 0:
        remedy = "draw it where both dates are"
        raise DataError("lies outside the overlap of the two dates", path=config.aoi, remedy=remedy)
    return pair


def _where(grid: Grid) -> str:
    """The extent of a grid, as text."""
    left, top = grid.affine @ (0, 0)
    right, bottom = grid.affine @ (grid.width, grid.height)
    xs, ys = sorted((left, right)), sorted((top, bottom))
    return f"it spans x {xs[0]:.8g} to {xs[1]:.8g}, y {ys[0]:.8g} to {ys[1]:.8g} in {name_of(grid)}"
