"""Filled holes and regularised outlines: valid, never over a neighbour, whatever the bands."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_tracer import (
    DEGREES,
    UTM,
    as_probability,
    assert_apart,
    features,
    geometries,
    heights,
    masks,
    whole_shapes,
)

from rscd.core.types import NOT_OBSERVABLE, Grid
from rscd.vectorize.outline import LEAST_IOU, check_regularizer


def ring(hole: int) -> NDArray[np.bool_]:
    mask = np.zeros((20, 20), dtype=bool)
    mask[2:18, 2:18] = True
    mask[5 : 5 + hole, 5 : 5 + hole] = False
    return mask


@pytest.mark.parametrize("cuts", [[20], [3], [1, 6]])
def test_small_holes_are_filled_and_large_ones_kept(cuts: list[int]) -> None:
    mask = ring(3)
    mask[10:15, 10:15] = False
    polygon = geometries(features(as_probability(mask), cuts, fill_holes_m2=1000.0))[0]
    assert [shapely.Polygon(hole).area for hole in polygon.interiors] == [2500]
    row = features(as_probability(mask), cuts, fill_holes_m2=1000.0).to_pylist()[0]
    assert row["area_m2"] == pytest.approx(100 * mask.sum(), rel=2e-3)  # of what changed, not of what is drawn
    assert row["perimeter_m"] == pytest.approx(4 * 160 + 4 * 50, rel=1e-3)


@pytest.mark.parametrize("cuts", [[20], [3], [1, 6]])
def test_a_hole_with_something_in_it_stays(cuts: list[int]) -> None:
    mask = ring(5)
    mask[7, 7] = True
    polygons = geometries(features(as_probability(mask), cuts, fill_holes_m2=1e6))
    assert len(polygons) == 2 and sum(len(p.interiors) for p in polygons) == 1
    assert_apart(polygons)
    without = geometries(features(as_probability(mask), cuts, fill_holes_m2=1e6, min_area_m2=150.0))
    assert len(without) == 1 and not without[0].interiors  # what was dropped is not in the way


def test_a_hole_that_nobody_saw_stays() -> None:
    values = as_probability(ring(2))
    values[5:7, 5:7] = NOT_OBSERVABLE
    polygon = geometries(features(values, [4], fill_holes_m2=1e6))[0]
    assert len(polygon.interiors) == 1


@settings(max_examples=80, deadline=None)
@given(masks, heights, st.sampled_from([150.0, 450.0, 1e6]))
def test_filled_polygons_stay_apart_and_do_not_depend_on_the_bands(
    mask: NDArray[np.bool_], cuts: list[int], largest: float
) -> None:
    polygons = geometries(features(as_probability(mask), cuts, fill_holes_m2=largest))
    assert len(polygons) == len(whole_shapes(mask, UTM))
    assert shapely.is_valid(polygons).all()
    assert_apart(polygons)
    at_once = geometries(features(as_probability(mask), [len(mask)], fill_holes_m2=largest))
    assert sorted(shapely.to_wkt(polygons)) == sorted(shapely.to_wkt(at_once))


def blocks(seed: int) -> NDArray[np.bool_]:
    """Turned rectangles with frayed rims, some of them near each other."""
    rng = np.random.default_rng(seed)
    row, col = np.indices((120, 120))
    mask = np.zeros((120, 120), dtype=bool)
    for _ in range(9):
        r, c, turn, a, b = *rng.uniform(15, 105, 2), rng.uniform(0, np.pi), *rng.uniform(6, 13, 2)
        u = (row - r) * np.cos(turn) + (col - c) * np.sin(turn) + rng.normal(0, 0.4, mask.shape)
        v = (col - c) * np.cos(turn) - (row - r) * np.sin(turn) + rng.normal(0, 0.4, mask.shape)
        mask |= (abs(u) < a) & (abs(v) < b)
    return mask


@pytest.mark.parametrize("grid", [UTM, DEGREES])
@pytest.mark.parametrize("seed", range(4))
def test_regularised_polygons_are_valid_apart_and_close(grid: Grid, seed: int) -> None:
    pytest.importorskip("buildingregulariser")
    values = as_probability(blocks(seed))
    exact = geometries(features(values, [33], grid, min_area_m2=3000.0))
    table = features(values, [33], grid, min_area_m2=3000.0, regularize=True)
    new = geometries(table)
    assert len(new) == len(exact) > 0
    assert shapely.is_valid(new).all() and (shapely.get_type_id(new) == shapely.GeometryType.POLYGON).all()
    assert_apart(new)
    assert all(polygon.exterior.is_ccw for polygon in new)
    one, two = (sorted(some, key=lambda p: (p.centroid.y, p.centroid.x)) for some in (exact, new))
    iou = shapely.area(shapely.intersection(one, two)) / shapely.area(shapely.union(one, two))
    assert (iou >= LEAST_IOU).all()
    assert shapely.get_num_coordinates(new).sum() < 0.7 * shapely.get_num_coordinates(exact).sum()
    at_once = geometries(features(values, [120], grid, min_area_m2=3000.0, regularize=True))
    assert sorted(shapely.to_wkt(new)) == sorted(shapely.to_wkt(at_once))


def test_a_shape_that_has_no_right_angles_keeps_its_pixels() -> None:
    pytest.importorskip("buildingregulariser")
    row, col = np.indices((60, 60))
    star = np.hypot(row - 30, col - 30) < 14 + 12 * np.cos(5 * np.arctan2(row - 30, col - 30))
    exact = geometries(features(as_probability(star), [60], min_area_m2=500.0))
    new = geometries(features(as_probability(star), [60], min_area_m2=500.0, regularize=True))
    iou = exact[0].intersection(new[0]).area / exact[0].union(new[0]).area
    assert iou >= LEAST_IOU


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from rscd.core.errors import UsageError

    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])
    monkeypatch.delitem(sys.modules, "buildingregulariser", raising=False)
    with pytest.raises(UsageError, match=r"'\.\[regularize\]'"):
        check_regularizer()
