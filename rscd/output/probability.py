"""The probability raster: a cloud-optimised GeoTIFF, written band by band and verified block by block."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from rscd.errors import DataError, OutputError
from rscd.output.geotiff import BLOCK, new_geotiff, write_rows
from rscd.scene.blocks import find_blocks, words_of
from rscd.scene.grid import grid_of
from rscd.scene.raster import GDAL_OPTIONS, open_raster
from rscd.types import NOT_OBSERVABLE, P_SCALE, BandRecord, ByteArray, Grid

REMEDY = "free some space or choose another folder, and run again"


class ProbabilityRaster:
    """Takes BandRecords in order; ``finish`` makes the COG.

    Rows are written in whole blocks, each block once, to a plain GeoTIFF ``<path>.rows.tif``; the COG is a copy of
    it. Both paths are the caller's temporaries.
    """

    def __init__(self, path: Path, grid: Grid) -> None:
        self._path, self._grid = path, grid
        self._rows_path = path.with_name(path.name + ".rows.tif")
        self._hashes: list[str] = []
        self._held: list[ByteArray] = []
        self._written = 0
        self._files = ExitStack()
        with _writing(path):
            opened = new_geotiff(self._rows_path, grid, bands=1, nodata=NOT_OBSERVABLE)
            self._dataset: Any = self._files.enter_context(opened)
            self._dataset.scales = (1 / P_SCALE,)
            self._dataset.set_band_description(1, "probability of change")

    def add(self, record: BandRecord) -> None:
        """Take a band's rows.

        Raises:
            OutputError: They cannot be written.
        """
        self._held.append(record.probability)
        held = sum(len(rows) for rows in self._held)
        last = self._written + held == self._grid.height
        if held >= BLOCK or last:
            rows = np.concatenate(self._held)
            keep = 0 if last else held % BLOCK
            self._write(rows[: held - keep])
            self._held = [rows[held - keep :]]

    def _write(self, rows: ByteArray) -> None:
        with _writing(self._path):
            for start in range(0, len(rows), BLOCK):
                strip = rows[start : start + BLOCK]
                self._hashes.append(_digest(strip))
                write_rows(self._dataset, self._written, strip[None])
                self._written += len(strip)

    def finish(self) -> None:
        """Make the COG at ``path`` and read every block of it back.

        Raises:
            OutputError: It cannot be written, or does not read back as it was computed.
        """
        assert self._written == self._grid.height
        with _writing(self._path):
            self._files.close()
        with _writing(self._path), rasterio.Env(**GDAL_OPTIONS):
            rasterio.shutil.copy(
                self._rows_path,
                self._path,
                driver="COG",
                compress="ZSTD",
                blocksize=BLOCK,
                overview_resampling="average",
                bigtiff="IF_SAFER",
            )
            self._rows_path.unlink()
            verify(self._path, self._hashes)

    def discard(self) -> None:
        """Close and remove what was written so far; harmless after ``finish``."""
        with suppress(RasterioError, OSError):
            self._files.close()
        self._rows_path.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what rasterio and the system raise while writing into an OutputError."""
    try:
        yield
    except (RasterioError, OSError) as error:
        raise OutputError(f"cannot be written: {error}", path=path, remedy=REMEDY) from error


def verify(path: Path, hashes: list[str]) -> None:
    """Read every block of a COG back and compare.

    Args:
        path: The COG.
        hashes: Digest of each strip of BLOCK rows, from the top.

    Raises:
        OutputError: The layout is not a COG's, or a strip differs.
    """
    with rasterio.open(path, driver="GTiff") as dataset:
        if dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") != "COG":
            raise OutputError("is not laid out as a COG", path=path, remedy=REMEDY)
        for i, expected in enumerate(hashes):
            rows = min(BLOCK, dataset.height - i * BLOCK)
            strip = dataset.read(1, window=RasterWindow(0, i * BLOCK, dataset.width, rows))
            if _digest(strip) != expected:
                raise OutputError(f"rows from {i * BLOCK} read back wrong", path=path, remedy=REMEDY)


def _digest(strip: ByteArray) -> str:
    return hashlib.sha256(np.ascontiguousarray(strip).data).hexdigest()


class KeptProbability:
    """A probability raster on disk, read from top to bottom.

    Raises:
        DataError: Missing, not a GeoTIFF, or not a probability raster of ours.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with rasterio.Env(**GDAL_OPTIONS), self._open() as dataset:
            right = dataset.count == 1 and dataset.dtypes[0] == "uint8" and dataset.nodata == NOT_OBSERVABLE
            if not right or abs(dataset.scales[0] * P_SCALE - 1) > 1e-6:
                problem = "not a probability raster (one uint8 band, scale 1/254, nodata 255)"
                raise DataError(problem, path=path, remedy="give what rscd detect --probability wrote")
            if dataset.crs is None:
                raise DataError("has no CRS", path=path, remedy="give what rscd detect --probability wrote")
            if missing := find_blocks(path, dataset, (1,), cut="stop").missing:
                problem = f"{missing:,} of its blocks were never written: its writer was ended before it was done"
                raise DataError(problem, path=path, remedy="run rscd detect again")
            self.grid: Grid = grid_of(dataset)

    def _open(self) -> Any:  # noqa: ANN401
        return open_raster(self._path)

    def strips(self) -> Iterator[tuple[int, ByteArray]]:
        """Yield (first row, values (rows, columns)) of each strip of BLOCK rows.

        Raises:
            DataError: A block cannot be decoded.
        """
        with rasterio.Env(**GDAL_OPTIONS), self._open() as dataset:
            for row in range(0, dataset.height, BLOCK):
                window = RasterWindow(0, row, dataset.width, min(BLOCK, dataset.height - row))
                try:
                    yield row, dataset.read(1, window=window)
                except RasterioError as error:
                    problem = f"rows from {row} cannot be read: {words_of(error)}"
                    raise DataError(problem, path=self._path, remedy="write it again") from error
