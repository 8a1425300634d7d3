"""Areas and lengths on the ellipsoid, for any CRS: metres, degrees, feet, rotated, south-up.

Areas in a projection are wrong by a factor of four at 60 degrees north in Web Mercator, and a degree grid has none.
So pixel corners are converted to points on the ellipsoid in space (x, y, z from the earth's centre), where the area
of a small quad is half the length of the cross product of its diagonals: no seam at the antimeridian or at a pole.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from rscd.core.errors import DataError
from rscd.core.grid import place
from rscd.core.types import BoolArray, DoubleArray, Grid, LongArray

LATTICE_PX = 64
"""Maximum side of a lattice block, px."""
LATTICE_M = 1000.0
"""Maximum side of a lattice block on the ground, m: curvature in a block is below 2e-8 of its area."""


class Ellipsoid:
    """The ellipsoid of a CRS.

    Args:
        crs: Anything that pyproj reads as a CRS.

    Raises:
        DataError: The CRS is not tied to the earth (a local or engineering system).
    """

    def __init__(self, crs: str) -> None:
        system = CRS.from_user_input(crs)
        geodetic, geod = system.geodetic_crs, system.get_geod()
        if geodetic is None or geod is None:
            raise DataError(f"CRS '{system.name}' has no ellipsoid", remedy="use a CRS that is tied to the earth")
        self._to_geodetic = Transformer.from_crs(system, geodetic, always_xy=True)
        self._to_radians = float(geodetic.axis_info[0].unit_conversion_factor)
        self._geod = geod

    def lonlat(self, x: DoubleArray, y: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
        """Longitude and latitude in radians; infinite outside the domain of the CRS."""
        lon, lat = self._to_geodetic.transform(x, y)
        return np.asarray(lon) * self._to_radians, np.asarray(lat) * self._to_radians

    def positions(self, x: DoubleArray, y: DoubleArray) -> DoubleArray:
        """Points in space, m from the earth's centre, shape (..., 3)."""
        lon, lat = self.lonlat(x, y)
        with np.errstate(invalid="ignore"):
            normal = self._geod.a / np.sqrt(1 - self._geod.es * np.sin(lat) ** 2)
            ring, height = normal * np.cos(lat), normal * (1 - self._geod.es) * np.sin(lat)
            return np.stack([ring * np.cos(lon), ring * np.sin(lon), height], axis=-1)

    def area_m2(self, polygons: NDArray[np.object_]) -> float:
        """Total geodesic area of polygons, m2, without holes."""
        total = 0.0
        for polygon in polygons:
            for sign, ring in ((1, polygon.exterior), *((-1, hole) for hole in polygon.interiors)):
                xy = np.asarray(ring.coords)
                lon, lat = np.degrees(self.lonlat(xy[:, 0], xy[:, 1]))
                total += sign * abs(self._geod.polygon_area_perimeter(lon, lat)[0])
        return total

    def lengths_m(self, coords: DoubleArray) -> DoubleArray:
        """Geodesic lengths, m, of the n - 1 segments between the points ``coords``, shape (n, 2).

        Uses the ratio of arc to chord on a sphere of the mean radius: within 1e-9 of ``pyproj.Geod.inv`` up to some
        km, 3e-7 at 100 km, and several times as fast.
        """
        chord = np.linalg.norm(np.diff(self.positions(coords[:, 0], coords[:, 1]), axis=0), axis=-1)
        across = 2 * self._geod.a * (1 - self._geod.f / 3)
        return np.asarray(across * np.arcsin(chord / across))


class PixelAreas:
    """Geodesic areas of a grid's pixels, m2, always positive.

    The grid is divided into equal blocks of at most 64 px and about 1 km; a block's mean pixel area is assigned to
    its centre, and pixels between centres are interpolated bilinearly (extrapolated outside the outermost centres).
    Only the blocks of the requested rows are computed: a scene of 100k x 100k needs a few thousand blocks per
    strip.

    Pixels outside the domain of the CRS have area 0.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.ellipsoid = Ellipsoid(grid.crs)
        px_m = self._longest_pixel_m()
        self._rows, self._cols = (_blocks(n, size) for n, size in zip(grid.shape, px_m, strict=True))

    def at(self, rows: LongArray, cols: LongArray) -> DoubleArray:
        """Areas of single pixels, m2, shape (n,); ``rows`` and ``cols`` index the grid."""
        if not len(rows):
            return np.zeros(0)
        first, block_of, share = self._row_weights(int(rows.min()), int(rows.max()) + 1)
        by_column = self._by_column(first, first + int(block_of.max()) + 2)
        local = rows - int(rows.min())
        above, t = block_of[local], share[local]
        below = np.minimum(above + 1, len(by_column) - 1)
        return by_column[above, cols] * (1 - t) + by_column[below, cols] * t

    def total(self, mask: BoolArray, row: int) -> float:
        """Area, m2, of the True pixels of ``mask``, shape (h, width), which starts at row ``row``."""
        area = 0.0
        for start in range(0, len(mask), LATTICE_PX):  # in slabs, because exact sums need the mask in float64
            slab = mask[start : start + LATTICE_PX]
            first, above, t = self._row_weights(row + start, row + start + len(slab))
            by_column = self._by_column(first, first + int(above.max()) + 2)
            weights = np.zeros((len(by_column), len(slab)))
            lines = np.arange(len(slab))
            np.add.at(weights, (above, lines), 1 - t)
            np.add.at(weights, (np.minimum(above + 1, len(by_column) - 1), lines), t)
            if slab.all():  # the common case, without a matrix product
                area += float(weights.sum(axis=1) @ by_column.sum(axis=1))
                continue
            area += float(((weights @ slab.astype(np.float64)) * by_column).sum())
        return area

    def _longest_pixel_m(self) -> tuple[float, float]:
        """Longest side of a pixel on the ground, m, (down, across), over nine places of the grid."""
        rows, cols = (np.array([0.0, 0.5, 1.0]) * (n - 1) for n in self.grid.shape)
        r, c = (axis.ravel() for axis in np.meshgrid(rows, cols, indexing="ij"))
        here = self._positions(r, c)
        steps = self._positions(r + 1, c) - here, self._positions(r, c + 1) - here
        sides = [np.linalg.norm(step, axis=-1) for step in steps]
        down, across = (float(np.max(side, initial=0.0, where=np.isfinite(side))) for side in sides)
        return down, across

    def _positions(self, row: DoubleArray, col: DoubleArray) -> DoubleArray:
        return self.ellipsoid.positions(*place(self.grid.transform, col, row))

    def _row_weights(self, row: int, row_stop: int) -> tuple[int, LongArray, DoubleArray]:
        """First block row in use; for each pixel row its upper block (relative), and the lower block's share."""
        above, t = _between(np.arange(row, row_stop), self.grid.height, self._rows)
        first = int(above[0])
        return first, above - first, t

    def _by_column(self, first: int, stop: int) -> DoubleArray:
        """Mean pixel areas of block rows [first, stop) at every column, shape (blocks, width)."""
        stop = min(stop, self._rows)
        row_edges = np.arange(first, stop + 1) * (self.grid.height / self._rows)
        col_edges = np.arange(self._cols + 1) * (self.grid.width / self._cols)
        corner = self._positions(*np.meshgrid(row_edges, col_edges, indexing="ij"))
        with np.errstate(invalid="ignore"):
            one, other = corner[1:, 1:] - corner[:-1, :-1], corner[1:, :-1] - corner[:-1, 1:]
            blocks = np.linalg.norm(np.cross(one, other), axis=-1) / 2
        blocks = np.nan_to_num(blocks, nan=0.0, posinf=0.0)
        blocks *= self._rows * self._cols / (self.grid.height * self.grid.width)
        left, t = _between(np.arange(self.grid.width), self.grid.width, self._cols)
        right = np.minimum(left + 1, self._cols - 1)
        return np.asarray(blocks[:, left] * (1 - t) + blocks[:, right] * t)


def _blocks(pixels: int, px_m: float) -> int:
    """Number of blocks along an axis; at least three if there are enough pixels, so that the slope is known."""
    return min(pixels, max(3, int(np.ceil(pixels * max(1 / LATTICE_PX, px_m / LATTICE_M)))))


def _between(pixel: LongArray, pixels: int, blocks: int) -> tuple[LongArray, DoubleArray]:
    """The block centre before each pixel centre, and the position (0..1, beyond at the ends) towards the next."""
    place = (pixel + 0.5) * (blocks / pixels) - 0.5
    before = np.clip(np.floor(place).astype(np.int64), 0, max(blocks - 2, 0))
    return before, place - before
