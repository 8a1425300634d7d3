import numpy as np
import pytest
from conftest import utm_grid, write_image

from rscd.errors import DataError
from rscd.scene.pair import open_pair
from rscd.scene.reader import RowReader, read_bands
from rscd.scene.validity import fill_invalid
from rscd.scene.windows import WindowPlan


class Counting:
    """A dataset that counts the rows read through it."""

    def __init__(self, dataset):
        self._dataset, self.read_rows = dataset, []

    def __getattr__(self, name):
        return getattr(self._dataset, name)

    def read(self, bands, window):
        if window.col_off == 0:
            self.read_rows += range(int(window.row_off), int(window.row_off + window.height))
        return self._dataset.read(bands, window=window)


@pytest.fixture
def pair_paths(tmp_path):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 255, (2, 3, 700, 300), dtype=np.uint8)
    return images, [write_image(tmp_path / f"{i}.tif", images[i]) for i in range(2)]


@pytest.mark.parametrize(("window", "overlap"), [(160, 32), (96, 90), (1024, 0)])
def test_rows_are_those_of_the_file_and_each_is_read_once(pair_paths, window, overlap):
    images, paths = pair_paths
    plan = WindowPlan.over(700, 300, window, overlap)
    with open_pair(*paths, (1, 2, 3)) as pair:
        counting = Counting(pair.before)
        reader = RowReader(counting, (1, 2, 3))
        for k in range(plan.rows.count):
            start = plan.rows.start(k)
            stop = min(start + window, 700)
            pixels, valid = reader.rows(start, stop)
            np.testing.assert_array_equal(pixels, images[0][:, start:stop])
            assert valid.all()
        assert counting.read_rows == list(range(700))
        for rows in read_bands(pair, plan):
            np.testing.assert_array_equal(rows.after, images[1][:, rows.row : rows.row + rows.after.shape[1]])


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
        with open_pair(path, plain, (1, 2, 3)) as pair:
            rows = next(read_bands(pair, WindowPlan.over(64, 64, 64, 0)))
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
    with open_pair(before, after, (1, 2, 3)) as pair, pytest.raises(DataError, match=r"1\.tif: rows \d+ to"):
        for _ in read_bands(pair, plan):
            pass


def refused(tmp_path, first, second, **kinds):
    before = write_image(tmp_path / "a.tif", *first)
    after = write_image(tmp_path / "b.tif", *second)
    with pytest.raises(DataError) as caught, open_pair(before, after, kinds.get("bands", (1, 2, 3))):
        pass
    return str(caught.value)


def test_pairs_that_are_not_on_one_grid_are_refused_with_the_measured_difference(tmp_path):
    import dataclasses

    image = np.full((3, 64, 80), 9, np.uint8)
    grid = utm_grid(64, 80)
    shifted = dataclasses.replace(grid, transform=(0.5, 0, 600_000.75, 0, -0.5, 3_350_000))
    told = refused(tmp_path, (image, grid), (image, shifted))
    assert "1.5 px" in told
    assert "gdalwarp" in told
    from rasterio.crs import CRS

    other = dataclasses.replace(grid, crs=CRS.from_epsg(32615).to_wkt())
    assert "EPSG:32615, not EPSG:32614" in refused(tmp_path, (image, grid), (image, other))
    assert "70 x 64 px, not 80 x 64" in refused(tmp_path, (image,), (image[:, :, :70],))
    rotated = dataclasses.replace(grid, transform=(0.5, 0.01, 600_000, 0.01, -0.5, 3_350_000))
    assert "px off" in refused(tmp_path, (image, grid), (image, rotated))
    near = dataclasses.replace(grid, transform=(0.5, 0, 600_000.001, 0, -0.5, 3_350_000))
    write_image(tmp_path / "c.tif", image, near)
    with open_pair(tmp_path / "a.tif", tmp_path / "c.tif", (1, 2, 3)) as pair:
        assert pair.grid.shape == (64, 80)


def test_bands_dtype_and_crs_are_checked(tmp_path):
    import dataclasses

    image = np.full((3, 64, 64), 9, np.uint8)
    assert "has 1 band, and bands 1,2,3" in refused(tmp_path, (image,), (image[:1],))
    assert "uint16" in refused(tmp_path, (image.astype(np.uint16),), (image,))
    nowhere = dataclasses.replace(utm_grid(64, 64), crs="")
    assert "no CRS" in refused(tmp_path, (image, nowhere), (image,))
