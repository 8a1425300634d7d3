"""A sample of a pair: the blocks to read, and the statistics of their values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rscd.core.errors import DataError
from rscd.core.types import BoolArray, ImageArray, Window, intersection
from rscd.scene.aligned import BLOCK, DateReader
from rscd.scene.pair import Pair

MOST_SHARE = 0.01
"""Maximum share of the blocks that is sampled; the shift is measured twice, so at most twice as much is read."""
LEAST_BLOCKS = 16
"""Minimum number of sampled blocks, even if they are a larger share: a small scene is read completely."""
MOST_BLOCKS = 200
"""Maximum number of sampled blocks, for scenes of any size."""
STEP = 4
"""Step between rows and columns of a block that enter the statistics."""
SEED = 20250810


@dataclass(frozen=True)
class SampleBlock:
    """One block in both dates."""

    window: Window
    """Its window, px of the common grid."""
    before: ImageArray
    """Pixels (bands, h, w) of the earlier date."""
    after: ImageArray
    """Pixels of the later date."""
    before_valid: BoolArray
    """Validity of the earlier date, (h, w)."""
    after_valid: BoolArray
    """Validity of the later date, (h, w)."""


@dataclass(frozen=True)
class SamplePlan:
    """The blocks to sample."""

    blocks: tuple[Window, ...]
    """Windows of the common grid, in reading order."""
    total: int
    """Number of blocks in the region."""


def plan_sample(region: Window, *, tiled: bool = True, seed: int = SEED) -> SamplePlan:
    """Choose blocks of a region of the common grid, one in each cell of a lattice of cells.

    Args:
        region: The region that both dates cover, px.
        tiled: Whether a block can be read without its whole row; if not, blocks are taken from few rows.
        seed: Seed for choosing the block of a cell.
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
        needed: A block outside this window is left out if it cannot be decoded; default: none is.

    Raises:
        DataError: A block cannot be decoded.
    """
    for window in plan.blocks:
        try:
            first, second = before.read(window), after.read(window)
        except DataError:
            if needed is None or min(intersection(window, needed)[2:]) > 0:
                raise
            continue
        yield SampleBlock(window, first[0], second[0], first[1], second[1])


def _cuts(start: int, stop: int) -> list[tuple[int, int]]:
    """[start, stop) split at the boundaries of canonical blocks."""
    borders = [start, *range((start // BLOCK + 1) * BLOCK, stop, BLOCK), stop]
    return list(pairwise(borders))


class Statistics:
    """Counts and values, collected from the blocks of a sample."""

    def __init__(self) -> None:
        self.pixels = 0
        self.before_valid = 0
        self.after_valid = 0
        self.both_valid = 0
        self._before: list[ImageArray] = []
        self._after: list[ImageArray] = []
        self._least: dict[str, list[ImageArray]] = {"before": [], "after": []}
        self._most: dict[str, list[ImageArray]] = {"before": [], "after": []}

    def watch(self, blocks: Iterable[SampleBlock]) -> Iterator[SampleBlock]:
        """Yield blocks unchanged, and add their values to the statistics."""
        for block in blocks:
            self.add(block)
            yield block

    def add(self, block: SampleBlock) -> None:
        """Count a block, and keep every STEP-th row and column where both dates are valid."""
        both = block.before_valid & block.after_valid
        self.pixels += both.size
        self.before_valid += int(block.before_valid.sum())
        self.after_valid += int(block.after_valid.sum())
        self.both_valid += int(both.sum())
        if both.any():
            for name, image in (("before", block.before), ("after", block.after)):
                self._least[name].append(image.min(axis=(1, 2), where=both, initial=_top(image)))
                self._most[name].append(image.max(axis=(1, 2), where=both, initial=_bottom(image)))
        step = STEP if both.sum() > 64 * STEP**2 else 1
        thin = np.s_[step // 2 :: step, step // 2 :: step]
        chosen = both[thin]
        self._before.append(block.before[:, *thin][:, chosen].T)
        self._after.append(block.after[:, *thin][:, chosen].T)

    @property
    def before(self) -> ImageArray:
        """Values (n, bands) of the earlier date where both dates are valid."""
        return np.concatenate(self._before)

    @property
    def after(self) -> ImageArray:
        """Values (n, bands) of the later date at the same places."""
        return np.concatenate(self._after)

    @property
    def same_pixels(self) -> bool:
        """Whether both dates have the same values wherever both are valid."""
        return np.array_equal(self.before, self.after)

    def forget_values(self) -> None:
        """Keep only counts and extremes."""
        self._before, self._after = [self.before[:1]], [self.after[:1]]

    def lacks(self) -> str | None:
        """Which of ``before``, ``after``, ``both`` has no valid pixel; None if both have a common one."""
        if not self.before_valid:
            return "before"
        if not self.after_valid:
            return "after"
        return None if self.both_valid and len(self.before) else "both"

    def constant(self) -> str | None:
        """The date with the same value at every pixel that is valid in both, if there is one."""
        for name in ("before", "after"):
            low, high = np.array(self._least[name]), np.array(self._most[name])
            if self.both_valid > 1 and (low.min(axis=0) == high.max(axis=0)).all():
                return name
        return None


def _bottom(image: NDArray[Any]) -> Any:  # noqa: ANN401
    """The least value of an image's dtype."""
    return np.iinfo(image.dtype).min if image.dtype.kind in "iub" else -np.inf


def _top(image: NDArray[Any]) -> Any:  # noqa: ANN401
    """The largest value of an image's dtype."""
    return np.iinfo(image.dtype).max if image.dtype.kind in "iub" else np.inf


def look_everywhere(pair: Pair) -> SamplePlan:
    """Find a block with valid pixels if the sample had none: a scene is refused only after all of it was read.

    Returns:
        A plan with that block.

    Raises:
        DataError: One date, or both together, have no valid pixel, or one date is constant.
    """
    seen, plan = Statistics(), every_block(pair.overlap.window)
    for block in read_sample(pair.before, pair.after, plan, pair.region):
        seen.add(block)
        if seen.lacks() is None:
            if seen.constant() is None:
                return SamplePlan((block.window,), plan.total)
            seen.forget_values()
    _refuse(pair, seen)
    return plan


def check_area(pair: Pair) -> None:
    """Refuse an area of interest without valid pixels, although the rest of the scene has some.

    Raises:
        DataError: One date, or both together, have no valid pixel there.
    """
    seen = Statistics()
    for block in read_sample(pair.before, pair.after, every_block(pair.region)):
        seen.add(block)
        if seen.lacks() is None:
            return
        seen.forget_values()
    _refuse(pair, seen)


def _refuse(pair: Pair, seen: Statistics) -> None:
    lacking, constant = seen.lacks(), seen.constant() if seen.lacks() is None else None
    paths = {"before": pair.before.raster.path, "after": pair.after.raster.path}
    if lacking == "both":
        problem = "no pixel is valid in both dates"
        raise DataError(problem, path=paths["after"], remedy="use dates that show the same ground")
    if lacking is not None:
        problem = "has no valid pixel where the two dates overlap: all is nodata or masked"
        raise DataError(problem, path=paths[lacking], remedy="check its nodata value and mask, or use another file")
    if constant is not None:
        value = (seen.before if constant == "before" else seen.after)[0]
        problem = f"is constant: every valid pixel is {', '.join(f'{v:g}' for v in value)}"
        raise DataError(problem, path=paths[constant], remedy="use a file with varying values")
