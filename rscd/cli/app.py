"""The application: one module per command, imported without torch or GDAL so that --help is fast."""

from __future__ import annotations

import gc
import sys
from typing import Annotated

import typer

from rscd.cli import batch, config, demo, detect, evaluate, inspect, models, polygons, qgis, train
from rscd.cli.console import cannot_print, flush_all, open_all, say
from rscd.core.errors import OutputError
from rscd.core.version import VERSION

app = typer.Typer(
    name="rscd",
    help="Map what changed between two large GeoTIFFs of the same place.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.command("detect")(detect.detect)
app.command("inspect")(inspect.inspect)
app.command("polygons")(polygons.polygons)
app.command("batch")(batch.batch)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(models.app, name="models")
app.command("config")(config.config)
app.command("demo")(demo.demo)
app.add_typer(qgis.app, name="qgis")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(VERSION)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the command ``rscd``."""
    open_all()
    try:
        app()
    except OSError as error:
        if error.filename is not None:
            raise
        say(f"rscd: {cannot_print(error)} - check where it is redirected")  # help is printed by Typer
        sys.exit(OutputError.exit_code)
    finally:
        flush_all()
        gc.freeze()  # at its exit Python would look through all objects again: a tenth of a short run
