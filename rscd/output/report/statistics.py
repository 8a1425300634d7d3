"""Statistics of all polygons for the report, computed as they arrive: counts, histograms, and the largest ones."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import shapely
from affine import Affine

from rscd.core.types import Grid, LongArray
from rscd.vectorize.attributes import GeometryArray

MOST_DRAWN = 2000
"""Maximum number of polygons that are drawn, the largest ones."""
PATH_BYTES = 1_500_000
"""Maximum total length of their outlines, characters; the smallest are left out beyond that."""
AREA_STEPS = 3
"""Bins of the size histogram per decade."""
AREA_BINS = np.logspace(0, 8, 8 * AREA_STEPS + 1)
"""Bounds of the size histogram, m2; the outer bins include values beyond."""
PROBABILITY_BINS = np.linspace(0, 1, 41)
"""Bounds of the histogram of mean probabilities."""


@dataclass
class PolygonStatistics:
    """Statistics of the polygons for the report; memory does not grow with their number."""

    drawn: bool = True
    """Whether the largest polygons are kept for drawing."""
    polygons: int = 0
    """Number of polygons."""
    area_m2: float = 0.0
    """Total area, m2."""
    weighted_p: float = 0.0
    """Sum of mean probability times area, m2."""
    on_edge: int = 0
    """Number of polygons that touch the grid's border."""
    directions: Counter[str] = field(default_factory=Counter)
    """Number of polygons by direction (appeared, vanished, replaced, unclear); empty without a presence head."""
    directions_m2: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Area by direction, m2."""
    areas: LongArray = field(default_factory=lambda: np.zeros(len(AREA_BINS) - 1, dtype=np.int64))
    """Counts in ``AREA_BINS``."""
    probabilities: LongArray = field(default_factory=lambda: np.zeros(len(PROBABILITY_BINS) - 1, dtype=np.int64))
    """Counts in ``PROBABILITY_BINS``."""
    _largest: pa.Table | None = None
    _least_m2: float = -1.0
    """Polygons up to this area are not among the largest, m2."""

    def add(self, features: pa.RecordBatch) -> None:
        """Add complete polygons."""
        if not features.num_rows:
            return
        area, p = features["area_m2"].to_numpy(), features["mean_probability"].to_numpy()
        self.polygons += len(area)
        self.area_m2 += float(area.sum())
        self.weighted_p += float((area * p).sum())
        self.on_edge += int(features["touches_edge"].to_numpy(zero_copy_only=False).sum())
        for way, size in zip(features["direction"].to_pylist(), area.tolist(), strict=True):
            if way:
                self.directions[way] += 1
                self.directions_m2[way] += size
        self.areas += np.histogram(np.clip(area, AREA_BINS[0], AREA_BINS[-1]), AREA_BINS)[0]
        self.probabilities += np.histogram(p, PROBABILITY_BINS)[0]
        large = np.flatnonzero(area > self._least_m2)
        if not self.drawn or not len(large):
            return
        table = pa.Table.from_batches([features.take(pa.array(large))])
        if self._largest is not None:
            table = pa.concat_tables([self._largest, table])
        order = np.argsort(-table["area_m2"].to_numpy(), kind="stable")[:MOST_DRAWN]
        self._largest = table.take(order).combine_chunks()
        if len(order) == MOST_DRAWN:
            self._least_m2 = self._largest["area_m2"][-1].as_py()

    def largest(self) -> pa.Table | None:
        """The largest polygons, largest first; None if there are none, or none were kept."""
        return self._largest


def svg_paths(wkb: pa.ChunkedArray, grid: Grid, factor: int) -> list[str]:
    """Outlines as SVG paths in preview pixels; fewer than requested if they would take too many bytes.

    Args:
        wkb: Polygons in the grid's CRS, the most important first.
        grid: The common grid.
        factor: Grid pixels per preview pixel, along an axis.
    """
    polygons: GeometryArray = shapely.from_wkb(wkb.to_numpy())
    to_cells = Affine.scale(1 / factor) @ ~grid.affine
    flat = shapely.transform(polygons, lambda xy: np.column_stack(to_cells @ tuple(xy.T)))
    flat = shapely.simplify(flat, 0.1 if factor > 1 else 0.01, preserve_topology=True)
    paths: list[str] = []
    taken = 0
    for polygon in flat:
        path = "".join(_ring(shapely.get_coordinates(ring)) for ring in shapely.get_rings(polygon))
        taken += len(path)
        if taken > PATH_BYTES and paths:
            break
        paths.append(path)
    return paths


def nice_m2(area: float) -> str:
    """An area with up to three digits in m², ha or km²."""
    for unit, size in (("km²", 1e6), ("ha", 1e4)):
        if area >= size:
            return f"{_digits(area / size)} {unit}"
    return f"{_digits(area)} m²"


def _digits(value: float) -> str:
    if value == 0:
        return "0"
    decimals = min(max(0, 2 - math.floor(math.log10(abs(value)))), 3)
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def _ring(xy: np.ndarray) -> str:
    points = " ".join(f"{x:.2f},{y:.2f}".replace(".00", "") for x, y in xy[:-1])
    return f"M{points}Z"
