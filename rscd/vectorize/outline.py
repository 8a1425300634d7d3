"""Alternative outlines: simplified, right-angled, without small holes; valid, and never overlapping a neighbour.

Right-angled outlines are made by the library ``buildingregulariser``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import shapely
from shapely.geometry.polygon import orient

from rscd.core.errors import UsageError
from rscd.core.pixel_area import Ellipsoid
from rscd.core.types import BoolArray, ComponentTable, Grid
from rscd.inference.components import concatenate, take
from rscd.vectorize.attributes import GeometryArray

Reshape = Callable[[GeometryArray], GeometryArray]
"""Pixel outlines -> one candidate each; invalid candidates are not used."""


def metres_per_unit(grid: Grid, ellipsoid: Ellipsoid) -> tuple[float, float]:
    """Metres per CRS unit, eastwards and northwards, at the centre of the grid."""
    t = grid.affine
    x, y = t @ (grid.width / 2, grid.height / 2)
    step = max(abs(t.a), abs(t.b)), max(abs(t.d), abs(t.e))  # one pixel in CRS units, because metres per unit vary
    here, east, north = ellipsoid.positions(np.array([x, x + step[0], x]), np.array([y, y, y + step[1]]))
    return float(np.linalg.norm(east - here) / step[0]), float(np.linalg.norm(north - here) / step[1])


def simplify(tolerance: float) -> Reshape:
    """Douglas-Peucker simplification with a tolerance in CRS units."""
    return lambda exact: np.asarray(shapely.simplify(exact, tolerance, preserve_topology=True))


@dataclass
class _Pending:
    """Features that reshaping still needs, with their pixel outlines and new outlines."""

    table: ComponentTable
    exact: GeometryArray
    new: GeometryArray
    settled: BoolArray

    def pick(self, which: BoolArray) -> _Pending:
        rows = np.flatnonzero(which)
        return _Pending(take(self.table, rows), self.exact[rows], self.new[rows], self.settled[rows])


class Reshaper:
    """Gives polygons new outlines so that no two overlap, independent of their order.

    A polygon keeps its pixel outline if the new one is invalid, or if it meets the pixel outline or the new
    outline of another polygon in more than points. This depends only on the two polygons, so a feature is settled
    once everything within its reach is complete, and earlier features can be dropped.

    Args:
        grid: The polygons' grid.
        reshape: Makes new outlines.
        reach: Maximum distance by which two new outlines together can approach each other, CRS units.
    """

    def __init__(self, grid: Grid, reshape: Reshape, reach: float) -> None:
        t = grid.affine
        self._reshape = reshape
        self._reach = int(np.ceil(reach * np.hypot(t.a, t.d) / abs(t.determinant))) + 1
        self._pending: _Pending | None = None

    def settle(
        self, table: ComponentTable, exact: GeometryArray, horizon: int
    ) -> tuple[ComponentTable, GeometryArray]:
        """Add complete features; returns those that nothing from row ``horizon`` on can reach."""
        pending = self._with(table, exact)
        ready = ~pending.settled & (pending.table.bbox[:, 2] + self._reach <= horizon)
        chosen = np.where(self._clashes(pending), pending.exact, pending.new)[ready]
        out = take(pending.table, np.flatnonzero(ready))
        pending.settled |= ready
        first = int(pending.table.bbox[~pending.settled, 0].min(initial=horizon))
        self._pending = pending.pick(~pending.settled | (pending.table.bbox[:, 2] + self._reach > first))
        return out, chosen

    def _with(self, table: ComponentTable, exact: GeometryArray) -> _Pending:
        new = self._reshape(exact)
        polygon = shapely.get_type_id(new) == shapely.GeometryType.POLYGON
        new = np.where(polygon & shapely.is_valid(new) & ~shapely.is_empty(new), new, exact)
        settled = np.zeros(len(table), dtype=np.bool_)
        old = self._pending
        if old is None:
            return _Pending(table, exact, new, settled)
        return _Pending(
            concatenate(old.table, table),
            np.concatenate([old.exact, exact]),
            np.concatenate([old.new, new]),
            np.concatenate([old.settled, settled]),
        )

    @staticmethod
    def _clashes(pending: _Pending) -> BoolArray:
        n = len(pending.new)
        others = np.concatenate([pending.new, pending.exact])
        mine, other = shapely.STRtree(others).query(pending.new, predicate="intersects")
        mine, other = mine[other % n != mine], other[other % n != mine]
        one, two = pending.new[mine], others[other]
        meets = shapely.relate_pattern(one, two, "T********") | shapely.relate_pattern(one, two, "****1****")
        return np.asarray(np.bincount(mine[meets], minlength=n) > 0)


class HoleFiller:
    """Fills small holes that contain no other polygon and no unobservable ground.

    A polygon in a hole is complete no later than the polygon around it. So complete polygons are kept as long as a
    component that began above their last row is unfinished.

    Args:
        grid: The polygons' grid.
        fill_m2: Holes smaller than this are filled, m2.
    """

    def __init__(self, grid: Grid, fill_m2: float) -> None:
        self._pixel, self._fill_m2 = abs(grid.affine.determinant), fill_m2
        self._known: GeometryArray = np.empty(0, dtype=object)
        self._known_stop = np.zeros(0, dtype=np.int64)

    def fill(self, table: ComponentTable, polygons: GeometryArray, horizon: int) -> GeometryArray:
        """The outlines with small holes filled.

        Args:
            table: Complete components.
            polygons: Their pixel outlines.
            horizon: First row of all unfinished components.
        """
        known = np.concatenate([self._known, polygons])
        stop = np.concatenate([self._known_stop, table.bbox[:, 2]])
        with_holes = np.flatnonzero((shapely.get_num_interior_rings(polygons) > 0) & (table.hidden_edges == 0))
        out = polygons.copy()
        if len(with_holes):
            tree = shapely.STRtree(known)
            for i in with_holes:
                per_unit = table.area_m2[i] / table.pixels[i] / self._pixel  # m2 in a square CRS unit
                out[i] = self._filled(polygons[i], self._fill_m2 / per_unit, tree)
        recent = stop > horizon
        self._known, self._known_stop = known[recent], stop[recent]
        return out

    @staticmethod
    def _filled(polygon: shapely.Polygon, largest: float, tree: shapely.STRtree) -> shapely.Polygon:
        holes = [shapely.Polygon(ring) for ring in polygon.interiors]
        kept = [hole for hole in holes if hole.area >= largest or HoleFiller._occupied(hole, tree)]
        if len(kept) == len(holes):
            return polygon
        filled = shapely.Polygon(polygon.exterior, [hole.exterior for hole in kept])
        return filled if filled.is_valid else polygon

    @staticmethod
    def _occupied(hole: shapely.Polygon, tree: shapely.STRtree) -> bool:
        near = tree.geometries[tree.query(hole, predicate="intersects")]
        return bool(shapely.relate_pattern(hole, near, "T********").any())


LEAST_IOU = 0.8
"""Minimum intersection over union of a right-angled outline with its pixels; below it the pixel outline is kept."""
PARALLEL_PX = 2.0
"""Parallel edges closer than this are joined, px."""
TOLERANCE_PX = 1.0
"""Tolerance of the simplification before that, px."""
REACH_PX = 4.0
"""Maximum distance of a right-angled outline from the pixel outline, px."""


def check_regularizer() -> None:
    """Check that the extra is installed.

    Raises:
        UsageError: It is not installed.
    """
    if find_spec("buildingregulariser") is None:
        raise UsageError(
            "--regularize needs the library buildingregulariser",
            remedy="in rscd's folder: pip install '.[regularize]'",
        )


def regularize(metres: tuple[float, float], pixel_m: float) -> Reshape:
    """Right-angled outlines, polygon by polygon; the pixel outline if the new one differs too much.

    Args:
        metres: Metres per CRS unit eastwards and northwards: the library works in a local plane in metres, because
            right angles in degrees are not right angles on the ground.
        pixel_m: Ground sample distance, m.
    """

    def reshape(exact: GeometryArray) -> GeometryArray:
        if not len(exact):
            return exact
        plane = np.asarray(shapely.transform(exact, lambda xy: xy * metres), dtype=object)
        made = _regularized(plane, pixel_m)
        good = _close(plane, made, REACH_PX * pixel_m)
        out = exact.copy()
        back = shapely.transform(made[good], lambda xy: xy / metres)
        out[good] = [orient(polygon) for polygon in back]
        return out

    return reshape


def _regularized(plane: GeometryArray, pixel_m: float) -> GeometryArray:
    """The library's result for each polygon; None if it returns nothing or several parts."""
    import geopandas
    from buildingregulariser import regularize_geodataframe

    frame = geopandas.GeoDataFrame({"of": np.arange(len(plane))}, geometry=plane)
    result = regularize_geodataframe(
        frame,
        parallel_threshold=PARALLEL_PX * pixel_m,
        simplify_tolerance=TOLERANCE_PX * pixel_m,
        allow_circles=False,
        num_cores=1,
    )
    made = np.full(len(plane), None, dtype=object)
    of = result["of"].to_numpy()
    single = np.bincount(of, minlength=len(plane))[of] == 1
    made[of[single]] = result.geometry.to_numpy()[single]
    return made


def _close(plane: GeometryArray, made: GeometryArray, reach: float) -> BoolArray:
    """Whether results are valid polygons with at least LEAST_IOU, within ``reach`` of the original."""
    good = (shapely.get_type_id(made) == shapely.GeometryType.POLYGON) & shapely.is_valid(made)
    one, two = plane[good], made[good]
    common = shapely.area(shapely.intersection(one, two))
    iou = common / (shapely.area(one) + shapely.area(two) - common)
    good[good] = (iou >= LEAST_IOU) & (shapely.hausdorff_distance(one, two) <= reach)
    return np.asarray(good)
