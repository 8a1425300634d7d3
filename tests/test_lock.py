"""The lock of an output: one run at a time, named, and gone with its process."""

import os
import signal
import subprocess
import sys

import pytest

from rscd.core.errors import OutputError
from rscd.core.paths import LOCK_NAME, run_folder
from rscd.core.publish import locked

HOLD = """
import sys
from pathlib import Path
from rscd.core.publish import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "c.gpkg")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_is_told_who_holds_it(tmp_path, holder):
    with pytest.raises(OutputError, match=f"process {holder.pid} on .* is writing it"), locked(tmp_path / "c.gpkg"):
        pass
    with locked(tmp_path / "other.gpkg") as folder:
        assert folder == run_folder(tmp_path / "other.gpkg")


def test_a_killed_run_leaves_a_lock_that_the_next_one_takes(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (run_folder(tmp_path / "c.gpkg") / LOCK_NAME).exists()
    with locked(tmp_path / "c.gpkg") as folder:
        assert str(os.getpid()) in (folder / LOCK_NAME).read_text()
    assert not folder.exists()


def test_the_folder_stays_while_strips_are_in_it(tmp_path):
    with locked(tmp_path / "c.gpkg") as folder:
        (folder / "000000.strip").write_bytes(b"x")
    assert (folder / "000000.strip").exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    with pytest.raises(OutputError, match="could not be created"), locked(tmp_path / "missing" / "c.gpkg"):
        pass
