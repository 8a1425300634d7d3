"""Our attention against the official blocks, at sizes that fill windows and sizes that do not."""

import pytest
import torch

from rscd.model.encoders import sam
from rscd.model.encoders.sam import SamEncoder, sam_modeling


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    encoder = SamEncoder("vit_t").eval()
    with torch.no_grad():  # positions and biases start at zero, where any mistake in them would hide
        for name, parameter in encoder.named_parameters():
            if "pos" in name or "qkv.bias" in name:
                parameter.normal_(std=0.3)
    return encoder


@pytest.mark.parametrize("folded_on", [(), ("cpu",)], ids=["bias", "folded"])
@pytest.mark.parametrize("shape", [(14, 14), (28, 28), (16, 16), (32, 20), (10, 30)])
@pytest.mark.parametrize("block", [0, 2], ids=["windows", "global"])
def test_a_block_equals_the_official_one(encoder, shape, block, folded_on, monkeypatch):
    monkeypatch.setattr(sam, "FOLDED_ON", folded_on)
    get_rel_pos = sam_modeling().image_encoder.get_rel_pos
    official = encoder.vit.blocks[block]
    x = torch.randn(2, *shape, 192, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, ours = official(x), sam.transform(official, x, get_rel_pos)
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        with torch.autocast("cpu", torch.bfloat16):
            ours, half = sam.transform(official, x, get_rel_pos), official(x)
        assert (ours.float() - half.float()).norm() <= 2e-2 * half.float().norm()
        # what the test is worth: attention changes the tokens, and so do the tokens that fill windows up
        assert (expected - x - official.mlp(official.norm2(x))).norm() > 0.05 * expected.norm()


def test_gradients_are_those_of_the_official_block(encoder):
    get_rel_pos = sam_modeling().image_encoder.get_rel_pos
    official = encoder.vit.blocks[0]
    x = torch.randn(1, 16, 16, 192, generator=torch.Generator().manual_seed(1))
    grads = []
    for forward in (official, lambda tokens: sam.transform(official, tokens, get_rel_pos)):
        encoder.zero_grad()
        forward(x).square().sum().backward()
        grads.append([p.grad.clone() for p in official.parameters()])
    for expected, ours in zip(*grads, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
