import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rscd.scene.windows import Axis, WindowPlan


@st.composite
def axes(draw):
    window = draw(st.integers(1, 80))
    return Axis(draw(st.integers(1, 500)), window, draw(st.integers(0, window - 1)))


@given(axes())
def test_weights_sum_to_one_at_every_pixel(axis):
    total = np.zeros(axis.size)
    for k, weight in enumerate(axis.weights):
        start, stop = axis.support(k)
        assert len(weight) == stop - start > 0
        total[start:stop] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(axes())
def test_bands_tile_the_axis_and_hold_only_pixels_of_windows_so_far(axis):
    stops = [0]
    for k in range(axis.count):
        start, stop = axis.band(k)
        assert start == stops[-1] < stop
        assert axis.start(k) <= start
        assert stop <= min(axis.start(k) + axis.window, axis.size)
        stops.append(stop)
        # no later window may still count in this band
        assert k == axis.count - 1 or axis.support(k + 1)[0] >= stop
    assert stops[-1] == axis.size


@given(axes())
def test_windows_stay_inside_and_are_as_many_as_the_formula_says(axis):
    assert axis.count == max(0, -(-(axis.size - axis.window) // axis.stride)) + 1
    for k in range(axis.count):
        assert axis.start(k) >= 0
        assert axis.start(k) + axis.window <= max(axis.size, axis.window)


def test_last_window_counts_from_its_nominal_start():
    axis = Axis(1000, 448, 64)
    assert [axis.start(k) for k in range(axis.count)] == [0, 384, 552]
    assert [axis.support(k) for k in range(axis.count)] == [(0, 448), (384, 832), (768, 1000)]
    assert WindowPlan.over(1000, 400, 448, 64).count == 3
