"""Two folders as a manifest, by name and by footprint and date; footprints and dates of files."""

from datetime import UTC, datetime

import numpy as np
import pytest
import shapely
from affine import Affine
from conftest import write_image

from rscd.core.errors import DataError
from rscd.jobs.manifest import Image, folder_pairs, match
from rscd.jobs.pairs import named
from rscd.scene.metadata import Footprint, read_footprint

PIXELS = np.random.default_rng(0).integers(1, 255, (3, 64, 64), dtype=np.uint8)


def image(path, east=0, tag=None):
    """A 32 m square some metres east of the usual place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, PIXELS, transform=Affine(0.5, 0, 600_000 + east, 0, -0.5, 3_350_000))
    if tag:
        import rasterio

        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(TIFFTAG_DATETIME=tag)
    return path


def test_by_name_whatever_the_suffix_and_folder(tmp_path):
    one, other = image(tmp_path / "b" / "s" / "x 1.tif"), image(tmp_path / "a" / "s" / "x 1.TIFF")
    image(tmp_path / "b" / "alone.tif")
    found = folder_pairs(tmp_path / "b", tmp_path / "a")
    assert [(p.id, p.before, p.after) for p in found.pairs] == [("s_x_1", one, other)]
    assert "1 files without a partner, e.g. alone.tif" in found.notes[0]


def test_by_footprint_and_date(tmp_path):
    place, far = tmp_path / "b" / "p.tif", tmp_path / "b" / "q.tif"
    image(place, tag="2020:05:01 10:00:00")
    image(far, east=500)
    image(tmp_path / "a" / "older_20190101.tif")
    late, next_one = image(tmp_path / "a" / "t_2022-03-04.tif"), image(tmp_path / "a" / "t_20210304.tif", east=4)
    image(tmp_path / "a" / "beside_20210101.tif", east=20)  # shares 12 of 32 m
    there = image(tmp_path / "a" / "any.tif", east=505)
    found = folder_pairs(tmp_path / "b", tmp_path / "a", "footprint")
    assert [(p.before, p.after) for p in found.pairs] == [(place, next_one), (far, there)]
    assert late not in [p.after for p in found.pairs]


def test_a_pool_pairs_each_image_with_the_next_of_its_place():
    def seen(name, year, x=0.0):
        return Image(name, name, Footprint(shapely.box(x, 0, x + 1, 1), datetime(year, 1, 1, tzinfo=UTC)))

    pool = [seen("c", 2022), seen("a", 2020), seen("b", 2021), seen("x", 2021, 5.0)]
    assert sorted((b.name, a.name) for b, a in match(pool, pool)) == [("a", "b"), ("b", "c")]


def test_refusals(tmp_path):
    image(tmp_path / "b" / "1.tif")
    image(tmp_path / "a" / "2.tif")
    (tmp_path / "empty").mkdir()
    for before, after, words in (
        ("b", "a", "--match-by footprint"),
        ("b", "no", "no such"),
        ("empty", "a", "no .tif"),
    ):
        with pytest.raises(DataError, match=words):
            folder_pairs(tmp_path / before, tmp_path / after)
    (tmp_path / "a" / "1.tif").symlink_to(tmp_path / "b" / "1.tif")
    with pytest.raises(DataError, match="leads out"):
        folder_pairs(tmp_path / "b", tmp_path / "a")


def test_ids_made_of_names_differ(tmp_path):
    found = named([("a b", tmp_path, tmp_path), ("a_b", tmp_path, tmp_path), ("A/b", tmp_path, tmp_path)])
    assert [pair.id for pair in found] == ["a_b", "a_b-2", "A_b-3"]


def test_a_footprint_is_the_files_outline(tmp_path):
    seen = read_footprint(image(tmp_path / "x_20240230.tif"))
    assert seen.date is None  # no such day
    west, south, east, north = seen.outline.bounds
    assert (north - south) * 111_000 == pytest.approx(32, rel=0.03)
    assert -98 < west < east < -97.9
    bare = write_image(tmp_path / "bare.tif", PIXELS, crs=None, transform=Affine.identity())
    with pytest.raises(DataError, match="not georeferenced"):
        read_footprint(bare)
