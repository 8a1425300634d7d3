"""The command line: one clear line and the right exit code for bad input, JSON alone on standard output."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pyogrio
import pytest
from conftest import write_image
from typer.testing import CliRunner

from rscd.cli.app import app

IMAGE = np.random.default_rng(0).integers(1, 255, (3, 128, 160), dtype=np.uint8)


def rscd(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def files(tmp_path):
    write_image(tmp_path / "before.tif", IMAGE)
    write_image(tmp_path / "after.tif", IMAGE[:, ::-1].copy())
    write_image(tmp_path / "one_band.tif", IMAGE[:1])
    write_image(tmp_path / "degrees.tif", IMAGE, crs="EPSG:4326")
    (tmp_path / "text.tif").write_text("<VRTDataset/>")
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps({"a": 1}))
    return tmp_path


@pytest.mark.parametrize(
    ("after", "options", "code", "words"),
    [
        ("missing.tif", [], 3, ["missing.tif", "no such file"]),
        ("text.tif", [], 3, ["text.tif", "GeoTIFF", "gdal_translate"]),
        ("degrees.tif", [], 3, ["degrees.tif", "does not overlap", "EPSG:4326", "EPSG:32614"]),
        ("one_band.tif", [], 3, ["one_band.tif", "1 band", "red, green, blue"]),
        ("after.tif", ["--model", "{}/model.safetensors"], 4, ["model.safetensors", "pickle"]),
        ("after.tif", ["--model", "nothing"], 4, ["nothing", "buildings"]),
        ("after.tif", ["--threshold", "1.5"], 2, ["--threshold 1.5"]),
        ("after.tif", ["--window", "100"], 2, ["--window 100", "multiple of 32"]),
        ("after.tif", ["--overlap", "448"], 2, ["--overlap 448"]),
        ("after.tif", ["--batch-size", "0"], 2, ["--batch-size 0"]),
        ("after.tif", ["--bands", "1,x"], 2, ["1,x"]),
        ("after.tif", ["--bands", "1,2"], 2, ["--bands 1,2", "3 bands"]),
        ("after.tif", ["--grid", "left"], 2, ["left", "before"]),
        ("after.tif", ["--aoi", "{}/none.geojson"], 3, ["none.geojson", "no such file"]),
        ("after.tif", ["--bands", "0,1,2"], 2, ["--bands 0,1,2"]),
        ("after.tif", ["--device", "cuda:99"], 2, ["cuda:99"]),
        ("after.tif", ["--device", "tpu"], 2, ["tpu"]),
        ("after.tif", ["--precision", "fp8"], 2, ["fp8"]),
        ("after.tif", ["--min-area", "-1"], 2, ["--min-area -1"]),
        ("after.tif", ["--probability", "{}/none/p.tif"], 7, ["none", "mkdir"]),
    ],
)
def test_bad_input_is_one_line_with_its_exit_code_and_leaves_nothing(files, after, options, code, words):
    before = sorted(p.name for p in files.iterdir())
    result = rscd(
        "detect", files / "before.tif", files / after, "-o", files / "c.gpkg", *(o.format(files) for o in options)
    )
    assert result.exit_code == code, result.output
    for word in words:
        assert word in result.stderr
    assert result.stderr.strip().count("\n") == 0 or "Usage" in result.stderr
    assert result.stdout == ""
    assert sorted(p.name for p in files.iterdir()) == before


def test_an_output_folder_that_does_not_exist_is_exit_7(files):
    result = rscd("detect", files / "before.tif", files / "after.tif", "-o", files / "none" / "c.gpkg")
    assert result.exit_code == 7
    assert "mkdir -p" in result.stderr
    assert not (files / "none").exists()


def test_json_is_alone_on_standard_output(files):
    result = rscd("detect", files / "before.tif", files / "after.tif", "-o", files / "c.gpkg", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["written"]["polygons"] == pyogrio.read_info(files / "c.gpkg", layer="changes")["features"]
    assert told["windows"] == 1
    assert result.stderr == ""


def test_the_summary_says_what_was_not_observable_and_the_licence(files):
    result = rscd("detect", files / "before.tif", files / "after.tif", "-o", files / "c.gpkg")
    assert "device cpu" in result.stderr or "device cuda" in result.stderr
    assert "non-commercial" in result.stderr
    assert "not observable" in result.stderr
    assert "0.0000 km2" in result.stderr
    assert result.stdout == ""


def test_paths_with_odd_characters(files):
    odd = files / "it's #1? [ü] 100%.gpkg"
    assert rscd("detect", files / "before.tif", files / "after.tif", "-o", odd).exit_code == 0
    assert pyogrio.read_info(odd, layer="changes")["crs"] == "EPSG:32614"


def test_models_list_show_verify():
    told = json.loads(rscd("models", "list", "--json").stdout)
    assert told["buildings"]["encoder"] == "lite"
    assert json.loads(rscd("models", "show", "buildings", "--json").stdout) == told["buildings"]
    assert "buildings" in rscd("models", "list").stdout
    shown = " ".join(rscd("models", "show", "buildings").stdout.split())
    assert f"one_date ({len(told['buildings']['training']['one_date'])} entries, see --json)" in shown
    assert "bands red, green, blue radiometry uint8" in shown
    result = rscd("models", "verify", "buildings")
    assert result.exit_code == 0
    assert told["buildings"]["sha256"] in result.output
    assert rscd("models", "verify", "nothing").exit_code == 4


def test_objects_are_not_looked_through_once_more_at_the_end():
    code = "import gc; from rscd.cli.app import main\ntry: main()\nexcept SystemExit: print(gc.get_freeze_count())"
    told = subprocess.check_output([sys.executable, "-c", code, "--version"], text=True).split()
    assert int(told[-1]) > 10_000


def test_an_interrupt_that_comes_in_a_finaliser_is_not_lost():
    code = """
import signal, time
import typer
from rscd.cli.console import exit_codes

class Last:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
        print("not reached")

try:
    with exit_codes():
        Last()
        time.sleep(60)
except typer.Exit as error:
    raise SystemExit(error.exit_code)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (run.returncode, run.stdout) == (5, ""), run.stderr
    assert "interrupted" in run.stderr
    assert "ignored" not in run.stderr
