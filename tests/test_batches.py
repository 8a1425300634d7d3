"""Crops by number, which depend on the seed and its number alone; images of one date in pairs."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from test_loop import config

from rscd.core.errors import DataError
from rscd.training.data.batches import Batches, OneDate
from rscd.training.data.tiles import CHANGED, IGNORED, find_tiles


@pytest.fixture
def folder(tmp_path):
    for part in ("image", "label"):
        (tmp_path / part).mkdir()
    for i, col in enumerate((20, 40, 60)):
        there = np.zeros((128, 128), np.uint8)
        there[30:90, col : col + 40] = 255
        shade = np.where(there > 0, 220, 60 + 30 * i).astype(np.uint8)
        Image.fromarray(shade).convert("RGB").save(tmp_path / "image" / f"{i}.png")
        Image.fromarray(there).save(tmp_path / "label" / f"{i}.png")
    return tmp_path


def test_changed_is_what_exactly_one_date_has(folder):
    pairs, rng, same = OneDate([folder]), np.random.default_rng(0), 0
    for _ in range(30):
        crop, name = pairs.pair(64, (0.8, 1.2), rng)
        assert crop.before.shape == crop.after.shape == (3, 64, 64)
        known = (crop.built != IGNORED).all(0)
        assert ((crop.label == CHANGED) == (crop.built[0] != crop.built[1]))[known].all()
        for image, built in zip((crop.before, crop.after), crop.built, strict=True):
            if (built == 1).any():
                assert (image[0][built == 1] > 180).mean() > 0.9
        alone = " and " not in name
        same += alone
        assert not alone or (np.array_equal(crop.before, crop.after) and not crop.label.any())
    assert 5 < same < 28


def test_an_image_without_a_label_and_one_of_another_size_are_refused_by_name(folder):
    Image.new("L", (64, 64)).save(folder / "label" / "1.png")
    pairs = OneDate([folder])
    with pytest.raises(DataError, match=r"1\.png.*size"):
        for seed in range(20):
            pairs.pair(64, (1, 1), np.random.default_rng(seed))
    (folder / "label" / "2.png").unlink()
    with pytest.raises(DataError, match=r"no label for 2\.png"):
        OneDate([folder])
    with pytest.raises(DataError, match="holds no images of one date"):
        OneDate([folder / "image"])


@pytest.fixture
def tiles(tiny_tiles):
    return find_tiles([tiny_tiles])


def equal(one, other):
    return all(torch.equal(getattr(one, p), getattr(other, p)) for p in ("before", "after", "label"))


def test_a_run_can_begin_at_any_step_with_any_number_of_threads(tiles, tiny_tiles, tmp_path):
    options = config(tiny_tiles, tmp_path / "m.safetensors", batch_size=3)
    whole = list(Batches(tiles, options).steps(0, 6))
    late = list(Batches(tiles, options, threads=3).steps(4, 6))
    assert len(late) == 2
    for one, other in zip(whole[4:], late, strict=True):
        assert equal(one, other)
        assert one.names == other.names
    assert not equal(whole[0], whole[1])
    other_seed = next(Batches(tiles, config(tiny_tiles, tmp_path / "m", batch_size=3, seed=1)).steps(0, 1))
    assert not equal(whole[0], other_seed)


def test_processes_share_the_batch_of_one(tiles, tiny_tiles, tmp_path):
    options = config(tiny_tiles, tmp_path / "m.safetensors", batch_size=4)
    (whole,) = Batches(tiles, options).steps(5, 6)
    shares = [next(Batches(tiles, options, rank, 2).steps(5, 6)) for rank in (0, 1)]
    assert [len(s.label) for s in shares] == [2, 2]
    for part in ("before", "after", "label"):
        assert torch.equal(torch.cat([getattr(s, part) for s in shares]), getattr(whole, part))


def test_every_tile_is_drawn_by_its_area_before_one_is_drawn_again(tiles, tiny_tiles, tmp_path):
    options = config(tiny_tiles, tmp_path / "m.safetensors", batch_size=6)
    for batch in Batches(tiles, options).steps(0, 4):  # 128 px tiles, 64 px crops: four draws of each of six
        assert set(batch.names) <= {str(t.label) for t in tiles}
    turn = [Batches(tiles, options).sample(n)[1] for n in range(24)]
    assert set(Counter(turn).values()) == {4}
    again = [Batches(tiles, options).sample(n)[1] for n in range(24, 48)]
    assert set(Counter(again).values()) == {4}
    assert turn != again


def test_crops_of_every_source_are_shown_as_other_sensors_would(tiles, tiny_tiles, folder, tmp_path):
    sources = {"simulated": 1.0}, {"one_date": (folder,), "one_date_share": 1.0}, {}
    for source in sources:
        one, other = (
            Batches(tiles, config(tiny_tiles, tmp_path / "m.safetensors", other_sensors=share, **source))
            for share in (0.0, 1.0)
        )
        for number in range(2):
            (plain, name), (modified, same) = one.sample(number), other.sample(number)
            assert name == same
            np.testing.assert_array_equal(plain.label, modified.label)
            assert (plain.before != modified.before).any() and (plain.after != modified.after).any()


def test_dates_of_rendered_scenes_are_displaced(tiles, tiny_tiles, tmp_path):
    """Where no building changed, ground that is at one place on one date is elsewhere on the other."""
    options = config(tiny_tiles, tmp_path / "m.safetensors", simulated=1.0, scale=(1.0, 1.0))
    crops = [Batches(tiles, options).sample(number)[0] for number in range(6)]
    built = [crop.built for crop in crops if crop.built is not None]
    assert len(built) == 6
    moved = [((b != a) & (crop.label != CHANGED)).sum() for crop, (b, a) in zip(crops, built, strict=True)]
    assert any(moved)
