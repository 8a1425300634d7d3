"""``rscd models``: list, show, verify, import."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer

from rscd.cli.command import Json
from rscd.cli.console import exit_codes, messages, print_json, print_table, say
from rscd.core.paths import check_target

app = typer.Typer(help="List, show, verify and import models.", no_args_is_help=True)


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the models included in rscd."""
    with exit_codes():
        from rscd.model.catalog import embedded, read_contract

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
        from rscd.model.catalog import find_model, read_contract

        contract = read_contract(find_model(model))
        if as_json:
            print_json(contract)
        else:
            print_table([(k, _in_words(v)) for k, v in dataclasses.asdict(contract).items()], stdout=True)


LONG = 8
"""Items of a list that are printed at most: a contract lists all files that a model was trained on."""


def _in_words(value: object) -> str:
    """A value of a contract as text for people; ``--json`` has all of it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_in_words(v)}" for key, v in value.items()) or "-"
    if isinstance(value, list | tuple):
        if len(value) > LONG:
            return f"({len(value)} entries, see --json)"
        return ", ".join(_in_words(v) for v in value) or "-"
    return "-" if value is None else str(value)


@app.command()
def verify(file: Annotated[str, typer.Argument(help="Checkpoint file, or name of an embedded model.")]) -> None:
    """Check a checkpoint: contract, hash, shapes, finite weights."""
    with exit_codes():
        from rscd.model.catalog import find_model
        from rscd.model.checkpoint import load_checkpoint

        _, contract = load_checkpoint(find_model(file))
        say(f"{file}: valid; {contract.name} {contract.version}, sha256 {contract.sha256}")


@app.command("import")
def import_model(
    source: Annotated[
        str,
        typer.Argument(
            help="Official sam_vit_b|l|h .pth file; or a folder saved by the transformers library, or the id of "
            "a model on the Hugging Face Hub: DINOv3, DINOv2, SAM 2, ConvNeXt V2, Swin V2.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Checkpoint (.safetensors) to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
) -> None:
    """Convert the pretrained weights of an image encoder to a checkpoint for training."""
    with exit_codes():
        check_target(output, overwrite=overwrite)
        if Path(source).suffix == ".pth":
            from rscd.model.imported import import_sam

            contract = import_sam(Path(source), output)
        else:
            if not messages().file.isatty():
                os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
            from rscd.model.imported import import_pretrained

            contract = import_pretrained(source, output)
        say(f"{output}: {contract.encoder} encoder imported; its change head is untrained")
        say(f"licence: {contract.licence}")
        say(f"next: rscd train TILES --init {output} -o MODEL.safetensors")
