import numpy as np
import pytest
import rasterio
from conftest import utm_grid, write_image

from rscd.core.errors import DataError, OutputError
from rscd.core.pixel_area import PixelAreas
from rscd.inference.components import strip_record
from rscd.output.geotiff import halved
from rscd.output.probability import KeptProbability, ProbabilityRaster, _compare, verify


def written(path, values, heights):
    """Write values through records of the given band heights."""
    grid = utm_grid(*values.shape)
    raster, row, areas = ProbabilityRaster(path, grid), 0, PixelAreas(grid)
    for i, height in enumerate(heights):
        part = values[row : row + height]
        raster.add(strip_record(i, row, part, threshold=127, areas=areas))
        row += height
    raster.finish()
    return [level.digests for level in raster._rows.levels()]


@pytest.fixture
def values():
    values = np.random.default_rng(0).integers(0, 255, (1300, 700), dtype=np.uint8)
    values[:, 650:] = 255
    return values


@pytest.mark.parametrize("heights", [[1300], [384, 384, 384, 148], [1] * 20 + [1280]])
def test_the_raster_is_a_cog_with_the_values_scale_nodata_and_overviews(tmp_path, values, heights):
    path = tmp_path / "p.tif"
    written(path, values, heights)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), values)
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.profile["compress"] == "deflate"  # which clients without ZSTD read, too
        assert dataset.block_shapes == [(512, 512)]
        assert dataset.nodata == 255
        assert dataset.scales[0] == pytest.approx(1 / 254)
        assert dataset.overviews(1) == [2, 4] or dataset.overviews(1) == [2]
        assert dataset.crs.to_epsg() == 32614
        assert tuple(dataset.transform)[:6] == utm_grid(1300, 700).transform
        half = dataset.read(1, out_shape=(650, 350))
    mean = values[:, :650].reshape(650, 2, 325, 2).mean((1, 3))
    assert np.abs(half[:, :325] - mean).max() <= 1  # average, and nodata did not leak in
    assert (half[:, 325:] == 255).all()
    assert [p.name for p in tmp_path.iterdir()] == ["p.tif"]


def test_a_block_that_reads_back_wrong_is_noticed(tmp_path, values):
    path = tmp_path / "p.tif"
    hashes = written(path, values, [1300])
    verify(path, hashes)
    (first, _, last), *coarser = hashes
    with pytest.raises(OutputError, match="tif: rows from 512 read back differently"):
        verify(path, [[first, last, last], *coarser])
    with pytest.raises(OutputError, match="overview 0: rows from 512 read back differently"):
        verify(path, [hashes[0], [coarser[0][0], first], *coarser[1:]])
    with pytest.raises(OutputError, match="has no overview"):
        verify(path, [*hashes, [first]])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 9 // 10])
    with pytest.raises((OutputError, rasterio.errors.RasterioError)):
        verify(path, hashes)


def test_a_block_that_an_overview_lacks_is_noticed(tmp_path, values):
    path = write_image(tmp_path / "p.tif", np.zeros((1, 1024, 1024), np.uint8), sparse_ok=True)
    with rasterio.Env(SPARSE_OK_OVERVIEW="YES"), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2], rasterio.enums.Resampling.average)
    with pytest.raises(OutputError, match="overview 0: has no block 0, 0"):
        _compare(path, 1, [""], 0, path)


def test_a_plain_tiff_is_no_cog(tmp_path, values):
    path = write_image(tmp_path / "plain.tif", values[None])
    with pytest.raises(OutputError, match="COG"):
        verify(path, [])


def test_a_kept_raster_is_read_in_strips_and_others_are_refused(tmp_path, values):
    path = tmp_path / "p.tif"
    written(path, values, [1300])
    kept = KeptProbability(path)
    strips = list(kept.strips())
    assert [row for row, _ in strips] == [0, 512, 1024]
    np.testing.assert_array_equal(np.concatenate([s for _, s in strips]), values)
    image = write_image(tmp_path / "image.tif", values[None])
    with pytest.raises(DataError, match="not a probability raster"):
        KeptProbability(image)


@pytest.mark.parametrize("shape", [(4, 6), (5, 7), (1, 1)])
def test_a_coarser_level_is_the_mean_of_what_is_observable(shape):
    values = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    values[:2, :2] = 255
    found = halved(values)
    assert found.shape == (-(-shape[0] // 2), -(-shape[1] // 2))
    for (row, col), value in np.ndenumerate(found):
        part = values[2 * row : 2 * row + 2, 2 * col : 2 * col + 2]
        seen = part[part != 255]
        assert value == (255 if not seen.size else int(seen.mean() + 0.5))


def test_every_level_is_written_from_bands(tmp_path):
    values = np.random.default_rng(2).integers(0, 255, (2101, 1030), dtype=np.uint8)
    written(tmp_path / "p.tif", values, [384, 384, 384, 384, 384, 181])
    with rasterio.open(tmp_path / "p.tif") as dataset:
        assert dataset.overviews(1) == [2, 4, 8]
    expected = values
    for level in range(3):
        expected = halved(expected)
        with rasterio.open(tmp_path / "p.tif", overview_level=level) as dataset:
            np.testing.assert_array_equal(dataset.read(1), expected)
