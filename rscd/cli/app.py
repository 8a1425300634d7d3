"""The application: one command a file, imported without torch or GDAL so that --help answers at once."""

from __future__ import annotations

from typing import Annotated

import typer

import rscd
from rscd.cli import batch, demo, detect, evaluate, inspect, models, polygons, train

app = typer.Typer(
    name="rscd",
    help="Map what changed between two large GeoTIFFs of the same place.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("detect")(detect.detect)
app.command("inspect")(inspect.inspect)
app.command("polygons")(polygons.polygons)
app.command("batch")(batch.batch)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(models.app, name="models")
app.command("demo")(demo.demo)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(rscd.__version__)
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
    app()
