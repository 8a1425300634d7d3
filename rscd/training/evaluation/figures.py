"""Figures: contact sheets of tiles, precision-recall and reliability plots, the table of scenes."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from rscd.core.errors import OutputError
from rscd.core.publish import publishing
from rscd.core.types import ByteArray
from rscd.training.data.survey import TileFacts
from rscd.training.data.tiles import CHANGED, IGNORED, Triple
from rscd.training.evaluation.metrics import PixelCounts

if TYPE_CHECKING:
    from rscd.training.evaluation.scores import Evaluation, SceneScore


SHOWN = 12
"""Maximum number of tiles on the sheet."""
SIDE, GAP, LINE = 256, 6, 16
"""Side of a picture, space between pictures, and height of a line of text, px."""
COLOURS = {CHANGED: (255, 255, 255), IGNORED: (90, 60, 120)}
"""Colours of label pixels; unchanged ones are black."""


def choose(facts: Sequence[TileFacts]) -> list[TileFacts]:
    """At most SHOWN tiles, evenly from first to last; most of them with changes if there are any."""
    some, none = [f for f in facts if f.changed], [f for f in facts if not f.changed]
    plain = min(len(none), max(SHOWN // 4, SHOWN - len(some)))
    picked = _evenly(some, SHOWN - plain) + _evenly(none, plain)
    return sorted(picked, key=lambda fact: fact.tile.name)


def _evenly(facts: Sequence[TileFacts], most: int) -> list[TileFacts]:
    if len(facts) <= most:
        return list(facts)
    return [facts[i] for i in np.linspace(0, len(facts) - 1, most).round().astype(int)]


def write_sheet(path: Path, facts: Sequence[TileFacts]) -> None:
    """Write the sheet as a PNG: two tiles per row, each with its name and share of changed pixels.

    Raises:
        DataError: A tile cannot be read.
        OutputError: The sheet cannot be written.
    """
    chosen = choose(facts)
    wide, high = 3 * SIDE + 2 * GAP, SIDE + LINE
    rows = -(-len(chosen) // 2)
    sheet = Image.new("RGB", (2 * wide + 5 * GAP, rows * (high + GAP) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for i, fact in enumerate(chosen):
        x, y = GAP + (i % 2) * (wide + 3 * GAP), GAP + (i // 2) * (high + GAP)
        share = fact.changed / max(fact.judged, 1)
        draw.text((x, y), f"{fact.tile.name[-95:]}   {share:.1%} changed", fill="black")
        for j, picture in enumerate(_pictures(fact.tile.read())):
            sheet.paste(picture, (x + j * (SIDE + GAP), y + LINE))
    try:
        with publishing(path) as temporary:
            sheet.save(temporary, format="PNG")
    except OSError as error:
        remedy = "name another file with --sheet"
        raise OutputError(f"could not be written ({error})", path=path, remedy=remedy) from error


def _pictures(triple: Triple) -> list[Image.Image]:
    before, after, label = triple
    colours: ByteArray = np.zeros((3, *label.shape), np.uint8)
    for value, colour in COLOURS.items():
        colours[:, label == value] = np.array(colour, np.uint8)[:, None]
    pictures = [Image.fromarray(np.ascontiguousarray(np.moveaxis(i, 0, 2))) for i in (before, after, colours)]
    for picture in pictures:
        picture.thumbnail((SIDE, SIDE))
    return pictures


BINS = 15
"""Bins of p in the reliability plot, as in the expected calibration error."""
PRECISION_RECALL, RELIABILITY, SCENES = "precision_recall.png", "reliability.png", "scenes.csv"


def write_pictures(folder: Path, counts: PixelCounts, evaluation: Evaluation) -> None:
    """Write the three files into a folder, which is created if missing.

    Raises:
        OutputError: A file could not be written.
    """
    table, rows = io.StringIO(), [_row(scene) for scene in (*evaluation.scenes, evaluation.total)]
    writer = csv.DictWriter(table, rows[-1], restval=0, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in (
            (PRECISION_RECALL, precision_recall(counts, evaluation)),
            (RELIABILITY, reliability(counts, evaluation)),
        ):
            with publishing(folder / name) as temporary:
                figure.savefig(temporary, dpi=120, format="png")
        with publishing(folder / SCENES) as temporary:
            temporary.write_text(table.getvalue(), encoding="utf-8")
    except OSError as error:
        remedy = "make sure that it is writable and has free space, then run again"
        raise OutputError(f"could not be written ({error})", path=folder, remedy=remedy) from error


def _row(scene: SceneScore) -> dict[str, Any]:
    """The metrics, with a column for each direction that was found."""
    figures = asdict(scene)
    ways: dict[str, int] = figures.pop("directions")
    return figures | ways


def precision_recall(counts: PixelCounts, evaluation: Evaluation) -> Figure:
    """Precision over recall of pixels, with the current threshold and lines of equal F1."""
    figure, axes = _square("Recall", "Precision")
    precision, recall = counts.curve()
    r = np.linspace(0.01, 1, 200)
    for f1 in (0.5, 0.6, 0.7, 0.8, 0.9):
        with np.errstate(divide="ignore", invalid="ignore"):
            p = f1 * r / (2 * r - f1)
        inside = (p > 0) & (p <= 1)
        axes.plot(r[inside], p[inside], color="0.85", linewidth=0.8)
        axes.annotate(f"F1 {f1}", (1.0, f1 / (2 - f1)), color="0.6", fontsize=7, ha="right", va="bottom")
    axes.plot(recall, precision, color="#c03000")
    total, area = evaluation.total, evaluation.average_precision
    if total.recall is not None and total.precision is not None:
        words = f"p >= {evaluation.threshold:.3f}: F1 {total.f1:.3f}"
        axes.plot(total.recall, total.precision, "o", color="#202020", label=words)
        axes.legend(loc="lower left")
    title = "nothing changed" if area is None else f"average precision {area:.3f}"
    axes.set_title(f"{evaluation.model}, pixels; {title}", fontsize=9)
    return figure


def reliability(counts: PixelCounts, evaluation: Evaluation) -> Figure:
    """Share of changed pixels over the predicted probability; the diagonal is perfect."""
    figure, axes = _square("Calibrated probability", "Share that is changed")
    said, found, pixels = counts.reliability(BINS)
    some = pixels > 0
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
    axes.plot(said[some], found[some], "o-", color="#c03000")
    share = np.log10(np.maximum(pixels, 1)) / max(np.log10(max(int(pixels.max()), 2)), 1e-9)
    axes.bar((np.arange(BINS) + 0.5) / BINS, 0.25 * share, width=0.9 / BINS, color="#4060a0", alpha=0.25)
    axes.set_title(f"{evaluation.model}, pixels; ECE {evaluation.total.ece:.4f} (bars: log of pixels)", fontsize=9)
    return figure


def _square(x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1.005), ylim=(0, 1.005), xlabel=x, ylabel=y, aspect="equal")
    return figure, axes
