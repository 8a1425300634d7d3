"""What the sample's pixels say of both dates: how much is valid, and the values where both are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from rscd.errors import DataError
from rscd.scene.pair import Pair
from rscd.scene.sample import STEP, SampleBlock, SamplePlan, every_block, read_sample
from rscd.types import ImageArray


class Statistics:
    """Counts and values, taken from the blocks of a sample as they pass by."""

    def __init__(self) -> None:
        self.pixels = 0
        self.before_valid = 0
        self.after_valid = 0
        self.both_valid = 0
        self._before: list[ImageArray] = []
        self._after: list[ImageArray] = []

    def watch(self, blocks: Iterable[SampleBlock]) -> Iterator[SampleBlock]:
        """Pass blocks through and remember what they show."""
        for block in blocks:
            self.add(block)
            yield block

    def add(self, block: SampleBlock) -> None:
        """Count a block, and keep every STEP-th row and column of what both dates show."""
        both = block.before_valid & block.after_valid
        self.pixels += both.size
        self.before_valid += int(block.before_valid.sum())
        self.after_valid += int(block.after_valid.sum())
        self.both_valid += int(both.sum())
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

    def forget_all_but_one(self) -> None:
        """Keep one value, which is all that matters of constant blocks."""
        self._before, self._after = [self.before[:1]], [self.after[:1]]

    def lacks(self) -> str | None:
        """Which of ``before``, ``after``, ``both`` shows nothing here; None where both do somewhere."""
        if not self.before_valid:
            return "before"
        if not self.after_valid:
            return "after"
        return None if self.both_valid and len(self.before) else "both"

    def constant(self) -> str | None:
        """Which date has one and the same value at every sampled pixel, if one has."""
        for name, values in (("before", self.before), ("after", self.after)):
            if self.both_valid > 1 and (values.min(axis=0) == values.max(axis=0)).all():
                return name
        return None


def look_everywhere(pair: Pair) -> SamplePlan:
    """Look for a block that shows something, where the sample had none: a scene is refused once all of it was read.

    Returns:
        A plan with that block.

    Raises:
        DataError: One date, or the two together, show no pixel, or one date is constant.
    """
    seen, plan = Statistics(), every_block(pair.region)
    for block in read_sample(pair.before, pair.after, plan):
        seen.add(block)
        if seen.lacks() is None:
            if seen.constant() is None:
                return SamplePlan((block.window,), plan.total)
            seen.forget_all_but_one()
    _refuse(pair, seen)
    return plan


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
        raise DataError(problem, path=paths[constant], remedy="use a file that shows something")
