"""Polygons anew from a kept probability raster: detect's second half, without a forward pass."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from functools import partial

from rscd.config import PolygonsConfig
from rscd.inference.lock import locked
from rscd.inference.stream import ahead
from rscd.output.area import PixelAreas
from rscd.output.components import band_record, threshold_value
from rscd.output.outputs import Outputs, Progress, Written
from rscd.output.probability import KeptProbability
from rscd.output.provenance import provenance
from rscd.output.publish import Publication
from rscd.scene.fingerprint import fingerprint
from rscd.scene.grid import gsd_m

MINIMUM_PX = 4
"""Smallest polygon in px unless an area is given: the raster does not say which model made it."""


def polygons(config: PolygonsConfig, *, progress: Progress = lambda done, total: None) -> Written:
    """Make polygons anew, e.g. with another threshold.

    Raises:
        UsageError: An option out of range, or an output that exists.
        DataError: The raster was refused.
        OutputError: The output could not be written.
    """
    started = datetime.now(UTC)
    inputs = {"probability": config.probability}
    outputs = Outputs(
        config.output,
        min_area_m2=config.min_area_m2,
        simplify_m=config.simplify_m,
        fill_holes_m2=config.fill_holes_m2,
        regularize=config.regularize,
    )
    outputs.check(inputs.values(), overwrite=config.overwrite, discard_reviews=config.discard_reviews)
    threshold = threshold_value(config.threshold)
    kept = KeptProbability(config.probability)
    areas = PixelAreas(kept.grid)
    records = (
        band_record(i, row, values, threshold=threshold, grid_shape=kept.grid.shape, pixel_areas=areas)
        for i, (row, values) in enumerate(kept.strips())
    )
    seen = {role: fingerprint(path) for role, path in inputs.items()}
    facts = partial(provenance, started, seen, config, folder=config.output.parent)
    minimum = MINIMUM_PX * gsd_m(kept.grid) ** 2 * 0.999
    with (
        locked(config.output),
        Publication(overwrite=config.overwrite) as publication,
        closing(ahead(records)) as stream,
    ):
        written = outputs.write(
            stream,
            kept.grid,
            areas,
            minimum_m2=minimum,
            provenance=facts,
            publication=publication,
            progress=progress,
        )
        written = outputs.publish(written, publication, discard_reviews=config.discard_reviews)
    return written
