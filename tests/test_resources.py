"""Stage times and memory, and the word on a GPU that stands idle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import Pointwise
from test_attributes import CONTRACT
from test_formats import pair

from rscd.core.contract import Contract
from rscd.core.resources import STAGES, Stopwatch, telemetry
from rscd.inference.device import idle_gpu
from rscd.model.checkpoint import build_network, save_checkpoint
from rscd.model.encoders import normalisation
from rscd.options.detect import DetectConfig
from rscd.workflows.detect import detect


def test_each_stage_is_charged_its_own_time() -> None:
    watch = Stopwatch()

    def items():
        for i in range(3):
            time.sleep(0.02)
            yield i

    assert [*watch.each("read", items())] == [0, 1, 2]
    double = watch.call("forward", lambda x: x * 2)
    assert double(4) == 8
    with pytest.raises(ZeroDivisionError), watch.stage("write"):
        raise ZeroDivisionError
    assert watch.seconds["read"] >= 0.06 > watch.seconds["forward"]
    assert set(watch.seconds) == {"read", "forward", "write"}
    told = telemetry(watch)
    assert list(told.stages_s) == list(STAGES) and told.peak_memory_mb > 1
    assert 0 <= told.device_busy <= 1


def test_a_source_left_early_is_closed() -> None:
    closed = []

    def items():
        try:
            yield from range(9)
        finally:
            closed.append(True)

    stream = Stopwatch().each("read", items())
    assert next(stream) == 0
    stream.close()
    assert closed == [True]


def test_a_run_tells_its_stages(tmp_path: Path) -> None:
    before, after = pair(tmp_path / "in")
    config = DetectConfig(before, after, tmp_path / "c.gpkg", probability=tmp_path / "p.tif", device="cpu")
    result = detect(config, model=(Pointwise(), CONTRACT))
    assert all(result.cost.stages_s[name] > 0 for name in STAGES)
    assert result.cost.gpu_memory_mb is None
    json.dumps(result.cost.__dict__)


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU")
def test_a_gpu_that_torch_cannot_use_is_told_aloud(tmp_path: Path) -> None:
    assert idle_gpu("cpu", tmp_path) == ""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidiactl").touch()
    assert idle_gpu("cpu", tmp_path) == ""
    (tmp_path / "dev" / "nvidia0").touch()
    told = idle_gpu("cpu", tmp_path)
    assert told.startswith("\nWARNING") and "nvidia0" in told and torch.__version__ in told


def test_the_command_tells_it_too(tmp_path: Path) -> None:
    before, after = pair(tmp_path / "in")
    model = tmp_path / "m.safetensors"
    mean, std = normalisation("lite")
    told = {"trained_on": "nothing", "window": 128, "overlap": 32}
    contract = Contract(name="t", version="1", encoder="lite", width=8, mean=mean, std=std, **told)
    save_checkpoint(model, build_network(contract), contract)
    options = ["-o", str(tmp_path / "c.fgb"), "--report", str(tmp_path / "r.html"), "--model", str(model)]
    command = [sys.executable, "-m", "rscd", "detect", str(before), str(after), *options, "--device", "cpu"]
    where = {"cwd": Path(__file__).parent.parent, "env": os.environ | {"COLUMNS": "300"}}
    run = subprocess.run(command, capture_output=True, text=True, check=False, **where)
    assert run.returncode == 0, run.stderr
    first, *rest = run.stderr.splitlines()
    assert first.startswith("device cpu")
    assert all(word in "\n".join(rest) for word in ("forward", "peak memory", "r.html"))
    run = subprocess.run([*command, "--overwrite", "--json"], capture_output=True, text=True, check=False, **where)
    cost = json.loads(run.stdout)["cost"]
    assert set(cost["stages_s"]) == set(STAGES) and cost["peak_memory_mb"] > 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own mark")
def test_peak_memory_is_that_of_the_process_and_not_of_the_one_that_started_it():
    code = (
        "import subprocess, sys\n"
        "held = bytearray(600_000_000)\n"
        "own = 'from rscd.core.resources import peak_memory_mb; print(peak_memory_mb())'\n"
        "print(subprocess.check_output([sys.executable, '-c', own], text=True))\n"
    )
    peak = float(subprocess.check_output([sys.executable, "-c", code], text=True))
    assert 5 < peak < 300
