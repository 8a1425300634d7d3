import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rscd.core.grid import moved, pixel, place
from rscd.core.types import Window
from rscd.scene.sample import LEAST_BLOCKS, MOST_BLOCKS, every_block, plan_sample

regions = st.builds(
    Window, st.integers(0, 900), st.integers(0, 900), st.integers(1, 60_000), st.integers(1, 60_000)
)


@given(regions, st.booleans())
def test_a_sample_is_small_spread_and_inside(region, tiled):
    plan = plan_sample(region, tiled=tiled)
    assert 1 <= len(plan.blocks) <= max(LEAST_BLOCKS, min(MOST_BLOCKS, 0.01 * plan.total))
    assert len(set(plan.blocks)) == len(plan.blocks)
    for block in plan.blocks:
        assert region.row <= block.row < block.row_stop <= region.row_stop
        assert region.col <= block.col < block.col_stop <= region.col_stop
        assert block.row // 512 == (block.row_stop - 1) // 512
        assert block.col // 512 == (block.col_stop - 1) // 512
    assert plan_sample(region, tiled=tiled) == plan


def test_a_large_scene_is_read_to_two_percent_at_most_even_twice():
    plan = plan_sample(Window(0, 0, 50_000, 50_000))
    assert 2 * len(plan.blocks) <= 0.02 * plan.total
    middle = np.mean([(b.row, b.col) for b in plan.blocks], axis=0)
    assert np.abs(middle - 25_000).max() < 3_000


def test_of_a_file_in_strips_few_rows_are_read():
    plan = plan_sample(Window(0, 0, 60_000, 60_000), tiled=False)
    assert len({b.row for b in plan.blocks}) <= 0.01 * 60_000 / 512 + 1
    assert len(plan.blocks) >= LEAST_BLOCKS


def test_a_small_scene_is_read_as_a_whole():
    region = Window(3, 5, 1100, 1500)
    plan = plan_sample(region)
    assert sum(b.height * b.width for b in plan.blocks) == region.height * region.width
    assert set(plan.blocks) == set(every_block(region).blocks)


@given(st.floats(0.1, 10), st.floats(0, 6), st.integers(-1, 1), st.integers(0, 999), st.integers(0, 999))
def test_pixel_is_the_inverse_of_place(size, turn, flip, row, col):
    up = -1 if flip < 1 else 1
    along, aside = size * np.cos(turn), size * np.sin(turn)
    transform = (along, up * aside, 6e5, aside, -up * along, 3e6)
    x, y = place(transform, col, row)
    assert pixel(transform, x, y) == (pytest.approx(col, abs=1e-5), pytest.approx(row, abs=1e-5))
    assert moved(transform, row, col)[2::3] == (pytest.approx(float(x)), pytest.approx(float(y)))
