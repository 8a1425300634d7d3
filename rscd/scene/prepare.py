"""Makes a pair comparable: sample it, measure and correct the shift, scale values, and report the findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rscd.core.contract import Contract
from rscd.core.errors import DataError
from rscd.core.grid import gsd_m
from rscd.core.types import DoubleArray, ImageArray
from rscd.options.pair import PairConfig
from rscd.scene.aligned import WarpReader
from rscd.scene.findings import LEAST_SHIFT_PX, dates_of, inspection_of
from rscd.scene.inspection import Difference, Inspection
from rscd.scene.pair import Pair
from rscd.scene.radiometry import Radiometry, match, percentiles, stretch
from rscd.scene.sample import (
    LEAST_BLOCKS,
    SamplePlan,
    Statistics,
    check_area,
    look_everywhere,
    plan_sample,
    read_sample,
)
from rscd.scene.shift import PATCH, ShiftMap, measure_shift

GAIN_PX = 0.1
"""A correction is kept if it shortens the measured shift by at least this, px."""
SIGMAS = 2.0
"""Position of low and high percentile of the model's imagery, in standard deviations from its mean."""


@dataclass(frozen=True)
class Prepared:
    """A pair ready to be read."""

    pair: Pair
    """The pair, with shift and scaling built into its readers."""
    inspection: Inspection
    """The measurements, and the verdict."""
    shift: ShiftMap
    """The remaining local shifts."""
    model_gsd_m: float | None = None
    """Ground sample distance to which the pair is resampled for the model; None: not resampled."""
    refusal: DataError | None = None
    """Why it cannot be compared with this model; else None."""

    @property
    def factor(self) -> float:
        """Model pixel size divided by scene pixel size; 1 if the scene is not resampled."""
        return 1.0 if self.model_gsd_m is None else self.model_gsd_m / gsd_m(self.pair.full)

    def with_margin(self, px: int) -> Prepared:
        """The same with at least this margin in px around the area of interest, if there is one."""
        return replace(self, pair=self.pair.with_margin(px))

    def residuals_px(self, rows: DoubleArray, cols: DoubleArray) -> DoubleArray:
        """Length of the remaining shift near places (n,) of the common grid, px; NaN if not measured."""
        top, left = self.pair.crop[:2]
        return self.shift.residuals_px(rows + top, cols + left)


def prepare(pair: Pair, contract: Contract, config: PairConfig, others: Sequence[Contract] = ()) -> Prepared:
    """Measure a pair on a sample of its blocks, and correct what can be corrected.

    The sample covers all that both dates cover: shift and scaling do not depend on the area of interest. The
    verdict may be ``refused``, because of the model's pixel sizes; then the caller must stop.

    Args:
        pair: The opened pair.
        contract: Contract of the model.
        config: How to read the pair.
        others: Contracts of other models: a refusal names those that accept the pair's pixel size.

    Raises:
        DataError: Nothing is valid in both dates, or a date is constant.
    """
    plan, seen, shift = _look(pair)
    residual = None
    if config.align == "auto" and shift.correctable and shift.length_px > LEAST_SHIFT_PX:
        moved, again = shifted(pair, shift), Statistics()
        measured = _measured(moved, plan, again)
        shorter = measured.consistent and measured.length_px <= shift.length_px - GAIN_PX
        if shorter and again.lacks() is None:
            pair, seen, residual = moved, again, measured
    pair, difference = _scaled(pair, seen, contract, config)
    refusal, model_gsd_m = None, None
    gsd = gsd_m(pair.full)
    try:
        model_gsd_m = contract.working_gsd(gsd, config.before)
    except DataError as error:
        refusal = _with_other_models(error, contract, gsd, others)
    inspection = inspection_of(pair, contract, plan, seen, difference, shift, residual)
    if config.force_gsd and (refusal is not None or model_gsd_m is not None):
        inspection, refusal, model_gsd_m = _forced(inspection, contract, gsd), None, None
    if model_gsd_m is not None:
        note = f"pixels of {gsd:.3g} m are resampled to {model_gsd_m:g} m for model {contract.name}"
        inspection = replace(inspection, notes=(*inspection.notes, note), model_gsd_m=model_gsd_m)
    if refusal is not None:
        inspection = replace(
            inspection,
            verdict="refused",
            reasons=(refusal.problem, *inspection.reasons),
            remedies=(refusal.remedy, *inspection.remedies),
        )
    return Prepared(pair, inspection, shift if residual is None else residual, model_gsd_m, refusal)


def _with_other_models(error: DataError, contract: Contract, gsd: float, others: Sequence[Contract]) -> DataError:
    """The refusal, with the models that accept such pixels, if there are any."""
    fitting = [other for other in others if other.name != contract.name and other.takes(gsd)]
    if not fitting:
        return error
    named = " or ".join(f"--model {other.name}, which accepts {other.gsd_words}" for other in fitting)
    return DataError(error.problem, path=error.path, remedy=f"add {named}")


def _forced(inspection: Inspection, contract: Contract, gsd: float) -> Inspection:
    """The inspection of a pair that is compared although its pixel size is outside the model's range."""
    reason = f"pixels of {gsd:.3g} m, and model {contract.name} takes {contract.gsd_words}"
    return replace(
        inspection,
        verdict="outside what the model takes",
        reasons=(reason, *inspection.reasons),
        remedies=("resample both dates, or use a model of that pixel size", *inspection.remedies),
    )


def shifted(pair: Pair, shift: ShiftMap) -> Pair:
    """The pair with the shift corrected in the date that does not define the grid."""
    if pair.grid_from == "after":
        date, by = pair.before, (-shift.rows, -shift.cols)
        return replace(pair, before=WarpReader(date.raster, pair.full, date.radiometry, by, date.mask))
    date, by = pair.after, (shift.rows, shift.cols)
    return replace(pair, after=WarpReader(date.raster, pair.full, date.radiometry, by, date.mask))


def _look(pair: Pair) -> tuple[SamplePlan, Statistics, ShiftMap]:
    """Read the sample; if it has no valid pixel, one block that has."""
    tiled = pair.before.raster.tiled and pair.after.raster.tiled
    plan = plan_sample(pair.overlap.window, tiled=tiled)
    seen = Statistics()
    shift = _measured(pair, plan, seen)
    if seen.lacks() is not None or seen.constant() is not None:
        plan, seen = look_everywhere(pair), Statistics()
        shift = _measured(pair, plan, seen)
    if pair.aoi is not None:
        check_area(pair)
    return plan, seen, shift


def _measured(pair: Pair, plan: SamplePlan, seen: Statistics) -> ShiftMap:
    """Measure the shift on the sample, and add its blocks to ``seen``."""
    needed = None if pair.aoi is None else pair.region
    blocks = seen.watch(read_sample(pair.before, pair.after, plan, needed))
    whole = sum(min(block.height, block.width) >= PATCH for block in plan.blocks)
    return measure_shift(blocks, dense=whole < LEAST_BLOCKS)


def _scaled(pair: Pair, seen: Statistics, contract: Contract, config: PairConfig) -> tuple[Pair, Difference]:
    """Scale both dates' values to the model's 0..255, and measure the remaining difference."""
    raw = {"before": seen.before, "after": seen.after}
    values: dict[str, DoubleArray] = {}
    scaling: dict[str, Radiometry | None] = {}
    plain = {name for name, date in dates_of(pair).items() if date.raster.dtype == "uint8"}
    mean, std = np.array(contract.mean), np.array(contract.std)
    usual = np.clip([mean - SIGMAS * std, mean + SIGMAS * std], 0, 255)
    for name, other in (("before", "after"), ("after", "before")):
        target = percentiles(raw[other]) if other in plain else usual
        scaling[name] = None if name in plain else stretch(raw[name], target)
        values[name] = _apply(scaling[name], raw[name])
    if config.match == "on":
        other, reference = ("after", "before") if pair.grid_from == "before" else ("before", "after")
        gain, offset = match(values[reference], values[other])
        same = Radiometry((1.0,) * len(gain), (0.0,) * len(gain))
        scaling[other] = (scaling[other] or same).then(gain, offset)
        values[other] = np.clip(values[other] * gain + offset, 0, 255)
    pair = replace(
        pair,
        before=replace(pair.before, radiometry=scaling["before"]),
        after=replace(pair.after, radiometry=scaling["after"]),
    )
    return pair, _difference(values["before"], values["after"])


def _apply(radiometry: Radiometry | None, values: ImageArray) -> DoubleArray:
    """Scale sampled values (n, bands)."""
    if radiometry is None:
        return values.astype(np.float64)
    return radiometry.apply(values.T[..., None])[..., 0].T.astype(np.float64)


def _difference(before: DoubleArray, after: DoubleArray) -> Difference:
    grey = before.mean(axis=1), after.mean(axis=1)
    spread = float(grey[0].std()), float(grey[1].std())
    some = min(spread) > 0
    covariance = float(((grey[0] - grey[0].mean()) * (grey[1] - grey[1].mean())).mean())
    return Difference(
        offset=tuple(round(float(v), 2) for v in np.median(after - before, axis=0)),
        contrast=round(spread[1] / spread[0], 3) if some else 1.0,
        correlation=round(covariance / (spread[0] * spread[1]), 3) if some else 0.0,
    )
