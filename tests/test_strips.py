"""Windows on their way to a strip: blending, what waits, and what it holds."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
from conftest import utm_grid
from hypothesis import given, settings
from hypothesis import strategies as st

from rscd.core.pixel_area import PixelAreas
from rscd.core.types import NOT_OBSERVABLE
from rscd.inference.journal import Work, plan_work
from rscd.inference.predictor import ForwardPass
from rscd.inference.strips import Blender, Tally, _batches, strip_records, to_values
from rscd.scene.window_stream import windows_in_memory
from rscd.scene.windows import WindowPlan


def blended(plan, scene):
    """Cut every window from a probability scene, blend the windows, put the cells together."""
    blender, out = Blender(plan), np.full(scene.shape, np.nan, np.float32)
    for k in range(plan.rows.count):
        for j in range(plan.cols.count):
            place, cell = plan.place(k, j), plan.cell(k, j)
            cut = scene[place.row : place.row_stop, place.col : place.col_stop]
            short = [(0, plan.rows.window - cut.shape[0]), (0, plan.cols.window - cut.shape[1])]
            done = blender.add(k, j, np.pad(cut, short, mode="symmetric"))
            out[cell.row : cell.row_stop, cell.col : cell.col_stop] = done
    return out


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.data())
def test_what_every_window_agrees_on_comes_out_unchanged(height, width, window, data):
    overlap = data.draw(st.integers(0, window - 1))
    scene = np.random.default_rng(height * 97 + width).random((height, width)).astype(np.float32)
    out = blended(WindowPlan.over(height, width, window, overlap), scene)
    # with overlap = window - 1, up to 40 x 40 windows add up in float32; a step of the raster is 4e-3
    np.testing.assert_allclose(out, scene, atol=1e-5)


def test_a_step_between_windows_is_crossed_gradually():
    plan = WindowPlan.over(64, 112, 64, 16)
    blender = Blender(plan)
    left = blender.add(0, 0, np.zeros((64, 64), np.float32))
    right = blender.add(0, 1, np.ones((64, 64), np.float32))
    row = np.concatenate([left, right], axis=1)[30]
    assert row[:48].max() == 0
    assert np.all(np.diff(row[48:64]) > 0)
    assert np.abs(row[64:] - 1).max() < 1e-6
    assert np.diff(row).max() < 1.5 / 16


def test_values_span_0_to_254_and_255_is_not_observable():
    p = np.array([[0.0, 1.0, 0.5, 0.3]], np.float32)
    valid = np.array([[True, True, True, False]])
    assert to_values(p, valid).tolist() == [[0, 254, 127, 255]]


GRID = utm_grid(32, 32 * 60)
PLAN = WindowPlan.over(*GRID.shape, 32, 0)
DATES = np.random.default_rng(0).integers(0, 255, (2, 3, *GRID.shape), dtype=np.uint8)


def records(inputs, **options):
    def forward(before, after):
        return np.full((len(before), 32, 32), 0.7, np.float32)

    more = {"threshold": 127, "areas": PixelAreas(GRID)}
    return list(strip_records(inputs, PLAN, ForwardPass(forward, 4), **(more | options)))


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

    options = {"threshold": 127, "areas": PixelAreas(GRID)}
    (strip,) = strip_records(every_third(), PLAN, ForwardPass(forward, 4), **options)
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
