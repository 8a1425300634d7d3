"""Archives end to end, on a real Dask cluster of two worker processes, with the embedded model."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pyogrio
import pytest
from conftest import write_pair
from typer.testing import CliRunner

from rscd import detect
from rscd.cli.app import app
from rscd.core.errors import UsageError
from rscd.jobs.schedule import workers
from rscd.options.batch import BatchConfig
from rscd.options.detect import DetectConfig
from rscd.workflows.batch import batch
from rscd.workflows.pair import worker_model

SMALL = {"window": 64, "overlap": 16, "batch_size": 2, "threshold": 0.02}
OPTIONS = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()] + ["--no-report"]


def rscd(*arguments):
    return CliRunner().invoke(app, ["batch", *map(str, arguments)])


def ledger(folder, columns="id, state, error, runs"):
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as database:
        return database.execute(f"SELECT {columns} FROM pairs ORDER BY position").fetchall()


def features(path):
    """Attributes and geometries of the changes."""
    _, table = pyogrio.read_arrow(path, layer="changes")
    return table.to_pylist()


def twelve(folder, place):
    """Twelve pairs, of which one is cut off and one is of two places."""
    lines = [write_pair(folder, f"p{i:02}", place, 128 * (i // 4), 128 * (i % 4)) for i in range(12)]
    cut_off = folder / "after" / "p03.tif"
    cut_off.write_bytes(cut_off.read_bytes()[:9000])
    write_pair(folder, "p07", place, 128, 384)
    write_pair(folder / "far", "p07", place, 128, 384, side=64)
    from rasterio import open as open_raster

    with open_raster(folder / "after" / "p07.tif", "r+") as dataset:
        dataset.transform = dataset.transform.translation(100_000, 0) @ dataset.transform
    (folder / "m.csv").write_text("\n".join(["id,before,after", *lines]) + "\n")
    return folder / "m.csv"


@pytest.fixture(scope="module")
def archive(tmp_path_factory, place, cluster):
    """The first run over twelve pairs: its folder and what it said."""
    folder = tmp_path_factory.mktemp("archive")
    manifest = twelve(folder, place)
    result = rscd(manifest, "-o", folder / "out", "--scheduler", cluster.scheduler_address, *OPTIONS)
    return folder, result


def test_two_broken_pairs_of_twelve_stop_nothing(archive):
    folder, result = archive
    assert result.exit_code == 6, result.output
    states = {name: (state, error) for name, state, error, _ in ledger(folder / "out")}
    assert [name for name, (state, _) in states.items() if state == "failed"] == ["p03", "p07"]
    assert "after/p03.tif" in states["p03"][1]
    assert "does not overlap" in states["p07"][1]
    for word in ("p03", "p07", "does not overlap", "10 done, 2 failed"):
        assert word in " ".join(result.stderr.split())
    assert len(list((folder / "out").glob("*/changes.gpkg"))) == 10
    assert not [path for path in (folder / "out").rglob(".*")]


def test_the_summary_joins_all_changes_and_tells_of_all_pairs(archive):
    folder, _ = archive
    joined = features(folder / "out" / "summary.gpkg")
    expected = []
    for name, state, *_ in ledger(folder / "out"):
        if state == "done":
            expected += [{"pair_id": name} | f for f in features(folder / "out" / name / "changes.gpkg")]
    assert joined == expected
    assert joined
    pairs = pyogrio.read_dataframe(folder / "out" / "summary.gpkg", layer="pairs")
    assert pairs.crs.to_epsg() == 32614
    assert (pairs.status == "done").sum() == 10
    assert pairs.geometry[0].area == pytest.approx(64 * 64)
    assert pairs.error[7].count("does not overlap") == 1
    assert pairs.geometry[7] is not None


def test_the_index_lists_the_pairs_and_why_two_failed(archive):
    folder, _ = archive
    page = (folder / "out" / "index.html").read_text()
    assert 'href="p00/changes.gpkg"' in page
    assert "<h2>Failed</h2>" in page
    assert "does not overlap" in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_second_run_does_nothing_but_retry_the_two(archive, cluster):
    folder, _ = archive
    stamps = {p: p.stat().st_mtime_ns for p in (folder / "out").glob("*/changes.gpkg")}
    again = [folder / "m.csv", "-o", folder / "out", "--scheduler", cluster.scheduler_address, *OPTIONS]
    assert rscd(*again).exit_code == 6
    runs = {name: count for name, _, _, count in ledger(folder / "out")}
    assert runs.pop("p03") == runs.pop("p07") == 2
    assert set(runs.values()) == {1}
    assert stamps == {p: p.stat().st_mtime_ns for p in (folder / "out").glob("*/changes.gpkg")}


def test_changed_inputs_and_lost_outputs_run_anew_and_mended_pairs_too(archive, place, cluster):
    folder, _ = archive
    write_pair(folder, "p03", place, 0, 384)
    write_pair(folder, "p07", place, 128, 384)
    write_pair(folder, "p00", place, 384, 384)
    (folder / "out" / "p01" / "changes.gpkg").unlink()
    before = {name: count for name, _, _, count in ledger(folder / "out")}
    again = [folder / "m.csv", "-o", folder / "out", "--scheduler", cluster.scheduler_address, *OPTIONS]
    result = rscd(*again)
    assert result.exit_code == 0, result.output
    after = {name: count for name, _, _, count in ledger(folder / "out")}
    assert [name for name in after if after[name] > before[name]] == ["p00", "p01", "p03", "p07"]
    assert {state for _, state, *_ in ledger(folder / "out")} == {"done"}


def test_the_model_was_loaded_once_a_worker(archive, cluster):
    from distributed import Client

    with Client(cluster.scheduler_address, set_as_default=False) as client:
        misses = client.run(lambda: worker_model.cache_info().misses)
    assert set(misses.values()) <= {0, 1}
    assert max(misses.values()) == 1


def batch_config(folder, cluster, manifest, **more):
    shared = DetectConfig(Path(), Path(), Path(), probability=Path(), **SMALL)
    return BatchConfig(folder, shared, manifest=manifest, scheduler=cluster.scheduler_address, **more)


def test_a_killed_worker_costs_nothing(tmp_path, place, cluster):
    sides = 128, 400, 128, 128, 128
    lines = [write_pair(tmp_path, f"k{i}", place, 0, 0, side=side) for i, side in enumerate(sides)]
    manifest = tmp_path / "m.csv"
    manifest.write_text("\n".join(["id,before,after", *lines]))
    batch(batch_config(tmp_path / "calm", cluster, manifest))
    killed = []

    def kill(outcome, number, total):
        """Kill the worker that is in the middle of the other pair."""
        if not killed:
            busy = [w for w in cluster.scheduler.workers.values() if w.processing]
            nanny = next(n for n in cluster.workers.values() if n.worker_address == busy[0].address)
            killed.append(nanny.pid)
            os.kill(nanny.pid, signal.SIGKILL)

    result = batch(batch_config(tmp_path / "killed", cluster, manifest), on_pair=kill)
    assert killed
    assert (result.done, result.failed, result.left) == (5, (), 0)
    for name in ("k0", "k1", "k2", "k3", "k4"):
        calm, disturbed = (tmp_path / run / name for run in ("calm", "killed"))
        assert features(calm / "changes.gpkg") == features(disturbed / "changes.gpkg")
        assert (calm / "probability.tif").read_bytes() == (disturbed / "probability.tif").read_bytes()
        assert sorted(p.name for p in disturbed.iterdir()) == ["changes.gpkg", "probability.qml", "probability.tif"]


def test_ctrl_c_leaves_a_ledger_that_resumes(tmp_path, place, cluster):
    sides = 128, 128, 128, 128, 384, 384
    lines = [write_pair(tmp_path, f"c{i}", place, 0, 0, side=side) for i, side in enumerate(sides)]
    (tmp_path / "m.csv").write_text("\n".join(["id,before,after", *lines]))
    out = tmp_path / "out"
    again = [tmp_path / "m.csv", "-o", out, "--scheduler", cluster.scheduler_address, *OPTIONS]
    run = subprocess.Popen(
        [sys.executable, "-m", "rscd", "batch", *map(str, again)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # ignored where the suite is in the background
    )
    assert run.stderr is not None
    seen = next((line for line in run.stderr if line.startswith("[1/6]")), "")
    run.send_signal(signal.SIGINT)
    assert seen
    _, told = run.communicate(timeout=300)
    assert run.returncode == 5, told
    assert "of 6 pairs are done and are kept" in told
    states = [state for _, state, *_ in ledger(out)]
    assert "running" not in states
    done = states.count("done")
    assert 0 < done < 6
    result = rscd(*again, "--retries", 9)
    assert result.exit_code == 0, result.output
    assert f"{done} done already" in result.stderr
    assert {state for _, state, *_ in ledger(out)} == {"done"}


def test_fail_fast_and_max_pairs(tmp_path, place, cluster):
    lines = [write_pair(tmp_path, f"f{i}", place, 0, 128 * i) for i in range(3)]
    (tmp_path / "before" / "f0.tif").write_bytes(b"II*\0")
    (tmp_path / "m.csv").write_text("\n".join(["id,before,after", *lines]))
    again = [tmp_path / "m.csv", "-o", tmp_path / "out", "--scheduler", cluster.scheduler_address, *OPTIONS]
    assert rscd(*again, "--max-pairs", 1).exit_code == 6
    assert [state for _, state, *_ in ledger(tmp_path / "out")] == ["failed", "pending", "pending"]
    assert rscd(*again, "--fail-fast").exit_code == 6
    assert "pending" in [state for _, state, *_ in ledger(tmp_path / "out")]


def test_the_plan_runs_nothing(tmp_path, place):
    lines = [write_pair(tmp_path, "a", place, 0, 0), "gone,before/x.tif,after/a.tif"]
    (tmp_path / "m.csv").write_text("\n".join(["id,before,after", *lines]))
    result = rscd(tmp_path / "m.csv", "-o", tmp_path / "out", "--plan", *OPTIONS)
    assert result.exit_code == 0, result.output
    for words in ("128 x 128 px, 9 windows", "no such file", "1 pair would fail", "nothing was run"):
        assert words in " ".join(result.stdout.split())
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["manifest.csv"]
    assert str(tmp_path / "before" / "a.tif") in (tmp_path / "out" / "manifest.csv").read_text()


def test_the_plan_counts_the_windows_that_detect_forwards(tmp_path, place):
    (tmp_path / "m.csv").write_text("id,before,after\n" + write_pair(tmp_path, "a", place, 0, 0))
    result = rscd(tmp_path / "m.csv", "-o", tmp_path / "out", "--plan", "--json", "--model", "buildings")
    plan = json.loads(result.stdout)
    assert (plan["windows"], plan["forwarded_mpx"]) == (1, 256**2 / 1e6)
    assert plan["seconds"] == plan["forwarded_mpx"] * plan["seconds_per_mpx"] > 0
    config = DetectConfig(tmp_path / "before" / "a.tif", tmp_path / "after" / "a.tif", tmp_path / "a.gpkg")
    assert detect(config).windows == plan["windows"]


def test_near_infrared_is_an_option_of_all_pairs(tmp_path, place):
    (tmp_path / "m.csv").write_text("id,before,after\n" + write_pair(tmp_path, "a", place, 0, 0))
    result = rscd(tmp_path / "m.csv", "-o", tmp_path / "out", "--plan", "--nir", 4, *OPTIONS)
    assert "has 3 bands, but --nir 4 is requested" in " ".join(result.stdout.split()), result.output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "MANIFEST"),
        (["{}/m.csv", "--before-dir", "{}"], 2, "MANIFEST"),
        (["{}/none.csv"], 3, "none.csv: no such file"),
        (["{}/bad.csv"], 3, "line 2"),
        (["{}/m.csv", "--model", "none"], 4, "none"),
        (["{}/m.csv", "--retries", "-1"], 2, "--retries -1"),
        (["{}/m.csv", "--max-pairs", "0"], 2, "--max-pairs 0"),
        (["{}/m.csv", "--window", "100"], 2, "--window 100"),
        (["{}/m.csv", "--match-by", "colour"], 2, "colour"),
        (["{}/m.csv", "--scheduler", "nonsense://x"], 2, "nonsense"),
    ],
)
def test_bad_input_is_one_line_with_its_exit_code(tmp_path, arguments, code, words):
    (tmp_path / "m.csv").write_text("id,before,after\na,b.tif,c.tif\n")
    (tmp_path / "bad.csv").write_text("id,before,after\na,../b.tif,c.tif\n")
    result = rscd(*(a.format(tmp_path) for a in arguments), "-o", tmp_path / "out")
    assert result.exit_code == code, result.output
    assert words in result.stderr


def test_our_own_workers_listen_on_loopback_alone():
    import psutil

    with workers(None, "cpu") as client:
        (pid,) = client.run(os.getpid).values()
        ours = [psutil.Process(), psutil.Process(pid)]
        heard = {c.laddr.ip for p in ours for c in p.net_connections("inet") if c.status == "LISTEN"}
        assert heard == {"127.0.0.1"}


def test_a_cluster_without_slots_is_refused():
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as bare:
        with pytest.raises(UsageError, match=r"--resources GPU=1"), workers(bare.scheduler_address):
            pass


def test_one_run_at_a_time(tmp_path):
    from rscd.jobs.ledger import Ledger

    with Ledger(tmp_path), pytest.raises(UsageError, match="another rscd batch"):
        Ledger(tmp_path)
    (tmp_path / "ledger.sqlite").write_text("no ledger, but text that is long enough to be one")
    from rscd.core.errors import OutputError

    with pytest.raises(OutputError, match="not a usable ledger"):
        Ledger(tmp_path)
