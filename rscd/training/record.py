"""What is written into the contract after training, and what tells one run from another."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import torch

import rscd
from rscd.config import TrainConfig
from rscd.model.contract import Contract
from rscd.training.one_date import OneDate
from rscd.training.tiles import Tile
from rscd.training.validation import Verdict

SHAPING = (
    *("encoder", "tune", "lora_rank", "loss", "tau", "floor", "warmup_steps", "normalise"),
    *("epochs", "crops", "crop", "batch_size", "rate", "encoder_factor", "layer_decay", "ema"),
    *("scale", "simulated", "one_date_share", "fine", "presence", "seed"),
)
"""Options that shape the weights, beside the data and what the run starts from."""


def run_identity(config: TrainConfig, tiles: Sequence[Tile], held_out: Sequence[Tile]) -> dict[str, Any]:
    """What shapes the weights, JSON-ready: two runs with equal values may go on from each other's state."""
    options = {name: getattr(config, name) for name in SHAPING}
    return {
        **{name: list(value) if isinstance(value, tuple) else value for name, value in options.items()},
        "init": config.init.name if config.init else None,
        "one_date": [[path.name, path.stat().st_size] for pair in OneDate(config.one_date).files for path in pair],
        "data_sha256": data_sha256(tiles),
        "validation_sha256": data_sha256(held_out),
    }


def data_sha256(tiles: Sequence[Tile]) -> str:
    """Hash what tells the tiles' contents, wherever their files lie."""
    entries = {entry for tile in tiles for entry in tile.contents()}
    return hashlib.sha256("\n".join(sorted(entries)).encode()).hexdigest()


def licence_of(start: Contract, config: TrainConfig) -> str:
    """Terms of the weights: those of the starting model are never dropped, only joined."""
    inherited = start.licence if config.init is not None else ""
    given = config.licence if config.licence is not None else ("" if inherited else "that of the training data")
    return "; ".join(terms for terms in (inherited, given if given not in inherited else "") if terms)


def describe(start: Contract, config: TrainConfig, verdict: Verdict, identity: dict[str, Any]) -> Contract:
    """Fill in what training decided and measured.

    Args:
        start: The contract that training started from.
        config: The options.
        verdict: On the weights that are written.
        identity: See ``run_identity``.
    """
    inherits = config.init is not None
    class_name = config.class_name or (start.class_name if inherits else "change")
    minimum = config.minimum_mapping_m2
    if minimum is None:
        minimum = start.minimum_mapping_m2 if inherits else 0.0
    figures = {f"validation_{k}": round(v, 4) for k, v in dataclasses.asdict(verdict.scores).items()}
    figures["validation_ece"] = round(verdict.ece, 4)
    given = (*config.data, *(config.pair or ())[2:], *config.reviews)
    folders = ", ".join(f"{p.parent.name}/{p.name}" for p in given)
    beside = f" and {config.simulated:.0%} rendered scenes" if config.simulated else ""
    if config.one_date_share:
        names = ", ".join(path.name for path in config.one_date)
        beside += f" and {config.one_date_share:.0%} pairs of single images ({names})"
    versions = {"rscd": rscd.__version__, "torch": torch.__version__}
    return dataclasses.replace(
        start,
        name=config.name,
        threshold=round(verdict.threshold, 4),
        temperature=verdict.temperature,
        gsd_m=config.gsd_m or start.gsd_m,
        class_name=class_name,
        minimum_mapping_m2=minimum,
        licence=licence_of(start, config),
        trained_on=(config.trained_on or folders) + beside,
        figures=figures,
        training={**identity, "versions": versions},
    )
