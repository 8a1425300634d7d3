"""The stream of ``--progress json``: one JSON object a line on standard error, and nothing else there."""

import json
import subprocess
import sys

import pytest
from conftest import write_image


@pytest.fixture(scope="module")
def pair(tmp_path_factory, place):
    folder = tmp_path_factory.mktemp("stream")
    for date in ("before", "after"):
        write_image(folder / f"{date}.tif", getattr(place, date)[:, :160, :160])
    return folder


def rscd(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "rscd", *arguments], cwd=folder, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout, done.stderr


def events(text):
    return [json.loads(line) for line in text.splitlines()]


def test_detect_tells_messages_and_progress_beside_its_result(pair):
    detect = "detect", "before.tif", "after.tif", "-o", "c.gpkg"
    code, out, err = rscd(pair, *detect, "--json", "--progress", "json")
    assert code == 0, err
    assert json.loads(out)["written"]["geopackage"] == "c.gpkg"
    told = events(err)
    progress = [event for event in told if event["event"] == "progress"]
    assert {(event["stage"], event["unit"], event["total"]) for event in progress} == {("detect", "Mpx", 0.0256)}
    assert progress[-1]["done"] == progress[-1]["total"]
    words = [event["text"] for event in told if event["event"] == "message"]
    assert any(text.startswith("model buildings") for text in words)
    assert "written: c.gpkg" in words

    code, out, err = rscd(pair, *detect, "--progress", "json", "--quiet")
    assert (code, out) == (2, "")
    (error,) = events(err)
    assert error == {
        "event": "error",
        "text": "c.gpkg: exists already",
        "remedy": "add --overwrite to replace it",
        "exit_code": 2,
    }


def test_quiet_means_errors_only_and_off_means_messages_without_a_bar(pair):
    detect = "detect", "before.tif", "after.tif", "-o", "quiet.gpkg", "--overwrite"
    assert rscd(pair, *detect, "--progress", "json", "--quiet") == (0, "", "")
    code, out, err = rscd(pair, *detect, "--progress", "off")
    assert (code, out) == (0, "")
    assert "model buildings" in err and "{" not in err


def test_training_tells_its_stages(tiny_tiles, tmp_path):
    options = "-o", "m.safetensors", "--crop", "64", "--crops", "4", "--epochs", "1", "--batch-size", "2"
    code, _, err = rscd(tmp_path, "train", str(tiny_tiles), *options, "--json", "--progress", "json")
    assert code == 0, err
    progress = [event for event in events(err) if event["event"] == "progress"]
    assert {event["stage"] for event in progress} == {"train", "validate"}
    assert any("loss" in event.get("note", "") for event in progress)
    assert all(0 <= event["done"] <= event["total"] for event in progress)


def test_the_choice_holds_for_one_command_only(pair):
    code = (
        "import sys\nfrom typer.testing import CliRunner\n"
        "from rscd.cli.app import app\nfrom rscd.cli.console import way\n"
        "CliRunner().invoke(app, ['detect', 'no.tif', 'no.tif', '-o', 'x.gpkg', '--progress', 'json'])\n"
        "sys.exit(way() != 'auto')"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=pair).returncode == 0
