"""What learns, and how fast: full, low-rank or frozen encoder, a rate for each depth, warm-up and cosine."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import nn

from rscd.config import TrainConfig
from rscd.errors import UsageError
from rscd.model.lora import add_lora, is_low_rank
from rscd.model.network import ChangeNetwork
from rscd.model.sam import SamEncoder

WEIGHT_DECAY = 0.01


def prepare_tuning(network: ChangeNetwork, config: TrainConfig) -> None:
    """Freeze or adapt the encoder as ``--tune`` says, and switch on checkpointing.

    Raises:
        UsageError: Low-rank adaptation or checkpointing of an encoder that is not SAM's.
    """
    sam = isinstance(network.encoder, SamEncoder)
    for option, asked in (("--tune lora", config.tune == "lora"), ("--checkpointing", config.checkpointing)):
        if asked and not sam:
            remedy = f"leave it out: the {config.encoder} encoder is not one of SAM's"
            raise UsageError(option, remedy=remedy)
    if isinstance(network.encoder, SamEncoder):
        network.encoder.checkpointing = config.checkpointing
    if config.tune == "frozen":
        network.backbone.requires_grad_(False)
    if config.tune == "lora":
        add_lora(network, config.lora_rank)


def training_mode(network: ChangeNetwork, config: TrainConfig) -> None:
    """Switch to training, except for what is frozen: its batch norm keeps its statistics."""
    network.train()
    if config.tune == "frozen":
        network.backbone.eval()


def make_optimiser(network: ChangeNetwork, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over what learns; each group knows its ``peak`` rate, which ``set_rates`` scales."""
    groups: dict[float, list[nn.Parameter]] = defaultdict(list)
    own = {id(p) for p in network.backbone.parameters()}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            adapted = id(parameter) not in own or is_low_rank(name)
            groups[1.0 if adapted else _encoder_factor(name, network, config)].append(parameter)
    made: list[dict[str, Any]] = [
        {"params": params, "lr": config.rate * factor, "peak": config.rate * factor}
        for factor, params in groups.items()
    ]
    fused = next(network.parameters()).is_cuda  # one kernel for all parameters
    return torch.optim.AdamW(made, weight_decay=WEIGHT_DECAY, fused=fused)


def _encoder_factor(name: str, network: ChangeNetwork, config: TrainConfig) -> float:
    """The encoder's share of the rate, less by ``layer_decay`` for each block between a parameter and the neck."""
    if not isinstance(network.encoder, SamEncoder):
        return config.encoder_factor
    depth = network.encoder.shape.depth
    parts = name.split(".")
    if "blocks" in parts:
        below = depth - int(parts[parts.index("blocks") + 1])
    else:
        below = 0 if "neck" in parts else depth + 1
    return float(config.encoder_factor * config.layer_decay**below)


def set_rates(optimiser: torch.optim.Optimizer, step: int, steps: int) -> None:
    """Set the learning rates of a step."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * rate_factor(step, steps)


def rate_factor(step: int, steps: int) -> float:
    """Linear warm-up over the first twentieth, then a half cosine to 1 %."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
