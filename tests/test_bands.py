"""Which bands are read: colours, descriptions, contradictions, two lists, palettes, inks, alpha that is none."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio
from conftest import write_image
from rasterio.enums import ColorInterp
from typer.testing import CliRunner

from rscd.cli.app import app
from rscd.core.errors import DataError, UsageError
from rscd.options.pair import InspectConfig, PairConfig
from rscd.scene.bands import meaning
from rscd.scene.pair import open_pair
from rscd.workflows.inspect import inspect

SIDE = 192


@pytest.fixture(scope="module")
def ground():
    """Red, green, blue and near infrared of some ground, uint8 (4, h, w): no two bands alike, none 0."""
    rng = np.random.default_rng(3)
    blocks = rng.integers(40, 200, (4, SIDE // 8, SIDE // 8)).repeat(8, axis=1).repeat(8, axis=2)
    return (blocks + rng.integers(0, 20, (4, SIDE, SIDE))).astype(np.uint8)


def written(path, ground, order="rgbn", descriptions=None, colours=None, kind=np.uint8, **profile):
    """A file of the ground's bands in this order, described and tagged so."""
    pixels = np.stack([ground["rgbn".index(band)] for band in order]).astype(kind)
    write_image(path, pixels, **profile)
    with rasterio.open(path, "r+") as dataset:
        if descriptions:
            dataset.descriptions = descriptions
        if colours:
            dataset.colorinterp = [ColorInterp[name] for name in colours.split()]
    return path


@pytest.fixture
def rgb(tmp_path, ground):
    return written(tmp_path / "rgb.tif", ground, "rgb")


def bands_of(before, after, **options):
    """Bands, near infrared and notes that are chosen for both files."""
    with open_pair(PairConfig(before, after, **options)) as pair:
        return [(each.raster.bands, each.raster.nir, each.raster.notes) for each in (pair.before, pair.after)]


@pytest.mark.parametrize(
    ("words", "means"),
    [
        *[
            (text, "red")
            for text in ("red", "Red", "R", "B04", "Band 4 - Red", "red_2020", "B04 (665 nm)", "1: RED")
        ],
        *[(text, "green") for text in ("green", "g", "B03", "sur_refl_green")],
        *[(text, "blue") for text in ("BLUE", "b", "B02", "Blue band (0.45-0.51 um)")],
        *[
            (text, "nir")
            for text in ("nir", "NIR1", "Near Infrared", "near-infra-red", "B08", "Band 8 (NIR)", "near_ir")
        ],
        *[
            (text, "other")
            for text in ("red edge", "RedEdge", "coastal blue", "SWIR 1", "shortwave infrared", "pan")
        ],
        *[(text, None) for text in ("", "Band 1", "B4", "layer", "reduced", "red/green", "blueish", "B11", "B8A")],
    ],
)
def test_descriptions_in_common_spellings(words, means):
    assert meaning(words) == means


@pytest.mark.parametrize(
    ("order", "descriptions", "kind", "bands"),
    [
        ("bgrn", ("blue", "green", "red", "nir"), np.uint16, (3, 2, 1)),
        ("nrgb", ("B08", "B04", "B03", "B02"), np.uint16, (2, 3, 4)),
        ("bgr", ("Band 2 - Blue", "Band 3 - Green", "Band 4 - Red"), np.int16, (3, 2, 1)),
    ],
)
def test_each_date_has_its_own_order(tmp_path, ground, rgb, order, descriptions, kind, bands):
    other = written(tmp_path / "other.tif", ground, order, descriptions, kind=kind)
    (first, _, notes), (second, _, told) = bands_of(rgb, other)
    assert (first, second) == ((1, 2, 3), bands)
    assert not notes and "by their descriptions" in told[0]
    with open_pair(PairConfig(rgb, other)) as pair:
        pixels = [date.raster.read(pair.region)[0] for date in (pair.before, pair.after)]
    np.testing.assert_array_equal(*pixels)


@pytest.mark.parametrize(
    ("order", "descriptions", "colours", "words", "remedy"),
    [
        # three bytes a pixel are tagged red, green, blue unless the writer says otherwise
        (
            "bgr",
            ("blue", "green", "red"),
            None,
            "'blue'",
            "--bands 1,2,3/3,2,1 (as described) or --bands 1,2,3 (as",
        ),
        ("bgrn", ("blue", "green", "red", "nir"), None, "red, blue", "--bands 1,2,3/3,2,1 (as described)"),
        ("brg", None, "undefined red green", "band 2 is red", "--bands 1,2,3/2,3,1 (if band 1 is blue)"),
        (
            "brgn",
            None,
            "undefined red green undefined",
            "do not say which band is blue (",
            "--bands 1,2,3/2,3,BLUE",
        ),
        (
            "rgb",
            ("red", "red", "blue"),
            "undefined undefined undefined",
            "which band is red, green (",
            "--bands 1,2,3/RED,GREEN,3",
        ),
        (
            "nbg",
            ("pan", "SWIR 1", "x"),
            "undefined undefined undefined",
            "band 1 is 'pan'",
            "--bands 1,2,3/RED,GREEN,BLUE",
        ),
        (
            "bgr",
            ("B2", "B3", "B4"),
            "undefined undefined undefined",
            "B2, B3, B4",
            "--bands 1,2,3/3,2,1 (if they are",
        ),
    ],
)
def test_what_contradicts_or_is_half_said_is_refused_with_the_bands_that_would_do(
    tmp_path, ground, rgb, order, descriptions, colours, words, remedy
):
    other = written(tmp_path / "other.tif", ground, order, descriptions, colours)
    result = CliRunner().invoke(app, ["detect", str(rgb), str(other), "-o", str(tmp_path / "out.gpkg")])
    assert result.exit_code == 3, result.output
    assert str(other) in result.stderr and words in result.stderr and remedy in result.stderr
    assert result.stderr.strip().count("\n") == 0
    assert not (tmp_path / "out.gpkg").exists()


def test_the_remedy_that_is_named_works(tmp_path, ground, rgb):
    other = written(tmp_path / "other.tif", ground, "bgr", ("blue", "green", "red"))
    options = ["--bands", "1,2,3/3,2,1", "--json", "--force-gsd"]
    result = CliRunner().invoke(app, ["inspect", str(rgb), str(other), *options])
    assert result.exit_code == 0, result.output
    assert '"correlation": 1.0' in result.stdout
    both = bands_of(other, other, bands=(3, 2, 1))
    assert [bands for bands, _, _ in both] == [(3, 2, 1)] * 2


def copied(path):
    """The same image in a file of its own."""
    return Path(shutil.copy(path, path.with_name(f"copy of {path.name}")))


def test_a_guess_is_said(tmp_path, ground, rgb):
    other = written(tmp_path / "other.tif", ground, "rgbn", kind=np.uint16)
    notes = inspect(InspectConfig(rgb, other)).notes
    assert "after: nothing says which bands are red, green, blue: 1, 2, 3 are taken (--bands)" in notes
    notes = inspect(InspectConfig(other, copied(other))).notes
    assert next(note for note in notes if "nothing says" in note).startswith("before and after: ")
    assert not [note for note in inspect(InspectConfig(rgb, copied(rgb))).notes if "bands" in note]


def test_one_list_that_does_not_serve_both_files_is_said(tmp_path, ground, rgb):
    four = written(tmp_path / "four.tif", ground, "nrgb", ("nir", "red", "green", "blue"), kind=np.uint16)
    with pytest.raises(DataError, match="3,2,1/1,2,3"):
        bands_of(four, rgb, bands=(2, 3, 4))
    (_, _, notes), (_, _, told) = bands_of(rgb, four, bands=(1, 2, 3))
    assert not notes
    assert told[0] == "--bands takes 1, 2, 3 as red, green, blue, and the file calls them nir, red, green"
    assert [each[0] for each in bands_of(four, rgb, bands=(2, 3, 4), after_bands=(1, 2, 3))] == [
        (2, 3, 4),
        (1, 2, 3),
    ]


@pytest.mark.parametrize("inks", ["8 bit", "16 bit"])
def test_inks_are_refused(tmp_path, ground, rgb, inks):
    if inks == "8 bit":
        path = write_image(tmp_path / "cmyk.tif", ground, photometric="CMYK")
    else:
        path = write_image(tmp_path / "cmyk.tif", ground.astype(np.uint16), photometric="CMYK", interleave="band")
    found = inspect(InspectConfig(rgb, path))
    assert found.verdict == "refused"
    assert ("inks (CMYK)" if inks == "8 bit" else "cyan, magenta, yellow") in found.reasons[0]
    if inks == "8 bit" and shutil.which("gdal_translate"):
        command = found.remedies[0].split(": ", 1)[1].replace("OUT.tif", str(tmp_path / "out.tif")).replace("'", "")
        subprocess.run(command.split(), check=True, capture_output=True)
        assert bands_of(rgb, tmp_path / "out.tif")[1][0] == (1, 2, 3)


def test_a_palette_is_refused(tmp_path, ground, rgb):
    path = write_image(tmp_path / "palette.tif", ground[:1] // 64)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {i: (60 * i, 255 - 60 * i, 7, 255) for i in range(4)})
    for options in ({}, {"bands": (1, 1, 1)}):
        with pytest.raises(DataError, match=r"palette.*gdal_translate -expand rgb"):
            bands_of(rgb, path, **options)


@pytest.mark.parametrize("by", ["description", "colour"])
def test_near_infrared_that_both_files_name_is_taken(tmp_path, ground, rgb, by):
    if by == "colour":
        paths = [written(tmp_path / f"{i}.tif", ground, colours="red green blue nir") for i in range(2)]
    else:  # four bytes a pixel: the last is tagged alpha, as GDAL does by default
        paths = [
            written(tmp_path / f"{i}.tif", ground, descriptions=("red", "green", "blue", "nir")) for i in range(2)
        ]
    for bands, nir, notes in bands_of(*paths):
        assert (bands, nir) == ((1, 2, 3), 4)
        assert "band 4 is near infrared by its name: read for ndvi_change" in notes
    assert [nir for _, nir, _ in bands_of(*paths, nir=0)] == [None, None]
    (_, nir, _), (_, other, notes) = bands_of(rgb, paths[0])
    assert (nir, other) == (None, None) and "the other date names none" in notes[-1]
    (_, nir, notes), _ = bands_of(*paths, bands=(4, 1, 2))
    assert nir is None and any("read as another colour" in note for note in notes)


def test_near_infrared_by_number(tmp_path, ground, rgb):
    path = written(tmp_path / "four.tif", ground, kind=np.uint16)
    assert [nir for _, nir, _ in bands_of(path, path, nir=4)] == [4, 4]
    with pytest.raises(UsageError, match="--nir 2 is also read as green"):
        bands_of(path, path, nir=2)
    with pytest.raises(UsageError, match="--nir -1"):
        bands_of(path, path, nir=-1)
    with pytest.raises(DataError, match=r"rgb.tif: has 3 bands, but --nir 4"):
        bands_of(path, rgb, nir=4)


def test_near_infrared_called_alpha_is_doubted_where_its_zeros_hide_ground(tmp_path, ground, rgb):
    ground = ground.copy()
    ground[3, :, : SIDE // 2] = 0
    path = written(tmp_path / "alpha.tif", ground)
    found = inspect(InspectConfig(rgb, path))
    assert found.verdict == "doubtful"
    reason = "band 4 of after is tagged alpha and is probably near infrared, and its zeros hide 50.0% of the date"
    assert reason in found.reasons
    assert f"take the tag away: gdal_edit.py -colorinterp_4 undefined '{path}'" in found.remedies
    both = inspect(InspectConfig(path, copied(path)))
    assert any(remedy.startswith("add --nir 4, or take the tag away") for remedy in both.remedies)
    assert found.after.valid_share == 0.5
    assert inspect(InspectConfig(path, copied(path), nir=4)).after.valid_share == 1.0
    plain = ground.copy()
    plain[3] = 255
    plain[3, :, : SIDE // 2] = 0
    true_alpha = written(tmp_path / "true.tif", plain)
    assert not [reason for reason in inspect(InspectConfig(rgb, true_alpha)).reasons if "alpha" in reason]


def test_alpha_beside_near_infrared_masks(tmp_path, ground, rgb):
    alpha = np.full((1, SIDE, SIDE), 255, np.uint8)
    alpha[0, :, :48] = 0
    path = write_image(tmp_path / "five.tif", np.concatenate([ground, alpha]))
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp[name] for name in ("red", "green", "blue", "nir", "alpha")]
    assert inspect(InspectConfig(rgb, path)).after.valid_share == 0.75
