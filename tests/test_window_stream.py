import dataclasses
from unittest.mock import patch

import numpy as np
import pytest
from conftest import write_image

from rscd.core.errors import DataError
from rscd.core.types import Window
from rscd.options.pair import PairConfig
from rscd.scene.pair import open_pair
from rscd.scene.raster import fill_invalid
from rscd.scene.window_stream import DateWindows, read_windows
from rscd.scene.windows import WindowPlan


class Counting:
    """A reader that counts how often each pixel is read through it."""

    def __init__(self, reader):
        self._reader = reader
        self.times = np.zeros(reader.grid.shape, int)

    def __getattr__(self, name):
        return getattr(self._reader, name)

    def load(self, window):
        self.times[window.row : window.row_stop, window.col : window.col_stop] += 1
        return self._reader.load(window)


@pytest.fixture
def pair_paths(tmp_path):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 255, (2, 3, 700, 300), dtype=np.uint8)
    return images, [write_image(tmp_path / f"{i}.tif", images[i]) for i in range(2)]


@pytest.mark.parametrize(("window", "overlap"), [(160, 32), (96, 90), (1024, 0)])
@pytest.mark.parametrize("tiled", [False, True])
def test_windows_are_those_of_the_file_and_each_pixel_is_read_once(tmp_path, pair_paths, window, overlap, tiled):
    images, paths = pair_paths
    if tiled:  # in blocks of which a piece is one
        layout = {"tiled": True, "blockxsize": 64, "blockysize": 128}
        paths = [write_image(tmp_path / f"tiled{i}.tif", images[i], **layout) for i in range(2)]
    plan = WindowPlan.over(700, 300, window, overlap)
    with open_pair(PairConfig(*paths)) as pair, patch("rscd.scene.aligned.PIECE", 64):
        counting = [Counting(date) for date in (pair.before, pair.after)]
        pair = dataclasses.replace(pair, before=counting[0], after=counting[1])
        for read in read_windows(pair, plan):
            part = np.s_[:, read.place.row : read.place.row_stop, read.place.col : read.place.col_stop]
            np.testing.assert_array_equal(read.before, images[0][part])
            np.testing.assert_array_equal(read.after, images[1][part])
            assert read.valid.all()
    assert all((date.times == 1).all() for date in counting)


def test_what_no_later_window_needs_is_dropped(tmp_path, pair_paths):
    images, _ = pair_paths
    path = write_image(tmp_path / "t.tif", images[0][:, :640], tiled=True, blockxsize=64, blockysize=64)
    plan = WindowPlan.over(640, 300, 64, 0)
    with open_pair(PairConfig(path, path)) as pair, patch("rscd.scene.aligned.PIECE", 64):
        reader = DateWindows(pair.before, pair.crop)
        for k, j in np.ndindex(plan.rows.count, plan.cols.count):
            reader.read(plan.place(k, j), 64 * (k + 1))
            assert sum(len(row.held) for row in reader._rows) <= 2


def test_rows_of_windows_that_are_left_out_are_not_read(pair_paths):
    images, paths = pair_paths
    plan = WindowPlan.over(700, 300, 100, 0)
    with open_pair(PairConfig(*paths)) as pair:
        counting = Counting(pair.before)
        for read in read_windows(dataclasses.replace(pair, before=counting), plan, [1, 5]):
            assert read.k in (1, 5)
            np.testing.assert_array_equal(
                read.before,
                images[0][:, read.place.row : read.place.row_stop, :][:, :, read.place.col : read.place.col_stop],
            )
    assert (counting.times[100:200] == 1).all() and (counting.times[500:600] == 1).all()
    assert not counting.times[:100].any() and not counting.times[300:500].any()


def test_validity_from_nodata_mask_and_alpha(tmp_path):
    rng = np.random.default_rng(2)
    image = rng.integers(1, 255, (3, 64, 64), dtype=np.uint8)
    image[:, :10] = 0
    image[0, 20] = 0  # one dark band is data
    mask = np.full((64, 64), 255, np.uint8)
    mask[:10] = 0
    alpha = np.concatenate([image, mask[None]])
    files = [
        write_image(tmp_path / "nodata.tif", image, nodata=0),
        write_image(tmp_path / "mask.tif", image, mask=mask),
        write_image(tmp_path / "alpha.tif", alpha, photometric="rgb", alpha="yes"),
    ]
    plain = write_image(tmp_path / "plain.tif", image)
    for path in files:
        with open_pair(PairConfig(path, plain)) as pair:
            rows = next(read_windows(pair, WindowPlan.over(64, 64, 64, 0)))
        assert not rows.before_valid[:10].any(), path
        assert rows.before_valid[10:].all(), path
        assert rows.after_valid.all()


def test_invalid_pixels_take_the_colour_of_the_nearest_valid_one():
    pixels = np.zeros((3, 4, 6), np.uint8)
    pixels[:, :, 3:] = 90
    valid = np.zeros((4, 6), bool)
    valid[:, 3:] = True
    assert (fill_invalid(pixels, valid) == 90).all()
    assert (fill_invalid(pixels, np.zeros_like(valid)) == pixels).all()


def test_a_cut_file_is_refused_by_name_and_rows(tmp_path, pair_paths):
    _, (before, after) = pair_paths
    whole = after.read_bytes()
    after.write_bytes(whole[: len(whole) * 6 // 10] + bytes(len(whole) - len(whole) * 6 // 10))
    plan = WindowPlan.over(700, 300, 96, 0)
    with open_pair(PairConfig(before, after)) as pair, pytest.raises(DataError, match=r"1\.tif: rows \d+ to"):
        for _ in read_windows(pair, plan):
            pass


def test_windows_of_a_region_of_a_crop(pair_paths):
    images, paths = pair_paths
    with open_pair(PairConfig(*paths)) as pair:
        counting = Counting(pair.before)
        reader = DateWindows(counting, Window(100, 50, 400, 200), Window(300, 50, 200, 70))
        first, first_valid, _ = reader.read(Window(0, 0, 250, 200), 200)
        second, second_valid, _ = reader.read(Window(200, 0, 200, 200), 400)
    pixels = np.concatenate([first[:, :200], second], axis=1)
    valid = np.concatenate([first_valid[:200], second_valid])
    expected = np.zeros((400, 200), bool)
    expected[200:, :70] = True
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_array_equal(pixels[:, 200:, :70], images[0][:, 300:500, 50:120])
    assert (counting.times[300:500, 50:120] == 1).all()
    assert counting.times.sum() == 200 * 70


@pytest.mark.parametrize("kind", ["nan", "inf", "float nodata", "int16 any band", "one value a band"])
def test_validity_of_other_pixels_than_bytes(tmp_path, kind):
    rng = np.random.default_rng(3)
    image = rng.uniform(10, 200, (3, 64, 64)).astype(np.float32)
    profile = {}
    if kind in ("nan", "inf"):
        image[1, :10] = np.nan if kind == "nan" else np.inf
        profile = {"nodata": np.nan}
    elif kind == "float nodata":
        image[2, :10] = -9999.9
        profile = {"nodata": -9999.9}
    elif kind == "int16 any band":
        image = image.astype(np.int16)
        image[0, :10] = -999
        profile = {"nodata": -999}
    path = write_image(tmp_path / "a.tif", image, **profile)
    if kind == "one value a band":  # GDAL's GeoTIFF keeps one value a file; a VRT's or sidecar's may differ
        pixels = np.stack([np.full((2, 2), v) for v in (1, 2, 3)]).astype(np.uint16)
        pixels[:, 0, 0] = 1
        from rscd.scene.raster import holds_nodata

        assert holds_nodata(pixels, [1.0, 2.0, 3.0]).tolist() == [[False, True], [True, True]]
        assert not holds_nodata(pixels, [1.0, None, 3.0]).any()
        assert not holds_nodata(pixels, [-1.0, 2.5, 70000.0]).any()
        return
    with open_pair(PairConfig(path, path)) as pair:
        _, valid = pair.before.read(Window(0, 0, 64, 64))
    assert not valid[:10].any()
    assert valid[10:].all()
