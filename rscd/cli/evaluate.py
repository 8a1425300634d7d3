"""``rscd evaluate``."""

from __future__ import annotations

import math
import os
from functools import partial
from typing import TYPE_CHECKING

from rscd.cli.command import Json, Quiet, command, refuse_early, typed
from rscd.cli.console import Progress, print_columns, print_json, say, silent
from rscd.cli.progress import counted
from rscd.options.declare import declared
from rscd.options.training import EvaluateConfig

if TYPE_CHECKING:
    from rscd.training.evaluation.scores import Evaluation


MOST_ROWS = 40
"""Scenes in the printed table at most."""


@command(partial(EvaluateConfig, data=()), typed(declared(EvaluateConfig)))
def evaluate(
    config: EvaluateConfig, as_json: Json = False, quiet: Quiet = False, progress: Progress = "auto"
) -> None:
    """Measure a model's accuracy on labelled tiles and scenes, which are mapped as by detect."""
    refuse_early(config)
    from rscd.inference.device import own_process
    from rscd.workflows.evaluate import evaluate as run

    own_process(config.device)

    quiet = silent(quiet=quiet, as_json=as_json, progress=progress)
    with counted("evaluate", "scene", quiet=quiet) as bar:
        evaluation = run(config, progress=bar)
    if as_json:
        print_json(evaluation)
    elif not quiet:
        print_columns(HEADER, rows(evaluation), stdout=True)
        least = "-".join(map(str, sorted(set(evaluation.minimum_px))))
        say(
            f"model {evaluation.model}, p >= {evaluation.threshold:.4g}; "
            f"average precision {_shown(evaluation.average_precision)}; "
            f"edge F1: pixels within 2 px of label edges only; objects: 4-connected, IoU >= 0.5, those below "
            f"{least} px are left out of map and labels"
        )
        if evaluation.total.directions:
            ways = ", ".join(f"{count} {way}" for way, count in evaluation.total.directions.items())
            say(f"found objects: {ways}")


HEADER = ("", "Mpx", "P", "R", "F1", "IoU", "OA", "ECE", "edge F1", "objects", "found", "P", "R", "F1")


def rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """The table: scenes (only the worst if there are too many), and their total."""
    scenes = list(evaluation.scenes)
    folder = os.path.commonpath([os.path.dirname(s.name) for s in scenes])  # noqa: PTH120
    if len(scenes) > MOST_ROWS:
        scenes = sorted(scenes, key=lambda s: math.inf if s.f1 is None else s.f1)[:MOST_ROWS]
    table = []
    for s in (*scenes, evaluation.total):
        name = s.name if s is evaluation.total else os.path.relpath(s.name, folder) if folder else s.name
        pixels = (s.precision, s.recall, s.f1, s.iou, s.accuracy, s.ece, s.edge_f1_2px)
        things = (s.object_precision, s.object_recall, s.object_f1)
        table.append(
            (
                name,
                f"{s.pixels / 1e6:.2f}",
                *map(_shown, pixels),
                str(s.objects_there),
                str(s.objects_found),
                *map(_shown, things),
            )
        )
    return table


def _shown(share: float | None) -> str:
    """A share of the table; a dash where there is none, e.g. the recall of a tile where nothing changed."""
    return "-" if share is None else f"{share:.3f}"
