"""The shift between two dates: measured on texture, unknown where there is none, one for all or none."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from rscd.core.types import Window
from rscd.scene.sample import SampleBlock
from rscd.scene.shift import PATCH, PatchShift, ShiftMap, edges, measure_shift, patch_shift

TEXTURE = gaussian_filter(np.random.default_rng(0).normal(size=(PATCH + 64, PATCH + 64)), 1.5) * 200 + 128


def image(rows: float = 0.0, cols: float = 0.0, light: float = 1.0) -> np.ndarray:
    """The texture as it lies when it is moved down and to the right."""
    moved = shift(TEXTURE, (rows, cols), order=3, mode="reflect")[32:-32, 32:-32] * light
    return np.clip(np.stack([moved] * 3), 0, 255).astype(np.uint8)


def block(before: np.ndarray, after: np.ndarray, row: int = 0, col: int = 0) -> SampleBlock:
    seen = np.ones(before.shape[1:], bool)
    return SampleBlock(Window(row, col, *seen.shape), before, after, seen, seen)


@pytest.mark.parametrize(("rows", "cols"), [(0.0, 0.0), (3.0, -2.0), (-1.5, 0.7)])
def test_a_shift_is_measured_to_a_tenth_of_a_pixel_in_other_light(rows, cols):
    seen = np.ones((PATCH, PATCH), bool)
    found = patch_shift(edges(image(), seen), edges(image(rows, cols, light=0.6), seen))
    assert found == pytest.approx((rows, cols), abs=0.11)


def test_nothing_is_measured_where_there_is_nothing_to_see():
    seen, flat = np.ones((PATCH, PATCH), bool), np.full((3, PATCH, PATCH), 90, np.uint8)
    assert patch_shift(edges(flat, seen), edges(image(), seen)) is None
    found = measure_shift([block(flat, flat)])
    assert np.isnan(found.length_px)
    assert not found.consistent
    assert not found.correctable
    assert np.isnan(found.residuals_px(np.zeros(2), np.zeros(2))).all()


def test_blocks_that_agree_give_one_shift():
    blocks = [block(image(), image(2.0, 1.0), row=k * PATCH) for k in range(6)]
    found = measure_shift(blocks)
    assert (found.rows, found.cols) == pytest.approx((2.0, 1.0), abs=0.11)
    assert found.correctable
    assert found.residuals_px(np.array([0.0]), np.array([0.0])) == pytest.approx([5**0.5], abs=0.15)


def test_a_few_patches_of_many_shifts_are_not_believed():
    patches = tuple(PatchShift(0, 0, float(k), 0.0) for k in range(10))
    assert not ShiftMap(4.5, 0.0, 2.0, 0.2, patches).consistent
