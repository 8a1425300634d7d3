"""Archives never stick: one bad pair fails by name, the others and the summary are made."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import pyogrio
import pytest
from conftest import write_image
from test_cli import rscd

from rscd.model.catalog import embedded

SMALL = ["--device", "cpu", "--window", "96", "--no-report"]
WITHOUT_DASK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("dask", "distributed"):
            raise ImportError(f"{name} is not installed")
sys.meta_path.insert(0, Blocked())
from rscd.cli.app import main
main()
"""


def two_dates(folder, name, seed=0):
    rng = np.random.default_rng(seed)
    before = rng.integers(60, 200, (3, 128, 128), dtype=np.uint8)
    write_image(folder / f"{name}_b.tif", before)
    write_image(folder / f"{name}_a.tif", before[:, ::-1].copy())
    return f"{name},{name}_b.tif,{name}_a.tif"


@pytest.fixture
def place(tmp_path):
    lines = [two_dates(tmp_path, name, k) for k, name in enumerate(("good", "dir", "file", "cut"))]
    (tmp_path / "cut_a.tif").write_bytes((tmp_path / "cut_a.tif").read_bytes()[:20_000])
    lines.append("ledger.sqlite-wal,good_b.tif,good_a.tif")
    (tmp_path / "out" / "own").mkdir(parents=True)
    write_image(tmp_path / "out" / "own" / "changes.gpkg", np.ones((3, 128, 128), np.uint8))
    lines.append("own,out/own/changes.gpkg,good_a.tif")
    (tmp_path / "m.csv").write_text("\n".join(["id,before,after", *lines]))
    (tmp_path / "out" / "dir" / "changes.gpkg").mkdir(parents=True)
    (tmp_path / "out" / "file").write_text("in the way")
    return tmp_path


def test_bad_pairs_fail_by_name_and_stop_nothing(place):
    done = rscd("batch", place / "m.csv", "-o", place / "out", *SMALL)
    assert done.exit_code == 6, done.output
    pairs = pyogrio.read_dataframe(place / "out" / "summary.gpkg", layer="pairs").set_index("pair_id")
    assert pairs.status.to_dict() == {
        "good": "done",
        "dir": "failed",
        "file": "failed",
        "cut": "failed",
        "ledger.sqlite-wal": "failed",
        "own": "failed",
    }
    assert "is a folder" in pairs.error["dir"]
    assert "is a file, but the pair's folder must be here" in pairs.error["file"]
    assert "is the name of a file of the archive" in pairs.error["ledger.sqlite-wal"]
    assert "is also an input" in pairs.error["own"]
    assert pairs.verdict["good"] and pairs.model["good"].startswith("buildings")
    assert 0 < pairs.valid_share["good"] <= 1
    assert "buildings" in (place / "out" / "index.html").read_text()
    assert (place / "out" / "file").read_text() == "in the way"


def test_a_pair_that_lost_a_layer_fails_by_name(tmp_path):
    lines = [two_dates(tmp_path, name, k) for k, name in enumerate("ab")]
    (tmp_path / "m.csv").write_text("\n".join(["id,before,after", *lines]))
    command = "batch", tmp_path / "m.csv", "-o", tmp_path / "out", *SMALL
    assert rscd(*command).exit_code == 0
    with closing(sqlite3.connect(tmp_path / "out" / "a" / "changes.gpkg")) as database, database:
        database.execute("DELETE FROM gpkg_geometry_columns WHERE table_name = 'extent'")
        database.execute("DELETE FROM gpkg_contents WHERE table_name = 'extent'")
        database.execute("DROP TABLE extent")
    done = rscd(*command)
    assert done.exit_code == 6, done.output
    pairs = pyogrio.read_dataframe(tmp_path / "out" / "summary.gpkg", layer="pairs").set_index("pair_id")
    assert pairs.status.to_dict() == {"a": "failed", "b": "done"}


@pytest.mark.parametrize("name", ["summary.gpkg", "index.html"])
def test_a_folder_where_the_summary_is_to_be_is_refused_before_the_pairs_run(tmp_path, name):
    (tmp_path / "m.csv").write_text("id,before,after\n" + two_dates(tmp_path, "a"))
    (tmp_path / "out" / name).mkdir(parents=True)
    done = rscd("batch", tmp_path / "m.csv", "-o", tmp_path / "out", *SMALL)
    assert done.exit_code == 2, done.output
    assert f"{name}: is a folder" in done.stderr
    assert not (tmp_path / "out" / "a").exists()


@pytest.mark.parametrize("how", ["locked", "damaged", "foreign"])
def test_a_ledger_that_cannot_be_used_is_one_line(tmp_path, how):
    (tmp_path / "m.csv").write_text("id,before,after\n" + two_dates(tmp_path, "a"))
    out = tmp_path / "out"
    out.mkdir()
    holder = sqlite3.connect(out / "ledger.sqlite", isolation_level=None)
    holder.execute("CREATE TABLE pairs (name TEXT)" if how == "foreign" else "CREATE TABLE other (a)")
    if how == "locked":
        holder.execute("BEGIN EXCLUSIVE")
    else:
        holder.close()
    if how == "damaged":
        (out / "ledger.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 8192)
    done = rscd("batch", tmp_path / "m.csv", "-o", out, *SMALL)
    holder.close()
    assert done.exit_code == 7, done.output
    assert len(done.stderr.strip().splitlines()) == 1
    assert "close it there" in done.stderr if how == "locked" else "move it away" in done.stderr


def test_batch_needs_no_dask(tmp_path):
    lines = [two_dates(tmp_path, f"p{k}", k) for k in range(2)]
    (tmp_path / "m.csv").write_text("\n".join(["id,before,after", *lines]))
    command = [sys.executable, "-c", WITHOUT_DASK, "batch", str(tmp_path / "m.csv"), "-o", str(tmp_path / "out")]
    done = subprocess.run([*command, *SMALL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert pyogrio.read_info(tmp_path / "out" / "summary.gpkg", layer="pairs")["features"] == 2
    assert (tmp_path / "out" / "index.html").is_file()
    asked = subprocess.run([*command, *SMALL, "--scheduler", "tcp://127.0.0.1:1"], capture_output=True, text=True)
    assert asked.returncode in (0, 2), asked.stderr  # all is done: no worker is needed
    assert "Traceback" not in asked.stderr


def test_a_scheduler_or_workers_of_our_own(tmp_path):
    (tmp_path / "m.csv").write_text("id,before,after\n" + two_dates(tmp_path, "a"))
    both = "--scheduler", "tcp://127.0.0.1:1", "--workers", "2"
    done = rscd("batch", tmp_path / "m.csv", "-o", tmp_path / "out", *both)
    assert done.exit_code == 2
    assert "--scheduler and --workers" in done.stderr


def test_a_scheduler_without_a_worker_is_waited_for_and_then_given_up(tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("rscd.jobs.schedule.SAY_S", 0.5)
    (tmp_path / "m.csv").write_text("id,before,after\n" + two_dates(tmp_path, "a"))
    options = {"n_workers": 0, "processes": False, "dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}
    with distributed.LocalCluster(**options, protocol="tcp") as empty:
        address = empty.scheduler_address
        command = "batch", tmp_path / "m.csv", "-o", tmp_path / "out", *SMALL, "--scheduler", address
        done = rscd(*command, "--wait", 2)
    assert done.exit_code == 2, done.output
    said = [line for line in done.stderr.splitlines() if "waiting for workers" in line]
    assert 2 <= len(said) <= 6
    assert "of 2 s" in said[0]
    assert "no worker connected in 2 s - start some: dask worker" in done.stderr


def test_workers_of_our_own_and_models_of_each_pair(tmp_path):
    pytest.importorskip("distributed")
    own = shutil.copy(embedded()["buildings"], tmp_path / "own.safetensors")
    lines = [f"{two_dates(tmp_path, name, k)},{model}" for k, (name, model) in enumerate((("a", ""), ("b", own)))]
    (tmp_path / "m.csv").write_text("\n".join(["id,before,after,model", *lines]))
    done = rscd("batch", tmp_path / "m.csv", "-o", tmp_path / "out", *SMALL, "--workers", 2, "--json")
    assert done.exit_code == 0, done.output
    pairs = {pair["id"]: pair for pair in json.loads(done.stdout)["entries"]}
    assert {name: pair["state"] for name, pair in pairs.items()} == {"a": "done", "b": "done"}
    for pair in pairs.values():
        assert pair["verdict"] and pair["model"].startswith("buildings")
    told = pyogrio.read_info(tmp_path / "out" / "b" / "changes.gpkg", layer="changes")["layer_metadata"]
    assert "own.safetensors" in json.loads(told["options"])["model"]


def test_ctrl_c_ends_a_long_run_with_5_and_the_next_goes_on(tmp_path):
    rng = np.random.default_rng(0)
    lines = []
    for name in "ab":
        before = rng.integers(60, 200, (3, 1400, 1400), dtype=np.uint8)
        write_image(tmp_path / f"{name}_b.tif", before)
        write_image(tmp_path / f"{name}_a.tif", before[:, ::-1].copy())
        lines.append(f"{name},{name}_b.tif,{name}_a.tif")
    (tmp_path / "m.csv").write_text("\n".join(["id,before,after", *lines]))
    command = [sys.executable, "-m", "rscd", "batch", str(tmp_path / "m.csv"), "-o", str(tmp_path / "out")]
    restored = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    first = subprocess.Popen([*command, "--no-report"], stderr=subprocess.PIPE, text=True, **restored)
    for _ in range(600):
        if list((tmp_path / "out").glob("a/changes.gpkg.rscd/*.strip")):
            break
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 5, said
    assert "Traceback" not in said
    assert "rscd batch" in said.splitlines()[-1]
    again = subprocess.run([*command, "--no-report", "--max-pairs", "1"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    told = pyogrio.read_info(tmp_path / "out" / "a" / "changes.gpkg", layer="changes")["layer_metadata"]
    assert json.loads(told["run"])["bands_resumed"] > 0
