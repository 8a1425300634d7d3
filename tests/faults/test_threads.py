"""A thread that raises ends the run at once: no deadlock, nothing left behind, and the next run goes on."""

from __future__ import annotations

import faulthandler
import json
import threading

import numpy as np
import pyogrio
import pytest
import rasterio
import torch
from conftest import Pointwise

import rscd.scene.window_stream
from faults.scenario import COLUMNS, STAND_IN, STRIPS, Case, same_result
from rscd import detect
from rscd.core.errors import DataError, Interrupted

LONGEST_S = 300
"""Then the watchdog shows where every thread stands, and ends all: a hang is a failure, not a wait."""


@pytest.fixture(autouse=True)
def watchdog():
    threads = threading.active_count()
    faulthandler.dump_traceback_later(LONGEST_S, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
    assert threading.active_count() == threads, "a thread is left"


class Failing(Pointwise):
    """Raises at its nth batch."""

    def __init__(self, nth: int, error: BaseException) -> None:
        super().__init__()
        self.left, self.error = nth, error

    def forward(self, before, after):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return super().forward(before, after)


def goes_on(case: Case, whole: Case) -> None:
    kept = len([*case.journal.glob("*.strip")]) if case.journal.exists() else 0
    assert [name for name in case.listing() if name != case.journal.name] == []
    result = case.run()
    assert result.bands_resumed == kept
    same_result(case, whole)


@pytest.mark.row("a thread that raises")
@pytest.mark.parametrize("nth", [1, 5, 2 * STRIPS])
def test_the_network_raises(pair, whole, tmp_path, nth):
    case = Case(*pair, tmp_path)
    with pytest.raises(ValueError, match="boom"):
        detect(case.config(), model=(Failing(nth, ValueError("boom")), STAND_IN[1]))
    goes_on(case, whole)


@pytest.mark.row("a thread that raises")
@pytest.mark.parametrize("nth", [1, 4, 2 * COLUMNS * 3 + 1])
def test_the_reader_raises(pair, whole, tmp_path, monkeypatch, nth):
    case, read = Case(*pair, tmp_path), rscd.scene.window_stream.DateWindows.read
    calls = iter(range(1, 1000))

    def failing(self, window, next_row):
        if next(calls) == nth:
            raise DataError("rows cannot be read", path="x.tif")
        return read(self, window, next_row)

    with monkeypatch.context() as patch:
        patch.setattr(rscd.scene.window_stream.DateWindows, "read", failing)
        with pytest.raises(DataError, match="cannot be read"):
            case.run()
    goes_on(case, whole)


@pytest.mark.row("a thread that raises")
@pytest.mark.parametrize("nth", [1, 4, STRIPS])
def test_the_consumer_raises(pair, whole, tmp_path, nth):
    case, calls = Case(*pair, tmp_path), iter(range(1, 1000))

    def progress(done: int, total: int) -> None:
        if next(calls) == nth:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detect(case.config(), model=STAND_IN, progress=progress)
    goes_on(case, whole)


@pytest.mark.row("GPU: out of memory, NaN in bf16, device lost")
def test_a_device_that_is_gone_leaves_a_journal_to_go_on_from(pair, whole, tmp_path):
    case = Case(*pair, tmp_path)
    lost = torch.AcceleratorError("CUDA error: unspecified launch failure")
    with pytest.raises(Interrupted) as caught:
        detect(case.config(), model=(Failing(8, lost), STAND_IN[1]))
    assert caught.value.exit_code == 5
    result = case.run()
    assert result.bands_resumed == 3  # two batches a strip
    assert 7 * 3 + result.windows <= (STRIPS + 1) * COLUMNS
    same_result(case, whole)


@pytest.mark.row("GPU: out of memory, NaN in bf16, device lost")
def test_a_batch_out_of_memory_is_halved_and_stands_in_the_provenance(pair, whole, tmp_path):
    class Small(Pointwise):
        def forward(self, before, after):
            if len(before) > 2:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return super().forward(before, after)

    case = Case(*pair, tmp_path)
    result = detect(case.config(), model=(Small(), STAND_IN[1]))
    assert result.windows == STRIPS * COLUMNS
    ours, theirs = (rasterio.open(c.outputs[1]).read(1).astype(int) for c in (case, whole))
    assert np.abs(ours - theirs).max() <= 1
    told = json.loads(pyogrio.read_info(case.output, layer="changes")["layer_metadata"]["run"])
    how = {"backend": f"torch {torch.__version__}", "precision": "fp32"}
    assert told == how | {"batch_size": 2, "bands_resumed": 0, "halvings": 1, "fp32_batches": 0}
