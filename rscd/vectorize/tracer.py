"""Polygons of the changed components, traced strip by strip and exact to the pixel.

An outline is defined by its corners. A corner is a grid point with one *odd quadrant*: of the four pixels around
it, exactly one is changed (a convex corner) or exactly one is unchanged (a concave corner).

    NW | NE      quadrant 0 | 1      the two arms of a corner run along the sides of its odd
    ---+---      ---------+---      quadrant: odd NE means one arm to the east, one to the north
    SW | SE               2 | 3

Along a row of grid points, a component's corners pair up from left to right into its horizontal edges; along
a column, from top to bottom into its vertical edges. Following these pairs in turn gives the rings. So a component
that crosses strips needs no union of pieces and has no vertex on a seam: its corners are kept until it is
complete.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import shapely

from rscd.core.grid import Transform, place
from rscd.core.pixel_area import Ellipsoid
from rscd.core.runs import keys, runs_of, stacked
from rscd.core.types import BoolArray, ByteArray, ComponentTable, Grid, IntArray, LongArray, Runs, StripRecord
from rscd.inference.components import ComponentJoiner, Joined, take
from rscd.vectorize.attributes import Attributes, GeometryArray, feature_schema
from rscd.vectorize.outline import REACH_PX, HoleFiller, Reshaper, metres_per_unit, simplify
from rscd.vectorize.outline import regularize as right_angles

FEATURE_SCHEMA = feature_schema()
"""Columns of the layer ``changes`` without images."""

_CONCAVE = 4
_AT_ONCE = 1024
"""Polygons that are traced and described at once: each temporarily needs a few kB."""


class Corners(NamedTuple):
    """Corners of outlines, all arrays of shape (n,)."""

    of: LongArray
    """Component of the corner."""
    y: IntArray
    """Row of the grid point; point (0, 0) is the upper left corner of pixel (0, 0)."""
    x: IntArray
    """Column of the grid point."""
    kind: ByteArray
    """Odd quadrant 0..3, plus 4 if the corner is concave."""

    def pick(self, which: LongArray | BoolArray | slice) -> Corners:
        """A selection of the corners."""
        return Corners(self.of[which], self.y[which], self.x[which], self.kind[which])


class Rings(NamedTuple):
    """Polygons as shapely's ragged arrays: exterior first, every ring closed, no collinear points."""

    points: IntArray
    """Grid points (column, row), shape (n, 2)."""
    ring_start: LongArray
    """Start of each ring in ``points``, and the end of the last."""
    polygon_start: LongArray
    """Start of each polygon in ``ring_start``, and the end of the last."""

    def polygons(self, transform: Transform) -> GeometryArray:
        """The polygons in map coordinates, shape (polygons,)."""
        xy = np.column_stack(place(transform, self.points[:, 0], self.points[:, 1]))
        starts = self.ring_start, self.polygon_start
        return np.asarray(shapely.from_ragged_array(shapely.GeometryType.POLYGON, xy, starts))


class PolygonTracer:
    """Converts StripRecords, in order, to features with the columns of ``rscd.vectorize.attributes``.

    Memory is bounded by the strip and by the corners of the components that are still open. The polygons equal
    those of ``rasterio.features.shapes`` with connectivity 4 on the whole mask; exteriors run counter-clockwise on
    the map. Ids count from 1 in the order in which components are completed.

    Args:
        grid: The records' grid.
        min_area_m2: Components of a smaller geodesic area are dropped, if possible before they are traced.
        simplify_m: If > 0, outlines are simplified with about this tolerance in metres; a polygon that would become
            invalid or overlap a neighbour keeps its pixel outline. Features then wait until no unfinished
            component is in reach of them. Areas remain those of the pixels.
        fill_holes_m2: Holes smaller than this are filled if they contain nothing.
        regularize: Make outlines right-angled, under the same conditions; not simplified further.
        attributes: Computes the columns; default: those of ``FEATURE_SCHEMA``.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        min_area_m2: float = 0.0,
        simplify_m: float = 0.0,
        fill_holes_m2: float = 0.0,
        regularize: bool = False,
        attributes: Attributes | None = None,
    ) -> None:
        self._grid = grid
        self._min_area_m2 = min_area_m2
        self._attributes = attributes or Attributes(grid)
        self._joiner = ComponentJoiner()
        place = np.zeros(0, np.int32)
        self._open = Corners(np.zeros(0, np.int64), place, place, np.zeros(0, np.uint8))
        self._filler = HoleFiller(grid, fill_holes_m2) if fill_holes_m2 > 0 else None
        self._reshaper = _reshaper(grid, simplify_m, regularize=regularize)
        self._features = 0

    def add(self, record: StripRecord) -> pa.RecordBatch:
        """Add the next strip; returns the features that are now complete, possibly none."""
        joined = self._joiner.add(record)
        unfinished = joined.table.bbox[joined.is_open, 0]
        horizon = int(unfinished.min(initial=record.row + record.height))
        return self._advance(joined, record.runs, (record.row, record.height), horizon)

    def finish(self) -> pa.RecordBatch:
        """After the last strip: return the remaining features."""
        below = self._grid.height, 1
        return self._advance(self._joiner.finish(), runs_of(np.zeros((0, 0), bool)), below, np.iinfo(np.int64).max)

    def _advance(self, joined: Joined, runs: Runs, place: tuple[int, int], horizon: int) -> pa.RecordBatch:
        """Add a strip (components, runs, first row and height); returns what is finished above ``horizon``."""
        keep = joined.is_open | (joined.table.area_m2 >= self._min_area_m2)
        waiting = self._open._replace(of=joined.group_of_open[self._open.of])
        corners = _together([waiting, _strip_corners(joined, runs, place, keep)])
        corners = corners.pick(keep[corners.of])
        still_open = joined.is_open[corners.of]
        self._open = _renumbered(corners.pick(still_open), joined.is_open)
        complete = keep & ~joined.is_open
        table = take(joined.table, np.flatnonzero(complete))
        polygons = self._traced(_renumbered(corners.pick(~still_open), complete), len(table))
        if self._filler is not None:
            polygons = self._filler.fill(table, polygons, horizon)
        if self._reshaper is not None:
            table, polygons = self._reshaper.settle(table, polygons, horizon)
        return self._described(table, polygons)

    def _traced(self, corners: Corners, components: int) -> GeometryArray:
        """Polygons of complete components."""
        corners = corners.pick(np.argsort(corners.of, kind="stable"))
        firsts = range(0, components, _AT_ONCE)
        cuts = np.searchsorted(corners.of, [*firsts, components])
        found = [np.empty(0, dtype=object)]
        for first, (start, stop) in zip(firsts, pairwise(cuts), strict=True):
            some = corners.pick(slice(start, stop))
            rings = trace(some._replace(of=some.of - first), mirrored=self._grid.mirrored)
            found.append(rings.polygons(self._grid.transform))
        return np.concatenate(found)

    def _described(self, table: ComponentTable, polygons: GeometryArray) -> pa.RecordBatch:
        """Features of components, with consecutive numbers."""
        batches = []
        for start in range(0, max(1, len(table)), _AT_ONCE):
            rows = np.arange(start, min(start + _AT_ONCE, len(table)))
            batches.append(self._attributes.batch(self._features + 1, take(table, rows), polygons[rows]))
            self._features += len(rows)
        (batch,) = pa.Table.from_batches(batches).combine_chunks().to_batches() if len(batches) > 1 else batches
        return batch


def _reshaper(grid: Grid, simplify_m: float, *, regularize: bool) -> Reshaper | None:
    """The reshaper for the requested outlines; None if pixel outlines are requested."""
    metres = metres_per_unit(grid, Ellipsoid(grid.crs))
    if regularize:
        pixel_m = math.sqrt(abs(grid.affine.determinant) * metres[0] * metres[1])
        return Reshaper(grid, right_angles(metres, pixel_m), 2 * REACH_PX * pixel_m / min(metres))
    if simplify_m > 0:
        tolerance = simplify_m / max(metres)
        return Reshaper(grid, simplify(tolerance), 2 * tolerance)
    return None


def trace(corners: Corners, *, mirrored: bool = False) -> Rings:
    """Rings of complete components.

    Args:
        corners: All corners of components 0..k-1, in any order.
        mirrored: Rows increase northwards on the map, so rings must run in the opposite direction on the grid.
    """
    corners = _in_reading_order(corners)
    n = len(corners.of)
    kind = corners.kind
    down = np.lexsort((kind >> 1 & 1, corners.y, corners.x, corners.of))
    vertical = np.empty(n, dtype=np.int64)
    vertical[down[0::2]], vertical[down[1::2]] = down[1::2], down[0::2]
    # With the component on the left, the ring leaves a convex corner along the row if its odd quadrant is NE or SW.
    along_row = (kind ^ kind >> 1 ^ kind >> 2 ^ mirrored) & 1
    order, first = _cycles(np.where(along_row, np.arange(n) ^ 1, vertical))
    # A ring is identified by its first corner in reading order; so exteriors come before their holes.
    starts = np.flatnonzero(np.diff(first, prepend=-1))
    ends = np.append(starts[1:], n)[: len(starts)]
    closed = np.insert(order, ends, order[starts])
    ring_start = np.append(starts, n) + np.arange(len(starts) + 1)
    of_ring = corners.of[first[starts]]
    components = int(of_ring[-1]) + 1 if len(of_ring) else 0
    points = np.column_stack([corners.x[closed], corners.y[closed]])
    return Rings(points, ring_start, np.searchsorted(of_ring, np.arange(components + 1)))


def find_corners(runs: Runs, of: LongArray, row: int, height: int) -> Corners:
    """Corners of runs at the grid points between the rows of a block.

    A corner is at an end of a run: convex if the pixel above or below it is unchanged; concave if that pixel and
    the one next to it are both changed.

    Args:
        runs: All changed pixels of the components; row 0 is the first row of the block.
        of: Component of each run, shape (n,).
        row: Grid row of row 0.
        height: Rows of the block; the top of its first and the bottom of its last row are not searched.
    """
    start, stop, pitch = keys(runs)
    parts = []
    for east in (0, 1):  # side of the grid point on which the run's end pixel lies
        end, x = (start, runs.start) if east else (stop - 1, runs.stop)
        beyond = -1 if east else 1
        for south in (0, 1):
            here = np.flatnonzero(runs.row > 0 if south else runs.row < height - 1)
            over = end[here] + (-pitch if south else pitch)
            run = np.maximum(np.searchsorted(start, over, side="right") - 1, 0)
            changed = (start[run] <= over) & (over < stop[run])
            convex = here[~changed]
            beside = over + beyond
            concave = here[changed & (start[run] <= beside) & (beside < stop[run])]
            for which, kind in ((convex, 2 * south + east), (concave, 2 * south + 1 - east + _CONCAVE)):
                y = runs.row[which] + np.int32(row + 1 - south)
                parts.append(Corners(of[which], y, x[which], np.full(len(which), kind, np.uint8)))
    return _together(parts)


def _strip_corners(joined: Joined, runs: Runs, place: tuple[int, int], keep: BoolArray) -> Corners:
    """Corners of kept components at the strip's grid points, from its upper seam to above its lower seam."""
    row, height = place
    above = runs_of(joined.row_above[None] >= 0)
    of = np.concatenate([joined.row_above[above.start], joined.group_of_label[runs.label - 1]])
    both, kept = stacked(((0, above), (1, runs))), keep[of]
    return find_corners(Runs(*(part[kept] for part in both)), of[kept], row - 1, height + 1)


def _together(parts: list[Corners]) -> Corners:
    return Corners(*map(np.concatenate, zip(*parts, strict=True)))


def _renumbered(corners: Corners, chosen: BoolArray) -> Corners:
    """Renumber the components by their rank among the chosen ones."""
    return corners._replace(of=(np.cumsum(chosen) - 1)[corners.of])


def _in_reading_order(corners: Corners) -> Corners:
    """Sort by component, row and column, so that corners 2i and 2i + 1 end one horizontal edge.

    Where two pixels of a component touch only at a grid point, it has two convex corners. The rings are valid if
    they separate around the two *unchanged* pixels there, as two concave corners, the western first:

        A | .      A and B are connected elsewhere; so one of the unchanged pixels lies in a hole, and
        --+--      the two belong to different rings.
        . | B
    """
    corners = corners.pick(np.lexsort((corners.x, corners.y, corners.of)))
    of, y, x, kind = corners
    twice = np.flatnonzero((x[1:] == x[:-1]) & (y[1:] == y[:-1]) & (of[1:] == of[:-1]))
    falling = (kind[twice] == 0) | (kind[twice] == 3)  # the pixels lie NW and SE of the point
    kind[twice] = np.where(falling, 2, 0) + _CONCAVE
    kind[twice + 1] = np.where(falling, 1, 3) + _CONCAVE
    return corners


def _cycles(following: LongArray) -> tuple[LongArray, LongArray]:
    """Cycles of a permutation by pointer doubling: elements in cyclic order, and each cycle's smallest element.

    Cycles are in the order of their smallest elements. A cycle of length L takes log2(L) rounds.
    """
    here = np.arange(len(following))
    least, jump = here, following
    while not np.array_equal(least, least[following]):
        least, jump = np.minimum(least, least[jump]), jump[jump]
    steps, jump = (least != here).astype(np.int64), np.where(least == here, here, following)
    while not np.array_equal(jump, least):
        steps, jump = steps + steps[jump], jump[jump]
    order = np.lexsort((-steps, least))
    return order, least[order]
