"""``rscd config``."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import typer

from rscd.cli.batch import SHARED
from rscd.cli.console import exit_codes, print_text
from rscd.options.batch import BatchConfig
from rscd.options.declare import declared
from rscd.options.detect import DetectConfig, PolygonsConfig
from rscd.options.pair import InspectConfig
from rscd.options.toml import template
from rscd.options.training import EvaluateConfig, TrainConfig

Command = Literal["detect", "inspect", "polygons", "batch", "train", "evaluate"]
OPTIONS = {
    "detect": declared(DetectConfig),
    "inspect": declared(InspectConfig),
    "polygons": declared(PolygonsConfig),
    "batch": (*declared(BatchConfig), *SHARED),
    "train": declared(TrainConfig),
    "evaluate": declared(EvaluateConfig),
}
"""Command -> options that its file may contain."""


def config(
    command: Annotated[
        Command, typer.Argument(metavar=f"[{'|'.join(get_args(Command))}]", help="Whose options are printed.")
    ],
) -> None:
    """Print a file with all options of a command, for --config: rscd config detect > run.toml."""
    with exit_codes():
        print_text(template(command, OPTIONS[command]))
