"""Folding: a network's shape for inference alone, where batch norm is arithmetic that can be done beforehand.

In evaluation mode a batch norm is one factor and one summand a channel, so it can be multiplied into the
convolution before it: the activations are then written once, not twice. And ``ZeroPad2d`` copies its whole input,
only because ``nn.Conv2d`` pads all sides alike; zeros in the kernel do the same for less::

    pad 0 before, 1 after, kernel [a b c]   =   pad 1 on both sides, kernel [0 a b c]
"""

from __future__ import annotations

import copy
from itertools import chain, pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def folded(network: nn.Module) -> nn.Module:
    """A copy for inference that gives the same numbers, but for rounding.

    What is not folded shares its tensors with the original, so large encoders are not held twice.
    """
    tensors = {id(t): t for t in chain(network.parameters(), network.buffers())}
    twin: nn.Module = copy.deepcopy(network, tensors).eval()
    for module in list(twin.modules()):
        if isinstance(module, nn.Sequential):
            _fold(module)
    return twin


def _fold(layers: nn.Sequential) -> None:
    """Join what follows one another in place; what is joined away becomes an identity and keeps its name."""
    names = list(layers._modules)
    for name, following in pairwise(names):
        one, two = layers._modules[name], layers._modules[following]
        if isinstance(one, nn.Conv2d) and isinstance(two, nn.BatchNorm2d):
            layers._modules[name], layers._modules[following] = fuse_conv_bn_eval(one, two), nn.Identity()
        elif isinstance(one, nn.ZeroPad2d) and isinstance(two, nn.Conv2d):
            layers._modules[name], layers._modules[following] = nn.Identity(), _padded(one, two)


def _padded(pad: nn.ZeroPad2d, conv: nn.Conv2d) -> nn.Conv2d:
    """The convolution that pads by itself, on all sides as much as ``pad`` does after."""
    before, after = pad.padding[0], pad.padding[1]
    assert pad.padding == (before, after, before, after)
    assert conv.padding == (0, 0)
    assert before <= after
    wider: nn.Conv2d = copy.deepcopy(conv)
    grown = after - before
    wider.weight = nn.Parameter(nn.functional.pad(conv.weight.detach(), (grown, 0, grown, 0)), requires_grad=False)
    rows, cols = conv.kernel_size
    wider.kernel_size, wider.padding = (rows + grown, cols + grown), (after, after)
    return wider
