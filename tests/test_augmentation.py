import numpy as np
import pytest

from rscd.training.data.augmentation import Crop, augment, displaced, random_crop
from rscd.training.data.tiles import CHANGED, IGNORED


@pytest.fixture
def tile():
    changed = np.zeros((300, 300), bool)
    changed[200:230, 40:90] = True
    before = np.full((3, 300, 300), 90, np.uint8)
    after = np.where(changed, 200, 90).astype(np.uint8)[None].repeat(3, 0)
    return Crop(before, after, changed.astype(np.uint8))


def test_crops_have_the_size_asked_for_at_any_zoom(tile):
    rng = np.random.default_rng(0)
    for scale in ((0.5, 0.5), (1, 1), (2, 2), (0.1, 0.1)):
        before, after, changed, _ = random_crop(tile, 96, scale, rng)
        assert before.shape == after.shape == (3, 96, 96)
        assert changed.shape == (96, 96)


def test_zoom_scales_what_is_seen(tile):
    rng = np.random.default_rng(1)

    def largest(zoom):
        return max((random_crop(tile, 96, (zoom, zoom), rng).label == CHANGED).sum() for _ in range(40))

    assert largest(1) == 30 * 50
    assert largest(2) == pytest.approx(28 * 47 * 4, rel=0.1)  # a ring of a pixel is not known so sharply
    assert largest(0.5) == pytest.approx(30 * 50 / 4, rel=0.1)


def test_label_and_images_stay_together(tile):
    rng = np.random.default_rng(2)
    for _ in range(30):
        before, after, label, _ = augment(random_crop(tile, 96, (0.7, 1.5), rng), rng)
        changed = label == CHANGED
        if changed.sum() < 200:
            continue
        difference = np.abs(after.astype(int) - before).mean(0)
        flat = difference - np.median(difference[~changed])
        assert flat[changed].mean() > 5 + flat[~changed].mean()


def test_changed_ground_is_sought_and_dates_swap(tile):
    rng = np.random.default_rng(3)
    crops = [random_crop(tile, 64, (1, 1), rng) for _ in range(200)]
    assert 0.5 < np.mean([c.label.any() for c in crops]) < 0.85  # by chance alone it would be about 0.1
    lit = [augment(crop, rng) for crop in crops if crop.label.sum() > 500]
    brighter_after = [(a[:, c].mean() > b[:, c].mean()) for b, a, c, _ in lit]
    assert 0.2 < np.mean(brighter_after) < 0.8


def test_ignored_ground_stays_ignored_through_zoom_turn_and_flip(tile):
    before, after, label, _ = tile
    label = label.copy()
    label[195:235, 35:95][label[195:235, 35:95] == 0] = IGNORED  # a ring around all that changed
    after[:, label == IGNORED] = 150
    rng = np.random.default_rng(4)
    for zoom in (0.5, 0.8, 1.0, 1.7):
        for _ in range(10):
            made = random_crop(Crop(before, after, label), 96, (zoom, zoom), rng)
            turned = augment(made, rng).label
            assert (np.bincount(turned.ravel(), minlength=3) == np.bincount(made[2].ravel(), minlength=3)).all()
            assert (made[1][0][made[2] == 0] == 90).all()  # no shade of ring or building is called unchanged
            assert (made[1][0][made[2] == CHANGED] == 200).all()


def test_one_generator_makes_it_repeatable(tile):
    def draw(seed):
        rng = np.random.default_rng(seed)
        return augment(random_crop(tile, 64, (0.5, 2), rng), rng)

    for one, other in zip(draw(5)[:3], draw(5)[:3], strict=True):
        np.testing.assert_array_equal(one, other)
    assert any((one != other).any() for one, other in zip(draw(5)[:3], draw(6)[:3], strict=True))


def test_beside_edges_that_are_enlarged_nothing_is_judged(tile):
    rng = np.random.default_rng(7)
    sharp = random_crop(tile, 96, (1.2, 1.2), rng)
    enlarged = next(c for _ in range(40) if (c := random_crop(tile, 96, (2, 2), rng)).label.any())
    assert not (sharp.label == IGNORED).any()
    for value in (CHANGED, 0):
        rows, cols = np.nonzero(enlarged.label == value)
        for row, col in zip(rows, cols, strict=True):
            near = enlarged.label[max(row - 2, 0) : row + 3, max(col - 2, 0) : col + 3]
            assert set(np.unique(near)) <= {value, IGNORED}


def test_what_is_there_on_each_date_goes_with_its_date(tile):
    rng = np.random.default_rng(8)
    built = np.stack([np.zeros_like(tile.label), tile.label])
    for _ in range(60):
        before, after, label, there = augment(random_crop(tile._replace(built=built), 96, (1, 1), rng), rng)
        if label.sum() < 200:
            continue
        later = int(there[1].any())  # the building is bright
        assert (there[later] == label).all() and not there[1 - later].any()
        changed = label == CHANGED
        shown = (before, after)[later][:, changed].mean() - (before, after)[later][:, ~changed].mean()
        assert shown > 20


def test_a_displaced_pair_shows_each_change_where_its_date_does():
    """Red appeared, blue vanished, green stays: the label is the later date's red and the earlier date's blue."""
    ground = np.zeros((2, 3, 60, 60), np.uint8)
    ground[1, 0, 10:20, 10:25] = ground[0, 2, 35:45, 30:40] = 255
    ground[:, 1, 40:50, 5:15] = 255
    built = ground.any(1).astype(np.uint8)
    whole = Crop(ground[0], ground[1], (built[0] != built[1]).astype(np.uint8), built)
    rng, sizes = np.random.default_rng(0), set()
    for _ in range(40):
        before, after, label, there = displaced(whole, 3, rng)
        np.testing.assert_array_equal(label == CHANGED, (after[0] > 0) | (before[2] > 0))
        np.testing.assert_array_equal(there, np.stack([before, after]).any(1))
        sizes.add(label.shape)
    assert {60 - rows for rows, _ in sizes} == {60 - cols for _, cols in sizes} == {0, 1, 2, 3}
    with pytest.raises(ValueError, match="which one shows"):
        displaced(whole._replace(built=None), 3, rng)


def test_a_share_of_the_images_looks_like_another_sensors(tile):
    crop, modified = Crop(*(part[..., :64, :64] for part in tile[:3])), []
    for seed in range(60):
        plain = augment(crop, np.random.default_rng(seed))
        shown = augment(crop, np.random.default_rng(seed), 0.3)
        modified += [(a != b).any() for a, b in zip(plain[:2], shown[:2], strict=True)]
        np.testing.assert_array_equal(plain.label, shown.label)
    assert 0.15 < np.mean(modified) < 0.45
