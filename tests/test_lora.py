"""Low-rank adaptation: nothing changes at first, little learns, and what is written is plain."""

import torch

from rscd.model.encoders.sam import MEAN, STD
from rscd.model.network import ChangeNetwork
from rscd.training.learner import add_lora, is_low_rank, merged


def adapted(seed=0):
    torch.manual_seed(seed)
    network = ChangeNetwork("vit_t", 16, MEAN, STD).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = network.encoder(images)[2]
    plain = list(network.state_dict())
    add_lora(network, 4)
    return network, images, before, plain


def test_nothing_changes_before_the_first_step():
    network, images, before, _ = adapted()
    with torch.no_grad():
        torch.testing.assert_close(network.encoder(images)[2], before)


def test_of_the_encoder_only_low_rank_parts_learn_and_they_reach_query_key_and_value():
    network, images, _, _ = adapted()
    learning = [n for n, p in network.named_parameters() if p.requires_grad]
    inside = [n for n in learning if n.startswith("encoder.vit.")]
    assert len(inside) == 24
    assert all(is_low_rank(n) for n in inside)
    assert any(n.startswith("encoder.up4") for n in learning)
    network.encoder(images)[2].square().sum().backward()
    up = network.encoder.vit.blocks[3].attn.qkv.up
    assert all(third.any() for third in up.grad.chunk(3))


def test_merged_weights_are_plain_and_give_the_same_answer():
    network, images, before, plain = adapted()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if is_low_rank(name):
                parameter.normal_(std=0.1)
        answer = network.encoder(images)[2]
    assert not torch.allclose(answer, before, atol=1e-3)
    whole = merged(network)
    assert list(whole.state_dict()) == plain
    fresh = ChangeNetwork("vit_t", 16, MEAN, STD).eval()
    fresh.load_state_dict(whole.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(fresh.encoder(images)[2], answer, rtol=1e-4, atol=1e-4)
