"""The answer does not depend on the extent that is asked for, nor on what lies outside it."""

import os

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from conftest import Pointwise, utm_grid, write_image

from rscd import DetectConfig, detect, load_model
from rscd.core.contract import Contract
from rscd.core.errors import DataError
from rscd.core.grid import moved
from rscd.core.types import Grid, Window
from rscd.scene.files import fingerprint
from rscd.simulate.scene import Scene
from rscd.simulate.spec import SceneSpec

HEIGHT, WIDTH = 1300, 1180
"""More than one window may hold, also of a part of it."""
STAND_IN = (
    Pointwise(),
    Contract(name="stand-in", version="1", encoder="none", width=1, mean=(110.0,) * 3, std=(40.0,) * 3),
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A rendered pair, its grid, and what detect makes of the whole of it (values 0..255)."""
    folder, model = tmp_path_factory.mktemp("whole"), load_model("buildings")
    drawn = Scene(SceneSpec(seed=5, width=WIDTH, height=HEIGHT, layout="suburb"))
    view = drawn.render(Window(0, 0, HEIGHT, WIDTH))
    dates = view.before.astype(np.uint16) * 9, view.after.astype(np.uint16) * 7
    paths = [write_image(folder / f"{i}.tif", date, drawn.grid) for i, date in enumerate(dates)]
    return paths, (view.before, view.after), drawn.grid, model


def values(before, after, folder, model, **options):
    config = DetectConfig(
        before, after, folder / "c.gpkg", probability=folder / "p.tif", overwrite=True, align="off", **options
    )
    result = detect(config, model=model)
    with rasterio.open(config.probability) as dataset:
        return dataset.read(1), dataset.transform, result


def area(folder, grid, box):
    """An area of interest from (top, left) to (bottom, right), px of a grid."""
    top, left, bottom, right = box
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    a, b, c, d, e, f = grid.transform
    ring = [(a * x + b * y + c, d * x + e * y + f) for x, y in corners]
    path = folder / "aoi.gpkg"
    geopandas.GeoDataFrame(geometry=[shapely.Polygon(ring)], crs=grid.crs).to_file(path)
    return path


def test_an_area_of_interest_has_the_values_of_the_whole_scene(scene, tmp_path):
    paths, _, grid, model = scene
    whole, _, everything = values(*paths, tmp_path, model)
    box = 300, 200, 620, 480
    part, transform, some = values(*paths, tmp_path, model, aoi=area(tmp_path, grid, box))
    col, row = (round(v) for v in ~rasterio.Affine(*grid.transform) @ (transform @ (0, 0)))
    expected = whole[row : row + part.shape[0], col : col + part.shape[1]].astype(int)
    inside = part != 255
    assert inside.sum() == 320 * 280
    assert (expected[inside] > 127).any()
    assert np.abs(part[inside] - expected[inside]).max() <= 1
    assert some.windows < everything.windows


def test_a_small_scene_is_one_window_also_for_an_area_of_interest(scene, tmp_path):
    _, dates, grid, model = scene
    side = 700
    small = Grid(grid.crs, grid.transform, side, side)
    paths = [write_image(tmp_path / f"{j}.tif", date[:, :side, :side], small) for j, date in enumerate(dates)]
    whole, _, everything = values(*paths, tmp_path, model)
    part, transform, some = values(*paths, tmp_path, model, aoi=area(tmp_path, grid, (450, 20, 690, 300)))
    col, row = (round(v) for v in ~rasterio.Affine(*grid.transform) @ (transform @ (0, 0)))
    expected = whole[row : row + part.shape[0], col : col + part.shape[1]].astype(int)
    inside = part != 255
    assert inside.sum() == 240 * 280
    assert np.abs(part[inside] - expected[inside]).max() <= 1
    assert (some.windows, everything.windows) == (1, 1)


def test_a_crop_of_the_files_has_their_values_a_window_away_from_the_cut(scene, tmp_path):
    _, dates, grid, model = scene
    top, left, found = 211, 137, []
    crop = Grid(grid.crs, moved(grid.transform, top, left), WIDTH - left, HEIGHT - top)
    for i, (g, rows, cols) in enumerate(((grid, 0, 0), (crop, top, left))):
        paths = [write_image(tmp_path / f"{i}{j}.tif", date[:, rows:, cols:], g) for j, date in enumerate(dates)]
        found.append(values(*paths, tmp_path, model)[0])
    one, other = found[0][top + 448 :, left + 448 :], found[1][448:, 448:]
    assert (one > 127).any()
    assert np.abs(one.astype(int) - other).max() <= 1


def test_what_lies_outside_the_area_need_not_be_readable_but_the_area_must_show_something(tmp_path):
    rng = np.random.default_rng(1)
    image = rng.integers(1, 250, (3, 512, 1280), dtype=np.uint8)
    image[:, :, 896:] = 0
    before = write_image(tmp_path / "before.tif", image, nodata=0)
    after = write_image(tmp_path / "after.tif", 251 - image)
    with rasterio.open(after) as dataset:
        block = int(dataset.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", 1))
    content = bytearray(after.read_bytes())
    content[block : block + 2000] = bytes(2000)
    after.write_bytes(content)
    grid = utm_grid(512, 1280)
    result = values(before, after, tmp_path, STAND_IN, aoi=area(tmp_path, grid, (40, 600, 300, 700)))[2]
    assert result.windows > 0
    with pytest.raises(DataError, match="cannot be read"):
        values(before, after, tmp_path, STAND_IN)
    with pytest.raises(DataError, match=r"before\.tif: has no valid pixel"):
        values(before, after, tmp_path, STAND_IN, aoi=area(tmp_path, grid, (40, 1100, 300, 1200)))


def test_a_run_is_not_resumed_on_pixels_that_changed_with_size_and_time_as_they_were(tmp_path):
    rng = np.random.default_rng(2)
    dates = rng.integers(1, 250, (2, 3, 1500, 1200), dtype=np.uint8)
    paths = [write_image(tmp_path / f"{i}.tif", date, compress=None) for i, date in enumerate(dates)]
    calls = iter(range(8))

    def stop():
        if next(calls, None) is None:
            raise KeyboardInterrupt

    config = DetectConfig(*paths, tmp_path / "c.gpkg", probability=tmp_path / "p.tif", align="off")
    with pytest.raises(KeyboardInterrupt):
        detect(config, model=STAND_IN, interrupt=stop)
    old, stat = fingerprint(paths[1]), paths[1].stat()
    content = bytearray(paths[1].read_bytes())
    place = len(content) * 3 // 62  # between the second sample and the third: the first rows
    content[place : place + 4000] = bytes(4000)
    paths[1].write_bytes(content)
    os.utime(paths[1], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    new = fingerprint(paths[1])
    assert {name for name in new if new[name] != old[name]} == {"sha256"}
    told = []
    result = detect(config, model=STAND_IN, on_start=told.append)
    assert any("starting from the beginning" in line and "sha256" in line for line in told)
    assert result.bands_resumed == 0
