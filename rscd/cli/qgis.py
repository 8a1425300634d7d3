"""``rscd qgis``: install the QGIS plugin, or package it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rscd.cli.console import exit_codes, say

app = typer.Typer(help="Install the QGIS plugin, or package it.", no_args_is_help=True)


@app.command()
def install(
    profile: Annotated[
        Path | None, typer.Option(help="Folder of a QGIS profile; default: the default profile of this user.")
    ] = None,
) -> None:
    """Copy the plugin into a QGIS profile; an older copy is replaced."""
    with exit_codes():
        from rscd.qgis.package import install as run

        folder = run(profile)
        say(f"{folder}: installed")
        say("next: restart QGIS, then tick rscd in Plugins > Manage and Install Plugins > Installed")


@app.command()
def package(
    output: Annotated[Path, typer.Option("-o", "--output", help="Zip to write.")] = Path("rscd-qgis.zip"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing zip.")] = False,
) -> None:
    """Package the plugin for QGIS's Plugins > Manage and Install Plugins > Install from ZIP."""
    with exit_codes():
        from rscd.qgis.package import package as run

        say(f"{run(output, overwrite=overwrite)}: written")
