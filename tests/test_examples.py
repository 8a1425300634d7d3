"""The examples that run on rendered data, as they are typed; opt in with ``-m slow``."""

import re
import subprocess
import sys

import pytest
from conftest import REPOSITORY


def run(name: str, folder) -> str:
    command = [sys.executable, str(REPOSITORY / "examples" / name), str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_a_first_map(tmp_path):
    said = run("first_map.py", tmp_path)
    assert "The pair is fit" in said
    assert re.search(r"\d+ changes by buildings", said)
    assert (tmp_path / "changes.gpkg").exists()


@pytest.mark.slow
def test_fine_tuning_gains(tmp_path):
    said = run("fine_tune.py", tmp_path)
    found = re.search(r"F1 of pixels on 6 held-out tiles: (\S+) before, (\S+) after", said)
    assert float(found[2]) > float(found[1]) + 0.05
