import numpy as np
import pytest

from rscd.training.augment import augment, random_crop
from rscd.training.tiles import CHANGED, IGNORED


@pytest.fixture
def tile():
    changed = np.zeros((300, 300), bool)
    changed[200:230, 40:90] = True
    before = np.full((3, 300, 300), 90, np.uint8)
    after = np.where(changed, 200, 90).astype(np.uint8)[None].repeat(3, 0)
    return before, after, changed.astype(np.uint8)


def test_crops_have_the_size_asked_for_at_any_zoom(tile):
    rng = np.random.default_rng(0)
    for scale in ((0.5, 0.5), (1, 1), (2, 2), (0.1, 0.1)):
        before, after, changed = random_crop(tile, 96, scale, rng)
        assert before.shape == after.shape == (3, 96, 96)
        assert changed.shape == (96, 96)


def test_zoom_scales_what_is_seen(tile):
    rng = np.random.default_rng(1)

    def largest(zoom):
        return max(random_crop(tile, 96, (zoom, zoom), rng)[2].sum() for _ in range(40))

    assert largest(1) == 30 * 50
    assert largest(2) == pytest.approx(30 * 48 * 4, rel=0.1)
    assert largest(0.5) == pytest.approx(30 * 50 / 4, rel=0.1)


def test_label_and_images_stay_together(tile):
    rng = np.random.default_rng(2)
    for _ in range(30):
        before, after, label = augment(random_crop(tile, 96, (0.7, 1.5), rng), rng)
        changed = label == CHANGED
        if changed.sum() < 200:
            continue
        difference = np.abs(after.astype(int) - before).mean(0)
        flat = difference - np.median(difference[~changed])
        assert flat[changed].mean() > 5 + flat[~changed].mean()


def test_changed_ground_is_sought_and_dates_swap(tile):
    rng = np.random.default_rng(3)
    crops = [random_crop(tile, 64, (1, 1), rng) for _ in range(200)]
    assert 0.5 < np.mean([c[2].any() for c in crops]) < 0.85  # by chance alone it would be about 0.1
    lit = [augment(crop, rng) for crop in crops if crop[2].sum() > 500]
    brighter_after = [(a[:, c].mean() > b[:, c].mean()) for b, a, c in lit]
    assert 0.2 < np.mean(brighter_after) < 0.8


def test_ignored_ground_stays_ignored_through_zoom_turn_and_flip(tile):
    before, after, label = tile
    label = label.copy()
    label[195:235, 35:95][label[195:235, 35:95] == 0] = IGNORED  # a ring around all that changed
    after[:, label == IGNORED] = 150
    rng = np.random.default_rng(4)
    for zoom in (0.5, 0.8, 1.0, 1.7):
        for _ in range(10):
            made = random_crop((before, after, label), 96, (zoom, zoom), rng)
            turned = augment(made, rng)[2]
            assert (np.bincount(turned.ravel(), minlength=3) == np.bincount(made[2].ravel(), minlength=3)).all()
            assert (made[1][0][made[2] == 0] == 90).all()  # no shade of ring or building is called unchanged
            assert (made[1][0][made[2] == CHANGED] == 200).all()


def test_one_generator_makes_it_repeatable(tile):
    def draw(seed):
        rng = np.random.default_rng(seed)
        return augment(random_crop(tile, 64, (0.5, 2), rng), rng)

    for one, other in zip(draw(5), draw(5), strict=True):
        np.testing.assert_array_equal(one, other)
    assert any((one != other).any() for one, other in zip(draw(5), draw(6), strict=True))
