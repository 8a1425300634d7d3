"""A date on the common grid: warped or not, the same pixel has one value in every window."""

import dataclasses

import numpy as np
import pytest
import rasterio
from conftest import utm_grid, write_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.warp import calculate_default_transform, reproject
from scipy.ndimage import gaussian_filter

from rscd.core.errors import DataError
from rscd.core.types import Grid, Window
from rscd.options.pair import PairConfig
from rscd.scene.aligned import PlainReader, WarpReader
from rscd.scene.pair import open_pair


def picture(height, width, seed=0, smooth=4.0):
    """Something with structure, uint8 (3, h, w), never 0."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.normal(size=(3, height, width)), (0, smooth, smooth))
    return np.clip(128 + 40 * noise / noise.std(), 1, 255).astype(np.uint8)


def whole(reader, grid):
    return reader.read(Window(0, 0, *grid.shape))


def other_grid(crs, grid, resolution=None):
    """The grid in another CRS that holds a grid's extent."""
    a, _, c, _, e, f = grid.transform
    corners = c, f + e * grid.height, c + a * grid.width, f
    transform, width, height = calculate_default_transform(
        CRS.from_wkt(grid.crs), crs, grid.width, grid.height, *corners, resolution=resolution
    )
    return Grid(crs.to_wkt(), tuple(transform)[:6], width, height)


def carried(pixels, grid, target):
    """Pixels resampled to another grid by GDAL, cubic."""
    out = np.zeros((3, *target.shape), np.uint8)
    with rasterio.Env():
        reproject(
            pixels,
            out,
            src_transform=rasterio.Affine(*grid.transform),
            src_crs=CRS.from_wkt(grid.crs),
            dst_transform=rasterio.Affine(*target.transform),
            dst_crs=CRS.from_wkt(target.crs),
            resampling=rasterio.enums.Resampling.cubic,
        )
    return out


def south_up(grid):
    a, b, c, d, e, f = grid.transform
    return dataclasses.replace(grid, transform=(a, b, c, d, -e, f + e * grid.height))


TURN = np.deg2rad(30)
TARGETS = {
    "degrees": lambda grid: other_grid(CRS.from_epsg(4326), grid),
    "the next zone": lambda grid: other_grid(CRS.from_epsg(32615), grid),
    "web mercator": lambda grid: other_grid(CRS.from_epsg(3857), grid),
    "coarser": lambda grid: other_grid(CRS.from_wkt(grid.crs), grid, resolution=0.6),
    "a third of a pixel off": lambda grid: dataclasses.replace(
        grid, transform=(0.5, 0, grid.transform[2] - 0.17, 0, -0.5, grid.transform[5] + 0.16)
    ),
    "south-up": south_up,
    "rotated": lambda grid: dataclasses.replace(
        grid,
        transform=(
            *(0.5 * np.cos(TURN), 0.5 * np.sin(TURN), grid.transform[2] - 30),
            *(0.5 * np.sin(TURN), -0.5 * np.cos(TURN), grid.transform[5] - 20),
        ),
        width=grid.width + 200,
        height=grid.height + 200,
    ),
}


@pytest.fixture
def pair_of(tmp_path):
    """Write a picture on a grid and the same one carried to another too; paths, picture, grid."""

    def make(target, height=600, width=700):
        grid = utm_grid(height, width)
        pixels = picture(height, width)
        before = write_image(tmp_path / "before.tif", pixels, grid)
        there = TARGETS[target](grid)
        after = write_image(tmp_path / "after.tif", carried(pixels, grid, there), there, nodata=0)
        return before, after, pixels, grid

    return make


@pytest.mark.parametrize("target", TARGETS)
def test_a_date_on_another_grid_comes_onto_the_common_one(pair_of, target):
    before, after, pixels, grid = pair_of(target)
    with open_pair(PairConfig(before, after)) as pair:
        assert isinstance(pair.after, WarpReader)
        assert pair.grid == grid
        found, valid = whole(pair.after, grid)
        assert valid.mean() > 0.5 if target == "rotated" else valid[4:-4, 4:-4].all()
        off = np.abs(found.astype(int) - pixels)[:, valid]
        assert off.mean() < 1.5
        assert np.percentile(off, 99) <= 5


@pytest.mark.parametrize("target", ["degrees", "south-up", "rotated"])
def test_the_after_image_may_give_the_grid(pair_of, target):
    before, after, _, _ = pair_of(target)
    with open_pair(PairConfig(before, after, grid="after")) as pair:
        assert isinstance(pair.before, WarpReader)
        assert isinstance(pair.after, PlainReader)
        assert pair.grid == pair.after.raster.grid
        own, own_valid = whole(pair.after, pair.grid)
        found, valid = whole(pair.before, pair.grid)
    both = valid & own_valid
    assert both.mean() > 0.4
    assert np.abs(found.astype(int) - own)[:, both].mean() < 3


windows = st.tuples(st.integers(0, 1199), st.integers(0, 1299), st.integers(1, 700), st.integers(1, 700))


@pytest.fixture(scope="module")
def warped_reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("warped")
    grid = utm_grid(1200, 1300)
    pixels = picture(1200, 1300, smooth=1.0)
    there = other_grid(CRS.from_epsg(32615), grid, resolution=0.55)
    image = carried(pixels, grid, there)
    image[:, 300:320, 400:500] = 0
    before = write_image(folder / "before.tif", pixels, grid)
    after = write_image(folder / "after.tif", image, there, nodata=0)
    with open_pair(PairConfig(before, after)) as pair:
        reader = pair.after
        yield reader, reader.read(Window(0, 0, 1200, 1300))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(window=windows)
def test_any_two_windows_agree_bit_for_bit(warped_reader, window):
    reader, (pixels, valid) = warped_reader
    assert isinstance(reader, WarpReader)
    row, col, height, width = window
    window = Window(row, col, min(height, 1200 - row), min(width, 1300 - col))
    part = np.s_[row : window.row_stop, col : window.col_stop]
    found, seen = reader.read(window)
    np.testing.assert_array_equal(seen, valid[part])
    np.testing.assert_array_equal(found, pixels[:, *part])


def test_whole_pixels_off_is_no_warp(tmp_path):
    pixels = picture(300, 320)
    grid = utm_grid(300, 320)
    moved = dataclasses.replace(grid, transform=(0.5, 0, 600_020.0, 0, -0.5, 3_349_980.0), width=200, height=500)
    before = write_image(tmp_path / "a.tif", pixels, grid)
    other = np.full((3, 500, 200), 7, np.uint8)
    other[:, :260] = pixels[:, 40:, 40:240]
    after = write_image(tmp_path / "b.tif", other, moved)
    with open_pair(PairConfig(before, after)) as pair:
        assert isinstance(pair.after, PlainReader)
        found, valid = whole(pair.after, grid)
        assert pair.overlap.window == Window(40, 40, 260, 200)
        assert pair.overlap.share == pytest.approx(260 * 200 / 300 / 320)
    expected = np.zeros((300, 320), bool)
    expected[40:, 40:240] = True
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_array_equal(found[:, expected], pixels[:, expected])


def test_nodata_does_not_bleed_into_its_neighbours(tmp_path):
    grid = utm_grid(200, 200)
    image = np.full((3, 200, 200), 100, np.uint8)
    image[:, 80:120, 80:120] = 0
    half = dataclasses.replace(grid, transform=(0.5, 0, 600_000.25, 0, -0.5, 3_350_000.25))
    before = write_image(tmp_path / "a.tif", picture(200, 200), grid)
    after = write_image(tmp_path / "b.tif", image, half, nodata=0)
    with open_pair(PairConfig(before, after)) as pair:
        found, valid = whole(pair.after, grid)
    assert (found[:, valid] == 100).all()
    assert not valid[81:119, 82:119].any()
    assert valid[:79, 1:].all()


@pytest.mark.parametrize("factor", [2, 3, 6])
def test_finer_pixels_are_averaged(tmp_path, factor):
    coarse = utm_grid(120, 110, gsd=0.5 * factor)
    fine = np.random.default_rng(5).integers(1, 255, (3, 120 * factor, 110 * factor), dtype=np.uint8)
    means = fine.reshape(3, 120, factor, 110, factor).mean(axis=(2, 4))
    before = write_image(tmp_path / "a.tif", means.astype(np.uint8), coarse)
    after = write_image(tmp_path / "b.tif", fine, utm_grid(120 * factor, 110 * factor))
    with open_pair(PairConfig(before, after)) as pair:
        assert pair.after.ratio == pytest.approx(factor)
        found, valid = whole(pair.after, coarse)
    assert valid.all()
    off = np.abs(found - means)
    assert off[:, 1:-1, 1:-1].max() <= (1 if factor > 2 else 90)  # GDAL's bilinear kernel is a tent of two pixels
    assert off.mean() < (0.6 if factor > 2 else 25)


@pytest.mark.parametrize(
    ("middle", "crs", "gsd"), [(180.0, 4326, 5e-6), (-180.0, 4326, 5e-6), (179.9995, 32660, 0.5)]
)
def test_a_pair_across_the_antimeridian(tmp_path, middle, crs, gsd):
    pixels = picture(256, 256)
    there = Grid(CRS.from_epsg(4326).to_wkt(), (5e-6, 0, -180 - 128 * 5e-6, 0, -5e-6, 0.5), 256, 256)
    if crs == 4326:
        grid = dataclasses.replace(there, transform=(5e-6, 0, middle - 128 * 5e-6, 0, -5e-6, 0.5))
        before = write_image(tmp_path / "a.tif", pixels, grid)
    else:
        near = dataclasses.replace(there, transform=(5e-6, 0, 180 - 640e-6, 0, -5e-6, 0.5))
        grid = other_grid(CRS.from_epsg(32660), near)
        before = write_image(tmp_path / "a.tif", picture(*grid.shape), grid)
    after = write_image(tmp_path / "b.tif", pixels, there)
    try:
        with open_pair(PairConfig(before, after)) as pair:
            _, valid = whole(pair.after, grid)
            assert pair.overlap.share > 0.9
            assert valid[4:-4, 4:-4].all()
    except DataError as error:
        assert crs != 4326
        assert "antimeridian" in str(error)
