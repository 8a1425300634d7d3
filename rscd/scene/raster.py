"""The file of one date: opened only as a GeoTIFF, checked, read; validity, and filling of gaps.

GDAL's exceptions and messages are converted to rscd's errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow
from scipy.ndimage import distance_transform_edt

from rscd.core.errors import DataError
from rscd.core.paths import require_file
from rscd.core.types import BoolArray, Grid, ImageArray, Window
from rscd.scene.blocks import BadBlocks, Blocks, check_blocks
from rscd.scene.files import REMOTE_OPTIONS, gdal_name, open_remote, told_beside

GDAL_OPTIONS = {
    "GDAL_CACHEMAX": 64,  # MB, for the whole process: GDAL's default is a share of the machine
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # sidecars of an input are not trusted
    "GDAL_PAM_ENABLED": "NO",  # none are written either
    "GDAL_ENABLE_TIFF_SPLIT": "NO",  # else a file in one strip is decoded from its start for every row
}
WITH_SIDECARS = {"GDAL_DISABLE_READDIR_ON_OPEN": "FALSE", "GDAL_PAM_ENABLED": "YES"}
MOST_BANDS = 1024
"""Maximum number of bands of a file."""


@dataclass(frozen=True)
class Raster:
    """An open file of one date, for one thread at a time."""

    path: Path
    """The file."""
    dataset: Any
    """rasterio dataset."""
    bands: tuple[int, ...]
    """Band numbers that are read, from 1."""
    grid: Grid
    """The file's own grid."""
    blocks: Blocks
    """The file's blocks, and which of them are stored."""
    bad_blocks: BadBlocks
    """Handles blocks that cannot be decoded."""
    nir: int | None = None
    """A near-infrared band that can be read in addition; it does not affect validity."""
    alpha: int | None = None
    """The band whose zeros are not valid."""
    notes: tuple[str, ...] = ()
    """Notes on how the bands were chosen."""

    @property
    def dtype(self) -> str:
        """The dtype of the bands read, such as ``uint8``."""
        return str(np.result_type(*(self.dataset.dtypes[b - 1] for b in self.bands)))

    @property
    def tiled(self) -> bool:
        """Whether a block is narrower than the file: a corner can be read without the whole row."""
        return bool(self.dataset.block_shapes[self.bands[0] - 1][1] < self.grid.width)

    @property
    def numbers_dtype(self) -> np.dtype[Any]:
        """Data type of ``read`` with near infrared: floating point if that may be unknown in a valid pixel."""
        kind = np.dtype(self.dtype)
        unknown = self.nir is not None and kind.kind != "u" and self.dataset.nodatavals[self.nir - 1] is not None
        return np.result_type(kind, np.float32) if unknown else kind

    def read(self, window: Window, *, nir: bool = False) -> tuple[ImageArray, BoolArray]:
        """Pixels (bands, h, w) in the file's dtype and validity (h, w) of a window inside the file.

        Blocks that were never written are not valid; nor are blocks that cannot be decoded, if the policy is to
        mask them.

        Args:
            window: Window in px of the file.
            nir: Also read near infrared, if there is any, as the last band.

        Raises:
            DataError: A block cannot be decoded, and the policy is to stop.
        """
        nir = nir and self.nir is not None
        stored = self.blocks.touched(window)
        if not stored.any():
            return self._nothing(window, nir)
        try:
            pixels, valid = self._decode(window, nir)
        except GDAL_ERRORS:
            return self._read_apart(window, nir)
        if not stored.all():
            for _, part, held in self.blocks.over(window):
                if not held:
                    valid[_inside(part, window)] = False
        return pixels, valid

    def _decode(self, window: Window, nir: bool) -> tuple[ImageArray, BoolArray]:
        part = RasterWindow(window.col, window.row, window.width, window.height)
        if not nir:
            pixels = self.dataset.read(self.bands, window=part)
            return pixels, read_validity(self.dataset, self.bands, part, pixels, self.alpha)
        pixels = self.dataset.read((*self.bands, self.nir), window=part)
        valid = read_validity(self.dataset, self.bands, part, pixels[:-1], self.alpha)
        if self.numbers_dtype != pixels.dtype or pixels.dtype.kind == "f":
            unknown = holds_nodata(pixels[-1:], [self.dataset.nodatavals[(self.nir or 1) - 1]])
            pixels = pixels.astype(self.numbers_dtype, copy=False)
            pixels[-1][unknown] = np.nan
        return pixels, valid

    def _read_apart(self, window: Window, nir: bool) -> tuple[ImageArray, BoolArray]:
        """Read a window block by block, because one of them cannot be decoded."""
        pixels, valid = self._nothing(window, nir)
        for block, part, held in self.blocks.over(window):
            inside = _inside(part, window)
            try:
                if held:
                    pixels[:, *inside], valid[inside] = self._decode(part, nir)
            except GDAL_ERRORS as error:
                self.bad_blocks.record(self.path, block, words_of(error))
        return pixels, valid

    def _nothing(self, window: Window, nir: bool) -> tuple[ImageArray, BoolArray]:
        shape = window.height, window.width
        kind = self.numbers_dtype if nir else np.dtype(self.dtype)
        return np.zeros((len(self.bands) + nir, *shape), kind), np.zeros(shape, bool)


def _inside(part: Window, window: Window) -> tuple[slice, slice]:
    """Slices of a part of a window in arrays of the window."""
    top, left = part.row - window.row, part.col - window.col
    return slice(top, top + part.height), slice(left, left + part.width)


@contextmanager
def open_raster(path: Path, *, remote: bool = False) -> Iterator[Any]:
    """Open a GeoTIFF, and no other format.

    Args:
        path: The file.
        remote: Whether it may be an ``https://`` or ``s3://`` address.

    Raises:
        DataError: It is missing, not a GeoTIFF, or claims too many bands, blocks or pixels.
    """
    with _opened(path, remote=remote) as dataset:
        if dataset.count > MOST_BANDS:
            remedy = "extract the bands that you need: gdal_translate -b 1 -b 2 -b 3 IN OUT.tif"
            raise DataError(f"claims {dataset.count:,} bands", path=path, remedy=remedy)
        with gdal_errors(path):
            check_blocks(path, dataset)
        yield dataset


@contextmanager
def _opened(path: Path, *, remote: bool) -> Iterator[Any]:
    if remote and gdal_name(path) is not None:
        with rasterio.Env(**REMOTE_OPTIONS), open_remote(path) as dataset:
            yield dataset
        return
    require_file(path)
    try:
        dataset = rasterio.open(path.absolute(), driver="GTiff")  # a relative name might look like a GDAL prefix
    except (*GDAL_ERRORS, ValueError) as error:
        remedy = "convert it: gdal_translate -of GTiff IN OUT.tif"
        raise DataError(f"cannot be opened as a GeoTIFF: {words_of(error)}", path=path, remedy=remedy) from error
    with dataset:
        yield dataset


def check_raster(path: Path, dataset: Any, crs: Any) -> None:  # noqa: ANN401
    """Refuse files that are not georeferenced by a transform and a CRS, and pixels that are not real numbers.

    Args:
        path: The file, for messages.
        dataset: The open file.
        crs: Its CRS, or the assumed one; None if there is none.

    Raises:
        DataError: The file is refused.
    """
    complex_ones = sorted({d for d in dataset.dtypes if d.startswith("complex")})
    if complex_ones:
        remedy = "make an amplitude image of it first; the models need optical imagery"
        raise DataError(f"pixels are complex ({', '.join(complex_ones)})", path=path, remedy=remedy)
    if dataset.transform.is_identity:
        _refuse_unplaced(path, dataset)
    if crs is None:
        remedy = "assign it: gdal_edit.py -a_srs EPSG:CODE FILE; or add --assume-same-crs to take the other date's"
        raise DataError("has no CRS" + told_beside(path), path=path, remedy=remedy)


def _refuse_unplaced(path: Path, dataset: Any) -> None:  # noqa: ANN401
    """Report why a file without a transform is refused, with a remedy.

    Raises:
        DataError: Always.
    """
    points, crs = dataset.gcps
    if points:
        target = f"-t_srs EPSG:{crs.to_epsg()} " if crs and crs.to_epsg() else "-t_srs EPSG:CODE "
        order = "-order 1" if len(points) < 10 else "-tps"
        remedy = f"warp it first: gdalwarp {target}{order} -r bilinear '{path}' placed.tif"
        raise DataError(f"is georeferenced by {len(points)} ground control points only", path=path, remedy=remedy)
    if dataset.rpcs is not None:
        line = f"gdalwarp -rpc -to RPC_DEM=dem.tif -t_srs EPSG:CODE -r bilinear '{path}' placed.tif"
        remedy = f"warp it first: {line}"
        raise DataError("is georeferenced by RPCs only", path=path, remedy=remedy)
    remedy = "georeference it: gdal_edit.py -a_srs EPSG:CODE -a_ullr LEFT TOP RIGHT BOTTOM FILE"
    raise DataError("has no geotransform: its location is unknown" + told_beside(path), path=path, remedy=remedy)


T = TypeVar("T", bound=np.generic)


def read_validity(
    dataset: Any,  # noqa: ANN401
    bands: tuple[int, ...],
    window: RasterWindow,
    pixels: ImageArray,
    alpha: int | None = None,
) -> BoolArray:
    """Validity (h, w) of a window just read: finite, and valid by nodata value, internal mask or alpha.

    A nodata value takes precedence over an alpha band, as in GDAL: near infrared is often tagged alpha by mistake.

    Args:
        dataset: The open file.
        bands: Bands that were read, from 1.
        window: The window that was read.
        pixels: Shape (bands, h, w).
        alpha: The band whose zeros are not valid, if there is one.
    """
    finite = np.isfinite(pixels).all(axis=0)
    flags = dataset.mask_flag_enums[bands[0] - 1]
    if MaskFlags.nodata in flags:
        return np.asarray(finite & ~holds_nodata(pixels, [dataset.nodatavals[b - 1] for b in bands]))
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        return np.asarray(finite & (dataset.read_masks(bands[0], window=window) > 0))
    if alpha is not None:
        return np.asarray(finite & (dataset.read(alpha, window=window) > 0))
    return np.asarray(finite)


def holds_nodata(pixels: ImageArray, values: list[float | None]) -> BoolArray:
    """Pixels (h, w) of (bands, h, w) that are nodata; each band has its own value, or None.

    If the value may also be data, all bands must have it: a single band that is 0 in a dark place is data. A
    negative value, or a value of floating-point pixels, cannot be data: any band that has it hides the pixel.
    """
    held = np.stack([band == _as_pixel(value, pixels.dtype) for band, value in zip(pixels, values, strict=True)])
    plain = pixels.dtype.kind == "u" or all(value is None or value >= 0 for value in values)
    return np.asarray(held.all(axis=0) if plain and pixels.dtype.kind != "f" else held.any(axis=0))


def _as_pixel(value: float | None, dtype: np.dtype[Any]) -> Any:  # noqa: ANN401
    """The value in the pixels' dtype; NaN, which equals nothing, if the dtype cannot represent it."""
    if value is None or np.isnan(value):
        return np.float64("nan")
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.asarray(value, dtype)[()]
    held = np.iinfo(dtype).min <= value <= np.iinfo(dtype).max and value == int(value)
    return np.asarray(int(value), dtype)[()] if held else np.float64("nan")


def fill_invalid(pixels: NDArray[T], valid: BoolArray) -> NDArray[T]:
    """Fill each invalid pixel of (bands, h, w) with the nearest valid pixel, if there is any.

    So a nodata border is not a dark edge for the network.
    """
    if valid.all() or not valid.any():
        return pixels
    rows, cols = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return pixels[:, rows, cols]


GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""Exceptions of rasterio for files that GDAL cannot read."""


@contextmanager
def gdal_errors(path: Path) -> Iterator[None]:
    """Convert GDAL's errors on a file's header to DataError; rasterio does not wrap all of them.

    Raises:
        DataError: GDAL reported an error.
    """
    try:
        yield
    except GDAL_ERRORS as error:
        problem = f"its header is broken: {words_of(error)}"
        raise DataError(problem, path=path, remedy="fetch the file again") from error


def words_of(error: BaseException) -> str:
    """GDAL's messages: the chain of causes from the last to the first, without repetition."""
    parts: list[str] = []
    link: BaseException | None = error.__cause__ or error
    while link is not None:
        text = " ".join(str(link).split()).rstrip(".")
        if text and not any(text in other for other in parts):
            parts.append(text)
        link = link.__cause__
    return ": ".join(parts) or type(error).__name__
