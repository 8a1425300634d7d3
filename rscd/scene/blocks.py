"""Which blocks of a file contain pixels, and how blocks that cannot be decoded are handled.

GDAL silently reads zeros where a block was never written: in a sparse file, or in one left by a killed writer. Here
such blocks are *not observable*, like nodata.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rasterio.enums import Interleaving

from rscd.core.errors import DataError
from rscd.core.types import BoolArray, Window, intersection

MOST_BYTES = 256 << 20
"""Maximum size of a block, bytes: a block is decoded as a whole, with all bands stored in it."""
MOST_PIXELS = 1 << 36
"""Maximum number of pixels of a file, regardless of the part that is read."""
MOST_BLOCKS = 1 << 22
"""Maximum number of blocks of a file: each is looked up."""


@dataclass(frozen=True)
class Blocks:
    """The blocks of a file."""

    height: int
    """Rows of a block."""
    width: int
    """Columns of a block."""
    file: Window
    """All pixels of the file."""
    stored: BoolArray
    """Whether the file contains the block, (rows of blocks, columns of blocks)."""

    @property
    def missing(self) -> int:
        """Number of blocks that were never written."""
        return int((~self.stored).sum())

    def over(self, window: Window) -> Iterator[tuple[Window, Window, bool]]:
        """Each block that a window intersects, without padding; their intersection; whether the block is stored."""
        for i in range(window.row // self.height, -(-window.row_stop // self.height)):
            for j in range(window.col // self.width, -(-window.col_stop // self.width)):
                block = intersection(Window(i * self.height, j * self.width, self.height, self.width), self.file)
                yield block, intersection(block, window), bool(self.stored[i, j])

    def touched(self, window: Window) -> BoolArray:
        """``stored`` for the blocks that a window intersects."""
        rows = slice(window.row // self.height, -(-window.row_stop // self.height))
        return self.stored[rows, window.col // self.width : -(-window.col_stop // self.width)]


def check_blocks(path: Path, dataset: Any) -> None:  # noqa: ANN401
    """Refuse files that would not fit into memory, before anything is decoded.

    Raises:
        DataError: A block is larger than MOST_BYTES, or there are more than MOST_BLOCKS or MOST_PIXELS.
    """
    if dataset.height * dataset.width > MOST_PIXELS:
        problem = f"claims {dataset.height:,} rows of {dataset.width:,} px; the maximum is {MOST_PIXELS:,} px"
        raise DataError(problem, path=path, remedy="cut out what you need: gdal_translate -projwin ... IN OUT.tif")
    height, width = dataset.block_shapes[0]
    together = dataset.count if _joined(dataset) else 1
    kind = dataset.dtypes[0]
    size = height * width * together * (8 if kind.startswith("complex_") else np.dtype(kind).itemsize)
    remedy = "write it in tiles: gdal_translate -co TILED=YES -co COMPRESS=ZSTD IN OUT.tif"
    if size > MOST_BYTES:
        problem = (
            f"a block of {height} x {width} px takes {size / 1e6:,.0f} MB, more than {MOST_BYTES / 1e6:,.0f} MB"
        )
        raise DataError(problem, path=path, remedy=remedy)
    count = -(-dataset.height // height) * -(-dataset.width // width)
    if count > MOST_BLOCKS:
        raise DataError(f"claims {count:,} blocks of {height} x {width} px", path=path, remedy=remedy)


def find_blocks(path: Path, dataset: Any, bands: tuple[int, ...], *, cut: Literal["stop", "mask"]) -> Blocks:  # noqa: ANN401
    """Find the blocks that the file contains for all bands that are read.

    Args:
        path: The file.
        dataset: The open file.
        bands: Bands that are read, from 1.
        cut: ``stop``: a block beyond the file's end is an error at once; ``mask``: only when it is read.

    Raises:
        DataError: No block is stored, or, with ``stop``, some lie beyond the file's end.
    """
    height, width = dataset.block_shapes[bands[0] - 1]
    shape = -(-dataset.height // height), -(-dataset.width // width)
    stored, beyond = np.ones(shape, bool), np.zeros(shape, bool)
    end = path.stat().st_size if path.exists() else math.inf  # unknown for an address
    for band in bands[:1] if _joined(dataset) else sorted(set(bands)):
        for i, j in np.ndindex(shape):
            offset = int(dataset.get_tag_item(f"BLOCK_OFFSET_{j}_{i}", "TIFF", band) or 0)
            size = int(dataset.get_tag_item(f"BLOCK_SIZE_{j}_{i}", "TIFF", band) or 0) if offset else 0
            stored[i, j] &= size > 0
            beyond[i, j] |= offset + size > end
    if not stored.any():
        problem = f"contains no pixels: none of its {stored.size:,} blocks was ever written"
        raise DataError(problem, path=path, remedy="write it again, or fetch the file again")
    if cut == "stop" and beyond.any():
        i, j = (int(k) for k in np.argwhere(beyond)[0])
        place = f"the first at rows from {i * height}, columns from {j * width}"
        problem = f"is truncated: {int(beyond.sum()):,} of {beyond.size:,} blocks lie beyond its end, {place}"
        remedy = "fetch the file again, or add --bad-blocks mask to continue without those blocks"
        raise DataError(problem, path=path, remedy=remedy)
    return Blocks(height, width, Window(0, 0, dataset.height, dataset.width), stored)


def _joined(dataset: Any) -> bool:  # noqa: ANN401
    """Whether a block contains all bands."""
    return bool(dataset.count == 1 or dataset.interleaving == Interleaving.pixel)


class BadBlocks:
    """Handles blocks that cannot be decoded: the run stops, or they are masked and listed.

    Args:
        policy: ``stop`` or ``mask``.
    """

    def __init__(self, policy: Literal["stop", "mask"] = "stop") -> None:
        self.policy: Literal["stop", "mask"] = policy
        self._met: dict[str, None] = {}

    def record(self, path: Path, window: Window, words: str) -> None:
        """Record a block.

        Raises:
            DataError: The policy is ``stop``.
        """
        rows = f"rows {window.row} to {window.row_stop - 1}, columns {window.col} to {window.col_stop - 1}"
        problem = f"{rows} cannot be read: {words}"
        if self.policy == "stop":
            remedy = "fetch the file again, or add --bad-blocks mask to continue without such blocks"
            raise DataError(problem, path=path, remedy=remedy)
        self._met[f"{path}: {problem}"] = None

    def take(self) -> tuple[str, ...]:
        """Blocks recorded since the last call: file, rows, columns and GDAL's message."""
        met = tuple(self._met)
        self._met.clear()
        return met
