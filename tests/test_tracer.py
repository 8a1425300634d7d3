"""Polygons traced band by band, against rasterio.features.shapes over the whole mask."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.features import shapes
from shapely.geometry import shape

from rscd.core.pixel_area import PixelAreas
from rscd.core.types import NOT_OBSERVABLE, Grid
from rscd.inference.components import strip_record
from rscd.vectorize.tracer import FEATURE_SCHEMA, PolygonTracer

THRESHOLD = 128
UTM = Grid("EPSG:32633", (10.0, 0, 700_000.0, 0, -10.0, 6_700_000.0), 1, 1)
SKEWED = Grid("EPSG:32633", (8.0, 3.0, 700_000.0, 3.0, -8.0, 6_700_000.0), 1, 1)
SOUTH_UP = Grid("EPSG:32633", (10.0, 0, 700_000.0, 0, 10.0, 6_700_000.0), 1, 1)
DEGREES = Grid("EPSG:4326", (0.0005, 0, 10.0, 0, -0.00025, 60.0), 1, 1)


def features(probability: NDArray[np.uint8], heights: list[int], grid: Grid = UTM, **options: float) -> pa.Table:
    grid = dataclasses.replace(grid, height=probability.shape[0], width=probability.shape[1])
    areas, tracer = PixelAreas(grid), PolygonTracer(grid, **options)
    row, batches = 0, []
    while row < grid.height:
        band = probability[row : row + heights[len(batches) % len(heights)]]
        record = strip_record(len(batches), row, band, threshold=THRESHOLD, areas=areas)
        batches.append(tracer.add(record))
        row += len(band)
    return pa.Table.from_batches([*batches, tracer.finish()], FEATURE_SCHEMA)


def geometries(table: pa.Table) -> NDArray[np.object_]:
    return shapely.from_wkb(table["geometry"].to_numpy())


def whole_shapes(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.object_]:
    found = shapes(mask.astype(np.uint8), mask=mask, connectivity=4, transform=Affine(*grid.transform))
    return np.array([shape(geometry) for geometry, _ in found], dtype=object)


def as_probability(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(mask, 200, 20).astype(np.uint8)


def random_mask(seed: int, size: tuple[int, int], density: float, checkers: bool) -> NDArray[np.bool_]:
    mask = np.random.default_rng(seed).random(size) < density
    return mask ^ (np.indices(size).sum(axis=0) % 2 == 0) if checkers else mask


masks = st.builds(
    random_mask,
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.sampled_from([0.0, 0.05, 0.15, 0.3, 0.5, 0.6, 0.7, 0.85, 1.0]),
    st.booleans(),
)
heights = st.lists(st.integers(1, 7), min_size=1, max_size=5)


def assert_same(got: NDArray[np.object_], want: NDArray[np.object_]) -> None:
    """The same polygons in any order: region, rings, and vertices."""
    assert len(got) == len(want)
    got, want = (np.array(sorted(some, key=lambda p: (p.bounds, p.area)), dtype=object) for some in (got, want))
    assert shapely.is_valid(got).all()
    assert shapely.equals(got, want).all()
    np.testing.assert_array_equal(shapely.get_num_interior_rings(got), shapely.get_num_interior_rings(want))
    np.testing.assert_array_equal(shapely.get_num_coordinates(got), shapely.get_num_coordinates(want))


def assert_apart(polygons: NDArray[np.object_]) -> None:
    """No two polygons overlap or share an edge."""
    one, two = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    one, two = polygons[one[one < two]], polygons[two[one < two]]
    assert not shapely.relate_pattern(one, two, "T********").any()
    assert not shapely.relate_pattern(one, two, "****1****").any()


@settings(max_examples=400, deadline=None)
@given(masks, heights)
def test_bands_give_the_polygons_of_the_whole(mask: NDArray[np.bool_], cuts: list[int]) -> None:
    table = features(as_probability(mask), cuts)
    assert_same(geometries(table), whole_shapes(mask, UTM))
    assert_apart(geometries(table))
    assert table["id"].to_pylist() == list(range(1, table.num_rows + 1))


@pytest.mark.parametrize("grid", [UTM, SKEWED, SOUTH_UP, DEGREES])
def test_rings_obey_the_right_hand_rule_on_the_map(grid: Grid) -> None:
    mask = random_mask(5, (40, 30), 0.7, False)
    polygons = geometries(features(as_probability(mask), [7], grid))
    assert_same(polygons, whole_shapes(mask, grid))
    assert all(polygon.exterior.is_ccw for polygon in polygons)
    assert not any(hole.is_ccw for polygon in polygons for hole in polygon.interiors)
    assert sum(len(polygon.interiors) for polygon in polygons) > 10


def test_a_ring_longer_than_any_band() -> None:
    spiral = np.zeros((61, 61), dtype=bool)
    for turn in range(0, 30, 2):  # nested frames, each opened and joined to the next
        spiral[turn : 61 - turn, turn] = spiral[turn : 61 - turn, 60 - turn] = True
        spiral[turn, turn : 61 - turn] = spiral[60 - turn, turn : 61 - turn] = True
        spiral[turn + 1, turn], spiral[turn + 2, turn + 1] = False, True
    for cuts in ([1], [3, 1], [61]):
        assert_same(geometries(features(as_probability(spiral), cuts)), whole_shapes(spiral, UTM))


@settings(max_examples=60, deadline=None)
@given(masks, heights)
def test_small_components_are_left_out_however_the_bands_lie(mask: NDArray[np.bool_], cuts: list[int]) -> None:
    table = features(as_probability(mask), cuts, min_area_m2=349.0)
    want = whole_shapes(mask, UTM)
    assert_same(geometries(table), want[shapely.area(want) > 349] if len(want) else want)
    assert all(area >= 349 for area in table["area_m2"].to_pylist())


def test_columns_of_one_component() -> None:
    probability = np.full((6, 6), 20, dtype=np.uint8)
    probability[1:4, 1:4] = [[130, 140, 150], [160, 20, 170], [180, 190, 254]]
    probability[0, 2] = probability[4, 3] = NOT_OBSERVABLE
    row = features(probability, [2, 1]).to_pylist()[0]
    values = np.array([130, 140, 150, 160, 170, 180, 190, 254])
    assert list(row) == FEATURE_SCHEMA.names
    assert row["id"] == 1
    assert row["area_m2"] == pytest.approx(800, rel=2e-3)
    assert row["perimeter_m"] == pytest.approx(160, rel=1e-3)
    assert row["mean_probability"] == pytest.approx(values.mean() / 254)
    assert row["max_probability"] == 1.0
    assert row["p90_probability"] == np.percentile(values, 90, method="inverted_cdf") / 254
    assert row["valid_fraction"] == pytest.approx(1 - 2 / 16)
    assert row["touches_edge"] is False
    assert row["review"] == ""


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(THRESHOLD, 254), min_size=1, max_size=60), heights)
def test_the_ninetieth_percentile_is_numpys(values: list[int], cuts: list[int]) -> None:
    table = features(np.array(values, dtype=np.uint8)[:, None], cuts)
    want = np.percentile(values, 90, method="inverted_cdf") / 254
    assert table["p90_probability"].to_pylist() == [want]


def test_polygons_on_the_grids_border_say_so() -> None:
    mask = np.zeros((7, 7), dtype=bool)
    mask[0, 3] = mask[3, 0] = mask[6, 3] = mask[3, 6] = mask[3, 3] = True
    assert sorted(features(as_probability(mask), [2])["touches_edge"].to_pylist()) == [
        False,
        True,
        True,
        True,
        True,
    ]


def test_perimeters_are_metres_in_a_degree_grid() -> None:
    mask = np.zeros((9, 9), dtype=bool)
    mask[2:6, 3:8] = True
    row = features(as_probability(mask), [4], DEGREES).to_pylist()[0]
    geod_area, geod_length = PixelAreas(DEGREES).ellipsoid._geod.geometry_area_perimeter(
        shapely.from_wkb(row["geometry"])
    )
    assert row["perimeter_m"] == pytest.approx(geod_length, rel=1e-8)
    assert row["area_m2"] == pytest.approx(abs(geod_area), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(masks, heights, st.sampled_from([6.0, 12.0, 30.0]))
def test_simplified_polygons_stay_apart_and_do_not_depend_on_the_bands(
    mask: NDArray[np.bool_], cuts: list[int], tolerance: float
) -> None:
    table = features(as_probability(mask), cuts, simplify_m=tolerance)
    polygons = geometries(table)
    whole = whole_shapes(mask, UTM)
    assert len(polygons) == len(whole)
    assert shapely.is_valid(polygons).all()
    assert not shapely.is_empty(polygons).any()
    assert_apart(polygons)
    at_once = geometries(features(as_probability(mask), [len(mask)], simplify_m=tolerance))
    assert sorted(shapely.to_wkt(polygons)) == sorted(shapely.to_wkt(at_once))


@pytest.mark.parametrize("grid", [UTM, DEGREES])
def test_simplifying_takes_the_stairs_out(grid: Grid) -> None:
    mask = np.add.outer(np.arange(60), np.arange(60)) < 50
    exact = geometries(features(as_probability(mask), [16], grid))[0]
    simple = geometries(features(as_probability(mask), [16], grid, simplify_m=25.0))[0]
    assert len(simple.exterior.coords) < 8 < len(exact.exterior.coords)
    assert simple.symmetric_difference(exact).area < 0.05 * exact.area
