"""Polygons of the changed components, traced band by band and exact to the pixel.

An outline is known from its corners. A corner is a grid point with one *odd quadrant*: of the four pixels
around it, one alone is changed (a convex corner) or one alone is not (a concave one).

    NW | NE      quadrant 0 | 1      the two arms of a corner run along the sides of its odd
    ---+---      ---------+---      quadrant: odd NE means one arm to the east, one to the north
    SW | SE               2 | 3

Along a row of grid points, a component's corners pair up from left to right into its horizontal edges; along
a column, from top to bottom into its vertical ones. Following these pairs in turn gives the rings. So a
component that crosses bands needs no union of pieces and leaves no vertex on a seam: its corners wait until
it is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from rscd.output.area import Ellipsoid
from rscd.output.components import ComponentJoiner, Joined, concatenate, take
from rscd.types import (
    P_SCALE,
    BandRecord,
    BoolArray,
    ComponentTable,
    DoubleArray,
    Grid,
    IntArray,
    LongArray,
)

GeometryArray = NDArray[np.object_]

FEATURE_SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("area_m2", pa.float64()),
        ("perimeter_m", pa.float64()),
        ("mean_probability", pa.float64()),
        ("max_probability", pa.float64()),
        ("p90_probability", pa.float64()),
        ("valid_fraction", pa.float64()),
        ("touches_edge", pa.bool_()),
        ("review", pa.string()),
        pa.field("geometry", pa.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"}),
    ]
)
"""Columns of the layer ``changes``."""

_CONCAVE = 4


class Corners(NamedTuple):
    """Corners of outlines, all arrays of shape (n,)."""

    of: LongArray
    """Component."""
    y: LongArray
    """Grid point's row; point (0, 0) is the upper left corner of pixel (0, 0)."""
    x: LongArray
    """Grid point's column."""
    kind: LongArray
    """Odd quadrant 0..3, plus 4 if the corner is concave."""

    def pick(self, which: LongArray | BoolArray) -> Corners:
        """Some of the corners."""
        return Corners(*(part[which] for part in self))


class Rings(NamedTuple):
    """Polygons as shapely's ragged arrays: exterior first, every ring closed, no collinear points."""

    points: LongArray
    """Grid points (column, row), shape (n, 2)."""
    ring_start: LongArray
    """Start of each ring in ``points``, and its end."""
    polygon_start: LongArray
    """Start of each polygon in ``ring_start``, and its end."""

    def polygons(self, transform: tuple[float, float, float, float, float, float]) -> GeometryArray:
        """The polygons on the ground, shape (polygons,)."""
        a, b, c, d, e, f = transform
        col, row = self.points[:, 0].astype(np.float64), self.points[:, 1].astype(np.float64)
        xy = np.column_stack([a * col + b * row + c, d * col + e * row + f])
        starts = self.ring_start, self.polygon_start
        return np.asarray(shapely.from_ragged_array(shapely.GeometryType.POLYGON, xy, starts))


class PolygonTracer:
    """Turns BandRecords, in order, into features with the columns of ``FEATURE_SCHEMA``.

    Memory is bounded by the band and by the corners of the components that are still open. Polygons are those
    of ``rasterio.features.shapes`` with connectivity 4 over the whole mask; exteriors run counter-clockwise
    on the map. Ids count from 1 in the order in which components are complete.

    Args:
        grid: The records' grid.
        min_area_m2: Components of a smaller geodesic area are dropped, before they are traced where possible.
        simplify_m: If > 0, outlines are simplified by at most about so many metres; a polygon that would
            become invalid or run into a neighbour keeps its pixel outline. Features then wait until no
            unfinished component lies in reach of them. Areas stay those of the pixels.
    """

    def __init__(self, grid: Grid, *, min_area_m2: float = 0.0, simplify_m: float = 0.0) -> None:
        self._grid = grid
        self._min_area_m2 = min_area_m2
        self._ellipsoid = Ellipsoid(grid.crs)
        self._joiner = ComponentJoiner()
        none = np.zeros(0, dtype=np.int64)
        self._open = Corners(none, none, none, none)
        self._simplifier = _Simplifier(grid, self._ellipsoid, simplify_m) if simplify_m > 0 else None
        self._features = 0

    def add(self, record: BandRecord) -> pa.RecordBatch:
        """Take the next band; returns the features that are complete with it, perhaps none."""
        joined = self._joiner.add(record)
        unfinished = joined.table.bbox[joined.is_open, 0]
        horizon = int(unfinished.min(initial=record.row + record.height))
        return self._advance(joined, record.labels, record.row, horizon)

    def finish(self) -> pa.RecordBatch:
        """After the last band: the remaining features."""
        labels = np.zeros((1, self._grid.width), dtype=np.int32)
        return self._advance(self._joiner.finish(), labels, self._grid.height, np.iinfo(np.int64).max)

    def _advance(self, joined: Joined, labels: IntArray, row: int, horizon: int) -> pa.RecordBatch:
        keep = joined.is_open | (joined.table.area_m2 >= self._min_area_m2)
        waiting = self._open._replace(of=joined.group_of_open[self._open.of])
        corners = _together([waiting, _band_corners(joined, labels, row, keep)])
        corners = corners.pick(keep[corners.of])
        still_open = joined.is_open[corners.of]
        self._open = _renumbered(corners.pick(still_open), joined.is_open)
        complete = keep & ~joined.is_open
        table = take(joined.table, np.flatnonzero(complete))
        rings = trace(_renumbered(corners.pick(~still_open), complete), mirrored=_mirrored(self._grid))
        polygons = rings.polygons(self._grid.transform)
        if self._simplifier is not None:
            table, polygons = self._simplifier.settle(table, polygons, horizon)
        return self._batch(table, polygons)

    def _batch(self, table: ComponentTable, polygons: GeometryArray) -> pa.RecordBatch:
        ids = np.arange(self._features + 1, self._features + len(table) + 1)
        self._features += len(table)
        low, high = table.bbox[:, :2], table.bbox[:, 2:]
        columns = [
            ids,
            table.area_m2,
            perimeters_m(polygons, self._ellipsoid),
            table.p_sum / table.pixels / P_SCALE,
            table.p_max / P_SCALE,
            percentile(table, 90) / P_SCALE,
            1 - table.hidden_edges / table.outline_edges,
            (low == 0).any(axis=1) | (high == self._grid.shape).any(axis=1),
            pa.repeat(pa.scalar(""), len(table)),
            pa.array(shapely.to_wkb(polygons), type=pa.binary()),
        ]
        return pa.RecordBatch.from_arrays([pa.array(column) for column in columns], schema=FEATURE_SCHEMA)


def trace(corners: Corners, *, mirrored: bool = False) -> Rings:
    """Rings of complete components.

    Args:
        corners: All corners of components 0..k-1, in any order.
        mirrored: Rows grow northwards on the map, so that rings must run the other way round on the grid.
    """
    corners = _in_reading_order(corners)
    n = len(corners.of)
    kind = corners.kind
    down = np.lexsort((kind >> 1 & 1, corners.y, corners.x, corners.of))
    vertical = np.empty(n, dtype=np.int64)
    vertical[down[0::2]], vertical[down[1::2]] = down[1::2], down[0::2]
    # With the component on the left, a convex corner leaves along the row if its odd quadrant is NE or SW.
    along_row = (kind ^ kind >> 1 ^ kind >> 2 ^ mirrored) & 1
    order, first = _cycles(np.where(along_row, np.arange(n) ^ 1, vertical))
    # A ring's name is its first corner in reading order; so exteriors come before their holes.
    starts = np.flatnonzero(np.diff(first, prepend=-1))
    ends = np.append(starts[1:], n)[: len(starts)]
    closed = np.insert(order, ends, order[starts])
    ring_start = np.append(starts, n) + np.arange(len(starts) + 1)
    of_ring = corners.of[first[starts]]
    components = int(of_ring[-1]) + 1 if len(of_ring) else 0
    points = np.column_stack([corners.x[closed], corners.y[closed]])
    return Rings(points, ring_start, np.searchsorted(of_ring, np.arange(components + 1)))


def find_corners(changed: BoolArray, pixels: tuple[LongArray, LongArray], of: LongArray, row: int) -> Corners:
    """Corners of ``pixels`` at the grid points between two rows of ``changed``.

    Args:
        changed: Mask, shape (rows, columns); no corner is sought on its first row's top or last row's bottom.
        pixels: Row and column indices into ``changed`` of the pixels that are traced, shape (n,) each.
        of: Their components, shape (n,).
        row: Row of the grid that ``changed[0]`` is.
    """
    framed = np.pad(changed, ((0, 0), (1, 1)))
    parts = []
    for quadrant in range(4):  # of the pixel, seen from the grid point
        south, east = divmod(quadrant, 2)
        inside = pixels[0] >= 1 if south else pixels[0] < len(changed) - 1
        r, c, group = pixels[0][inside], pixels[1][inside] + 1, of[inside]
        dr, dc = 1 - 2 * south, 1 - 2 * east  # from the pixel across the grid point
        beside, over = framed[r, c + dc], framed[r + dr, c]
        convex = np.flatnonzero(~(beside | over))
        concave = np.flatnonzero(beside & over)
        concave = concave[~framed[r[concave] + dr, c[concave] + dc]]
        for which, kind in ((convex, quadrant), (concave, 3 - quadrant + _CONCAVE)):
            y, x = r[which] + row + 1 - south, c[which] - east
            parts.append(Corners(group[which], y, x, np.full(len(which), kind, dtype=np.int64)))
    return _together(parts)


def percentile(table: ComponentTable, percent: int) -> LongArray:
    """Smallest probability value that ``percent`` % of a component's pixels do not exceed, shape (n,)."""
    if not len(table):
        return np.zeros(0, dtype=np.int64)
    start = table.hist_start[:-1]
    running = np.cumsum(table.hist_count)
    before = np.append(0, running)[start]
    share = running - np.repeat(before, np.diff(table.hist_start))
    short = 100 * share < percent * np.repeat(table.pixels, np.diff(table.hist_start))
    return table.hist_value[start + np.add.reduceat(short, start, dtype=np.int64)].astype(np.int64)


def perimeters_m(polygons: GeometryArray, ellipsoid: Ellipsoid) -> DoubleArray:
    """Geodesic length of all rings of each polygon, m, shape (n,)."""
    if not len(polygons):
        return np.zeros(0)
    _, xy, (ring_start, polygon_start) = shapely.to_ragged_array(polygons)
    steps = np.append(ellipsoid.lengths_m(xy), 0.0)
    steps[ring_start[1:] - 1] = 0.0  # from the end of a ring to the start of the next
    return np.asarray(np.add.reduceat(steps, ring_start[polygon_start[:-1]]))


def _band_corners(joined: Joined, labels: IntArray, row: int, keep: BoolArray) -> Corners:
    """Corners of kept components at the band's grid points, from its upper seam to above its lower one."""
    changed = np.vstack([joined.row_above >= 0, labels > 0])
    rows, cols = np.nonzero(changed)
    seam = np.searchsorted(rows, 1)
    of_band = joined.group_of_label[labels[rows[seam:] - 1, cols[seam:]] - 1]
    of = np.concatenate([joined.row_above[cols[:seam]], of_band])
    kept = keep[of]
    return find_corners(changed, (rows[kept], cols[kept]), of[kept], row - 1)


def _together(parts: list[Corners]) -> Corners:
    return Corners(*map(np.concatenate, zip(*parts, strict=True)))


def _renumbered(corners: Corners, chosen: BoolArray) -> Corners:
    """Number the components anew by their rank among the chosen ones."""
    return corners._replace(of=(np.cumsum(chosen) - 1)[corners.of])


def _in_reading_order(corners: Corners) -> Corners:
    """Sort by component, row and column, so that corners 2i and 2i + 1 end one horizontal edge.

    Where two pixels of a component touch in a grid point only, two convex corners lie on it. The rings are
    valid if they part around the two *unchanged* pixels there, as two concave corners, the western first:

        A | .      Some way round, A and B are joined; so one of the unchanged pixels lies in a hole, and
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
    """Cycles of a permutation by pointer doubling: elements in cyclic order, and each cycle's least one.

    Cycles come in the order of their least elements. A cycle of length L takes log2(L) rounds.
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


def _mirrored(grid: Grid) -> bool:
    a, b, _, d, e, _ = grid.transform
    return a * e - b * d > 0


@dataclass
class _Pending:
    """Features that simplification still needs, with their pixel outlines and their simplified ones."""

    table: ComponentTable
    exact: GeometryArray
    simple: GeometryArray
    settled: BoolArray

    def pick(self, which: BoolArray) -> _Pending:
        rows = np.flatnonzero(which)
        return _Pending(take(self.table, rows), self.exact[rows], self.simple[rows], self.settled[rows])


class _Simplifier:
    """Simplifies outlines so that no two polygons overlap, whatever the order in which they come.

    A polygon keeps its pixel outline if its simplified one meets the pixel outline or the simplified outline
    of another polygon in more than points. That depends on the two polygons alone, so a feature is settled
    once everything within reach of it is complete, and what is behind it need not be held.
    """

    def __init__(self, grid: Grid, ellipsoid: Ellipsoid, simplify_m: float) -> None:
        a, b, c, d, e, f = grid.transform
        col, row = grid.width / 2, grid.height / 2
        x, y = a * col + b * row + c, d * col + e * row + f
        step = max(abs(a), abs(b)), max(abs(d), abs(e))  # CRS units: a pixel, as metres per unit vary
        here, east, north = ellipsoid.positions(np.array([x, x + step[0], x]), np.array([y, y, y + step[1]]))
        per_unit = np.linalg.norm(east - here) / step[0], np.linalg.norm(north - here) / step[1]
        self._tolerance = simplify_m / float(max(per_unit))
        self._reach = int(np.ceil(2 * self._tolerance * np.hypot(a, d) / abs(a * e - b * d))) + 1
        self._pending: _Pending | None = None

    def settle(
        self, table: ComponentTable, exact: GeometryArray, horizon: int
    ) -> tuple[ComponentTable, GeometryArray]:
        """Take complete features; returns those that nothing from row ``horizon`` on can reach."""
        pending = self._with(table, exact)
        ready = ~pending.settled & (pending.table.bbox[:, 2] + self._reach <= horizon)
        chosen = np.where(self._clashes(pending), pending.exact, pending.simple)[ready]
        out = take(pending.table, np.flatnonzero(ready))
        pending.settled |= ready
        first = int(pending.table.bbox[~pending.settled, 0].min(initial=horizon))
        self._pending = pending.pick(~pending.settled | (pending.table.bbox[:, 2] + self._reach > first))
        return out, chosen

    def _with(self, table: ComponentTable, exact: GeometryArray) -> _Pending:
        simple = shapely.simplify(exact, self._tolerance, preserve_topology=True)
        polygon = shapely.get_type_id(simple) == shapely.GeometryType.POLYGON
        simple = np.where(polygon & shapely.is_valid(simple) & ~shapely.is_empty(simple), simple, exact)
        settled = np.zeros(len(table), dtype=np.bool_)
        old = self._pending
        if old is None:
            return _Pending(table, exact, simple, settled)
        return _Pending(
            concatenate(old.table, table),
            np.concatenate([old.exact, exact]),
            np.concatenate([old.simple, simple]),
            np.concatenate([old.settled, settled]),
        )

    @staticmethod
    def _clashes(pending: _Pending) -> BoolArray:
        n = len(pending.simple)
        others = np.concatenate([pending.simple, pending.exact])
        mine, other = shapely.STRtree(others).query(pending.simple, predicate="intersects")
        mine, other = mine[other % n != mine], other[other % n != mine]
        one, two = pending.simple[mine], others[other]
        meets = shapely.relate_pattern(one, two, "T********") | shapely.relate_pattern(one, two, "****1****")
        return np.asarray(np.bincount(mine[meets], minlength=n) > 0)
