"""The state of a run under way: one safetensors file beside the output, replaced whole. No pickle."""

from __future__ import annotations

import dataclasses
import glob
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rscd.errors import OutputError, UsageError
from rscd.output.publish import publishing
from rscd.training.history import Epoch, curves_path, table_path

KEY = "rscd_training_state"
RANDOM = "random.cpu"


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    """Steps that have been taken."""
    loss_sum: float = 0.0
    """Sum of losses over the steps of the epoch under way."""
    best: float = 0.0
    """Best validation F1 so far."""
    start_f1: float | None = None
    """Validation F1 of the model that training started from; None where it could not be judged."""
    micro_batch: int = 0
    """Crops forwarded at once."""
    epochs: list[Epoch] = field(default_factory=list)
    """What each finished epoch came to."""


def state_path(output: Path) -> Path:
    """Where the state of the run that writes ``output`` lies."""
    return output.with_name(output.name + ".state")


def save_state(output: Path, tensors: dict[str, Tensor], progress: Progress, identity: dict[str, Any]) -> None:
    """Write the state; an older one is intact until the new one is complete.

    Args:
        output: The checkpoint that the run writes.
        tensors: Weights, averages, moments.
        progress: How far the run has come.
        identity: What makes this run this run, JSON-ready.

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
        remedy = "make room, and run the same command again; the last state and checkpoint are as they were"
        raise OutputError(f"cannot be written: {error}", path=path, remedy=remedy) from error


def load_state(output: Path, identity: dict[str, Any]) -> tuple[dict[str, Tensor], Progress] | None:
    """Read the state beside ``output``; None if there is none. Restores torch's random generator.

    Raises:
        UsageError: It cannot be read, or is that of another run; the message says what differs.
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
        remedy = "remove it, or add --overwrite, to begin anew"
        raise UsageError(f"not a training state: {error}", path=path, remedy=remedy) from error
    if theirs != identity:
        remedy = "repeat that command to go on with it, or add --overwrite to begin anew"
        raise UsageError(f"belongs to another run: {_differences(theirs, identity)}", path=path, remedy=remedy)
    torch.set_rng_state(tensors.pop(RANDOM))
    return tensors, progress


def remove_state(output: Path) -> None:
    """Remove the state, and what killed runs left half-written beside the output."""
    state_path(output).unlink(missing_ok=True)
    remove_litter(output)


def remove_litter(output: Path) -> None:
    """Remove the temporary files of runs that were killed while they wrote."""
    for path in (output, state_path(output), table_path(output), curves_path(output)):
        for left in path.parent.glob(f".{glob.escape(path.stem)}.[0-9]*.tmp{path.suffix}"):
            left.unlink(missing_ok=True)


def _differences(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    names = [name for name in sorted(theirs.keys() | ours.keys()) if theirs.get(name) != ours.get(name)]
    return "; ".join(f"{name} was {theirs.get(name)}, is {ours.get(name)}" for name in names)
