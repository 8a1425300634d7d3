"""Folding: the same numbers from fewer layers."""

import pytest
import torch
from torch import nn

from rscd.model.encoders import normalisation
from rscd.model.network import ChangeNetwork, folded
from rscd.model.registry import load_model


@torch.inference_mode()
def test_the_embedded_model_gives_the_same_logits_without_batch_norm_or_padding():
    network, _ = load_model("buildings")
    twin = folded(network)
    kinds = {type(module) for module in twin.modules()}
    assert not kinds & {nn.BatchNorm2d, nn.ZeroPad2d}
    assert {nn.BatchNorm2d, nn.ZeroPad2d} <= {type(module) for module in network.modules()}
    pair = torch.randint(0, 256, (2, 1, 3, 96, 160), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected = network(*pair).change
    assert expected.std() > 0.1
    torch.testing.assert_close(twin(*pair).change, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("before", "after", "kernel", "stride"), [(0, 1, 3, 2), (1, 2, 5, 2), (0, 3, 4, 1)])
@torch.inference_mode()
def test_padding_of_one_side_becomes_zeros_in_the_kernel(before, after, kernel, stride):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 6, kernel, stride, groups=3)
    layers = nn.Sequential(nn.ZeroPad2d((before, after, before, after)), conv)
    for size in (16, 17):
        x = torch.randn(2, 6, size, size + 4)
        torch.testing.assert_close(folded(layers)(x), layers(x), rtol=1e-5, atol=1e-6)


def test_what_is_not_folded_is_not_held_twice():
    network = ChangeNetwork("vit_t", 16, *normalisation("vit_t"))
    mine = {p.data_ptr() for p in folded(network).parameters()}
    theirs = {p.data_ptr() for p in network.encoder.vit.parameters()}
    assert theirs <= mine
