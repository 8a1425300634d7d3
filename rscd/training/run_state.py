"""The state of a run: its identity, the tensors to resume from, the history of its epochs."""

from __future__ import annotations

import csv
import dataclasses
import glob
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rscd.core.contract import Contract
from rscd.core.errors import OutputError, UsageError
from rscd.core.publish import publishing
from rscd.core.version import VERSION
from rscd.options.declare import names
from rscd.options.training import TrainConfig
from rscd.training.data.batches import OneDate
from rscd.training.data.tiles import Tile
from rscd.training.validation import Verdict


def run_identity(
    config: TrainConfig, start: Contract, tiles: Sequence[Tile], held_out: Sequence[Tile]
) -> dict[str, Any]:
    """Everything that determines the weights, JSON-ready: runs with equal values can resume each other's state."""
    options = {name: getattr(config, name) for name in names(TrainConfig, changes=("weights",), resolved=False)}
    return {
        **{name: list(value) if isinstance(value, tuple) else value for name, value in options.items()},
        "init": config.init.name if config.init else None,
        "init_sha256": start.sha256 if config.init else None,
        "ordered": start.ordered,
        "one_date": [[path.name, path.stat().st_size] for pair in OneDate(config.one_date).files for path in pair],
        "data_sha256": data_sha256(tiles),
        "validation_sha256": data_sha256(held_out),
    }


def data_sha256(tiles: Sequence[Tile]) -> str:
    """Hash of the tiles' contents, independent of their location."""
    entries = {entry for tile in tiles for entry in tile.contents()}
    return hashlib.sha256("\n".join(sorted(entries)).encode()).hexdigest()


def licence_of(start: Contract, config: TrainConfig) -> str:
    """Licence of the weights: that of the starting model is never dropped, only appended to."""
    inherited = start.licence if config.init is not None else ""
    given = config.licence if config.licence is not None else ("" if inherited else "that of the training data")
    return "; ".join(terms for terms in (inherited, given if given not in inherited else "") if terms)


def describe(start: Contract, config: TrainConfig, verdict: Verdict, identity: dict[str, Any]) -> Contract:
    """Fill the contract with the decisions and metrics of training.

    Args:
        start: The contract that training started from.
        config: The options.
        verdict: Validation result of the weights that are written.
        identity: See ``run_identity``.
    """
    inherits = config.init is not None
    class_name = config.class_name or (start.class_name if inherits else "change")
    minimum = config.minimum_mapping_m2
    if minimum is None:
        minimum = start.minimum_mapping_m2 if inherits else 0.0
    figures = {f"validation_{k}": round(v, 4) for k, v in dataclasses.asdict(verdict.scores).items()}
    figures["validation_ece"] = round(verdict.ece, 4)
    given = (*config.data, *(config.pair or ())[2:], *config.reviews)
    folders = ", ".join("/".join(p.parts[-2:]) for p in given)
    beside = f" and {config.simulated:.0%} rendered scenes" if config.simulated else ""
    if config.one_date_share:
        names = ", ".join(path.name for path in config.one_date)
        beside += f" and {config.one_date_share:.0%} pairs of single images ({names})"
    versions = {"rscd": VERSION, "torch": torch.__version__}
    return dataclasses.replace(
        start,
        name=config.name,
        threshold=round(verdict.threshold, 4),
        temperature=verdict.temperature,
        gsd_m=config.gsd_m or start.gsd_m,
        class_name=class_name,
        minimum_mapping_m2=minimum,
        licence=licence_of(start, config),
        trained_on=(config.trained_on or folders) + beside,
        figures=figures,
        training={**identity, "versions": versions},
    )


@dataclass(frozen=True)
class Epoch:
    """Results of one epoch; passed to the progress callback, and a row of the history."""

    number: int
    """Number of the epoch, from 1."""
    step: int
    """Steps done by its end."""
    loss: float
    """Mean training loss."""
    f1: float
    """Best F1 over thresholds on the validation tiles."""
    precision: float
    """Precision at that threshold, like the following metrics."""
    recall: float
    iou: float
    ece: float
    """Expected calibration error of the calibrated probabilities."""
    threshold: float
    """Calibrated threshold with that F1."""
    temperature: float
    """Divisor of the logits."""
    rate: float
    """Learning rate at its end, as a fraction of the peak."""
    crops_per_s: float
    """Crops per second, all processes together, since its start or since resuming; without validation."""
    best: bool
    """Whether it is the best so far, and was written."""


def table_path(output: Path) -> Path:
    """Path of the history table of the run that writes ``output``."""
    return output.with_name(f"{output.stem}.history.csv")


def curves_path(output: Path) -> Path:
    """Path of the history plot of the run that writes ``output``."""
    return output.with_name(f"{output.stem}.curves.png")


def write_history(output: Path, epochs: Sequence[Epoch]) -> None:
    """Write table and plot next to the checkpoint.

    Raises:
        OutputError: They cannot be written.
    """
    try:
        with publishing(table_path(output)) as temporary:
            temporary.write_text(_table(epochs), encoding="utf-8")
        with publishing(curves_path(output)) as temporary:
            _draw(epochs, temporary)
    except OSError as error:
        problem = f"history cannot be written: {error}"
        raise OutputError(problem, path=table_path(output), remedy="free disk space") from error


def _table(epochs: Sequence[Epoch]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in dataclasses.fields(Epoch)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(epoch) for epoch in epochs)
    return text.getvalue()


def _draw(epochs: Sequence[Epoch], path: Path) -> None:
    from matplotlib.figure import Figure  # not pyplot: no window system, no global state

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    numbers = [epoch.number for epoch in epochs]
    left.plot(numbers, [epoch.loss for epoch in epochs], marker=".")
    left.set(title="training loss", xlabel="epoch")
    for name in ("f1", "precision", "recall"):
        right.plot(numbers, [getattr(epoch, name) for epoch in epochs], marker=".", label=name)
    right.set(title="validation", xlabel="epoch", ylim=(0, 1.02))
    for axes in (left, right):
        axes.locator_params(axis="x", integer=True)
    right.legend()
    figure.savefig(path, dpi=120)


KEY = "rscd_training_state"
RANDOM = "random.cpu"


@dataclass
class Progress:
    """Progress of a run."""

    step: int = 0
    """Steps done."""
    loss_sum: float = 0.0
    """Sum of losses over the steps of the current epoch."""
    best: float = 0.0
    """Best validation F1 so far."""
    start_f1: float | None = None
    """Validation F1 of the model that training started from; None if it could not be measured."""
    micro_batch: int = 0
    """Crops per forward pass."""
    epochs: list[Epoch] = field(default_factory=list)
    """Results of the finished epochs."""


def state_path(output: Path) -> Path:
    """Path of the state of the run that writes ``output``."""
    return output.with_name(output.name + ".state")


def save_state(output: Path, tensors: dict[str, Tensor], progress: Progress, identity: dict[str, Any]) -> None:
    """Write the state; the previous one stays intact until the new one is complete.

    Args:
        output: The checkpoint that the run writes.
        tensors: Weights, averages, moments.
        progress: Progress of the run.
        identity: See ``run_identity``.

    Raises:
        OutputError: It cannot be written.
    """
    path = state_path(output)
    kept = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()} | {RANDOM: torch.get_rng_state()}
    text = json.dumps({"progress": dataclasses.asdict(progress), "identity": identity})
    try:
        with publishing(path) as temporary:
            save_file(kept, temporary, metadata={KEY: text})
    except (OSError, SafetensorError) as error:
        remedy = "free disk space, and run the same command again; the last state and checkpoint are unchanged"
        raise OutputError(f"cannot be written: {error}", path=path, remedy=remedy) from error


def load_state(output: Path, identity: dict[str, Any]) -> tuple[dict[str, Tensor], Progress] | None:
    """Read the state next to ``output``; None if there is none. Restores torch's random generator.

    Raises:
        UsageError: It cannot be read, or belongs to another run; the message lists the differences.
    """
    path = state_path(output)
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            kept = json.loads(file.metadata()[KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        epochs = [Epoch(**row) for row in kept["progress"].pop("epochs")]
        progress = Progress(**kept["progress"], epochs=epochs)
        theirs = kept["identity"]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        remedy = "remove it, or add --overwrite, to start from the beginning"
        raise UsageError(f"not a training state: {error}", path=path, remedy=remedy) from error
    if theirs != identity:
        remedy = "repeat that command to continue it, or add --overwrite to start from the beginning"
        raise UsageError(f"belongs to another run: {_differences(theirs, identity)}", path=path, remedy=remedy)
    torch.set_rng_state(tensors.pop(RANDOM))
    return tensors, progress


def remove_state(output: Path) -> None:
    """Remove the state, and unfinished files of killed runs next to the output."""
    state_path(output).unlink(missing_ok=True)
    remove_litter(output)


def remove_litter(output: Path) -> None:
    """Remove the temporary files of runs that were killed while writing."""
    for path in (output, state_path(output), table_path(output), curves_path(output)):
        for left in path.parent.glob(f".{glob.escape(path.stem)}.[0-9]*.tmp{path.suffix}"):
            left.unlink(missing_ok=True)


def _differences(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    names = [name for name in sorted(theirs.keys() | ours.keys()) if theirs.get(name) != ours.get(name)]
    return "; ".join(f"{name} was {theirs.get(name)}, is {ours.get(name)}" for name in names)
