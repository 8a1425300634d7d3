import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rscd.inference.strips import Blender, to_values
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
