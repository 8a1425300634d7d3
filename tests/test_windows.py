import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rscd.core.types import Grid, Window
from rscd.scene.windows import Axis, WindowPlan


@st.composite
def axes(draw):
    window = draw(st.integers(1, 80))
    overlap = draw(st.integers(0, window - 1))
    size = draw(st.integers(1, 500))
    phase = draw(st.integers(0, window - overlap - 1)) if size > window else 0
    return Axis(size, window, overlap, phase)


@given(axes())
def test_weights_sum_to_one_at_every_pixel(axis):
    total = np.zeros(axis.size)
    for k, weight in enumerate(axis.weights):
        start, stop = axis.support(k)
        assert len(weight) == stop - start > 0
        total[start:stop] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(axes())
def test_strips_tile_the_axis_and_hold_only_pixels_of_windows_so_far(axis):
    stops = [0]
    for k in range(axis.count):
        start, stop = axis.strip(k)
        assert start == stops[-1] < stop
        assert axis.start(k) <= start
        assert stop <= min(axis.start(k) + axis.window, axis.size)
        stops.append(stop)
        # no later window may still count in this strip
        assert k == axis.count - 1 or axis.support(k + 1)[0] >= stop
    assert stops[-1] == axis.size


@given(axes())
def test_windows_stay_inside_and_are_as_many_as_the_formula_says(axis):
    assert axis.count == max(0, -(-(axis.size + axis.phase - axis.window) // axis.stride)) + 1
    for k in range(axis.count):
        assert axis.start(k) >= 0
        assert axis.start(k) + axis.window <= max(axis.size, axis.window)


def test_last_window_counts_from_its_nominal_start():
    axis = Axis(1000, 448, 64)
    assert [axis.start(k) for k in range(axis.count)] == [0, 384, 552]
    assert [axis.support(k) for k in range(axis.count)] == [(0, 448), (384, 832), (768, 1000)]
    assert WindowPlan.over(1000, 400, 448, 64).count == 3


@given(axes(), st.data())
def test_a_part_of_a_scene_has_the_windows_and_weights_of_the_whole(axis, data):
    size, window, overlap = axis.size, axis.window, axis.overlap
    scene = Grid("", (0.5, 0.0, 0.5 * data.draw(st.integers(-900, 900)) + 0.2, 0.0, -0.5, 0.0), size, 1)
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    low, high = max(0, start - overlap), min(size, stop + overlap)  # the margin that with_margin gives
    whole = WindowPlan.on(scene, Window(0, 0, 1, size), window, overlap).cols
    part = WindowPlan.on(scene, Window(0, low, 1, high - low), window, overlap).cols

    def shares(of, offset, x):
        """Where windows begin, px of the scene, that count at pixel x, and how much of its value is theirs."""
        found = {}
        for k, weight in enumerate(of.weights):
            left, right = of.support(k)
            if left <= x - offset < right:
                place = of.start(k) + offset
                found[place] = found.get(place, 0.0) + float(weight[x - offset - left])
        return {place: round(share, 4) for place, share in found.items() if share > 0}

    for x in {start, (start + stop) // 2, stop - 1}:
        ours, theirs = shares(part, low, x), shares(whole, 0, x)
        assert ours.keys() == theirs.keys()
        assert all(abs(ours[place] - theirs[place]) < 1e-3 for place in ours)


@given(st.integers(0, 500), st.integers(-(10**6), 10**6), st.sampled_from([0.0, 0.25, 0.5]))
def test_a_file_cut_out_has_the_windows_of_the_file_in_its_interior(cut, origin, fraction):
    whole = Grid("", (0.3, 0.0, 0.3 * (origin + fraction), 0.0, -0.3, 0.0), 2000, 1)
    part = Grid("", (0.3, 0.0, whole.transform[2] + 0.3 * cut, 0.0, -0.3, 0.0), 2000 - cut, 1)
    axes = [WindowPlan.on(g, Window(0, 0, 1, g.width), 448, 64).cols for g in (whole, part)]
    starts = [{axis.start(k) + at for k in range(axis.count)} for axis, at in zip(axes, (0, cut), strict=True)]
    assert {x for x in starts[0] if x > cut} <= starts[1]
    assert {x for x in starts[1] if x > cut} <= starts[0]
