"""Crops by number: what a sample is depends on the seed and its number alone."""

from collections import Counter

import pytest
import torch
from test_loop import config

from rscd.training.data.batches import Batches
from rscd.training.data.tiles import find_tiles


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
