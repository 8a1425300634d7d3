"""Low-rank adaptation (LoRA, Hu et al. 2022) of an encoder's linear layers, and its merging into plain weights.

The library peft does this too, and more; it would bring two more libraries to every training, for sixty lines.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from rscd.model.network import ChangeNetwork


class LowRankLinear(nn.Linear):
    """A linear layer whose weight W is frozen, and of which W + up @ down is used.

    ``up`` starts at zero, so that nothing is changed before the first step.
    """

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.down = nn.Parameter(torch.empty(rank, linear.in_features))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return nn.functional.linear(x, self.weight + self.up @ self.down, self.bias)

    @torch.no_grad()
    def plain(self) -> nn.Linear:
        """The same map as an ordinary layer."""
        linear = nn.Linear(self.in_features, self.out_features, device="meta")
        linear.weight, linear.bias = nn.Parameter(self.weight + self.up @ self.down), self.bias
        return linear


def add_lora(network: ChangeNetwork, rank: int) -> None:
    """Freeze the encoder's backbone, and give its adaptable layers a low-rank part each."""
    backbone = network.encoder.backbone
    backbone.requires_grad_(False)
    for name in [*network.encoder.adaptable_layers()]:
        linear = backbone.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        backbone.set_submodule(name, LowRankLinear(linear, rank))


def merged(network: ChangeNetwork) -> ChangeNetwork:
    """A copy with plain weights: low-rank parts, if there are any, are added to what they adapt."""
    plain = copy.deepcopy(network)
    for name, module in list(plain.named_modules()):
        if isinstance(module, LowRankLinear):
            plain.set_submodule(name, module.plain())
    return plain


def is_low_rank(name: str) -> bool:
    """Whether a parameter of this name belongs to a low-rank part."""
    return name.endswith((".down", ".up"))
