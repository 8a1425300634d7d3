"""Set up a run: from options to a pair ready to be read, its windows, and the network that forwards them.

A run's key holds everything that its strips depend on, so that strips of another run are never used for it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rscd.core.contract import Contract
from rscd.core.errors import ModelError
from rscd.core.version import VERSION, library_version
from rscd.inference.backends import MOST_CALLS
from rscd.inference.backends.choice import check_backend
from rscd.inference.components import threshold_value
from rscd.inference.device import idle_gpu
from rscd.inference.predictor import ForwardPass, Predictor, Windows, tune
from rscd.model.catalog import DEFAULT
from rscd.model.registry import Model, embedded_contracts
from rscd.options.declare import names
from rscd.options.detect import DetectConfig
from rscd.scene.files import fingerprint, sidecars_of
from rscd.scene.pair import Pair, open_pair, refuse_same_file
from rscd.scene.prepare import Prepared, prepare
from rscd.scene.windows import WindowPlan

if TYPE_CHECKING:
    from torch import nn

Loaded = tuple["nn.Module", Contract]
"""A network and its contract, from ``load_model``."""


@dataclass(frozen=True)
class Run:
    """Everything that is decided before the first window."""

    config: DetectConfig
    """Inputs, outputs and options."""
    model: Model
    """The model."""
    predictor: Predictor
    """The network in its backend."""
    prepared: Prepared
    """The pair, and the findings on it."""
    plan: WindowPlan
    """Windows of the scene."""
    forward: ForwardPass
    """The network for windows of the scene, and how it is called."""
    threshold: int
    """Smallest probability value (1..254) that counts as changed."""

    @property
    def contract(self) -> Contract:
        """The model's contract."""
        return self.model.contract

    @property
    def pair(self) -> Pair:
        """The two dates."""
        return self.prepared.pair

    @property
    def key(self) -> dict[str, Any]:
        """Everything that the bytes of its strips depend on."""
        return run_key(self.config, self.model, self.predictor, self.plan, self.prepared.factor)

    @property
    def lines(self) -> tuple[str, ...]:
        """What a user should know before the run: device, model, licence, verdict on the pair."""
        backend, contract = self.predictor.backend, self.contract
        return (
            f"device {backend.device}, {backend.precision}, {backend.name}" + idle_gpu(backend.device),
            *([backend.note] if backend.note else []),
            f"model {contract.name} {contract.version}, {contract.encoder}; licence: {contract.licence}",
            *(
                [f"each window is forwarded {views} times, turned and flipped"]
                if (views := len(self.predictor.views)) > 1
                else []
            ),
            self.prepared.inspection.line,
        )


class Settings:
    """Checks of the options before a file is opened.

    Args:
        config: Inputs and options.
        model: The model; default: ``config.model``.

    Raises:
        UsageError: An option is out of range, or there is no such device or backend.
        ModelError: The model was refused.
    """

    def __init__(self, config: DetectConfig, model: Model | Loaded | None = None) -> None:
        self.config = config
        check_backend(config.backend, config.device)  # a missing one is reported before a model is read
        if model is None:
            model = Model.named(config.model or DEFAULT)
        self.model = model if isinstance(model, Model) else Model.of(model)
        self.contract = self.model.contract
        self.windows = Windows.of(self.contract, config.window, config.overlap)
        self.threshold = threshold_value(self.contract.threshold if config.threshold is None else config.threshold)

    @contextmanager
    def open(self) -> Iterator[Run]:
        """Open the pair, make it comparable, and only then load the network.

        Raises:
            DataError: The pair was refused.
            ModelError: The model was refused.
        """
        with open_pair(self.config, self.contract.bands) as opened:
            refuse_same_file(self.config)
            prepared = prepare(opened, self.contract, self.config, embedded_contracts())
            if prepared.refusal is not None:
                raise prepared.refusal
            windows = self.windows.over(*prepared.pair.full.shape, prepared.factor)
            sides = windows.on_grid(prepared.factor)
            prepared = prepared.with_margin(sides[1])
            plan = WindowPlan.on(prepared.pair.full, prepared.pair.crop, *sides)
            calls = 1 if plan.count == 1 else MOST_CALLS
            predictor = Predictor.of(self.model, self.config, windows.side, row=plan.cols.count, calls=calls)
            tune(predictor, windows.side, plan)
            yield Run(
                config=self.config,
                model=self.model,
                predictor=predictor,
                prepared=prepared,
                plan=plan,
                forward=ForwardPass.of(predictor, windows.side, prepared.factor),
                threshold=self.threshold,
            )


@lru_cache(maxsize=2)
def worker_model(path: str, sha256: str) -> Model:
    """The model, loaded once per worker."""
    model = Model.named(path)
    found = model.sha256
    if found != sha256:
        problem = f"has weights {found[:12]}, and the archive runs with {sha256[:12]}"
        raise ModelError(problem, path=path, remedy="install the same rscd and the same model on all workers")
    return model


def run_key(
    config: DetectConfig, model: Model, predictor: Predictor, plan: WindowPlan, factor: float
) -> dict[str, Any]:
    """The run's key as JSON holds it: inputs, model, options, device and versions.

    Args:
        config: Inputs and options.
        model: Its contract and its weights.
        predictor: Has the backend, device, precision and batch size that ``auto`` chose.
        plan: The windows on the scene.
        factor: Model pixel size divided by scene pixel size.
    """
    in_key = names(DetectConfig, changes=("strips", "rounding"), resolved=False)
    contract, backend = model.contract, predictor.backend
    digest = hashlib.sha256(contract.to_json().encode())
    digest.update(model.sha256.encode())
    return {
        **{role: _file(path) for role, path in _files(config).items()},
        "model": f"{contract.name} {contract.version} {digest.hexdigest()}",
        "options": {name: getattr(config, name) for name in in_key},
        "windows": {"rows": dataclasses.asdict(plan.rows), "columns": dataclasses.asdict(plan.cols)},
        "resampling": factor,
        "backend": backend.name,
        "device": backend.device.partition(":")[0],
        "precision": backend.precision,
        "batch_size": predictor.batch_size,
        "threads": backend.threads,
        "versions": {"rscd": VERSION, backend.name: backend.version}
        | ({} if factor == 1 else {"pillow": library_version("pillow")}),  # it resamples
    }


def _files(config: DetectConfig) -> dict[str, Path]:
    rasters = config.rasters
    files = rasters if config.aoi is None else rasters | {"aoi": config.aoi}
    if config.sidecars:
        files |= {f"{role}{path.suffix}": path for role in rasters for path in sidecars_of(rasters[role])}
    return files


def _file(path: Path) -> dict[str, Any]:
    """What identifies a file, independent of its path."""
    return {name: value for name, value in fingerprint(path).items() if name != "path"}
