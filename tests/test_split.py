"""One scene over two workers: the bytes of one, whatever is killed on the way."""

import dataclasses
import json
import os
import signal
import threading
import time

import pyogrio
import pytest
import torch
from conftest import contents_of_raster, write_pair

from rscd import DetectConfig, detect
from rscd.core.errors import Interrupted, UsageError
from rscd.core.paths import run_folder
from rscd.inference.predictor import Predictor
from rscd.model.registry import trained_model
from rscd.workflows.split import Scene, Stretch, begin, cut, finish

SMALL = {"window": 64, "overlap": 16, "batch_size": 2, "threshold": 0.3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, place):
    """The pair, and what one process with one thread makes of it."""
    folder = tmp_path_factory.mktemp("whole")
    write_pair(folder, "s", place, 0, 0, side=448)
    outputs = {"output": folder / "c.gpkg", "probability": folder / "p.tif"}
    config = DetectConfig(folder / "before" / "s.tif", folder / "after" / "s.tif", **outputs, **SMALL)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    result = detect(config)
    torch.set_num_threads(threads)
    return config, result


def same(config, other):
    """Whether two runs left the same raster, value for value, and the same features."""
    tables = [pyogrio.read_arrow(c.output, layer="changes")[1].to_pylist() for c in (config, other)]
    assert tables[0]
    assert tables[0] == tables[1]
    assert contents_of_raster(config.probability) == contents_of_raster(other.probability)


def test_two_workers_make_the_bytes_of_one(tmp_path, whole, cluster):
    config, alone = whole
    split = dataclasses.replace(config, output=tmp_path / "c.gpkg", probability=tmp_path / "p.tif")
    seen, lines = [], []
    result = detect(
        split,
        scheduler=cluster.scheduler_address,
        progress=lambda *p: seen.append(p),
        on_start=lines.append,
    )
    same(config, split)
    assert result.windows == 0  # the merge forwards nothing
    assert result.written.polygons == alone.written.polygons
    assert seen[-1] == (448 * 448, 448 * 448)
    assert any("licence" in line for line in lines)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.gpkg", "p.qml", "p.tif"]


def test_a_killed_worker_costs_only_its_unfinished_strip(tmp_path, whole, cluster):
    config, _ = whole
    split = dataclasses.replace(config, output=tmp_path / "c.gpkg", probability=tmp_path / "p.tif")
    killed = []

    def kill():
        """Kill a worker as soon as there is a finished strip."""
        while not list(run_folder(split.output).glob("*.strip")):
            time.sleep(0.01)
        busy = [w.address for w in cluster.scheduler.workers.values() if w.processing]
        nanny = next(n for n in cluster.workers.values() if n.worker_address in busy)
        killed.append(nanny.pid)
        os.kill(nanny.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    detect(split, scheduler=cluster.scheduler_address)
    thread.join(timeout=10)
    assert killed
    same(config, split)


@pytest.fixture
def begun(tmp_path, whole):
    """A scene whose journal is begun, in this process."""
    config, _ = whole
    path, contract = trained_model("buildings")
    config = dataclasses.replace(
        config, output=tmp_path / "c.gpkg", probability=tmp_path / "p.tif", model=str(path)
    )
    scene, folder = Scene(config, contract.sha256), run_folder(config.output)
    folder.mkdir()
    start = begin(scene)
    (folder / "split.json").write_text(json.dumps("mine"))
    return scene, folder, start


def test_workers_stop_when_their_run_is_over(begun):
    scene, folder, start = begun
    assert start.missing == tuple(range(10))
    with pytest.raises(Interrupted):
        finish(Stretch(scene, range(4, 6), "another's"))
    assert not list(folder.glob("*.strip"))
    assert finish(Stretch(scene, range(4, 6), "mine")) == 2
    assert sorted(p.name for p in folder.glob("*.strip")) == ["000004.strip", "000005.strip"]
    assert finish(Stretch(scene, range(4, 7), "mine")) == 1
    assert begin(scene).missing == (0, 1, 2, 3, 7, 8, 9)


def test_a_stretch_taken_up_again_forwards_what_is_missing_and_one_row_above(begun, monkeypatch):
    scene, _, _ = begun
    forwarded, call = [], Predictor.__call__

    def counting(self, before, after):
        forwarded.append(len(before))
        return call(self, before, after)

    monkeypatch.setattr(Predictor, "__call__", counting)
    finish(Stretch(scene, range(4, 6), "mine"))
    assert sum(forwarded) == 3 * 9
    forwarded.clear()
    finish(Stretch(scene, range(4, 7), "mine"))
    assert sum(forwarded) == 2 * 9


def test_a_worker_that_would_make_other_bytes_is_refused(begun):
    scene, folder, _ = begun
    key = json.loads((folder / "journal.json").read_text())
    (folder / "journal.json").write_text(json.dumps(key | {"threads": 99}))
    with pytest.raises(UsageError, match="threads was 99"):
        finish(Stretch(scene, range(2), "mine"))


def test_stretches_cover_what_is_missing_and_stay_long():
    assert cut((), 4) == []
    assert cut(tuple(range(10)), 2) == [range(5), range(5, 10)]
    assert cut((0, 1, 5, 6), 2) == [range(0, 2), range(5, 7)]
    stretches = cut(tuple(range(261)), 8)
    assert [k for stretch in stretches for k in stretch] == list(range(261))
    assert len(stretches) == 16
    assert {len(stretch) for stretch in stretches[:-1]} == {17}
