"""``rscd train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rscd.cli import options
from rscd.cli.check import look_at
from rscd.cli.console import exit_codes, print_json, print_table, say


def train(
    data: Annotated[list[Path] | None, typer.Argument(help=options.DATA)] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Checkpoint (.safetensors) to write.")
    ] = None,
    val: Annotated[list[Path] | None, typer.Option(help="Data to validate on; may be given again.")] = None,
    pair: options.LabelledPair = None,
    from_review: Annotated[
        list[Path] | None, typer.Option(help="GeoPackage of detect with its column review filled in.")
    ] = None,
    aoi: options.LabelledArea = None,
    bands: options.Bands = None,
    grid: options.CommonGrid = "before",
    align: options.Align = "auto",
    check: Annotated[bool, typer.Option("--check", help="Look at the data, and do not train.")] = False,
    sheet: Annotated[Path, typer.Option(help="Contact sheet that --check draws (PNG).")] = Path("check.png"),
    name: Annotated[str, typer.Option(help="Name in the contract.")] = "custom",
    encoder: Annotated[str, typer.Option(help="lite, vit_t, vit_b, vit_l or vit_h.")] = "lite",
    init: Annotated[Path | None, typer.Option(help="Checkpoint, or embedded model, to start from.")] = None,
    loss: Annotated[str, typer.Option(help="A sum of cem, bce, focal, ohem, dice.")] = "cem+dice",
    tau: Annotated[float, typer.Option(help="CEM: unchanged pixels with p below this are masked.")] = 0.2,
    floor: Annotated[float, typer.Option(help="CEM: share of the masked pixels that is kept.")] = 0.1,
    epochs: Annotated[int, typer.Option(help="Epochs.")] = 12,
    crops: Annotated[int, typer.Option(help="Crops an epoch.")] = 960,
    crop: Annotated[int, typer.Option(help="Side of a crop in px.")] = 256,
    batch_size: Annotated[int, typer.Option(help="Crops a step.")] = 8,
    rate: Annotated[float, typer.Option(help="Peak learning rate; the encoder takes a tenth.")] = 1e-3,
    simulated: Annotated[float, typer.Option(help="Share of crops from rendered scenes, 0..1.")] = 0.0,
    class_name: Annotated[str, typer.Option(help="What a polygon means.")] = "change",
    smallest: Annotated[float, typer.Option(help="Smallest thing that may be, in m2.")] = 0.0,
    licence: Annotated[str, typer.Option(help="Terms of the weights.")] = "that of the training data",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 = torch's choice.")] = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train or fine-tune a model on labelled tiles."""
    with exit_codes():
        from rscd.config import TrainConfig
        from rscd.errors import UsageError
        from rscd.training.loop import Epoch
        from rscd.training.loop import train as run

        config = TrainConfig(
            data=tuple(data or ()),
            output=output or Path(),
            validation=tuple(val or ()),
            reviews=tuple(from_review or ()),
            pair=pair,
            aoi=aoi,
            bands=options.band_list(bands),
            grid=options.one_of("--grid", grid, "before", "after"),  # type: ignore[arg-type]
            align=options.one_of("--align", align, "auto", "off"),  # type: ignore[arg-type]
            name=name,
            encoder=encoder,
            init=init,
            loss=loss,
            tau=tau,
            floor=floor,
            epochs=epochs,
            crops=crops,
            crop=crop,
            batch_size=batch_size,
            rate=rate,
            simulated=simulated,
            class_name=class_name,
            minimum_mapping_m2=smallest,
            licence=licence,
            seed=seed,
            threads=threads,
            device=device,
        )
        quiet = quiet or as_json
        if check:
            return look_at(config, sheet, as_json=as_json, quiet=quiet)
        if output is None:
            raise UsageError("no -o MODEL.safetensors", remedy="name the checkpoint to write, or add --check")

        def told(epoch: Epoch) -> None:
            kept = ", kept" if epoch.best else ""
            say(f"epoch {epoch.number}: loss {epoch.loss:.4f}, validation F1 {epoch.f1:.4f}{kept}", quiet=quiet)

        contract = run(config, on_epoch=told)
        if as_json:
            print_json(contract)
        elif not quiet:
            figures = [(k, f"{v:.4f}") for k, v in contract.figures.items()]
            print_table([*figures, ("threshold", f"{contract.threshold:.3f}"), ("written", str(output))])
