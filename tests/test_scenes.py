import numpy as np
import pytest
import rasterio
from conftest import CHANGED_BOXES, utm_grid, write_image, write_polygons

from rscd.core.errors import DataError
from rscd.model.encoders import normalisation
from rscd.options.pair import PairConfig
from rscd.training.data.scenes import pair_tiles
from rscd.training.data.tiles import CHANGED, IGNORED, PairSource


def tiles_of(folder, labels="drawn.gpkg", whole=False, **options):
    config = PairConfig(folder / "before.tif", folder / "after.tif", **options)
    return pair_tiles(PairSource("place", config, folder / labels), normalisation("lite"), whole=whole)


def test_blocks_cover_the_grid_once_and_show_what_the_files_hold(labelled_scene):
    tiles = tiles_of(labelled_scene)
    assert len({t.scene for t in tiles}) == len(tiles) > 1
    assert {t.scene for t in tiles_of(labelled_scene, whole=True)} == {"place"}
    seen = np.zeros((320, 420), int)
    with rasterio.open(labelled_scene / "after.tif") as image, rasterio.open(labelled_scene / "label.tif") as truth:
        after, expected = image.read(), truth.read(1)
    for tile in tiles:
        w = tile.window
        part = np.s_[w.row : w.row_stop, w.col : w.col_stop]
        seen[part] += 1
        assert (tile.read()[1] == after[:, *part]).all()
        assert (tile.read()[2] == expected[part]).all()
        assert tile.pixels() == expected[part].size
    assert (seen == 1).all()
    assert tiles[0].gsd_m() == pytest.approx(0.5, rel=1e-3)


def test_what_a_date_does_not_show_and_what_is_outside_the_area_is_ignored(labelled_scene, tmp_path):
    with rasterio.open(labelled_scene / "after.tif") as dataset:
        after = dataset.read()
    after[:, :, 80:90] = 0
    write_image(tmp_path / "after.tif", after, nodata=0)
    (tmp_path / "before.tif").write_bytes((labelled_scene / "before.tif").read_bytes())
    write_polygons(tmp_path / "drawn.gpkg", CHANGED_BOXES, utm_grid(320, 420))
    area = write_polygons(tmp_path / "aoi.gpkg", [(0, 0, 120, 420)], utm_grid(320, 420))
    tiles = tiles_of(tmp_path, aoi=area)
    whole = np.full((320, 420), 9, np.uint8)
    for tile in tiles:
        w = tile.window
        before, _, label = tile.read()
        whole[w.row : w.row_stop, w.col : w.col_stop] = label
        assert before.shape == (3, w.height, w.width)
    assert set(whole[:120, 80:90].flat) == {IGNORED}
    assert set(whole[120:184].flat) <= {IGNORED, 9}
    assert (whole[40:90, 60:80] == CHANGED).all()
    assert whole[300, 10] == 9  # its block holds nothing to judge


def test_other_than_8_bit_is_scaled_as_detect_does(labelled_scene, tmp_path):
    for name in ("before", "after"):
        with rasterio.open(labelled_scene / f"{name}.tif") as dataset:
            write_image(tmp_path / f"{name}.tif", dataset.read().astype(np.uint16) * 20)
    (tmp_path / "label.tif").write_bytes((labelled_scene / "label.tif").read_bytes())
    before, after, label = tiles_of(tmp_path, "label.tif")[0].read()
    assert before.dtype == after.dtype == np.uint8
    assert after[:, label == CHANGED].mean() > before[:, label == CHANGED].mean() + 50


def test_contents_tell_images_place_and_label(labelled_scene):
    one, other = tiles_of(labelled_scene)[:2]
    assert one.contents() == tiles_of(labelled_scene)[0].contents() != other.contents()
    assert one.values() == ()
    assert set().union(*(t.values() for t in tiles_of(labelled_scene, "label.tif"))) == {0, 1}


def test_a_block_that_cannot_be_decoded_is_named(labelled_scene, tmp_path):
    for name in ("before.tif", "after.tif", "drawn.gpkg"):
        (tmp_path / name).write_bytes((labelled_scene / name).read_bytes())
    tiles = tiles_of(tmp_path)
    data = (tmp_path / "after.tif").read_bytes()
    (tmp_path / "after.tif").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"after\.tif"):
        for tile in tiles:
            tile.read()
