"""Windows on their way to a strip: what waits, and what it holds."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
from conftest import utm_grid

from rscd.core.pixel_area import PixelAreas
from rscd.core.types import NOT_OBSERVABLE
from rscd.inference.journal import Work, plan_work
from rscd.inference.strips import Tally, _batches, strip_records
from rscd.scene.window_stream import windows_in_memory
from rscd.scene.windows import WindowPlan

GRID = utm_grid(32, 32 * 60)
PLAN = WindowPlan.over(*GRID.shape, 32, 0)
DATES = np.random.default_rng(0).integers(0, 255, (2, 3, *GRID.shape), dtype=np.uint8)


def records(inputs, **options):
    def forward(before, after):
        return np.full((len(before), 32, 32), 0.7, np.float32)

    more = {"batch_size": 4, "threshold": 127, "grid": GRID, "areas": PixelAreas(GRID)}
    return list(strip_records(inputs, PLAN, forward, **(more | options)))


@pytest.mark.parametrize("looked_at", [False, True])
def test_windows_that_are_not_forwarded_do_not_pile_up(looked_at):
    alive, most = [], []

    def watched():
        for window in windows_in_memory(*DATES, PLAN):
            pixels = window.before.copy()
            alive.append(weakref.ref(pixels))
            hidden = np.zeros(window.shown.shape, bool)
            yield replace(window, before=pixels, after_valid=hidden)
            del pixels, window
            most.append(sum(ref() is not None for ref in alive))

    tally = Tally()
    if looked_at:  # rows of which pixels are wanted, but no probabilities
        work = Work(range(0), frozenset(), (0,))
        assert records(watched(), work=work, tally=tally) == []
    else:
        (strip,) = records(watched(), tally=tally)
        assert (strip.probability == NOT_OBSERVABLE).all()
        assert (tally.windows, tally.skipped) == (0, 60)
    assert len(most) == 60
    assert max(most) <= 20


def test_a_batch_spans_windows_that_show_nothing():
    calls = []

    def forward(before, after):
        calls.append(len(before))
        return np.full((len(before), 32, 32), 0.7, np.float32)

    def every_third():
        for window in windows_in_memory(*DATES, PLAN):
            yield window if window.j % 3 == 0 else replace(window, after_valid=np.zeros((32, 32), bool))

    options = {"batch_size": 4, "threshold": 127, "grid": GRID, "areas": PixelAreas(GRID)}
    (strip,) = strip_records(every_third(), PLAN, forward, **options)
    assert calls == [4] * 5
    seen = (strip.probability != NOT_OBSERVABLE).reshape(32, 60, 32)
    assert seen[:, ::3].all() and not seen[:, 1::3].any() and not seen[:, 2::3].any()
    assert len(strip.table) == 20
    colours = DATES[0][:, :, :32].astype(float).sum(axis=(1, 2))
    np.testing.assert_array_equal(strip.table.before_sum[0], colours)


def test_what_is_gathered_of_windows_that_show_nothing_takes_no_memory():
    hidden = (replace(w, after_valid=np.zeros((32, 32), bool)) for w in windows_in_memory(*DATES, PLAN))
    (batch,) = _batches(hidden, PLAN, plan_work(PLAN, 127), 4, Tally())
    assert (len(batch.windows), batch.seen) == (60, [])
    for window in batch.windows:
        assert not any((*window.before.strides, *window.after.strides, *window.before_valid.strides))
