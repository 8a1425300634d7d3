"""Models ready to use: those embedded in the package, and the user's own checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rscd.core.contract import Contract
from rscd.core.errors import ModelError
from rscd.model.catalog import find_model
from rscd.model.header import read_contract, stored_sha256

if TYPE_CHECKING:
    from torch import nn

    from rscd.model.network import ChangeNetwork


def load_model(name: str = "buildings") -> tuple[ChangeNetwork, Contract]:
    """Load an embedded model by name, or a checkpoint by path, ready for inference on the CPU.

    Raises:
        ModelError: There is none, it is not valid, or its change head has not been trained.
    """
    from rscd.model.checkpoint import load_checkpoint

    path, _ = trained_model(name)
    return load_checkpoint(path)


def trained_model(name: str) -> tuple[Path, Contract]:
    """Where a model that can detect lies, and its contract; the weights are not read.

    Raises:
        ModelError: There is none, its contract is not valid, or its change head has not been trained.
    """
    path = find_model(name)
    contract = read_contract(path)
    if not contract.trained_on:
        remedy = f"train it first: rscd train TILES --init {path} -o MODEL.safetensors"
        raise ModelError("holds an imported encoder, and no trained change head", path=path, remedy=remedy)
    return path, contract


@dataclass(frozen=True)
class Model:
    """A model: its contract at once, its network (and torch, which takes a second) only when it is asked for."""

    contract: Contract
    """What it promises."""
    path: Path | None = None
    """Its checkpoint."""
    given: nn.Module | None = None
    """Its network, if that was loaded by someone else."""

    @classmethod
    def named(cls, name: str) -> Model:
        """An embedded model by name, or a checkpoint by path.

        Raises:
            ModelError: As ``trained_model``.
        """
        path, contract = trained_model(name)
        return cls(contract, path)

    @classmethod
    def of(cls, loaded: tuple[nn.Module, Contract]) -> Model:
        """What ``load_model`` gave, or a network of another make with a contract."""
        network, contract = loaded
        return cls(contract, given=network)

    @cached_property
    def network(self) -> nn.Module:
        """The network, in evaluation mode.

        Raises:
            ModelError: The checkpoint is not valid.
        """
        if self.given is not None:
            return self.given
        from rscd.model.checkpoint import load_checkpoint

        assert self.path is not None, "a model has a path or a network"
        network, contract = load_checkpoint(self.path)
        if contract != self.contract:
            raise ModelError("was replaced meanwhile", path=self.path, remedy="run again")
        self.__dict__.setdefault("sha256", contract.sha256)  # compared: no need to read all once more
        return network

    @cached_property
    def sha256(self) -> str:
        """Hash of the weights: the contract's, where they are those that it was written with.

        Raises:
            ModelError: The checkpoint is damaged.
        """
        if self.given is None:
            assert self.path is not None, "a model has a path or a network"
            if stored_sha256(self.path) != self.contract.sha256:
                problem = "tensors do not match the contract's sha256"
                raise ModelError(problem, path=self.path, remedy="copy it again")
            return self.contract.sha256
        from rscd.model.checkpoint import tensors_sha256

        state = self.given.state_dict()
        halved = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
        lossless = all(t.equal(halved[name].to(t.dtype)) for name, t in state.items())
        stored = self.contract.sha256
        return stored if lossless and stored == tensors_sha256(halved) else tensors_sha256(state)

    @property
    def ours(self) -> bool:
        """Whether the network is what contract and weights say: one of rscd's, not someone's own module."""
        if self.given is None:
            return True
        from rscd.model.network import ChangeNetwork

        return type(self.given) is ChangeNetwork

    def release(self) -> None:
        """Let go of the network, if it came from the checkpoint: it is read again where it is asked for."""
        self.__dict__.pop("network", None)
