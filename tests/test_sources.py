import shutil

import pytest

from rscd.core.errors import DataError, UsageError
from rscd.options.training import LabelledConfig
from rscd.training.data.sources import find_sources


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_each_kind_of_data_is_recognised(tmp_path):
    tiles = tmp_path / "tiles"
    for part in ("A", "B", "label"):
        touch(tiles / part)
        touch(tmp_path / "parted" / "train" / part)
    cities = tmp_path / "cities"
    touch(cities / "paris", "rgb_t1.tif", "rgb_t2.tif", "label.tif")
    touch(cities / "rome", "before.tif", "after.tif", "changes.gpkg", "aoi.geojson")
    touch(cities / "notes", "read.me")
    found = find_sources(LabelledConfig((tiles, tmp_path / "parted", cities), align="off", bands=(3, 2, 1)))
    assert found.folders == [tiles, tmp_path / "parted"]
    paris, rome = found.pairs
    assert (paris.config.before, paris.labels) == (cities / "paris/rgb_t1.tif", cities / "paris/label.tif")
    assert (rome.config.after, rome.labels) == (cities / "rome/after.tif", cities / "rome/changes.gpkg")
    assert (paris.config.aoi, rome.config.aoi) == (None, cities / "rome/aoi.geojson")
    assert (rome.config.align, rome.config.bands) == ("off", (3, 2, 1))
    assert find_sources(LabelledConfig((cities / "rome",))).pairs[0].name == str(cities / "rome")


def test_a_scene_that_lacks_a_file_is_not_passed_over(tmp_path):
    touch(tmp_path / "paris", "t1.tif", "t2.tif", "label.tif")
    touch(tmp_path / "rome", "t1.tif", "label.tif")
    touch(tmp_path / "oslo", "before.tif", "after.tif")
    bad = []
    found = find_sources(LabelledConfig((tmp_path,)), (), bad.append)
    assert [p.name for p in found.pairs] == [str(tmp_path / "paris")]
    oslo, rome = map(str, bad)
    assert "oslo: contains a scene without its labels - add it as label or labels or changes" in oslo
    assert "rome: contains a scene without its later date - add it as after or t2" in rome


def test_a_list_names_scenes_from_its_own_folder(tmp_path):
    (tmp_path / "scenes.csv").write_text("before,after,labels,aoi\na.tif,b.tif,c.gpkg,\nd.tif,e.tif,f.tif,g.gpkg\n")
    one, two = find_sources(LabelledConfig((tmp_path / "scenes.csv",))).pairs
    assert (one.config.before, one.config.aoi) == (tmp_path / "a.tif", None)
    assert (two.labels, two.config.aoi) == (tmp_path / "f.tif", tmp_path / "g.gpkg")
    (tmp_path / "scenes.csv").write_text("before,after\na.tif,b.tif\n")
    with pytest.raises(DataError, match=r"lacks labels - write a header before,after,labels"):
        find_sources(LabelledConfig((tmp_path / "scenes.csv",)))


def test_a_pair_of_the_command_line_has_its_area(tmp_path):
    three = tmp_path / "1.tif", tmp_path / "2.tif", tmp_path / "c.gpkg"
    (source,) = find_sources(LabelledConfig((), pair=three, aoi=tmp_path / "a.gpkg", grid="after")).pairs
    assert (source.config.before, source.config.after, source.labels) == three
    assert (source.config.aoi, source.config.grid) == (tmp_path / "a.gpkg", "after")


def test_what_cannot_be_meant_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no labelled data"):
        find_sources(LabelledConfig(()))
    with pytest.raises(UsageError, match="--aoi without --pair"):
        find_sources(LabelledConfig((tmp_path,), aoi=tmp_path / "a.gpkg"))
    touch(tmp_path, "changes.gpkg", "text.gpkg")
    with pytest.raises(DataError, match="is a single file - give a pair as --pair"):
        find_sources(LabelledConfig((tmp_path / "changes.gpkg",)))
    with pytest.raises(DataError, match="does not say which pair it was made from"):
        find_sources(LabelledConfig(()), [tmp_path / "text.gpkg"])
    bad = []
    shutil.copy(tmp_path / "text.gpkg", tmp_path / "more.gpkg")
    find_sources(LabelledConfig((tmp_path / "changes.gpkg",)), [tmp_path / "more.gpkg"], bad.append)
    assert len(bad) == 2
