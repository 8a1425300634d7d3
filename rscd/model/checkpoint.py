"""Checkpoints: one ``.safetensors`` file whose metadata holds the contract. No pickle."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from rscd.core.contract import Contract
from rscd.core.errors import ModelError, OutputError
from rscd.core.publish import publishing
from rscd.model.catalog import KEY, REMEDY, read_contract, read_header
from rscd.model.encoders import ENCODERS
from rscd.model.network import ChangeNetwork

DTYPES = {True: ("F16", "BF16", "F32", "F64"), False: ("I64",)}
"""dtypes in which a file may store floating-point tensors, and counters."""


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hash of name, dtype, shape and bytes of every tensor, in name order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(path: Path, network: ChangeNetwork, contract: Contract, *, half: bool = False) -> Contract:
    """Write network and contract; returns the contract with its sha256.

    Args:
        path: Target; an existing file is replaced.
        network: The weights.
        contract: Its ``sha256`` is filled in here.
        half: Store floating tensors as float16.

    Raises:
        OutputError: The file cannot be written.
    """
    state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    contract = dataclasses.replace(contract, sha256=tensors_sha256(state))
    try:
        with publishing(path) as temporary:
            temporary.write_bytes(save(state, metadata={KEY: contract.to_json()}))
    except OSError as error:
        remedy = "choose a writable folder with free space"
        raise OutputError(f"cannot be written: {error}", path=path, remedy=remedy) from error
    return contract


def load_checkpoint(path: Path) -> tuple[ChangeNetwork, Contract]:
    """Build the network of a checkpoint, in evaluation mode, float32, on the CPU.

    Names and shapes are compared with the network's before a tensor is loaded: a file cannot use more memory than
    its network needs.

    Raises:
        ModelError: As ``read_contract``; also if tensors are truncated, of other shapes, not finite, or do not
            match the contract's hash; or if the encoder's library is not installed.
    """
    contract = read_contract(path)
    if contract.encoder not in ENCODERS:
        raise ModelError(f"unknown encoder {contract.encoder!r}", path=path, remedy=REMEDY)
    try:
        with torch.device("meta"):
            sketch = build_network(contract)
        _check_shapes(path, sketch, contract)
        network = build_network(contract)
    except ModelError as error:
        raise error if error.path else ModelError(error.problem, path=path, remedy=error.remedy) from error
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot be read: {error}", path=path, remedy="copy it again") from error
    if tensors_sha256(state) != contract.sha256:
        raise ModelError("tensors do not match the contract's sha256", path=path, remedy="copy it again")
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise ModelError(f"tensor {name} is not finite", path=path, remedy="use an earlier checkpoint")
    network.load_state_dict(state)
    return network.eval(), contract


def load_mean(shares: Mapping[Path, float]) -> tuple[ChangeNetwork, Contract]:
    """Average the weights of checkpoints that were trained from the same start, so that they lie close together.

    Args:
        shares: Checkpoint -> its weight in the mean; the weights sum to 1.

    Returns:
        The network, and the contract of the last checkpoint.

    Raises:
        ModelError: As ``load_checkpoint``; or their networks differ.
    """
    loaded = {path: load_checkpoint(path) for path in shares}
    network, contract = [*loaded.values()][-1]
    mean = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    for path, (other, _) in loaded.items():
        state = other.state_dict()
        if {name: tensor.shape for name, tensor in state.items()} != {n: t.shape for n, t in mean.items()}:
            raise ModelError("holds another network", path=path, remedy="average checkpoints of one network")
        for name, tensor in state.items():
            mean[name] = mean[name] + shares[path] * tensor if tensor.is_floating_point() else tensor
    network.load_state_dict(mean)
    return network, contract


def _check_shapes(path: Path, network: ChangeNetwork, contract: Contract) -> None:
    """Compare the tensors in the header with those of the network.

    Raises:
        ModelError: A tensor is missing, unknown, of another shape, or of an unsupported dtype.
    """
    listed = {name: entry for name, entry in read_header(path).items() if name != "__metadata__"}
    wanted = network.state_dict()
    wrong = ""
    if listed.keys() != wanted.keys():
        odd = sorted(listed.keys() ^ wanted.keys())
        wrong = f"{odd[0]} and {len(odd) - 1} more are {'unknown' if odd[0] in listed else 'missing'}"
    for name, tensor in wanted.items() if not wrong else ():
        entry = listed[name] if isinstance(listed[name], dict) else {}
        if entry.get("shape") != list(tensor.shape) or entry.get("dtype") not in DTYPES[tensor.is_floating_point()]:
            wrong = f"{name} is {entry.get('dtype')} {entry.get('shape')}, and not {list(tensor.shape)}"
            break
    if wrong:
        made_with = contract.encoder_settings.get("transformers_version")
        remedy = f"pip install transformers=={made_with}, its version at the time" if made_with else REMEDY
        raise ModelError(f"tensors do not fit a {contract.encoder} network: {wrong}", path=path, remedy=remedy)


def build_network(contract: Contract) -> ChangeNetwork:
    """A network as the contract describes it, with newly initialised weights."""
    shape = contract.encoder, contract.width, contract.mean, contract.std
    return ChangeNetwork(
        *shape,
        fine=contract.fine,
        presence=contract.presence,
        ordered=contract.ordered,
        settings=contract.encoder_settings,
    )
