"""Models ready to use: those embedded in the package, the user's own checkpoints, and the choice for a scene."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rscd.core.contract import Contract
from rscd.core.errors import ModelError
from rscd.core.grid import check_place, grid_of, gsd_m
from rscd.model.catalog import DEFAULT, embedded, find_model, read_contract, stored_sha256
from rscd.options.detect import DetectConfig
from rscd.scene.raster import open_raster

if TYPE_CHECKING:
    from torch import nn

    from rscd.model.network import ChangeNetwork


def load_model(name: str = "buildings") -> tuple[ChangeNetwork, Contract]:
    """Load an embedded model by name, or a checkpoint by path, ready for inference on the CPU.

    Raises:
        ModelError: There is no such model, it is invalid, or its change head is not trained.
    """
    from rscd.model.checkpoint import load_checkpoint

    path, _ = trained_model(name)
    return load_checkpoint(path)


def trained_model(name: str) -> tuple[Path, Contract]:
    """Path and contract of a model that can detect; the weights are not read.

    Raises:
        ModelError: There is no such model, its contract is invalid, or its change head is not trained.
    """
    path = find_model(name)
    contract = read_contract(path)
    if not contract.trained_on:
        remedy = f"train it first: rscd train TILES --init {path} -o MODEL.safetensors"
        raise ModelError("contains an imported encoder, but no trained change head", path=path, remedy=remedy)
    return path, contract


@dataclass(frozen=True)
class Model:
    """A model: its contract at once, its network (and torch, which takes a second to import) only when needed."""

    contract: Contract
    """Its contract."""
    path: Path | None = None
    """Path of its checkpoint."""
    given: nn.Module | None = None
    """Its network, if the caller loaded it."""

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
        """A model from ``load_model``, or a caller's own network with a contract."""
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
            raise ModelError("was replaced during the run", path=self.path, remedy="run again")
        self.__dict__.setdefault("sha256", contract.sha256)  # already compared: no need to read the file again
        return network

    @cached_property
    def sha256(self) -> str:
        """Hash of the weights: the contract's, if the weights still match it.

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
        """Whether contract and weights define the network: an rscd network, not a caller's own module."""
        if self.given is None:
            return True
        from rscd.model.network import ChangeNetwork

        return type(self.given) is ChangeNetwork

    def release(self) -> None:
        """Free the network, if it came from the checkpoint: it is read again when needed."""
        self.__dict__.pop("network", None)


def choose_model(date: Path, *, remote: bool = False) -> str:
    """Name of the embedded model closest to a GeoTIFF's pixel size; the default one if it has no CRS.

    Args:
        date: The image whose grid is the common grid.
        remote: Whether it may be an address.

    Raises:
        DataError: It is not a GeoTIFF, or is not georeferenced.
    """
    with open_raster(date, remote=remote) as dataset:
        if dataset.crs is None:
            return DEFAULT
        check_place(date, dataset.transform, dataset.crs.to_wkt())
        gsd = gsd_m(grid_of(dataset))
    return model_for(gsd)


def embedded_contracts() -> tuple[Contract, ...]:
    """The contracts of all embedded models."""
    return tuple(_embedded().values())


@cache
def _embedded() -> dict[str, Contract]:
    """Name -> contract of the embedded models; read only once, because they are part of the package."""
    return {name: read_contract(path) for name, path in embedded().items()}


def model_for(gsd: float) -> str:
    """Name of the embedded model closest to a pixel size; the default one if several are.

    Args:
        gsd: Ground sample distance, m.
    """
    distances = {}
    for name, contract in _embedded().items():
        low, high = contract.gsd_m
        distances[name] = max(low / gsd, gsd / high, 1.0)
    nearest = min(distances.values(), default=1.0)
    fitting = [name for name, distance in distances.items() if distance <= nearest * 1.001]
    return DEFAULT if DEFAULT in fitting or not fitting else fitting[0]


def with_model(config: DetectConfig) -> DetectConfig:
    """The options with a model; if none is named, the embedded model whose pixel sizes fit.

    Raises:
        DataError: The image whose grid is the common grid is not a GeoTIFF, or is not georeferenced.
    """
    if config.model is not None:
        return config
    date = config.before if config.grid == "before" else config.after
    return replace(config, model=choose_model(date, remote=config.remote))
