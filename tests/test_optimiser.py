"""Rates: warm-up and cosine, the encoder's share, less with depth, all of it for low-rank parts."""

import pytest
import torch
from test_loop import config

from rscd.model.encoders.sam import MEAN, STD
from rscd.model.network import ChangeNetwork
from rscd.training.learner import make_optimiser, prepare_tuning, rate_factor, set_rates


def peaks(tiles, tmp_path, **changes):
    options = config(tiles, tmp_path / "m.safetensors", rate=1.0, **changes)
    network = ChangeNetwork("vit_t", 16, MEAN, STD)
    prepare_tuning(network, options)
    optimiser = make_optimiser(network, options)
    of = {id(p): group["peak"] for group in optimiser.param_groups for p in group["params"]}
    return {name: of.get(id(p)) for name, p in network.named_parameters()}, optimiser


def test_the_deeper_a_block_the_lower_its_rate(tiny_tiles, tmp_path):
    found, _ = peaks(tiny_tiles, tmp_path, layer_decay=0.5)
    assert found["msdf.head.1.weight"] == found["encoder.up2.weight"] == 1
    assert found["encoder.vit.neck.0.weight"] == pytest.approx(0.1)
    assert found["encoder.vit.blocks.11.attn.qkv.weight"] == pytest.approx(0.1 * 0.5)
    assert found["encoder.vit.blocks.0.attn.qkv.weight"] == pytest.approx(0.1 * 0.5**12)
    assert found["encoder.vit.pos_embed"] == pytest.approx(0.1 * 0.5**13)


def test_frozen_parameters_are_in_no_group_and_low_rank_parts_learn_at_the_full_rate(tiny_tiles, tmp_path):
    frozen, _ = peaks(tiny_tiles, tmp_path, tune="frozen")
    assert frozen["encoder.vit.pos_embed"] is None
    assert frozen["encoder.up2.weight"] == 1
    lora, _ = peaks(tiny_tiles, tmp_path, tune="lora", layer_decay=0.5)
    assert lora["encoder.vit.blocks.0.attn.qkv.up"] == 1
    assert lora["encoder.vit.blocks.0.attn.qkv.weight"] is None


def test_rates_warm_up_and_fall_along_a_cosine(tiny_tiles, tmp_path):
    course = [rate_factor(step, 200) for step in range(200)]
    assert course[0] == pytest.approx(0.1)
    assert course[9] == course[10] == 1
    assert course[105] == pytest.approx(0.505)
    assert course[-1] == pytest.approx(0.01, abs=1e-3)
    _, optimiser = peaks(tiny_tiles, tmp_path)
    set_rates(optimiser, 105, 200)
    assert sorted(g["lr"] for g in optimiser.param_groups) == pytest.approx([0.0505, 0.505])
    assert isinstance(optimiser, torch.optim.AdamW)
