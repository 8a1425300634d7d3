"""Which image goes with which: by footprint and date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from rscd.scene.footprint import Footprint

LEAST_SHARE = 0.5
"""Two images are of one place if they share this much of the smaller one."""


@dataclass(frozen=True)
class Image:
    """One image that may be a date of a pair."""

    name: str
    """What its pair's id is made of."""
    path: Path
    """The file, or its address."""
    footprint: Footprint
    """Where and when."""


def match(befores: Sequence[Image], afters: Sequence[Image]) -> list[tuple[Image, Image]]:
    """Give each earlier image the next later one of its place; of several as late, the one that shares most.

    Images without a date go with those whose outline they share most of. The same image is never both dates, so
    ``befores`` and ``afters`` may be one pool.
    """
    outlines = np.array([image.footprint.outline for image in afters], dtype=object)
    tree = shapely.STRtree(outlines)
    pairs = []
    for before in befores:
        outline = before.footprint.outline
        near = sorted(tree.query(outline, predicate="intersects"))
        shares = {k: _share(outline, outlines[k]) for k in near if _later(before, afters[k])}
        fit = [k for k, share in shares.items() if share >= LEAST_SHARE]
        if fit:
            best = min(fit, key=lambda k: (_wait_s(before, afters[k]), -shares[k]))
            pairs.append((before, afters[best]))
    return pairs


def _share(one: shapely.Geometry, other: shapely.Geometry) -> float:
    """Shared area through the smaller area, 0..1."""
    smaller = min(one.area, other.area)
    return float(shapely.intersection(one, other).area / smaller) if smaller else 0.0


def _later(before: Image, after: Image) -> bool:
    start, end = before.footprint.date, after.footprint.date
    if before.path == after.path:
        return False
    return start is None or end is None or end > start


def _wait_s(before: Image, after: Image) -> float:
    """Time between two images, s; 0 where a date is not known."""
    start, end = before.footprint.date, after.footprint.date
    return 0.0 if start is None or end is None else (end - start).total_seconds()
