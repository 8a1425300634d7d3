"""A seeded sample of the pair: few blocks, spread over what both dates cover, for statistics and for the shift."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rscd.errors import DataError
from rscd.scene.readers import BLOCK, DateReader
from rscd.types import BoolArray, ImageArray, Window, meet

MOST_SHARE = 0.01
"""Share of the blocks that is sampled, at most; the shift is measured twice, so at most twice as much is read."""
LEAST_BLOCKS = 16
"""Blocks that are sampled even where they are a larger share: a small scene is read as a whole."""
MOST_BLOCKS = 200
"""Blocks that are sampled at most, however large the scene."""
STEP = 4
"""Every so many rows and columns of a block enter the statistics."""
SEED = 20250810


@dataclass(frozen=True)
class SampleBlock:
    """One block as both dates show it."""

    window: Window
    """Where, in px of the common grid."""
    before: ImageArray
    """Pixels (bands, h, w) of the earlier date."""
    after: ImageArray
    """Pixels of the later date."""
    before_valid: BoolArray
    """What the earlier date shows, (h, w)."""
    after_valid: BoolArray
    """What the later date shows."""


@dataclass(frozen=True)
class SamplePlan:
    """Which blocks are looked at."""

    blocks: tuple[Window, ...]
    """Windows of the common grid, in reading order."""
    total: int
    """Blocks that the region has."""


def plan_sample(region: Window, *, tiled: bool = True, seed: int = SEED) -> SamplePlan:
    """Choose blocks of a region of the common grid, one in each cell of a lattice of cells.

    Args:
        region: What both dates cover, px.
        tiled: Whether a block can be read without its whole row; if not, blocks are taken from few rows.
        seed: Which block of a cell.
    """
    rows, cols = _cuts(region.row, region.row_stop), _cuts(region.col, region.col_stop)
    total = len(rows) * len(cols)
    wanted = min(total, max(LEAST_BLOCKS, int(total * MOST_SHARE)), MOST_BLOCKS)
    if tiled:
        down = max(1, min(len(rows), wanted, round(np.sqrt(wanted * len(rows) / len(cols)))))
    else:
        down = max(1, min(len(rows), int(len(rows) * MOST_SHARE), wanted)) if total > LEAST_BLOCKS else len(rows)
    across = max(1, min(len(cols), wanted // down))
    rng = np.random.default_rng(seed)
    blocks = []
    for some_rows in np.array_split(np.arange(len(rows)), down):
        fixed = int(rng.choice(some_rows))
        for some_cols in np.array_split(np.arange(len(cols)), across):
            i, j = int(rng.choice(some_rows)) if tiled else fixed, int(rng.choice(some_cols))
            (top, bottom), (left, right) = rows[i], cols[j]
            blocks.append(Window(top, left, bottom - top, right - left))
    return SamplePlan(tuple(blocks), total)


def every_block(region: Window) -> SamplePlan:
    """All blocks of a region of the common grid."""
    rows, cols = _cuts(region.row, region.row_stop), _cuts(region.col, region.col_stop)
    blocks = [Window(top, left, bottom - top, right - left) for top, bottom in rows for left, right in cols]
    return SamplePlan(tuple(blocks), len(blocks))


def read_sample(
    before: DateReader, after: DateReader, plan: SamplePlan, needed: Window | None = None
) -> Iterator[SampleBlock]:
    """Read the sample's blocks, one at a time.

    Args:
        before: The earlier date.
        after: The later date.
        plan: The blocks.
        needed: A block apart from this is left out if it cannot be decoded; default: none is.

    Raises:
        DataError: A block cannot be decoded.
    """
    for window in plan.blocks:
        try:
            first, second = before.read(window), after.read(window)
        except DataError:
            if needed is None or min(meet(window, needed)[2:]) > 0:
                raise
            continue
        yield SampleBlock(window, first[0], second[0], first[1], second[1])


def _cuts(start: int, stop: int) -> list[tuple[int, int]]:
    """[start, stop) cut at the borders of canonical blocks."""
    borders = [start, *range((start // BLOCK + 1) * BLOCK, stop, BLOCK), stop]
    return list(pairwise(borders))
