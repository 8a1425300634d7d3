"""Depthwise convolution whose gradients are taken in the precision that is fast on a CPU.

oneDNN runs the forward pass of a bf16 depthwise convolution well, but falls back to a reference loop for most of
its gradients: at 256 px they took half of a training step. In float32 the same gradients are three to eight times
faster, and no less exact.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        out: Tensor = nn.functional.conv2d(x, weight, None, stride, padding, groups=len(weight))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        exact = grad.float(), x.float().contiguous(memory_format=torch.channels_last), weight.float()
        # where nothing is strided, the gradient of x is the one that is fast in bf16
        of_x = _gradients(*((grad, x, weight) if ctx.stride == 1 else exact), ctx, 0)
        of_weight = _gradients(*exact, ctx, 1)
        return of_x.to(x.dtype), of_weight.to(weight.dtype), None, None


def _gradients(grad: Tensor, x: Tensor, weight: Tensor, ctx: Any, which: int) -> Tensor:  # noqa: ANN401
    """Gradient of x (``which`` 0) or of the weight (1)."""
    shape = [ctx.stride] * 2, [ctx.padding] * 2, [1, 1], False, [0, 0], len(weight)
    wanted = [which == 0, which == 1, False]
    found: list[Tensor] = torch.ops.aten.convolution_backward(grad, x, weight, None, *shape, wanted)
    return found[which]


class DepthwiseConv2d(nn.Conv2d):
    """``nn.Conv2d`` with one filter a channel and no bias; its parameters and forward pass are the same."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C, H, W)."""
        fast = self.bias is None and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
        if fast and x.device.type == "cpu":
            kind = torch.get_autocast_dtype("cpu")
            out: Tensor = _Depthwise.apply(  # type: ignore[no-untyped-call]
                x.to(kind), self.weight.to(kind), self.stride[0], int(self.padding[0])
            )
            return out
        return super().forward(x)
