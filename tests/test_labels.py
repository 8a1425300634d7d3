import numpy as np
import pyogrio
import pytest
import rasterio
from conftest import CHANGED_BOXES, Pointwise, utm_grid, write_image, write_polygons

from rscd import DetectConfig, detect
from rscd.core.contract import Contract
from rscd.core.errors import DataError
from rscd.core.types import Window
from rscd.options.pair import PairConfig
from rscd.training.data.labels import COLLAR_PX, detected_from, open_label
from rscd.training.data.tiles import CHANGED, IGNORED, UNCHANGED, PairSource

GRID = utm_grid(320, 420)
WHOLE = Window(0, 0, 320, 420)


def label_of(path, window=WHOLE, grid=GRID, aoi=None, reviewed=False):
    return open_label(PairSource("s", PairConfig(path, path, aoi=aoi), path, reviewed), grid).read(window)


def refused(path, **options):
    with pytest.raises(DataError) as caught:
        label_of(path, **options)
    assert caught.value.path == path
    return str(caught.value)


def test_polygons_of_another_crs_burn_to_the_pixels_that_were_drawn(labelled_scene):
    with rasterio.open(labelled_scene / "label.tif") as dataset:
        expected = dataset.read(1)
    for name in ("drawn.gpkg", "label.tif"):
        assert (label_of(labelled_scene / name) == expected).all()
        part = label_of(labelled_scene / name, Window(30, 50, 40, 60))
        assert (part == expected[30:70, 50:110]).all()


def test_a_raster_has_to_be_a_label_on_the_grid(labelled_scene, tmp_path):
    path = labelled_scene / "label.tif"
    assert "has 420 x 320 px, and the pair's grid 400 x 320" in refused(path, grid=utm_grid(320, 400))
    assert "is not on the pair's grid" in refused(path, grid=utm_grid(320, 420, gsd=0.6))
    values = np.full((1, 320, 420), 3, np.uint8)
    assert "label values 3 other than 0, 1 and 255" in refused(write_image(tmp_path / "l.tif", values))


def test_nodata_of_a_raster_is_ignored(tmp_path):
    values = np.zeros((1, 320, 420), np.uint8)
    values[0, :10], values[0, 10:20] = 1, 9
    label = label_of(write_image(tmp_path / "l.tif", values, nodata=9))
    assert set(label[:10].flat) == {CHANGED}
    assert set(label[10:20].flat) == {IGNORED}
    assert set(label[20:].flat) == {UNCHANGED}


def test_vector_files_that_say_nothing_are_refused_and_an_empty_layer_says_unchanged(tmp_path):
    assert "lies outside the scene" in refused(write_polygons(tmp_path / "far.gpkg", [(9000, 0, 5, 5)], GRID))
    (tmp_path / "text.gpkg").write_text("no")
    assert "is not a vector file" in refused(tmp_path / "text.gpkg")
    empty = write_polygons(tmp_path / "empty.gpkg", [], GRID)
    assert (label_of(empty) == UNCHANGED).all()


BOXES = [(40, 40, 20, 20), (100, 100, 20, 20), (200, 200, 20, 20)]


def test_reviews_say_what_is_changed_what_is_not_and_what_nobody_looked_at(tmp_path):
    path = write_polygons(tmp_path / "r.gpkg", BOXES, GRID, review=["yes", " Rejected", None])
    label = label_of(path, reviewed=True)
    assert (label[40:60, 40:60] == CHANGED).all()
    assert (label[100:120, 100:120] == UNCHANGED).all()
    assert (label[200:220, 200:220] == IGNORED).all()
    assert (label[60 : 60 + COLLAR_PX, 40:60] == UNCHANGED).all()  # beside an answered polygon
    assert (label[220:240, 200:220] == IGNORED).all()  # beside one without an answer
    assert label[300, 10] == IGNORED
    looked_over = label_of(path, aoi=path)
    assert looked_over[300, 10] == UNCHANGED
    assert (looked_over[200:220, 200:220] == IGNORED).all()


def test_reviews_that_mean_nothing_are_refused(tmp_path):
    path = write_polygons(tmp_path / "r.gpkg", BOXES, GRID, review=["yes", "maybe", ""])
    assert "column review holds 'maybe' - use yes" in refused(path)
    path = write_polygons(tmp_path / "e.gpkg", BOXES, GRID, review=["", None, "unsure"])
    assert "no polygon of it is reviewed" in refused(path, reviewed=True)
    path = write_polygons(tmp_path / "n.gpkg", BOXES, GRID)
    assert "no polygon of it is reviewed" in refused(path, reviewed=True)
    assert label_of(path).sum() == 3 * 400  # without reviews, polygons are changes


def test_a_geopackage_of_detect_names_its_pair(labelled_scene, tmp_path):
    for name in ("before", "after"):
        (tmp_path / f"{name}.tif").write_bytes((labelled_scene / f"{name}.tif").read_bytes())
    dates, target = (tmp_path / "before.tif", tmp_path / "after.tif"), tmp_path / "changes.gpkg"
    contract = Contract(
        "stand-in", "1", "lite", 8, (0.0,) * 3, (1.0,) * 3, window=96, threshold=0.6, trained_on="nothing"
    )
    detect(DetectConfig(*dates, target, align="off", bands=(1, 2, 3)), model=(Pointwise(), contract))
    assert len(pyogrio.read_dataframe(target, layer="changes")) == len(CHANGED_BOXES)
    how = detected_from(target, None)
    assert (how.before, how.after, how.align, how.bands) == (*dates, "off", (1, 2, 3))
    write_image(dates[1], np.zeros((3, 320, 420), np.uint8))
    with pytest.raises(
        DataError, match="is not the file that it was made from - put that file back, or name them: --"
    ):
        detected_from(target, None)
    dates[0].unlink()
    with pytest.raises(DataError, match=r"before image .*before\.tif is not there"):
        detected_from(target, None)
