"""Two files as a pair: what they share, on whose grid, and what is refused."""

import os

import numpy as np
import pytest
from conftest import utm_grid, write_image

from rscd.core.errors import DataError
from rscd.core.types import Grid, Window
from rscd.options.pair import PairConfig
from rscd.scene.pair import open_pair, refuse_same_file

IMAGE = np.random.default_rng(0).integers(1, 255, (3, 256, 256), dtype=np.uint8)


def east_of(metres: float, gsd: float = 0.5) -> Grid:
    grid = utm_grid(256, 256, gsd)
    a, b, c, d, e, f = grid.transform
    return Grid(grid.crs, (a, b, c + metres, d, e, f), 256, 256)


@pytest.fixture
def files(tmp_path):
    before = write_image(tmp_path / "b.tif", IMAGE)
    after = write_image(tmp_path / "a.tif", IMAGE, east_of(64 * 0.5))
    return before, after


def test_what_both_cover_is_known_before_a_pixel_is_read(files):
    with open_pair(PairConfig(*files)) as pair:
        assert pair.grid_from == "before"
        assert pair.full == utm_grid(256, 256)
        assert pair.overlap.window == Window(0, 64, 256, 192)
        assert pair.overlap.share == pytest.approx(192 / 256)
        assert pair.one_scale
    with open_pair(PairConfig(*files, grid="after")) as pair:
        assert pair.full == east_of(64 * 0.5)
        assert pair.overlap.window == Window(0, 0, 256, 192)


def test_dates_that_are_apart_are_refused_with_where_they_are(tmp_path, files):
    far = write_image(tmp_path / "far.tif", IMAGE, east_of(5000))
    with pytest.raises(DataError, match="it spans x"), open_pair(PairConfig(files[0], far)):
        pass


def test_one_file_under_two_names_is_refused(tmp_path, files):
    os.link(files[0], tmp_path / "same.tif")
    with pytest.raises(DataError, match="is given as both dates"):
        refuse_same_file(PairConfig(files[0], tmp_path / "same.tif"))
    refuse_same_file(PairConfig(*files))


def test_more_of_the_scene_around_an_area_when_windows_overlap_by_more(tmp_path, files):
    from conftest import write_polygons

    area = write_polygons(tmp_path / "area.gpkg", [(120, 120, 136, 136)], utm_grid(256, 256))
    with open_pair(PairConfig(*files, aoi=area)) as pair:
        near, far = pair.with_margin(10).crop, pair.with_margin(100).crop
    assert near.height < far.height
    assert far.row < near.row
