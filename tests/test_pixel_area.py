"""Areas and lengths on the ellipsoid, against pyproj.Geod."""

from __future__ import annotations

import numpy as np
import pytest
from pyproj import CRS, Geod, Transformer

from rscd.core.errors import DataError
from rscd.core.pixel_area import Ellipsoid, PixelAreas
from rscd.core.types import Grid

GRIDS = {
    "utm far from its meridian": Grid("EPSG:32633", (10.0, 0, 900_000.0, 0, -10.0, 6_700_000.0), 700, 500),
    "degrees at 60 N": Grid("EPSG:4326", (0.00054, 0, 10.0, 0, -0.00027, 60.2), 900, 800),
    "web mercator at 60 N": Grid("EPSG:3857", (20.0, 0, 1.1e6, 0, -20.0, 8.4e6), 400, 650),
    "rotated": Grid("EPSG:32719", (8.0, 3.0, 300_000.0, 3.0, -8.0, 6_000_000.0), 300, 200),
    "south-up": Grid("EPSG:32719", (10.0, 0, 300_000.0, 0, 10.0, 6_000_000.0), 300, 200),
    "across the antimeridian": Grid("EPSG:32660", (30.0, 0, 640_000.0, 0, -30.0, 7_000_000.0), 600, 300),
    "over the south pole": Grid("EPSG:3031", (30.0, 0, -3_000.0, 0, -30.0, 3_000.0), 200, 200),
    "grads from Paris": Grid("EPSG:27572", (5.0, 0, 600_000.0, 0, -5.0, 2_400_000.0), 300, 300),
    "coarse degrees": Grid("EPSG:4326", (0.01, 0, -5.0, 0, -0.01, 50.0), 120, 90),
    "one row": Grid("EPSG:32633", (10.0, 0, 500_000.0, 0, -10.0, 5_000_000.0), 40, 1),
    "US feet": Grid("EPSG:2263", (3.0, 0, 980_000.0, 0, -3.0, 200_000.0), 200, 100),
}


def true_area(grid: Grid, row: float, col: float, height: float, width: float, points: int = 64) -> float:
    """Geodesic area of a rectangle of pixels whose sides are straight in the CRS."""
    s, zero = np.linspace(0, 1, points, endpoint=False), np.zeros(points)
    cols = col + width * np.concatenate([s, zero + 1, 1 - s, zero])
    rows = row + height * np.concatenate([zero, s, zero + 1, 1 - s])
    a, b, c, d, e, f = grid.transform
    crs = CRS(grid.crs)
    to_geodetic = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    lon, lat = to_geodetic.transform(a * cols + b * rows + c, d * cols + e * rows + f)
    unit = np.degrees(crs.geodetic_crs.axis_info[0].unit_conversion_factor)
    area, _ = crs.get_geod().polygon_area_perimeter(np.asarray(lon) * unit, np.asarray(lat) * unit)
    return abs(area)


@pytest.mark.parametrize("name", GRIDS)
def test_single_pixels(name: str) -> None:
    grid = GRIDS[name]
    h, w = grid.shape
    rows = np.array([0, h - 1, h // 3, h // 2, h - 1, 0])
    cols = np.array([0, 0, w // 7, w // 2, w - 1, w - 1])
    got = PixelAreas(grid).at(rows, cols)
    points = 64 if name == "coarse degrees" else 1
    want = [true_area(grid, r, c, 1, 1, points) for r, c in zip(rows, cols, strict=True)]
    # The oracle adds up angles as large as the earth: a single pixel is known to 1e-5 m2, at a pole to 1e-2.
    np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-2 if "pole" in name else 1e-5)


@pytest.mark.parametrize("name", GRIDS)
def test_regions(name: str) -> None:
    grid = GRIDS[name]
    areas = PixelAreas(grid)
    h, w = grid.shape
    row, col, height, width = h // 5, w // 6, max(1, h // 2), w // 2
    mask = np.zeros((height, w), dtype=bool)
    mask[:, col : col + width] = True
    want = true_area(grid, row, col, height, width, points=400)
    rows, cols = np.nonzero(mask)
    assert areas.at(rows + row, cols).sum() == pytest.approx(want, rel=1e-7)
    assert areas.total(mask, row) == pytest.approx(want, rel=1e-7)


def test_a_band_costs_its_own_rows_only() -> None:
    grid = Grid("EPSG:32633", (0.5, 0, 400_000.0, 0, -0.5, 5_000_000.0), 100_000, 100_000)
    rows, cols = np.array([70_001, 70_300]), np.array([3, 99_999])
    np.testing.assert_allclose(PixelAreas(grid).at(rows, cols), 0.25, rtol=2e-3)


@pytest.mark.parametrize(("step", "rtol"), [(1e-4, 1e-9), (1e-2, 1e-8), (1.0, 3e-7)])
def test_lengths_are_geodesic(step: float, rtol: float) -> None:
    lon, lat = 10 + step * np.array([0, 1, 1, 2, 2]), 60 + step * np.array([0, 0, 2, 1, 0])
    got = Ellipsoid("EPSG:4326").lengths_m(np.column_stack([lon, lat]))
    np.testing.assert_allclose(got, Geod(ellps="WGS84").line_lengths(lon, lat), rtol=rtol)
    assert Ellipsoid("EPSG:4326").lengths_m(np.zeros((1, 2))).shape == (0,)


def test_a_local_crs_is_refused() -> None:
    with pytest.raises(DataError, match="no ellipsoid"):
        Ellipsoid('LOCAL_CS["site",UNIT["metre",1]]')
