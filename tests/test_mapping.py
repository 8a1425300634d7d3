"""Pixels of one grid on another: offsets, other CRSs against pyproj, and the antimeridian."""

import numpy as np
import pyproj
import pytest
from conftest import utm_grid

from rscd.core.errors import DataError
from rscd.core.grid import Mapping, place, unwrapped
from rscd.core.types import Grid, Window

WGS84 = pyproj.CRS.from_epsg(4326).to_wkt()


def degrees(west: float, north: float, width: int, height: int, step: float = 0.001) -> Grid:
    return Grid(WGS84, (step, 0.0, west, 0.0, -step, north), width, height)


def shifted(grid: Grid, rows: float, cols: float, width: int, height: int) -> Grid:
    a, b, c, d, e, f = grid.transform
    return Grid(grid.crs, (a, b, c + cols * a, d, e, f + rows * e), width, height)


def test_grids_of_one_lattice_are_whole_pixels_apart():
    grid = utm_grid(100, 200)
    other = shifted(grid, 30, -20, 100, 100)
    mapping = Mapping(grid, other)
    assert mapping.offset == (-30, 20)
    assert mapping.overlap.window == Window(30, 0, 70, 80)
    assert mapping.overlap.share == pytest.approx(70 * 80 / (100 * 200))
    assert Mapping(grid, shifted(grid, 0.3, 0, 200, 100)).offset is None


def test_grids_that_do_not_touch_share_nothing():
    grid = utm_grid(100, 100)
    assert Mapping(grid, shifted(grid, 0, 500, 100, 100)).overlap.share == 0


def test_pixels_in_another_crs_are_those_that_pyproj_gives():
    grid = utm_grid(400, 400)
    lon, lat = pyproj.Transformer.from_crs(grid.crs, 4326, always_xy=True).transform(600_000, 3_350_000)
    other = degrees(lon - 0.001, lat + 0.001, 40, 40, 0.0001)
    cols, rows = np.array([0.0, 200.0, 400.0]), np.array([0.0, 100.0, 400.0])
    there = Mapping(grid, other).to_source(cols, rows)
    x, y = place(grid.transform, cols, rows)
    expected = pyproj.Transformer.from_crs(grid.crs, 4326, always_xy=True).transform(x, y)
    np.testing.assert_allclose(place(other.transform, *there), expected, atol=1e-9)
    back = Mapping(grid, other).to_grid(*there)
    np.testing.assert_allclose(back, (cols, rows), atol=1e-4)


def test_longitudes_of_one_place_are_one_whichever_side_of_the_antimeridian_they_count_from():
    east, west = degrees(179.95, 10, 100, 50), degrees(-180.05, 10, 100, 50)
    turned = unwrapped(east, west)
    assert turned.transform[2] == pytest.approx(179.95)
    assert Mapping(east, turned).offset == (0, 0)
    assert unwrapped(east, east) == east


def test_a_date_that_the_antimeridian_cuts_is_refused():
    whole, parts = degrees(-180, 10, 3600, 10, 0.1), degrees(0, 10, 3600, 10, 0.1)
    with pytest.raises(DataError, match="antimeridian cuts"):
        unwrapped(whole, parts)
