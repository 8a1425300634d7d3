"""Masks that a user gives: on any grid, by value, with nodata and gaps; in detect, inspect and resume."""

import json
from dataclasses import replace

import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine
from conftest import Pointwise, utm_grid, write_image
from pyproj import Transformer
from rasterio.crs import CRS
from scipy.ndimage import shift as move
from test_inspect import CONTRACT, as_bytes, ground
from typer.testing import CliRunner

from rscd import detect
from rscd.cli.app import app
from rscd.core.types import Window
from rscd.options.detect import DetectConfig
from rscd.options.pair import InspectConfig, PairConfig
from rscd.scene.pair import open_pair
from rscd.scene.prepare import prepare
from rscd.training.data.labels import detected_from
from rscd.workflows.inspect import inspect

SHAPE = 300, 340
STAND_IN = Pointwise(), CONTRACT


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two dates of one ground, uint8."""
    folder = tmp_path_factory.mktemp("pair")
    image = ground(*SHAPE)
    later = image.copy()
    later[:, 100:140, 200:260] = 235
    return write_image(folder / "before.tif", as_bytes(image)), write_image(folder / "after.tif", as_bytes(later))


def classes(height, width, seed=4):
    """Blotches of classes 0 to 11, uint8 (1, h, w)."""
    small = np.random.default_rng(seed).integers(0, 12, (height // 5 + 1, width // 5 + 1))
    return small.repeat(5, axis=0).repeat(5, axis=1)[None, :height, :width].astype(np.uint8)


def seen(before, after, **options):
    """What is valid of both dates, over the whole common grid."""
    with open_pair(PairConfig(before, after, **options)) as pair:
        return [date.read(Window(0, 0, *pair.full.shape))[1] for date in (pair.before, pair.after)]


GRIDS = {
    "same": ("EPSG:32614", Affine(0.5, 0, 600_000, 0, -0.5, 3_350_000), SHAPE),
    "coarser": ("EPSG:32614", Affine(2, 0, 599_990.3, 0, -2, 3_350_010.1), (90, 100)),
    "finer": ("EPSG:32614", Affine(0.2, 0, 599_995, 0, -0.2, 3_350_002), (820, 900)),
    "part": ("EPSG:32614", Affine(2, 0, 600_050, 0, -2, 3_349_980), (30, 40)),
    "other zone": ("EPSG:32615", None, (120, 120)),
    "degrees": ("EPSG:4326", None, (110, 140)),
}


def mask_file(path, grid, **profile):
    """A mask of classes on one of GRIDS: path, pixels, CRS, transform."""
    crs, transform, (height, width) = GRIDS[grid]
    if transform is None:
        x, y = Transformer.from_crs("EPSG:32614", crs, always_xy=True).transform(600_000, 3_350_000)
        size = 2 if crs == "EPSG:32615" else 2e-5
        transform = Affine(size, 0, x - 10 * size, 0, -size, y + 10 * size)
    pixels = classes(height, width)
    write_image(path, pixels, crs=CRS.from_string(crs), transform=transform, **profile)
    return pixels[0], crs, transform


@pytest.mark.parametrize("grid", GRIDS)
def test_each_pixel_takes_the_mask_under_its_centre(tmp_path, pair, grid):
    pixels, crs, transform = mask_file(tmp_path / "mask.tif", grid)
    x, y = 600_000 + 0.5 * (np.arange(SHAPE[1]) + 0.5), 3_350_000 - 0.5 * (np.arange(SHAPE[0]) + 0.5)
    x, y = Transformer.from_crs("EPSG:32614", crs, always_xy=True).transform(*np.meshgrid(x, y))
    cols, rows = (np.floor(part).astype(int) for part in ~transform @ (x, y))
    inside = (cols >= 0) & (cols < pixels.shape[1]) & (rows >= 0) & (rows < pixels.shape[0])
    under = np.where(inside, pixels[np.clip(rows, 0, len(pixels) - 1), np.clip(cols, 0, pixels.shape[1] - 1)], 0)
    before, after = seen(*pair, after_mask=tmp_path / "mask.tif")
    assert before.all() and 0 < after.mean() < 1
    np.testing.assert_array_equal(after, under == 0)  # what the mask does not cover is not masked
    before, after = seen(*pair, before_mask=tmp_path / "mask.tif", mask_values=(3, 8, 9, 10))
    assert after.all()
    np.testing.assert_array_equal(before, ~np.isin(under, (3, 8, 9, 10)))


def test_a_window_says_what_the_whole_says(tmp_path, pair):
    mask_file(tmp_path / "mask.tif", "other zone")
    whole = seen(*pair, after_mask=tmp_path / "mask.tif")[1]
    with open_pair(PairConfig(*pair, after_mask=tmp_path / "mask.tif")) as opened:
        for window in (Window(0, 0, 7, 9), Window(31, 63, 100, 33), Window(200, 5, 100, 335)):
            part = opened.after.read(window)[1]
            np.testing.assert_array_equal(part, whole[window.row : window.row_stop, window.col : window.col_stop])


def test_nodata_of_a_mask_says_nothing_unless_it_is_listed(tmp_path, pair):
    pixels, _, _ = mask_file(tmp_path / "mask.tif", "same", nodata=7)
    path = tmp_path / "mask.tif"
    np.testing.assert_array_equal(seen(*pair, after_mask=path)[1], (pixels == 0) | (pixels == 7))
    np.testing.assert_array_equal(seen(*pair, after_mask=path, mask_values=(7, 8))[1], ~np.isin(pixels, (7, 8)))
    notes = inspect(InspectConfig(*pair, after_mask=path, force_gsd=True)).notes
    share = (pixels == 7).mean()
    assert any(f"of {share:.1%} it says nothing, and that counts as not masked" in note for note in notes)


def test_inspect_says_what_a_mask_hides_and_does_not_cover(tmp_path, pair):
    mask_file(tmp_path / "part.tif", "part")
    pixels, _, _ = mask_file(tmp_path / "same.tif", "same")
    found = inspect(InspectConfig(*pair, before_mask=tmp_path / "same.tif", after_mask=tmp_path / "part.tif"))
    hidden = (pixels != 0).mean()
    assert f"the mask of before hides {hidden:.1%} of the sample" in found.notes
    (note,) = [note for note in found.notes if note.startswith("the mask of after")]
    assert "; of 81.2% it says nothing, and that counts as not masked" in note
    assert found.before.valid_share == pytest.approx(1 - hidden, abs=1e-3)


def test_a_mask_is_shifted_with_its_date(tmp_path):
    image = ground(600, 700)
    before = write_image(tmp_path / "before.tif", as_bytes(image))
    moved = np.stack([move(band, (6, -4), order=3, mode="nearest") for band in image])
    after = write_image(tmp_path / "after.tif", as_bytes(moved))
    mask = np.zeros((1, 600, 700), np.uint8)
    mask[0, 200:260, 300:380] = 1  # drawn over the after image
    path = write_image(tmp_path / "mask.tif", mask)
    config = PairConfig(before, after, after_mask=path)
    with open_pair(config) as opened:
        found = prepare(opened, CONTRACT, config)
        valid = found.pair.after.read(Window(0, 0, 600, 700))[1]
    assert found.inspection.aligned
    rows, cols = np.nonzero(~valid[20:-20, 20:-20])
    assert (rows.min() + 20, rows.max() + 21, cols.min() + 20, cols.max() + 21) == (194, 254, 304, 384)


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda path: None, 3, "no such file"),
        (lambda path: write_image(path, np.ones((3, 40, 40), np.uint8)), 3, "has 3 bands; a mask has one"),
        (lambda path: write_image(path, np.ones((1, 40, 40), np.uint8), crs=None), 3, "has no CRS"),
        (
            lambda path: write_image(path, np.ones((1, 40, 40), np.uint8), utm_grid(40, 40), transform=FAR),
            3,
            "does not overlap the pair",
        ),
        (lambda path: path.write_text("x"), 3, "GeoTIFF"),
        (lambda path: cut(write_image(path, classes(300, 340), compress=None)), 3, "or leave the mask out"),
        (lambda path: write_image(path, np.ones((1, *SHAPE), np.uint8)), 3, "nodata or masked"),
    ],
)
def test_a_mask_that_cannot_be_used_is_refused(tmp_path, pair, make, code, words):
    path = tmp_path / "mask.tif"
    make(path)
    command = ["detect", *map(str, pair), "-o", str(tmp_path / "out.gpkg"), "--after-mask", str(path)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == code and words in result.stderr, result.output
    assert sorted(p.name for p in tmp_path.iterdir() if p != path) == []


def cut(path):
    """End a file before its last blocks."""
    path.write_bytes(path.read_bytes()[:60_000])


FAR = Affine(0.5, 0, 900_000, 0, -0.5, 3_350_000)


def test_options_that_cannot_be_meant(tmp_path, pair):
    command = ["inspect", *map(str, pair)]
    result = CliRunner().invoke(app, [*command, "--mask-values", "3,8"])
    assert result.exit_code == 2 and "--before-mask or --after-mask" in result.stderr
    result = CliRunner().invoke(app, [*command, "--mask-values", "3;8"])
    assert result.exit_code == 2 and "3,8,9,10,11" in result.stderr
    mask_file(tmp_path / "mask.tif", "same")
    masked = ["--after-mask", str(tmp_path / "mask.tif"), "--probability", str(tmp_path / "mask.tif")]
    result = CliRunner().invoke(app, ["detect", *map(str, pair), "-o", str(tmp_path / "o.gpkg"), *masked])
    assert result.exit_code == 2 and "is also an input" in result.stderr


def test_detect_hides_what_the_mask_hides_and_tells_of_it(tmp_path, pair):
    pixels, _, _ = mask_file(tmp_path / "mask.tif", "same")
    config = DetectConfig(
        *pair,
        tmp_path / "out.gpkg",
        probability=tmp_path / "p.tif",
        after_mask=tmp_path / "mask.tif",
        mask_values=(3, 8),
        threshold=0.9,
        align="off",
        keep_journal=True,
        overwrite=True,
    )
    result = detect(config, model=STAND_IN)
    with rasterio.open(config.probability) as dataset:
        np.testing.assert_array_equal(dataset.read(1) == 255, np.isin(pixels, (3, 8)))
    told = pyogrio.read_info(config.output, layer="changes")["layer_metadata"]
    said = json.loads(told["inputs"])["after_mask"]["path"]
    assert (config.output.parent / said).samefile(config.after_mask)
    assert not said.startswith("/")
    assert json.loads(told["options"])["mask_values"] == [3, 8]
    how = detected_from(config.output, None)
    assert (how.after_mask, how.mask_values) == (config.after_mask, (3, 8))
    lines = []
    again = detect(config, model=STAND_IN, on_start=lines.append)
    assert again.bands_resumed > 0 and again.windows == 0
    assert any("the mask of after hides" in line for line in lines)
    pixels[:] = 0
    pixels[:10] = 3
    write_image(tmp_path / "mask.tif", pixels[None])
    anew = detect(replace(config, keep_journal=False), model=STAND_IN, on_start=lines.append)
    assert anew.bands_resumed == 0 and any("after_mask" in line for line in lines)
    assert anew.written.not_observable_km2 < result.written.not_observable_km2
