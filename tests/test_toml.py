"""Files of options: read, refused, printed; what is typed wins."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from conftest import write_image

from rscd.core.errors import DataError, UsageError
from rscd.options.batch import BatchConfig
from rscd.options.declare import declared
from rscd.options.detect import DetectConfig
from rscd.options.toml import read_options, template
from rscd.options.training import TrainConfig


def written(path, text):
    path.write_text(text)
    return path


def test_paths_count_from_the_files_folder(tmp_path):
    path = written(
        tmp_path / "run.toml",
        'before = "in/b.tif"\nafter = "/data/a.tif"\nmodel = "buildings"\nbands = "3,2,1/1,2,3"\nnir = 4\n',
    )
    found = read_options(path, declared(DetectConfig))
    assert found["before"] == str(tmp_path / "in/b.tif")
    assert found["after"] == "/data/a.tif"
    assert found["model"] == "buildings"
    assert (found["bands"], found["after_bands"], found["nir"]) == ((3, 2, 1), (1, 2, 3), 4)
    path.write_text('data = ["tiles", "more"]\ninit = "old.safetensors"\n')
    found = read_options(path, declared(TrainConfig))
    assert found == {
        "data": [str(tmp_path / "tiles"), str(tmp_path / "more")],
        "init": str(tmp_path / "old.safetensors"),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("thresold = 0.5", "contains thresold, which is not an option here - did you mean threshold"),
        ("colour = 1", "contains colour, which is not an option here"),
        ("threshold 0.5", "invalid TOML"),
    ],
)
def test_what_is_no_option_is_refused(tmp_path, text, words):
    with pytest.raises(UsageError, match=words):
        read_options(written(tmp_path / "run.toml", text), declared(DetectConfig))


def test_a_file_that_is_missing_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_options(tmp_path / "run.toml", declared(DetectConfig))


@pytest.mark.parametrize("group", [DetectConfig, TrainConfig, BatchConfig])
def test_a_template_without_its_marks_gives_the_defaults(tmp_path, group):
    text = template("command", declared(group))
    assert tomllib.loads(text) == {}
    plain = "\n".join(m[1] for m in re.finditer(r"(?m)^# (\w+ = [^<\n].*)$", text))
    found = read_options(written(tmp_path / "run.toml", plain), declared(group))
    defaults = {option.name: option.default for option in declared(group)}
    assert found
    for name, value in found.items():
        assert (tuple(value) if isinstance(value, list) else value) == defaults[name], name


def rscd(*words, cwd):
    command = [sys.executable, "-m", "rscd", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


def test_a_run_from_a_file_and_what_is_typed_wins(tmp_path):
    rng = np.random.default_rng(0)
    before, after = (
        write_image(tmp_path / f"{name}.tif", rng.integers(1, 255, (3, 96, 96), dtype=np.uint8)) for name in "ba"
    )
    (tmp_path / "here").mkdir()
    path = written(
        tmp_path / "run.toml", f'before = "{before}"\nafter = "{after}"\noutput = "c.gpkg"\nthreshold = 0.9\n'
    )
    done = rscd("detect", "--config", path, "--threshold", "0.6", "--json", cwd=tmp_path / "here")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["threshold"] == 0.6
    assert Path(found["written"]["geopackage"]) == tmp_path / "c.gpkg"
    assert (tmp_path / "c.gpkg").exists()


def test_what_config_prints_is_read_back(tmp_path):
    for command in ("detect", "inspect", "polygons", "batch", "train", "evaluate"):
        done = rscd("config", command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"# Options of rscd {command}")
        path = written(tmp_path / "run.toml", done.stdout)
        again = rscd(command, "--config", path, cwd=tmp_path)
        assert again.returncode == 2
        assert re.match(r"rscd: no [-\w ]+", again.stderr), again.stderr
