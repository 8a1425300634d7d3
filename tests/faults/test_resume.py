"""What a second run on an output makes of what the first one left."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess

import numpy as np
import pytest
import rasterio
import torch
from conftest import Pointwise, utm_grid, write_image

from faults.scenario import COLUMNS, STAND_IN, STRIPS, Case, features_of, make_pair, same_result
from rscd import detect
from rscd.core.errors import OutputError, RscdError
from rscd.model.registry import load_model


@pytest.fixture
def kept(pair, tmp_path) -> Case:
    """A run that is done and kept its journal."""
    case = Case(*make_pair(tmp_path / "in"), tmp_path / "out", {"keep_journal": True, "report": None})
    case.folder.mkdir()
    case.run()
    case.options["overwrite"] = True
    return case


def again(case: Case, model=STAND_IN, **options):
    """Run once more: result, and the lines told."""
    told: list[str] = []
    return detect(case.config(**options), model=model, on_start=told.append), told


@pytest.mark.row("two runs on one output")
def test_a_second_run_on_an_output_refuses_at_once_and_a_dead_ones_lock_is_taken_over(pair, whole, tmp_path):
    case = Case(*pair, tmp_path)
    victim = case.start(hold="forward", nth=5)
    assert victim.read_until("HOLD")
    before = case.listing()
    with pytest.raises(OutputError, match=f"process {victim.process.pid} on {socket.gethostname()} is writing it"):
        case.run()
    assert case.listing() == before
    victim.process.kill()
    victim.finish()
    assert (case.journal / "lock").exists()
    case.run()
    same_result(case, whole)


class Shifted(Pointwise):
    """Another network: the same but for a weight."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))


OTHERS = {
    "options.grid": {"grid": "after"},
    "batch_size": {"batch_size": 2},
    "options.force_gsd": {"force_gsd": True},
    "windows.rows.window": {"window": 96},
    "windows.rows.overlap": {"overlap": 8},
    "precision": {"precision": "bf16"},
}


@pytest.mark.row("resume with other model, option, input")
@pytest.mark.faults
@pytest.mark.parametrize(("name", "options"), OTHERS.items())
def test_with_another_option_it_is_told_and_begun_anew(kept, name, options):
    result, told = again(kept, **options)
    (line,) = [line for line in told if "from the beginning" in line]
    assert f"{name} was" in line
    assert result.bands_resumed == 0
    assert result.windows > 0


@pytest.mark.row("resume with other model, option, input")
def test_with_another_model_or_input_it_is_told_and_begun_anew(kept):
    warmer = STAND_IN[0], dataclasses.replace(STAND_IN[1], temperature=1.5)
    for model in (warmer, (Shifted(), STAND_IN[1])):
        result, told = again(kept, model)
        assert any("from the beginning" in line and "model differs" in line for line in told)
        assert (result.bands_resumed, result.windows) == (0, STRIPS * COLUMNS)
    pixels = rasterio.open(kept.after).read()
    stat = kept.after.stat()
    write_image(kept.after, pixels[:, ::-1].copy(), utm_grid(*pixels.shape[1:]), nodata=0)
    os.utime(kept.after, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    result, told = again(kept)
    assert any("from the beginning" in line and "after.sampled_sha256" in line for line in told)
    os.utime(kept.before)
    result, told = again(kept)
    assert any("from the beginning" in line and "before.modified_ns" in line for line in told)
    result, told = again(kept, resume=False)
    assert any("--no-resume" in line for line in told)
    assert result.windows == STRIPS * COLUMNS
    result, told = again(kept)
    assert (result.windows, result.bands_resumed) == (0, STRIPS)


@pytest.mark.row("corrupt strip in the journal")
def test_a_corrupt_strip_is_computed_again(kept, whole):
    for k, damage in ((2, lambda b: b[:-9]), (5, lambda b: b[:99] + bytes([b[99] ^ 1]) + b[100:])):
        path = kept.journal / f"{k:06}.strip"
        path.write_bytes(damage(path.read_bytes()))
    result, told = again(kept)
    assert "changes.gpkg.rscd: 2 damaged strips computed again" in told
    assert result.windows == 4 * COLUMNS  # each with the windows above that reach into it
    assert result.bands_resumed == STRIPS - 2
    same_result(kept, whole)


RESHAPED = [
    {"threshold": 0.9},
    {"threshold": 0.3, "simplify_m": 2.0},
    {"min_area_m2": 900.0},
    {"fill_holes_m2": 50.0},
    {"probability": None},
]


@pytest.mark.row("changed threshold, min-area, simplify: nothing forwarded")
def test_another_threshold_or_shape_forwards_nothing(kept, pair, tmp_path):
    for i, options in enumerate(RESHAPED):
        result, _ = again(kept, **options)
        assert (result.windows, result.bands_resumed) == (0, STRIPS)
        fresh = Case(*pair, tmp_path / str(i), {"report": None})
        fresh.folder.mkdir()
        fresh.run(**options)
        assert features_of(kept) == features_of(fresh), options
    report = kept.outputs[2]
    result, _ = again(kept, report=report)
    assert result.windows == 0
    assert report.stat().st_size > 10_000


@pytest.mark.row("batch 1 against 32, threads 1 against 8, other strip heights")
@pytest.mark.faults
def test_batch_and_threads_agree_within_a_step(pair, tmp_path):
    model, before = load_model("buildings"), torch.get_num_threads()
    values = []
    try:
        for i, (batch, threads) in enumerate([(1, 1), (32, 1), (1, 8), (32, 8)]):
            torch.set_num_threads(threads)
            case = Case(*pair, tmp_path, {"report": None, "overwrite": True, "batch_size": batch, "window": 96})
            detect(dataclasses.replace(case.config(), output=tmp_path / f"{i}.gpkg"), model=model)
            values.append(rasterio.open(case.outputs[1]).read(1).astype(int))
    finally:
        torch.set_num_threads(before)
    assert len(np.unique(values[0])) > 5
    assert max(np.abs(values[0] - other).max() for other in values) <= 1


@pytest.mark.row("batch 1 against 32, threads 1 against 8, other strip heights")
@pytest.mark.faults
def test_strip_heights_agree_within_a_step(pair, whole, tmp_path):
    values = rasterio.open(whole.outputs[1]).read(1).astype(int)
    for window, overlap in [(32, 0), (96, 32), (96, 80), (416, 16)]:
        case = Case(*pair, tmp_path, {"report": None, "overwrite": True, "window": window, "overlap": overlap})
        case.run()
        assert np.abs(rasterio.open(case.outputs[1]).read(1).astype(int) - values).max() <= 1


@pytest.mark.row("read-only folder, name too long, output = input")
def test_outputs_that_cannot_be_are_refused_and_nothing_is_touched(pair, tmp_path, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    case = Case(*pair, tmp_path)
    before = {path: path.read_bytes() for path in pair}
    listing = case.listing()
    long = tmp_path / ("x" * 250 + ".gpkg")
    for options in (
        {"output": small_disk / "c.gpkg"},
        {"report": small_disk / "r.html"},
        {"output": long},
        {"output": tmp_path / ("x" * 240 + ".gpkg")},  # too long with what we put to it
        {"probability": pair[0], "overwrite": True},
        {"report": tmp_path / "changes.gpkg", "overwrite": True},
    ):
        with pytest.raises(RscdError) as caught:
            detect(dataclasses.replace(case.config(), **options), model=STAND_IN)
        assert caught.value.exit_code in (2, 7)
        assert caught.value.remedy
        assert case.listing() == listing
    assert {path: path.read_bytes() for path in pair} == before
