"""Odd pixels, odd sizes, odd places to write to: the right output, or a refusal that touches nothing."""

import os
import subprocess
import sys

import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.shutil
import torch
from conftest import REPOSITORY, Pointwise, pointwise_probability, utm_grid, write_image
from typer.testing import CliRunner

from rscd import DetectConfig, detect, load_model
from rscd.cli.app import app
from rscd.core.contract import Contract
from rscd.core.errors import DataError, OutputError, UsageError
from rscd.core.types import Window
from rscd.output.geotiff import new_geotiff
from rscd.output.probability import ProbabilityRaster, verify
from rscd.simulate.scene import Scene
from rscd.simulate.spec import SceneSpec

STAND_IN = (
    Pointwise(),
    Contract("stand-in", "1", "lite", 8, (110.0,) * 3, (50.0,) * 3, window=96, overlap=32, trained_on="-"),
)


def images(height, width, seed=0):
    return np.random.default_rng(seed).integers(1, 255, (2, 3, height, width), dtype=np.uint8)


def run(folder, before, after, model=STAND_IN, profile=None, **options):
    """Detect, and return the values of the probability raster."""
    paths = [write_image(folder / f"{i}.tif", x, **(profile or {})) for i, x in enumerate((before, after))]
    config = DetectConfig(*paths, folder / "c.gpkg", folder / "p.tif", align="off", overwrite=True, **options)
    detect(config, model=model)
    with rasterio.open(config.probability) as dataset:
        return dataset.read(1)


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (97, 101), (7, 5), (31, 1009), (2, 2)])
def test_odd_sizes_and_scenes_smaller_than_a_window(tmp_path, size):
    before, after = images(*size)
    values = run(tmp_path, before, after, profile={"blockxsize": 64, "blockysize": 64})
    expected = np.rint(254 * pointwise_probability(before, after))
    assert values.shape == size
    assert np.abs(values.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["before", "after"])
def test_what_is_not_finite_is_not_observable_and_changes_nothing_else(tmp_path, bad, where):
    pair = images(200, 210).astype(np.float32)
    plain = run(tmp_path, *pair)
    spoilt = pair.copy()
    spoilt[0 if where == "before" else 1][1, 50:70, 60:90] = bad
    values = run(tmp_path, *spoilt)
    hidden = np.zeros((200, 210), bool)
    hidden[50:70, 60:90] = True
    np.testing.assert_array_equal(values == 255, hidden)
    # scaled by percentiles of a sample that lacks those pixels
    assert np.abs(values[~hidden].astype(int) - plain[~hidden]).max() <= 8


@pytest.mark.parametrize(
    ("kind", "words"),
    [("nodata", "has no valid pixel"), ("constant", "is constant"), ("nan", "has no valid pixel")],
)
def test_what_shows_nothing_is_refused(tmp_path, kind, words):
    before, after = images(128, 128).astype(np.float32 if kind == "nan" else np.uint8)
    after[:] = {"nodata": 0, "constant": 9, "nan": np.nan}[kind]
    with pytest.raises(DataError, match=words):
        run(tmp_path, before, after, profile={"nodata": 0} if kind == "nodata" else {})
    assert not (tmp_path / "c.gpkg").exists()


@pytest.fixture(scope="module")
def rendered():
    scene = Scene(SceneSpec(seed=3, width=288, height=256, layout="suburb"))
    view = scene.render(Window(0, 0, 256, 288))
    return view.before, view.after


def test_batch_size_threads_and_block_layout_change_nothing_that_shows(tmp_path, rendered):
    """The embedded model; bands of other heights come from blocks of other heights and from another row order."""
    model, small = load_model(), {"window": 128, "overlap": 32}
    threads = torch.get_num_threads()
    base = run(tmp_path, *rendered, model=model, batch_size=1, **small).astype(int)
    assert (base < 255).all()
    assert base.max() > 60, "there is something to compare"
    try:
        torch.set_num_threads(8)
        others = {
            "threads": run(tmp_path, *rendered, model=model, batch_size=1, **small),
            "batch and threads": run(tmp_path, *rendered, model=model, batch_size=32, **small),
        }
    finally:
        torch.set_num_threads(threads)
    others["strips"] = run(
        tmp_path, *rendered, model=model, batch_size=1, profile={"tiled": False, "blockysize": 7}, **small
    )
    for name, values in others.items():
        assert np.abs(values - base).max() <= 1, name
    np.testing.assert_array_equal(others["strips"], base)


@pytest.mark.parametrize("window", [64, 96, 160])
def test_other_band_heights_change_nothing_for_a_pointwise_network(tmp_path, window):
    before, after = images(300, 170)
    values = run(tmp_path, before, after, window=window, overlap=16)
    expected = np.rint(254 * pointwise_probability(before, after))
    assert np.abs(values.astype(int) - expected).max() <= 1


def test_a_raster_beyond_4_gb_is_begun_as_bigtiff(tmp_path):
    with new_geotiff(tmp_path / "large.tif", utm_grid(66_000, 66_000), bands=1, nodata=255):
        pass
    with new_geotiff(tmp_path / "small.tif", utm_grid(600, 600), bands=1, nodata=255):
        pass
    assert (tmp_path / "large.tif").read_bytes()[:4] == b"II+\0"
    assert (tmp_path / "small.tif").read_bytes()[:4] == b"II*\0"


@pytest.mark.faults
def test_a_cog_of_more_than_4_gpx_is_a_sound_bigtiff(tmp_path):
    """66,000 x 66,000 px, of which one strip at the end holds something."""
    grid = utm_grid(66_000, 66_000)
    raster = ProbabilityRaster(tmp_path / "p.tif", grid)
    strip, rest = np.zeros((512, 66_000), np.uint8), 66_000 % 512
    strip[:, ::3] = 200
    raster._files.close()
    with rasterio.open(tmp_path / "p.tif.rows.tif", "r+") as dataset:
        last = 66_000 - rest
        dataset.write(strip[None, :rest], window=((last, 66_000), (0, 66_000)))
    copy = {"driver": "COG", "compress": "ZSTD", "blocksize": 512, "overview_resampling": "average"}
    rasterio.shutil.copy(tmp_path / "p.tif.rows.tif", tmp_path / "p.tif", bigtiff="if_safer", **copy)
    assert (tmp_path / "p.tif").read_bytes()[:4] == b"II+\0"
    with rasterio.open(tmp_path / "p.tif") as dataset:
        overviews = len(dataset.overviews(1))
    assert overviews > 5
    verify(tmp_path / "p.tif", [[]] * (1 + overviews))
    with rasterio.open(tmp_path / "p.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1, window=((last, 66_000), (0, 66_000))), strip[:rest])
        assert (dataset.read(1, window=((0, 512), (0, 66_000))) == 255).all()
    raster.discard()


def everything_in(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def pair(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    return [write_image(folder / f"{i}.tif", x) for i, x in enumerate(images(128, 128))]


@pytest.mark.parametrize("option", ["output", "probability", "report"])
def test_a_name_that_is_too_long_is_refused_before_any_work(tmp_path, pair, option):
    for name in ("x" * 245, "x" * 300, "é" * 130):
        suffix = {"output": ".gpkg", "probability": ".tif", "report": ".html"}[option]
        options = {"output": tmp_path / "c.gpkg"} | {option: tmp_path / (name + suffix)}
        before = everything_in(tmp_path)
        with pytest.raises(OutputError, match="choose a shorter, plain name"):
            detect(DetectConfig(*pair, **options), model=STAND_IN)
        assert everything_in(tmp_path) == before


def test_inputs_whose_names_are_too_long_are_no_files(tmp_path, pair):
    long = "x" * 4000
    run = CliRunner().invoke
    for command in (
        ["inspect", str(pair[0]), long],
        ["detect", str(pair[0]), long, "-o", str(tmp_path / "c.gpkg")],
        ["detect", *map(str, pair), "-o", str(tmp_path / "c.gpkg"), "--aoi", long],
        ["polygons", long, "-o", str(tmp_path / "c.gpkg")],
    ):
        said = run(app, command)
        assert said.exit_code == 3, said.output
        assert "no such file" in said.stderr + said.stdout


def test_no_output_is_an_input_of_any_kind(tmp_path, pair):
    import geopandas
    import shapely

    aoi = tmp_path / "aoi.gpkg"
    geopandas.GeoDataFrame(geometry=[shapely.box(600_000, 3_349_960, 600_040, 3_350_000)], crs=32614).to_file(aoi)
    link = tmp_path / "link.tif"
    link.symlink_to(pair[0])
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"kept")
    before = everything_in(tmp_path)
    c = tmp_path / "c.gpkg"
    for options in (
        {"output": c, "probability": pair[0]},
        {"output": c, "probability": link},
        {"output": c, "report": pair[1]},
        {"output": aoi, "aoi": aoi},
        {"output": c, "report": model, "model": str(model)},
        {"output": c, "report": c},
    ):
        with pytest.raises(UsageError, match="is also an input or another output"):
            detect(DetectConfig(*pair, **options, overwrite=True), model=STAND_IN)
        assert everything_in(tmp_path) == before


READ_ONLY = """
set -e
mount -t tmpfs none "$1"
cp -r "$2"/. "$1"
mount -o remount,ro "$1"
shift 2
exec "$@"
"""


def test_a_read_only_folder_is_exit_7_and_nothing_is_touched(tmp_path, pair):
    """As root a folder's mode forbids nothing: a file system that is mounted read-only does."""
    place, source = tmp_path / "ro", tmp_path / "in"
    place.mkdir()
    shell = ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", str(place), str(source)]
    try:
        able = subprocess.run([*shell, "true"], capture_output=True).returncode == 0
    except OSError:
        able = False
    if not able:
        pytest.skip("a read-only mount is not permitted here")
    code = "import sys; from rscd.cli.app import app; app(sys.argv[1:])"
    inputs = [str(place / path.name) for path in pair]  # reading from there is fine
    command = [*shell, sys.executable, "-c", code, "detect", *inputs, "-o", str(place / "c.gpkg")]
    before = everything_in(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 7, done.stderr
    assert "not writable" in done.stderr
    assert everything_in(tmp_path) == before
    assert not list(place.iterdir())


def test_read_only_inputs_are_no_hindrance(tmp_path, pair):
    for path in pair:
        path.chmod(0o444)
    output = tmp_path / "c.gpkg"
    detect(DetectConfig(*pair, output, align="off"), model=STAND_IN)
    assert pyogrio.read_info(output, layer="extent")["features"] == 1
    assert sorted(p.name for p in pair[0].parent.iterdir()) == ["0.tif", "1.tif"]
