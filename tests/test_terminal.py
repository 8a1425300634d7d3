"""Every command as a person types it: bars and messages share the screen, Ctrl-C is heard, nothing is garbled."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import rasterio
from rasterio.windows import Window
from terminal import type_command

BAR = "\N{BOX DRAWINGS HEAVY HORIZONTAL}"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("terminal")
    return folder, type_command("demo", "-o", "demo", folder=folder)


@pytest.fixture(scope="module")
def pair(demo):
    """A corner of the demo's place as files of their own: before, after, folder."""
    folder, _ = demo
    for name in ("before", "after"):
        with rasterio.open(folder / "demo" / f"{name}.tif") as source:
            part = Window(300, 300, 512, 448)
            profile = source.profile | {
                "width": part.width,
                "height": part.height,
                "transform": source.window_transform(part),
            }
            with rasterio.open(folder / f"{name}.tif", "w", **profile) as target:
                target.write(source.read(window=part))
    return folder


def assert_tidy(typed, bar=None):
    """No traceback; the bar, if one is due, came to its end on a line of its own."""
    assert "Traceback" not in typed.raw, typed.text
    bars = [line for line in typed.screen if BAR in line]
    if bar is None:
        assert not bars, typed.text
        return
    assert bars and all(line.startswith(bar) for line in bars), typed.text
    assert "100%" in bars[-1], typed.text


def test_the_first_command_of_the_readme(demo):
    folder, typed = demo
    assert typed.code == 0, typed.text
    assert_tidy(typed, "detect")
    assert "2.0/2.0 Mpx" in typed.text
    assert any(line.startswith("device cpu") or line.startswith("device cuda") for line in typed.screen)
    assert (folder / "demo" / "changes.gpkg").exists()


def test_ctrl_c_and_the_same_command_again(demo):
    folder, _ = demo
    command = "detect", "demo/before.tif", "demo/after.tif", "-o", "again.gpkg"
    typed = type_command(*command, folder=folder, interrupt_at=r" [1-9]\d?%")
    assert typed.code == 5, typed.text
    assert "Traceback" not in typed.raw
    assert f"to continue this run: rscd {' '.join(command)}" in typed.text.replace("\n", "")
    assert not (folder / "again.gpkg").exists()
    typed = type_command(*command, folder=folder, width=200)
    assert typed.code == 0, typed.text
    assert_tidy(typed, "detect")
    assert "resumed" in typed.text
    typed = type_command(*command, folder=folder)
    assert (typed.code, len(typed.screen)) == (2, 1), typed.text
    assert_tidy(typed)


@pytest.mark.parametrize("width", [40, 200])
def test_detect_and_polygons_on_terminals_of_any_width(pair, width):
    typed = type_command(
        *("detect", "before.tif", "after.tif", "-o", f"{width}.gpkg", "--threshold", "0.6"),
        *("--probability", f"{width}.tif"),
        width=width,
        folder=pair,
    )
    assert typed.code == 0, typed.text
    assert_tidy(typed, "detect")
    assert "p >= 0.6," in typed.text  # as it was typed, not the nearest of the raster's values
    assert ("Mpx" in "".join(line for line in typed.screen if BAR in line)) == (width > 40)
    typed = type_command("polygons", f"{width}.tif", "-o", f"{width}.fgb", width=width, folder=pair)
    assert typed.code == 0, typed.text
    assert_tidy(typed, "polygons")


def test_batch_shows_a_bar_and_a_line_a_pair(pair):
    with (pair / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "before", "after"), ("one", "before.tif", "after.tif")])
    typed = type_command("batch", "pairs.csv", "-o", "many", folder=pair)
    assert typed.code == 0, typed.text
    assert_tidy(typed, "batch")
    assert re.search(r"\[1/1\] one: \d+ changes?, ", typed.text), typed.text
    assert (pair / "many" / "summary.gpkg").exists()


def test_train_and_evaluate(demo):
    folder, _ = demo
    pair = "--pair", "demo/before.tif", "demo/after.tif", "demo/changes.gpkg"
    typed = type_command(
        *("train", *pair, "--init", "buildings", "--epochs", "1", "--crops", "8", "--crop", "128"),
        *("-o", "mine.safetensors"),
        folder=folder,
    )
    assert typed.code == 0, typed.text
    assert "Traceback" not in typed.raw
    bar = [line for line in typed.screen if line.startswith("train") and BAR in line]
    assert bar and "8/8 crops" in bar[-1], typed.text
    assert any(line.startswith("epoch 1: loss") for line in typed.screen)
    typed = type_command("evaluate", *pair, "--model", "mine.safetensors", width=40, folder=folder)
    assert typed.code == 0, typed.text
    assert "Traceback" not in typed.raw
    assert "F1 " in typed.text  # a table as wide as this would be cut: names and values instead


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["detect", "before.tif", "missing.tif", "-o", "new.gpkg"], 3, "missing.tif: no such file"),
        (["detect", "before.tif", "after.tif", "-o", "before.gpkg"], 2, "exists already"),
        (["detect", "before.tif", "after.tif", "-o", "new.gpkg", "--window", "100"], 2, "--window 100"),
        (["detect", "before.tif", "after.tif", "-o", "new.gpkg", "--align", "on"], 2, "'auto', 'off'"),
        (["detect", "before.tif", "after.tif", "-o", "new.shp"], 2, "new.shp"),
        (["detect", "before.tif", "after.tif", "-o", "new.gpkg", "--model", "nothing"], 4, "no such model"),
        (["polygons", "missing.tif", "-o", "new.gpkg"], 3, "missing.tif: no such file"),
        (["polygons", "before.tif", "-o", "before.gpkg"], 2, "exists already"),
        (["batch", "missing.csv", "-o", "many"], 3, "missing.csv: no such file"),
        (["inspect", "before.tif", "missing.tif"], 3, "missing.tif"),
    ],
)
def test_what_can_be_known_without_torch_is_said_before_it_is_loaded(tmp_path, arguments, code, words):
    for name in ("before.tif", "after.tif", "before.gpkg"):
        (tmp_path / name).write_bytes(b"there")
    program = (
        f"import sys\nsys.argv = ['rscd', *{arguments!r}]\nfrom rscd.cli.app import main\n"
        "try:\n    main()\nfinally:\n"
        "    print([m for m in ('torch', 'rasterio', 'scipy', 'pyogrio', 'geopandas') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"


def run_with(streams, *arguments, folder):
    """Run rscd under ``sh`` with its streams redirected; returns the exit code and what came on the other one."""
    line = f'"$0" -m rscd "$@" {streams}'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, *arguments], capture_output=True, text=True, cwd=folder
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("streams", ["2>/dev/full", ">&- 2>&-", "2>&1 | true"])
def test_a_run_whose_messages_nobody_can_read_is_done_all_the_same(pair, streams):
    output = pair / f"quiet{abs(hash(streams))}.gpkg"
    code, stdout, stderr = run_with(streams, "detect", "before.tif", "after.tif", "-o", output.name, folder=pair)
    assert (code, stdout, stderr) == (0, "", "")
    assert output.read_bytes()[:6] == b"SQLite"


@pytest.mark.parametrize("streams", [">&-", ">/dev/full", "| true"])
def test_json_that_cannot_be_printed_is_exit_7_and_says_what_was_published(pair, streams):
    output = pair / f"json{abs(hash(streams))}.gpkg"
    streams += ' ; exit "${PIPESTATUS[0]}"' if "|" in streams else ""
    line = f'"$0" -m rscd "$@" {streams}'
    command = ["bash", "-c", line, sys.executable, "detect", "before.tif", "after.tif", "-o", output.name, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=pair)
    assert done.returncode == 7, done.stderr
    assert "standard output" in done.stderr
    assert f"{output.name} is written" in done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert output.exists()


@pytest.mark.parametrize("streams", ["| true", ">/dev/full"])
@pytest.mark.parametrize("arguments", [["--help"], ["models", "list"], ["inspect", "before.tif", "after.tif"]])
def test_no_traceback_where_the_reader_has_gone(pair, streams, arguments):
    _, _, stderr = run_with(streams, *arguments, folder=pair)
    assert "Traceback" not in stderr
    assert "Exception ignored" not in stderr
    assert len(stderr.strip().splitlines()) == (streams == ">/dev/full"), stderr


def test_help_in_short_and_choices_as_they_are_typed():
    text = type_command("detect", "-h", width=120).text
    assert "[auto|off]" in text
    assert "[before|after]" in text
    assert "<str>" not in text.split("--align")[1].splitlines()[0]


def test_shell_completion_completes(tmp_path):
    environment = {**os.environ, "_RSCD_COMPLETE": "complete_bash", "COMP_WORDS": "rscd det", "COMP_CWORD": "1"}
    program = "import sys; sys.argv = ['rscd']; from rscd.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "detect"


def test_json_is_one_object_through_a_pipe(pair):
    done = subprocess.run(
        [sys.executable, "-m", "rscd", "inspect", "before.tif", "after.tif", "--json"],
        capture_output=True,
        text=True,
        cwd=pair,
    )
    assert json.loads(done.stdout)["verdict"] == "fit"
    assert Path(json.loads(done.stdout)["before"]["path"]).name == "before.tif"
