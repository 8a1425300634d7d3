"""The key of a run: all that its bands depend on, so that no band of another run is taken for one of it."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import torch

from rscd.core.contract import Contract
from rscd.core.version import VERSION
from rscd.inference.predictor import Predictor
from rscd.model.checkpoint import tensors_sha256
from rscd.options.config import DetectConfig
from rscd.scene.sources import fingerprint, sidecars_of
from rscd.scene.windows import WindowPlan

NOT_IN_BANDS = (
    *("output", "probability", "report", "overwrite", "resume", "keep_journal", "discard_reviews", "full_paths"),
    *("title", "dates"),
    *("threshold", "min_area_m2", "simplify_m", "fill_holes_m2", "regularize"),
    *(
        "before",
        "after",
        "aoi",
        "before_mask",
        "after_mask",
        "model",
        "device",
        "precision",
        "window",
        "overlap",
        "batch_size",
    ),  # told by what they come to
)
"""Options that are not in the key. Any other is: a new one, too, until it is said here to be harmless."""


def run_key(
    config: DetectConfig, contract: Contract, predictor: Predictor, plan: WindowPlan, factor: float
) -> dict[str, Any]:
    """The key as JSON holds it: of inputs, model, options, device and versions.

    Args:
        config: Inputs and options.
        contract: The model's; with the network's tensors it is the model.
        predictor: Says what device, precision and batch size came out of ``auto``.
        plan: The windows on the scene.
        factor: Model pixel size through scene pixel size.
    """
    options = dataclasses.asdict(config)
    told = hashlib.sha256(contract.to_json().encode())
    told.update(tensors_sha256(predictor.network.state_dict()).encode())
    return {
        **{role: _file(path) for role, path in _files(config).items()},
        "model": f"{contract.name} {contract.version} {told.hexdigest()}",
        "options": {name: value for name, value in options.items() if name not in NOT_IN_BANDS},
        "windows": {"rows": dataclasses.asdict(plan.rows), "columns": dataclasses.asdict(plan.cols)},
        "resampling": factor,
        "device": predictor.device.type,
        "precision": predictor.precision,
        "batch_size": predictor.batch_size,
        "threads": torch.get_num_threads(),
        "versions": {"rscd": VERSION, "torch": torch.__version__},
    }


def _files(config: DetectConfig) -> dict[str, Path]:
    rasters = config.rasters
    files = rasters if config.aoi is None else rasters | {"aoi": config.aoi}
    if config.sidecars:
        files |= {f"{role}{path.suffix}": path for role in rasters for path in sidecars_of(rasters[role])}
    return files


def _file(path: Path) -> dict[str, Any]:
    """What a file is, wherever it lies."""
    return {name: value for name, value in fingerprint(path).items() if name != "path"}
