"""Low-rank adaptation (LoRA, Hu et al. 2022) of a SAM encoder's attention, and its merging into plain weights."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rscd.model.network import ChangeNetwork
from rscd.model.sam import SamEncoder


class LowRank(nn.Module):
    """W -> W + up @ down. ``up`` starts at zero, so that nothing is changed before the first step."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, linear.in_features))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the adapted weight (out, in)."""
        return weight + (self.up @ self.down).to(weight.dtype)


def add_lora(network: ChangeNetwork, rank: int) -> None:
    """Freeze the SAM encoder and give every block's joint query, key and value projection a low-rank part."""
    assert isinstance(network.encoder, SamEncoder)
    network.backbone.requires_grad_(False)
    for linear in _projections(network):
        parametrize.register_parametrization(linear, "weight", LowRank(linear, rank))


def merged(network: ChangeNetwork) -> ChangeNetwork:
    """A copy with plain weights: low-rank parts, if there are any, are added to what they adapt."""
    plain = copy.deepcopy(network)
    if isinstance(plain.encoder, SamEncoder):
        for linear in _projections(plain):
            if parametrize.is_parametrized(linear):
                parametrize.remove_parametrizations(linear, "weight", leave_parametrized=True)
    return plain


def is_low_rank(name: str) -> bool:
    """Whether a parameter of this name belongs to a low-rank part."""
    return name.endswith((".down", ".up")) and ".parametrizations." in name


def _projections(network: ChangeNetwork) -> list[nn.Linear]:
    assert isinstance(network.encoder, SamEncoder)
    return [cast(nn.Linear, block.attn.qkv) for block in network.encoder.vit.blocks]
