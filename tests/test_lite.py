"""Depthwise convolution: the same output and gradients as torch's own."""

import pytest
import torch
from torch import nn

from rscd.model.encoders.lite import DepthwiseConv2d


@pytest.mark.parametrize(("kernel", "stride", "size"), [(5, 2, 19), (3, 2, 17), (5, 1, 12), (3, 1, 9)])
def test_gradients_equal_those_of_the_plain_convolution(kernel: int, stride: int, size: int) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 8, kernel, stride, 0 if stride > 1 else kernel // 2, groups=8, bias=False)
    ours = DepthwiseConv2d(8, 8, kernel, stride, plain.padding, groups=8, bias=False)
    ours.load_state_dict(plain.state_dict())
    images = torch.randn(2, 8, size, size)
    found = []
    for layer, kind in ((plain, torch.float32), (ours, torch.bfloat16)):
        x = images.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=kind is torch.bfloat16):
            out = layer(x)
        assert out.dtype is kind
        out.float().square().sum().backward()
        assert x.grad is not None
        assert layer.weight.grad is not None
        found.append((out.float(), x.grad, layer.weight.grad))
    for expected, got in zip(*found, strict=True):
        error = (expected - got).norm() / expected.norm()
        assert error < 0.01  # bf16 rounds to 1/256
