"""Checkpoints: one ``.safetensors`` file whose metadata holds the contract. No pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from rscd.errors import ModelError, OutputError
from rscd.model.contract import Contract
from rscd.model.network import ENCODERS, ChangeNetwork
from rscd.output.publish import publishing

KEY = "rscd_contract"
MAX_HEADER = 16 << 20
"""A safetensors header longer than this many bytes is refused before it is read."""
REMEDY = "use a checkpoint written by rscd train or rscd models import"


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hash name, dtype, shape and bytes of every tensor in name order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(path: Path, network: ChangeNetwork, contract: Contract, *, half: bool = False) -> Contract:
    """Write network and contract; returns the contract with its sha256.

    Args:
        path: Target, replaced whole.
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
        remedy = "choose a writable folder with room"
        raise OutputError(f"cannot be written: {error}", path=path, remedy=remedy) from error
    return contract


def read_contract(path: Path) -> Contract:
    """Read the contract alone, from a bounded header, importing no tensor.

    Raises:
        ModelError: Missing, not safetensors, no contract, or a contract that is not valid.
    """
    try:
        with path.open("rb") as file:
            prefix = file.read(8)
            size = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            # 'PK' opens a zip, which is what torch.save writes; 0x80 opens a bare pickle
            if prefix[:2] == b"PK" or prefix[:1] == b"\x80" or not 2 <= size <= MAX_HEADER:
                raise ValueError("not a safetensors file" + _pickle_hint(prefix))
            header = json.loads(file.read(size))
        metadata = header.get("__metadata__", {})
        if KEY not in metadata:
            raise ValueError("a safetensors file without a contract")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(str(error), path=path, remedy=REMEDY) from error
    return Contract.from_json(metadata[KEY], path=path)


def _pickle_hint(prefix: bytes) -> str:
    pickled = prefix[:2] == b"PK" or prefix[:1] == b"\x80"
    return " but a pickle, which rscd never opens" if pickled else ""


def load_checkpoint(path: Path) -> tuple[ChangeNetwork, Contract]:
    """Build the network of a checkpoint, in evaluation mode, float32, on the CPU.

    Raises:
        ModelError: As ``read_contract``; also tensors that are cut, of other shapes, not finite, or whose hash
            is not the contract's.
    """
    contract = read_contract(path)
    if contract.encoder not in ENCODERS:
        raise ModelError(f"unknown encoder {contract.encoder!r}", path=path, remedy=REMEDY)
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot be read: {error}", path=path, remedy="copy it again") from error
    if tensors_sha256(state) != contract.sha256:
        raise ModelError("tensors do not match the contract's sha256", path=path, remedy="copy it again")
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise ModelError(f"tensor {name} is not finite", path=path, remedy="use an earlier checkpoint")
    network = build_network(contract)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        problem = f"tensors do not fit a {contract.encoder} network: {str(error).splitlines()[-1].strip()}"
        raise ModelError(problem, path=path, remedy=REMEDY) from error
    return network.eval(), contract


def build_network(contract: Contract) -> ChangeNetwork:
    """A network of the contract's shape with fresh weights."""
    return ChangeNetwork(contract.encoder, contract.width, contract.mean, contract.std)
