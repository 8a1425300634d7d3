"""Polygons again, from a probability raster: the second half of detect, without a forward pass."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from rscd.core.contract import FORMAT, Contract
from rscd.core.errors import DataError
from rscd.core.grid import gsd_m, moved, pixel
from rscd.core.pixel_area import PixelAreas
from rscd.core.publish import Publication, locked
from rscd.core.types import ByteArray, FloatArray, Grid, Progress, StripRecord, Window
from rscd.inference.components import strip_record, threshold_value
from rscd.inference.journal import Work
from rscd.inference.predictor import ForwardPass
from rscd.inference.strips import reported, strip_records
from rscd.inference.workers import prefetched
from rscd.options.detect import PolygonsConfig
from rscd.options.pair import PairConfig
from rscd.output.outputs import About, Outputs
from rscd.output.probability import KeptProbability
from rscd.output.provenance import origin_of, pair_of, provenance
from rscd.output.results import Written
from rscd.scene.files import fingerprint
from rscd.scene.pair import open_pair
from rscd.scene.prepare import prepare
from rscd.scene.window_stream import read_windows
from rscd.scene.windows import WindowPlan
from rscd.vectorize.attributes import Attributes

MINIMUM_PX = 4
"""Smallest polygon in px, if neither the options nor the raster define one."""
THRESHOLD = 0.5
"""Threshold, if neither the options nor the raster define one."""
STRIP = 512
"""Rows and columns of the images that are read at a time, px."""
UNREACHED = 255
"""A threshold above all probability values."""


def threshold_of(config: PolygonsConfig, kept: KeptProbability) -> float:
    """The given threshold, else that of the run that wrote the raster."""
    known = _number(kept.run.get("threshold"))
    if config.threshold is not None:
        return config.threshold
    return known if known is not None and 0 < known <= 1 else THRESHOLD


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def polygons(
    config: PolygonsConfig,
    *,
    progress: Progress = lambda done, total: None,
    on_start: Callable[[str], None] = lambda line: None,
) -> Written:
    """Make polygons again, e.g. with another threshold.

    If the images of the raster's run still exist, they are read again for the attributes of the polygons.

    Args:
        config: Input, output and options.
        progress: Called after each strip.
        on_start: Called with the reason if the images cannot be read again.

    Raises:
        UsageError: An option is out of range, or an output exists already.
        DataError: The raster was refused.
        OutputError: The output could not be written.
    """
    started = datetime.now(UTC)
    outputs = Outputs(
        config.output,
        min_area_m2=config.min_area_m2,
        simplify_m=config.simplify_m,
        fill_holes_m2=config.fill_holes_m2,
        regularize=config.regularize,
    )
    outputs.check([config.probability], overwrite=config.overwrite, discard_reviews=config.discard_reviews)
    kept = KeptProbability(config.probability)
    asked = threshold_of(config, kept)
    known = _number(kept.run.get("min_area_m2"))
    images = _images(kept, config.probability.parent, on_start)
    seen = {role: fingerprint(path) for role, path in (images.rasters if images is not None else {}).items()}
    seen |= {"probability": fingerprint(config.probability)}

    def facts() -> dict[str, Any]:
        folder = config.output.parent
        about = {"model": kept.run["model"]} if "model" in kept.run else {}
        found = provenance(started, seen, config, folder=folder, threshold=asked, **about)
        if images is not None:
            found["options"] |= origin_of(images, {}, folder)["options"]
        return found

    with (
        locked(config.output),
        Publication(overwrite=config.overwrite) as publication,
        ExitStack() as stack,
    ):
        source = _source(kept, images, threshold_value(asked), stack)
        stream = stack.enter_context(closing(prefetched(source.records)))
        smallest = MINIMUM_PX * gsd_m(kept.grid) ** 2 * 0.999 if known is None else known
        written = outputs.write(
            reported(stream, progress, kept.grid),
            source.areas,
            About(facts, smallest),
            publication,
            attributes=source.attributes,
        )
        return outputs.publish(written, publication, discard_reviews=config.discard_reviews)


def _images(kept: KeptProbability, folder: Path, on_start: Callable[[str], None]) -> PairConfig | None:
    """The pair that the raster was made from, if it still exists and the raster lies on its grid."""
    try:
        # detect has checked the pair as far as polygons need it
        images = replace(pair_of(kept.run, folder), force_gsd=True, bad_blocks="mask")
        with open_pair(images, _contract(kept).bands) as pair:
            _part(pair.full, kept.grid)
        return images
    except (KeyError, TypeError, ValueError):
        on_start("the raster does not record its images: the polygons get no attributes from them")
    except DataError as error:
        on_start(f"{error.problem}: the polygons get no attributes from the images")
    return None


@dataclass(frozen=True)
class _Source:
    """Source of the polygons."""

    records: Iterable[StripRecord]
    """All rows, in order."""
    areas: PixelAreas
    """Areas of the raster's pixels."""
    attributes: Attributes | None = None
    """Attributes from the images, if they are read."""


def _source(kept: KeptProbability, images: PairConfig | None, threshold: int, stack: ExitStack) -> _Source:
    """Records of the raster's rows, with sums of the image attributes if there are images.

    With images this works as in ``detect``, with strips that were finished with another threshold.

    Raises:
        DataError: The images cannot be read.
        ModelError: The raster's contract is invalid.
    """
    areas = PixelAreas(kept.grid)
    if images is None:
        plain = (
            strip_record(i, row, values, threshold=threshold, areas=areas)
            for i, (row, values) in enumerate(kept.strips())
        )
        return _Source(plain, areas)
    contract = _contract(kept)
    prepared = prepare(stack.enter_context(open_pair(images, contract.bands)), contract, images)
    pair = replace(prepared.pair, crop=_part(prepared.pair.full, kept.grid))
    plan = WindowPlan.on(pair.full, pair.crop, STRIP, 0)
    strips = range(plan.rows.count)
    work = Work(strips, frozenset(), tuple(strips), _Strips(kept, plan, areas))
    attributes = Attributes.of(pair, contract.bands, prepared.residuals_px)
    windows = prefetched(read_windows(pair, plan, work.read))  # last: it reads from here on, until it is closed
    records = strip_records(windows, plan, ForwardPass(_never), threshold=threshold, areas=areas, work=work)
    return _Source(records, areas, attributes)


def _contract(kept: KeptProbability) -> Contract:
    """Contract of the model that made the raster.

    Raises:
        KeyError, ModelError: The raster has no contract.
    """
    return Contract.from_json(json.dumps({"format": FORMAT, **kept.run["model"]}))


class _Strips:
    """The raster's rows, as if they were finished strips of an earlier run."""

    def __init__(self, kept: KeptProbability, plan: WindowPlan, areas: PixelAreas) -> None:
        self._kept, self._plan, self._areas = kept, plan, areas

    def __contains__(self, index: object) -> bool:
        return True

    def __getitem__(self, index: int) -> StripRecord:
        """The rows of a strip, its components not yet looked at: no pixel reaches the threshold."""
        start, stop = self._plan.rows.strip(index)
        return strip_record(index, start, self._kept.rows(start, stop), threshold=UNREACHED, areas=self._areas)

    def tail(self, index: int) -> None:
        """Nothing is left to blend."""

    def keep(self, record: StripRecord, tail: FloatArray) -> None:
        """Nothing is kept."""


def _never(before: ByteArray, after: ByteArray) -> FloatArray:
    raise AssertionError("nothing is forwarded")


def _part(scene: Grid, part: Grid) -> Window:
    """Window of a raster in the grid of its pair.

    Raises:
        DataError: It was made on another grid.
    """
    col, row = (round(float(v)) for v in pixel(scene.transform, part.transform[2], part.transform[5]))
    window = Window(row, col, part.height, part.width)
    inside = min(row, col) >= 0 and window.row_stop <= scene.height and window.col_stop <= scene.width
    if not inside or not np.allclose(moved(scene.transform, row, col), part.transform, rtol=1e-9, atol=1e-9):
        raise DataError("the raster does not lie on the grid of its images", remedy="run rscd detect again")
    return window
