"""What each epoch came to, as a table and as curves beside the model."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rscd.errors import OutputError
from rscd.output.publish import publishing


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to; passed to the progress callback, and a row of the history."""

    number: int
    """From 1."""
    step: int
    """Steps that had been taken by its end."""
    loss: float
    """Mean training loss."""
    f1: float
    """Best F1 over thresholds on the validation tiles."""
    precision: float
    """At that threshold, as all that follows."""
    recall: float
    iou: float
    ece: float
    """Expected calibration error of the calibrated probabilities."""
    threshold: float
    """The (calibrated) threshold of that F1."""
    temperature: float
    """Divides the logits."""
    rate: float
    """Learning rate at its end, as a share of the peak."""
    crops_per_s: float
    """Crops a second, all processes together, since it began or was resumed; validation is not counted."""
    best: bool
    """Whether it is the best so far, and was written."""


def table_path(output: Path) -> Path:
    """Where the table of the run that writes ``output`` lies."""
    return output.with_name(f"{output.stem}.history.csv")


def curves_path(output: Path) -> Path:
    """Where the curves of the run that writes ``output`` lie."""
    return output.with_name(f"{output.stem}.curves.png")


def write_history(output: Path, epochs: Sequence[Epoch]) -> None:
    """Write table and curves beside the checkpoint.

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
        raise OutputError(problem, path=table_path(output), remedy="make room") from error


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
