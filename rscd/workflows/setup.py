"""Setting a run up: from options to a pair ready to be read, its windows, and the network that forwards them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rscd.core.contract import Contract
from rscd.core.errors import ModelError
from rscd.inference.components import threshold_value
from rscd.inference.device import choose_device, idle_gpu
from rscd.inference.predictor import Forward, Predictor, choose_window, fit_to, window_on_grid
from rscd.inference.runkey import run_key
from rscd.inference.tune import tune
from rscd.model.catalog import DEFAULT
from rscd.model.choice import embedded_contracts
from rscd.model.registry import load_model
from rscd.options.detect import DetectConfig
from rscd.scene.pair import Pair, open_pair, refuse_same_file
from rscd.scene.prepare import Prepared, prepare
from rscd.scene.windows import WindowPlan

if TYPE_CHECKING:
    from torch import nn

    from rscd.model.network import ChangeNetwork


Model = tuple["nn.Module", Contract]
"""A network and its contract, from ``load_model``."""


@dataclass(frozen=True)
class Run:
    """All that is decided before the first window."""

    config: DetectConfig
    """Inputs, outputs and options."""
    contract: Contract
    """The model's."""
    predictor: Predictor
    """The network on its device."""
    prepared: Prepared
    """The pair, and what was found of it."""
    plan: WindowPlan
    """The windows on the scene."""
    forward: Forward
    """The network for windows of the scene."""
    threshold: int
    """Smallest probability value (1..254) that counts as changed."""

    @property
    def pair(self) -> Pair:
        """The two dates."""
        return self.prepared.pair

    @property
    def key(self) -> dict[str, Any]:
        """All that the bytes of its strips depend on."""
        return run_key(self.config, self.contract, self.predictor, self.plan, self.prepared.factor)

    @property
    def lines(self) -> tuple[str, ...]:
        """What a user should know before it starts: device, model and its terms, the verdict on the pair."""
        device, contract = self.predictor.device, self.contract
        return (
            f"device {device}, {self.predictor.precision}" + idle_gpu(device),
            f"model {contract.name} {contract.version}, {contract.encoder}; licence: {contract.licence}",
            *([f"each window is forwarded in {views} ways"] if (views := len(self.predictor.views)) > 1 else []),
            self.prepared.inspection.line,
        )


class Settings:
    """What is checked of the options before a file is opened.

    Args:
        config: Inputs and options.
        model: The model; default: ``config.model`` is loaded.

    Raises:
        UsageError: An option out of range, or no such device.
        ModelError: The model was refused.
    """

    def __init__(self, config: DetectConfig, model: Model | None = None) -> None:
        self.config = config
        choose_device(config.device)  # one that is not there is said before a model is read
        network, self.contract = model or load_model(config.model or DEFAULT)
        self.window, self.overlap = choose_window(config.window, config.overlap, self.contract)
        self.threshold = threshold_value(self.contract.threshold if config.threshold is None else config.threshold)
        self.predictor = Predictor.of(network, self.contract, config)

    @contextmanager
    def open(self) -> Iterator[Run]:
        """Open the pair and make it comparable.

        Raises:
            DataError: The pair was refused.
        """
        with open_pair(self.config, self.contract.bands) as opened:
            refuse_same_file(self.config)
            prepared = prepare(opened, self.contract, self.config, embedded_contracts())
            if prepared.refusal is not None:
                raise prepared.refusal
            sides = window_on_grid(self.window, self.overlap, prepared.factor)
            prepared = prepared.with_margin(sides[1])
            plan = WindowPlan.on(prepared.pair.full, prepared.pair.crop, *sides)
            tune(self.predictor, self.window, plan)
            yield Run(
                config=self.config,
                contract=self.contract,
                predictor=self.predictor,
                prepared=prepared,
                plan=plan,
                forward=fit_to(self.predictor, self.window, prepared.factor),
                threshold=self.threshold,
            )


@lru_cache(maxsize=2)
def worker_model(path: str, sha256: str) -> tuple[ChangeNetwork, Contract]:
    """The model, loaded once a worker."""
    network, contract = load_model(path)
    if contract.sha256 != sha256:
        problem = f"has weights {contract.sha256[:12]}, and the archive runs with {sha256[:12]}"
        raise ModelError(problem, path=path, remedy="install one rscd and one model on all workers")
    return network, contract
