"""``rscd models``: list, show, verify, import."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from rscd.cli.command import Json
from rscd.cli.console import exit_codes, print_json, print_table, say

app = typer.Typer(help="List, show, verify and import models.", no_args_is_help=True)


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the models that travel with rscd."""
    with exit_codes():
        from rscd.model.catalog import embedded
        from rscd.model.header import read_contract

        found = {name: read_contract(path) for name, path in embedded().items()}
        if as_json:
            print_json({name: dataclasses.asdict(contract) for name, contract in found.items()})
            return
        rows = []
        for name, c in found.items():
            rows.append((name, f"{c.class_name}; {c.encoder}; {c.gsd_words}; {c.licence}"))
        print_table(rows, stdout=True)


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="Name of an embedded model, or a checkpoint file.")],
    as_json: Json = False,
) -> None:
    """Show a model's contract."""
    with exit_codes():
        from rscd.model.catalog import find_model
        from rscd.model.header import read_contract

        contract = read_contract(find_model(model))
        if as_json:
            print_json(contract)
        else:
            print_table([(k, str(v)) for k, v in dataclasses.asdict(contract).items()], stdout=True)


@app.command()
def verify(file: Annotated[str, typer.Argument(help="Checkpoint file, or name of an embedded model.")]) -> None:
    """Check a checkpoint: contract, hash, shapes, finite weights."""
    with exit_codes():
        from rscd.model.catalog import find_model
        from rscd.model.checkpoint import load_checkpoint

        _, contract = load_checkpoint(find_model(file))
        say(f"{file}: sound; {contract.name} {contract.version}, sha256 {contract.sha256}")


@app.command("import")
def import_model(
    file: Annotated[Path, typer.Argument(help="Official sam_vit_b|l|h .pth file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Checkpoint (.safetensors) to write.")],
) -> None:
    """Turn official SAM weights into a checkpoint to train from."""
    with exit_codes():
        from rscd.model.imported import import_sam

        contract = import_sam(file, output)
        say(f"{output}: {contract.encoder} encoder imported; its change head is untrained")
        say(f"next: rscd train TILES --init {output} --encoder {contract.encoder} -o MODEL.safetensors")
