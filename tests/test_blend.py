import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rscd.inference.blend import BandBlender, to_values
from rscd.scene.windows import WindowPlan


def blended(plan, scene):
    """Cut every window from a probability scene, blend the windows, stack the bands."""
    blender, bands = BandBlender(plan), []
    for k in range(plan.rows.count):
        for j in range(plan.cols.count):
            row, col = plan.rows.start(k), plan.cols.start(j)
            cut = scene[row : row + plan.rows.window, col : col + plan.cols.window]
            short = [(0, plan.rows.window - cut.shape[0]), (0, plan.cols.window - cut.shape[1])]
            blender.add(k, j, np.pad(cut, short, mode="symmetric"))
        bands.append(blender.finish(k))
    return np.concatenate(bands)


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
    blender = BandBlender(plan)
    blender.add(0, 0, np.zeros((64, 64), np.float32))
    blender.add(0, 1, np.ones((64, 64), np.float32))
    row = blender.finish(0)[30]
    assert row[:48].max() == 0
    assert np.all(np.diff(row[48:64]) > 0)
    assert np.abs(row[64:] - 1).max() < 1e-6
    assert np.diff(row).max() < 1.5 / 16


def test_values_span_0_to_254_and_255_is_not_observable():
    p = np.array([[0.0, 1.0, 0.5, 0.3]], np.float32)
    valid = np.array([[True, True, True, False]])
    assert to_values(p, valid).tolist() == [[0, 254, 127, 255]]
