"""Making a pair comparable: sample it, measure the shift and correct it, scale values, and say what was found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from rscd.config import PairConfig
from rscd.errors import DataError
from rscd.model.catalog import embedded
from rscd.model.checkpoint import read_contract
from rscd.model.choice import model_for
from rscd.model.contract import Contract
from rscd.scene.colours import band_notes
from rscd.scene.grid import gsd_m, name_of
from rscd.scene.hidden import alpha_words, mask_notes
from rscd.scene.inspection import DateFacts, Difference, Inspection, ShiftFacts, Verdict, doubts
from rscd.scene.mapping import Mapping
from rscd.scene.pair import Pair
from rscd.scene.radiometry import Radiometry, match, percentiles, stretch
from rscd.scene.readers import DateReader, WarpReader
from rscd.scene.sample import LEAST_BLOCKS, SamplePlan, plan_sample, read_sample
from rscd.scene.sensors import date_taken, named_sensor, unseen
from rscd.scene.shift import PATCH, SEARCH_PX, ShiftMap, measure_shift
from rscd.scene.statistics import Statistics, check_area, look_everywhere
from rscd.types import DoubleArray, ImageArray

LEAST_SHIFT_PX = 0.3
"""Shifts up to this are left alone, px of the common grid."""
GAIN_PX = 0.1
"""A correction is kept if the shift measured again is shorter by at least this, px."""
SIGMAS = 2.0
"""Where the model's imagery has its low and high percentile: so many standard deviations from its mean."""


@dataclass(frozen=True)
class Prepared:
    """A pair ready to be read."""

    pair: Pair
    """With shift and scaling built into its readers."""
    inspection: Inspection
    """What was found, and the verdict."""
    shift: ShiftMap
    """The local shifts that remain."""
    model_gsd_m: float | None = None
    """Ground sample distance at which the model must see the pair; None: as it is."""
    refusal: DataError | None = None
    """Why it cannot be compared with this model."""

    @property
    def factor(self) -> float:
        """Model pixel size through the scene's; 1 where the model sees the scene as it is."""
        return 1.0 if self.model_gsd_m is None else self.model_gsd_m / gsd_m(self.pair.full)

    def with_margin(self, px: int) -> Prepared:
        """With at least so many pixels of the scene around the area of interest, if there is one."""
        return replace(self, pair=self.pair.with_margin(px))

    def residuals_px(self, rows: DoubleArray, cols: DoubleArray) -> DoubleArray:
        """Length of the shift that remains near places (n,) of the common grid, px; NaN where not measured."""
        top, left = self.pair.crop[:2]
        return self.shift.residuals_px(rows + top, cols + left)


def prepare(pair: Pair, contract: Contract, config: PairConfig) -> Prepared:
    """Measure a pair on a sample of its blocks, and correct what can be corrected.

    The sample is of all that both dates cover: shift and scaling do not depend on the area of interest.
    The verdict may be ``refused``, by the model's pixel sizes; it is the caller who stops then.

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
        refusal = _with_other_model(error, contract, gsd)
    inspection = _inspect(pair, contract, plan, seen, difference, shift, residual)
    if config.force_gsd and (refusal is not None or model_gsd_m is not None):
        inspection, refusal, model_gsd_m = _forced(inspection, contract, gsd), None, None
    if model_gsd_m is not None:
        told = f"pixels of {gsd:.3g} m are resampled to {model_gsd_m:g} m for model {contract.name}"
        inspection = replace(inspection, notes=(*inspection.notes, told), model_gsd_m=model_gsd_m)
    if refusal is not None:
        inspection = replace(
            inspection,
            verdict="refused",
            reasons=(refusal.problem, *inspection.reasons),
            remedies=(refusal.remedy, *inspection.remedies),
        )
    return Prepared(pair, inspection, shift if residual is None else residual, model_gsd_m, refusal)


def _with_other_model(error: DataError, contract: Contract, gsd: float) -> DataError:
    """The refusal, with the embedded model that takes such pixels, if there is one."""
    name = model_for(gsd)
    other = read_contract(embedded()[name]) if name in embedded() else contract
    if other.name == contract.name:
        return error
    try:
        other.working_gsd(gsd, Path(str(error.path)))
    except DataError:
        return error
    return DataError(error.problem, path=error.path, remedy=f"add --model {name}, which takes {other.gsd_words}")


def _forced(inspection: Inspection, contract: Contract, gsd: float) -> Inspection:
    """The inspection of a pair whose pixels the model was not trained for, compared all the same."""
    reason = f"pixels of {gsd:.3g} m, and model {contract.name} takes {contract.gsd_words}"
    return replace(
        inspection,
        verdict="outside what the model takes",
        reasons=(reason, *inspection.reasons),
        remedies=("resample both dates, or use a model of that pixel size", *inspection.remedies),
    )


def shifted(pair: Pair, shift: ShiftMap) -> Pair:
    """The pair with the date that is not the grid's read where it shows what the other one does."""
    if pair.grid_from == "after":
        date, by = pair.before, (-shift.rows, -shift.cols)
        return replace(pair, before=WarpReader(date.raster, pair.full, date.radiometry, by, date.mask))
    date, by = pair.after, (shift.rows, shift.cols)
    return replace(pair, after=WarpReader(date.raster, pair.full, date.radiometry, by, date.mask))


def _look(pair: Pair) -> tuple[SamplePlan, Statistics, ShiftMap]:
    """Read the sample; where it shows nothing, one block that does."""
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
    """The shift on the sample, whose blocks ``seen`` takes in on the way."""
    needed = None if pair.aoi is None else pair.region
    blocks = seen.watch(read_sample(pair.before, pair.after, plan, needed))
    whole = sum(min(block.height, block.width) >= PATCH for block in plan.blocks)
    return measure_shift(blocks, dense=whole < LEAST_BLOCKS)


def _scaled(pair: Pair, seen: Statistics, contract: Contract, config: PairConfig) -> tuple[Pair, Difference]:
    """Bring both dates' values to the model's 0..255, and measure how they differ then."""
    raw = {"before": seen.before, "after": seen.after}
    values: dict[str, DoubleArray] = {}
    scaling: dict[str, Radiometry | None] = {}
    plain = {name for name, date in _dates(pair).items() if date.raster.dtype == "uint8"}
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


def _dates(pair: Pair) -> dict[str, DateReader]:
    return {"before": pair.before, "after": pair.after}


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


def _inspect(
    pair: Pair,
    contract: Contract,
    plan: SamplePlan,
    seen: Statistics,
    difference: Difference,
    shift: ShiftMap,
    residual: ShiftMap | None,
) -> Inspection:
    """Put the figures together and judge them."""
    valid_share = seen.both_valid / seen.pixels
    sizes = gsd_m(pair.before.raster.grid), gsd_m(pair.after.raster.grid)
    found = doubts(
        valid_share=valid_share,
        ratio=sizes[0] / sizes[1],
        difference=difference,
        shift=shift,
        residual=residual,
        least_shift_px=LEAST_SHIFT_PX,
    )
    alpha_doubts, alpha_notes = alpha_words(pair)
    found += alpha_doubts
    verdict: Verdict = "doubtful" if found else "fit" if residual is None else "fit after alignment"
    gsd = gsd_m(pair.full)
    return Inspection(
        verdict=verdict,
        reasons=tuple(reason for reason, _ in found),
        remedies=tuple(remedy for _, remedy in found),
        notes=(*_notes(pair, contract, plan, seen, shift, residual), *alpha_notes),
        before=_facts(pair.before, seen.before_valid / seen.pixels),
        after=_facts(pair.after, seen.after_valid / seen.pixels),
        grid=pair.grid_from,
        overlap_share=round(pair.overlap.share, 4),
        origin_offset=_origin_offset(pair),
        valid_share=round(valid_share, 4),
        difference=difference,
        shift=ShiftFacts.of(shift, gsd),
        aligned=residual is not None,
        residual=None if residual is None else ShiftFacts.of(residual, gsd),
        search_radius_px=SEARCH_PX,
        blocks_read=len(plan.blocks),
        blocks=plan.total,
        gsd_m=round(gsd, 4),
    )


def _notes(
    pair: Pair,
    contract: Contract,
    plan: SamplePlan,
    seen: Statistics,
    shift: ShiftMap,
    residual: ShiftMap | None,
) -> tuple[str, ...]:
    notes = band_notes({name: date.raster.notes for name, date in _dates(pair).items()})
    notes += mask_notes(pair, plan)
    if not pair.one_scale:
        told = " and ".join(f"{name} {date.raster.dtype}" for name, date in _dates(pair).items())
        notes.append(f"{told}: brightness_change stays empty")
    notes += [f"{name} {_way(date)}" for name, date in _dates(pair).items() if isinstance(date, WarpReader)]
    for name, date in _dates(pair).items():
        sensor = named_sensor(date.raster.dataset.tags())
        if unseen(sensor, contract.trained_on):
            notes.append(f"{name} is of {sensor} by its tags, which model {contract.name} was not trained on")
    if seen.same_pixels:
        notes.append("both dates show the same pixels: nothing can have changed")
    if residual is not None:
        notes.append(f"shift of {shift.length_px:.2f} px corrected, {residual.length_px:.2f} px remain")
    notes += [f"{name} scaled from {date.raster.dtype}" for name, date in _dates(pair).items() if date.radiometry]
    for name, date in _dates(pair).items():
        if blocks := date.raster.blocks.missing:
            told = f"{blocks:,} of {date.raster.blocks.stored.size:,} blocks of {name} were never written"
            notes.append(f"{told}: not observable")
    if masked := pair.bad_blocks.take():
        notes.append(f"{len(masked)} blocks of the sample cannot be read and are masked: {masked[0]}")
    return tuple(notes)


def _way(date: DateReader) -> str:
    if not isinstance(date, WarpReader):
        return "not resampled"
    return f"warped, {date.kernel.name}"


def _facts(date: DateReader, valid_share: float) -> DateFacts:
    raster, grid = date.raster, date.raster.grid
    return DateFacts(
        path=str(raster.path),
        crs=name_of(grid),
        width=grid.width,
        height=grid.height,
        gsd_m=round(gsd_m(grid), 4),
        transform=grid.transform,
        dtype=raster.dtype,
        bands=raster.bands,
        nir=raster.nir,
        taken=date_taken(raster.dataset.tags()),
        valid_share=round(valid_share, 4),
        read=_way(date),
        scaling=None if date.radiometry is None else asdict(date.radiometry),
    )


def _origin_offset(pair: Pair) -> tuple[float, float] | None:
    """Top left corner of the after file less that of the before file, CRS units; None across CRSs."""
    one, other = pair.before.raster.grid, pair.after.raster.grid
    if not Mapping(one, other).same_crs:
        return None
    return other.transform[2] - one.transform[2], other.transform[5] - one.transform[5]
