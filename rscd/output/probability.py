"""The probability raster: a cloud-optimised GeoTIFF, written strip by strip and verified block by block."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from itertools import product
from pathlib import Path
from typing import Any

import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from rscd.core.errors import DataError, OutputError
from rscd.core.grid import check_place, grid_of
from rscd.core.publish import REMEDY, writing
from rscd.core.types import NOT_OBSERVABLE, P_SCALE, ByteArray, Grid, StripRecord
from rscd.output.geotiff import BLOCK, Level, digest_of
from rscd.scene.blocks import find_blocks
from rscd.scene.raster import GDAL_OPTIONS, open_raster, words_of

GDAL_ERRORS = RasterioError, CPLE_BaseError
"""Errors of rasterio; on a full disk, the copy to a COG raises the second, which is not a subclass of the first."""

SIBLINGS = {"GDAL_DISABLE_READDIR_ON_OPEN": "FALSE"}
"""While the COG is made, GDAL may find the overviews next to the rows."""
RUN_TAG = "RSCD_RUN"
"""Name of the tag with information on the run."""
LEVEL = 1
"""Level of DEFLATE, which older desktop and web clients can read, unlike ZSTD: the copy of 67 Mpx took 0.63 s, with
ZSTD 0.56 s, and at level 6 twice as long for a file smaller by a tenth."""
THREADS = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
"""Threads that make the COG and read it back; inference has finished by then."""


class ProbabilityRaster:
    """Writer that takes StripRecords in order; ``finish`` makes the COG.

    Rows are written in whole blocks, each block once, to a plain GeoTIFF ``<path>.rows.tif`` and its overviews; the
    COG is a copy of them. All are temporary files of the caller.

    Args:
        path: The COG to write.
        grid: The records' grid.
        target: Name of the file in errors; default: ``path``.
        run: Information on the run for ``rscd polygons``, as JSON holds it; equal for runs with equal bytes.
    """

    def __init__(
        self, path: Path, grid: Grid, target: Path | None = None, run: Mapping[str, object] | None = None
    ) -> None:
        self._path, self._grid, self._target = path, grid, target or path
        self._files = ExitStack()
        with self._writing():
            self._rows = Level(path.with_name(path.name + ".rows.tif"), grid, self._files)
            self._rows.dataset.scales = (1 / P_SCALE,)
            self._rows.dataset.set_band_description(1, "probability of change")
            if run is not None:
                self._rows.dataset.update_tags(**{RUN_TAG: json.dumps(run, sort_keys=True)})

    def add(self, record: StripRecord) -> None:
        """Add a strip's rows.

        Raises:
            OutputError: They cannot be written.
        """
        with self._writing():
            self._rows.add(record.probability)

    @property
    def complete(self) -> bool:
        """Whether all rows have been added."""
        return self._rows.complete

    def finish(self) -> None:
        """Make the COG at ``path`` and read every block of it back.

        Raises:
            OutputError: It cannot be written, or reads back differently.
        """
        assert self.complete
        with self._writing():
            self._files.close()
        with self._writing(), rasterio.Env(**(GDAL_OPTIONS | SIBLINGS)):
            rasterio.shutil.copy(
                self._rows.path,
                self._path,
                driver="COG",
                compress="DEFLATE",
                level=LEVEL,
                blocksize=BLOCK,
                overviews="FORCE_USE_EXISTING",
                bigtiff="IF_SAFER",
                num_threads=THREADS,  # then a full disk may raise nothing here; reading back shows it
            )
        with self._writing(), rasterio.Env(**GDAL_OPTIONS):
            self._remove()
            verify(self._path, [level.digests for level in self._rows.levels()], self._target)

    def discard(self) -> None:
        """Close and remove the files written so far; does nothing after ``finish``."""
        with suppress(*GDAL_ERRORS, OSError):
            self._files.close()
        self._remove()

    def _remove(self) -> None:
        for level in self._rows.levels():
            level.path.unlink(missing_ok=True)

    def _writing(self) -> AbstractContextManager[None]:
        return writing(self._target, *GDAL_ERRORS)


def verify(path: Path, digests: list[list[str]], target: Path | None = None) -> None:
    """Read every block of a COG and its overviews back, and compare.

    Args:
        path: The COG.
        digests: Of each level, from the finest: the digest of each strip of BLOCK rows, from the top.
        target: Name of the file in errors; default: ``path``.

    Raises:
        OutputError: It is not a COG, a level or a block is missing, or a strip differs.
    """
    target = target or path
    with rasterio.open(path, driver="GTiff") as dataset:
        if dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") != "COG":
            raise OutputError("is not laid out as a COG", path=target, remedy=REMEDY)
        if len(dataset.overviews(1)) != len(digests) - 1:
            raise OutputError("has no overview", path=target, remedy=REMEDY)

    def part(which: tuple[int, int]) -> None:
        with rasterio.Env(**GDAL_OPTIONS):  # per thread
            _compare(path, which[0], digests[which[0]], which[1], target)

    with ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(part, product(range(len(digests)), range(THREADS))):
            pass


def _compare(path: Path, level: int, digests: list[str], first: int, target: Path) -> None:
    """Compare strips ``first``, ``first + THREADS`` and so on of a level.

    Raises:
        OutputError: A strip differs, or a block is missing. Blocks that cannot be decoded raise one of GDAL_ERRORS.
    """
    words = f"overview {level - 1}: " if level else ""
    with rasterio.open(path, driver="GTiff", **({"overview_level": level - 1} if level else {})) as dataset:
        for i in range(first, len(digests), THREADS):
            for col in range(-(-dataset.width // BLOCK)):  # one that was never written reads as nodata
                if dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{i}", "TIFF", bidx=1) is None:
                    raise OutputError(f"{words}has no block {i}, {col}", path=target, remedy=REMEDY)
            rows = min(BLOCK, dataset.height - i * BLOCK)
            strip = dataset.read(1, window=RasterWindow(0, i * BLOCK, dataset.width, rows))
            if digest_of(strip) != digests[i]:
                raise OutputError(f"{words}rows from {i * BLOCK} read back differently", path=target, remedy=REMEDY)


def _run_of(text: str) -> dict[str, Any]:
    """The run's information in a raster; empty if it has none, or if it cannot be read."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class KeptProbability:
    """A probability raster on disk, read from top to bottom.

    Attributes:
        grid: Its grid.
        run: Its information on the run: model, threshold, smallest polygon, and the pair as in ``origin_of``; empty
            if it has none.

    Raises:
        DataError: Missing, not a GeoTIFF, or not a probability raster of rscd.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with rasterio.Env(**GDAL_OPTIONS), self._open() as dataset:
            right = dataset.count == 1 and dataset.dtypes[0] == "uint8" and dataset.nodata == NOT_OBSERVABLE
            if not right or abs(dataset.scales[0] * P_SCALE - 1) > 1e-6:
                problem = "not a probability raster (one uint8 band, scale 1/254, nodata 255)"
                raise DataError(problem, path=path, remedy="give output of rscd detect --probability")
            if dataset.crs is None:
                raise DataError("has no CRS", path=path, remedy="give output of rscd detect --probability")
            check_place(path, dataset.transform, dataset.crs.to_wkt())
            if missing := find_blocks(path, dataset, (1,), cut="stop").missing:
                problem = f"{missing:,} of its blocks were never written: its writer was stopped too early"
                raise DataError(problem, path=path, remedy="run rscd detect again")
            self.grid: Grid = grid_of(dataset)
            self.run: dict[str, Any] = _run_of(dataset.tags().get(RUN_TAG, ""))

    def _open(self) -> Any:  # noqa: ANN401
        return open_raster(self._path)

    def strips(self) -> Iterator[tuple[int, ByteArray]]:
        """Yield (first row, values (rows, columns)) of each strip of BLOCK rows.

        Raises:
            DataError: A block cannot be decoded.
        """
        for row in range(0, self.grid.height, BLOCK):
            yield row, self.rows(row, min(row + BLOCK, self.grid.height))

    def rows(self, start: int, stop: int) -> ByteArray:
        """Values (stop - start, columns) of some rows.

        Raises:
            DataError: A block cannot be decoded.
        """
        window = RasterWindow(0, start, self.grid.width, stop - start)
        with rasterio.Env(**GDAL_OPTIONS), self._open() as dataset:
            try:
                values: ByteArray = dataset.read(1, window=window)
            except RasterioError as error:
                problem = f"rows from {start} cannot be read: {words_of(error)}"
                raise DataError(problem, path=self._path, remedy="write it again") from error
        return values
