"""Runs that are cut short, for real: killed, out of time, out of disk; and states that must not be mixed up."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import pytest
from conftest import REPOSITORY
from safetensors import safe_open
from test_loop import config

from rscd.core.errors import OutputError, UsageError
from rscd.model.checkpoint import load_checkpoint
from rscd.training.run_state import KEY, state_path
from rscd.workflows.train import train

CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from test_loop import config
from test_run_state import LONG
from rscd.workflows.train import train
train(config(Path(sys.argv[1]), Path(sys.argv[2]), **LONG), on_step=lambda step, *_: print(step, flush=True))
"""
LONG = dict(epochs=2, crops=12, save_every=4, rate=3e-3)


def same(epochs):
    """Epochs without what depends on the clock."""
    return [dataclasses.replace(epoch, crops_per_s=0.0) for epoch in epochs]


def test_a_killed_run_loses_few_steps_and_ends_as_if_nothing_had_happened(tiny_tiles, tmp_path):
    whole = []
    expected = train(
        config(tiny_tiles, tmp_path / "whole.safetensors", **{**LONG, "save_every": 100}), on_epoch=whole.append
    )
    output = tmp_path / "killed.safetensors"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tiny_tiles), str(output)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in child.stdout:
        if int(line) == 9:
            os.kill(child.pid, signal.SIGKILL)
            break
    assert child.wait() == -signal.SIGKILL
    assert state_path(output).exists()
    assert load_checkpoint(output)[1].figures["validation_f1"] == pytest.approx(whole[0].f1, abs=1e-4)

    steps, notices, epochs = [], [], []
    told = train(
        config(tiny_tiles, output, **LONG),
        on_step=lambda step, steps_in_all, loss: steps.append(step),
        on_epoch=epochs.append,
        on_notice=notices.append,
    )
    assert 8 < steps[0] <= 10  # the kill lands a little after step 9 was told
    assert f"continuing from step {steps[0] - 1} of 12" in notices[0]
    assert same(epochs) == same(whole[1:])
    assert told.sha256 == expected.sha256
    rows = (tmp_path / "killed.history.csv").read_text().splitlines()
    assert len(rows) == 3
    left = sorted(p.name for p in tmp_path.iterdir() if p.name.startswith((".", "killed")))
    assert left == ["killed.curves.png", "killed.history.csv", "killed.safetensors"]


@pytest.mark.parametrize("changes", [{"tune": "lora", "lora_rank": 2}, {"tune": "frozen", "loss": "bce"}])
def test_a_run_cut_short_after_every_step_ends_as_one_that_was_not(tiny_tiles, tmp_path, changes):
    options = {"epochs": 3, "crops": 2, "rate": 3e-3, **changes}
    epochs = []
    expected = train(config(tiny_tiles, tmp_path / "whole.safetensors", **options), on_epoch=epochs.append)
    cut = config(tiny_tiles, tmp_path / "cut.safetensors", limit_minutes=1e-9, **options)
    notices, again = [], []
    for n in (1, 2, 3):
        told = train(cut, on_epoch=again.append, on_notice=notices.append)
        assert load_checkpoint(cut.output)[1] == told
        assert state_path(cut.output).exists() == (n < 3)
    assert any("time is up after step 1 of 3" in notice for notice in notices)
    assert same(again) == same(epochs)
    assert told.sha256 == expected.sha256


def test_time_that_is_up_before_the_first_epoch_leaves_a_checkpoint_that_says_what_it_is(tiny_tiles, tmp_path):
    options = config(tiny_tiles, tmp_path / "m.safetensors", crops=20, limit_minutes=1e-9)
    told = train(options)
    assert load_checkpoint(options.output)[1].figures == told.figures
    with safe_open(state_path(options.output), "pt") as file:
        progress = json.loads(file.metadata()[KEY])["progress"]
    assert (progress["step"], progress["best"], progress["epochs"]) == (1, 0.0, [])


def test_the_state_of_another_run_is_refused_and_the_difference_named(tiny_tiles, tmp_path):
    options = config(tiny_tiles, tmp_path / "m.safetensors", crops=8, limit_minutes=1e-9)
    train(options)
    with pytest.raises(
        UsageError, match=r"another run: rate was 0.001, is 0.01; tau was 0.2, is 0.5 - .*overwrite=True"
    ):
        train(dataclasses.replace(options, rate=0.01, tau=0.5))
    moved = dataclasses.replace(options, save_every=1, threads=2, micro_batch=1)  # none of these makes another run
    notices = []
    train(moved, on_notice=notices.append)
    assert "continuing from step 1 of 4" in notices[0]
    steps = []
    anew = dataclasses.replace(options, rate=0.01, overwrite=True, limit_minutes=0)
    train(anew, on_step=lambda step, *_: steps.append(step))
    assert steps == [1, 2, 3, 4]
    state_path(options.output).write_bytes(b"something else")
    with pytest.raises(UsageError, match="not a training state"):
        train(options)


def test_a_finished_model_is_not_replaced_unasked(tiny_tiles, tmp_path):
    options = config(tiny_tiles, tmp_path / "m.safetensors", crops=2)
    told = train(options)
    with pytest.raises(UsageError, match=r"exists already.*overwrite=True"):
        train(dataclasses.replace(options, seed=1))
    assert load_checkpoint(options.output)[1] == told


def test_a_full_disk_leaves_the_last_good_checkpoint_and_state(tiny_tiles, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    # two states of this network fit beside each other while no moments are in them, and later they do not
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=130m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("not allowed to mount a small file system")
    try:
        options = config(tiny_tiles, disk / "m.safetensors", crops=2, epochs=2)
        with pytest.raises(OutputError, match=r"m.safetensors.state: cannot be written.*free disk space") as caught:
            train(options)
        assert caught.value.exit_code == 7
        network, contract = load_checkpoint(options.output)
        assert contract.training["seed"] == 0
        assert all(p.isfinite().all() for p in network.parameters())
        assert not [p for p in disk.iterdir() if p.name.startswith(".")]
        subprocess.run(["mount", "-o", "remount,size=400m", str(disk)], check=True)
        steps = []
        train(options, on_step=lambda step, *_: steps.append(step))
        assert steps == [1, 2]
    finally:
        subprocess.run(["umount", str(disk)], check=True)
