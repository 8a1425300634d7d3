"""``rscd train``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rscd.cli import options
from rscd.cli.check import look_at
from rscd.cli.console import exit_codes, print_json, print_table, say
from rscd.cli.progress import Bar
from rscd.config import Encoder, Normalise, Tune

if TYPE_CHECKING:
    from rscd.config import TrainConfig
    from rscd.training.history import Epoch


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
    gsd: Annotated[
        tuple[float, float] | None, typer.Option(metavar="LOW HIGH", help="Pixel sizes to promise, in m.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Look at the data, and do not train.")] = False,
    sheet: Annotated[Path, typer.Option(help="Contact sheet that --check draws (PNG).")] = Path("check.png"),
    name: Annotated[str, typer.Option(help="Name in the contract.")] = "custom",
    encoder: Annotated[Encoder, options.one_of(Encoder, "lite, or SAM's image encoder by its size.")] = "lite",
    init: Annotated[Path | None, typer.Option(help="Checkpoint, or embedded model, to start from.")] = None,
    tune: Annotated[Tune, options.one_of(Tune, "What of the encoder learns; lora with SAM's alone.")] = "full",
    lora_rank: Annotated[int, typer.Option(help="Rank of LoRA's matrices.")] = 8,
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="SAM encoders: spare memory.")] = False,
    loss: Annotated[str, typer.Option(help="A sum of cem, bce, focal, ohem, dice.")] = "cem+dice",
    tau: Annotated[float, typer.Option(help="CEM: unchanged pixels with p below this are masked.")] = 0.2,
    floor: Annotated[float, typer.Option(help="CEM: share of the masked pixels that is kept.")] = 0.1,
    warmup_steps: Annotated[int, typer.Option(help="CEM: steps of plain cross-entropy first.")] = 100,
    normalise: Annotated[
        Normalise, typer.Option(help="CEM: mean over pixels that are kept, or over all.")
    ] = "kept",
    epochs: Annotated[int, typer.Option(help="Epochs.")] = 12,
    crops: Annotated[int, typer.Option(help="Crops an epoch.")] = 960,
    crop: Annotated[int, typer.Option(help="Side of a crop in px.")] = 256,
    batch_size: Annotated[int, typer.Option(help="Crops a step, over all processes.")] = 8,
    micro_batch: Annotated[int, typer.Option(help="Crops forwarded at once; 0 = all of a step.")] = 0,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    encoder_factor: Annotated[float, typer.Option(help="The encoder's rate as a share of it.")] = 0.1,
    layer_decay: Annotated[float, typer.Option(help="SAM encoders: factor on the rate from block to block.")] = 1.0,
    ema: Annotated[float, typer.Option(help="Decay of the moving average of weights; 0 takes the last.")] = 0.998,
    simulated: Annotated[float, typer.Option(help="Share of crops from rendered scenes, 0..1.")] = 0.0,
    one_date: Annotated[
        list[Path] | None, typer.Option(help="Folder image/, label/ of one date, all things outlined; in pairs.")
    ] = None,
    one_date_share: Annotated[float, typer.Option(help="Share of crops from --one-date, 0..1.")] = 0.0,
    fine: Annotated[
        int | None, typer.Option(help="lite: channels of the fine scales; default: as --init's, else 24.")
    ] = None,
    presence: Annotated[
        bool | None,
        typer.Option(
            "--presence/--no-presence",
            help="Tell what is there on each date; default: as --init, else if --simulated or --one-date teach it.",
        ),
    ] = None,
    class_name: Annotated[
        str | None, typer.Option(help="What a polygon means; default: as --init's, else change.")
    ] = None,
    smallest: Annotated[
        float | None, typer.Option(help="Smallest thing that may be, in m2; default: as --init's, else 0.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Terms of the weights, joined to those of --init.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 = torch's choice.")] = 0,
    device: options.Device = "auto",
    save_every: Annotated[int, typer.Option(help="Steps between saves of the state to go on from.")] = 200,
    limit_minutes: Annotated[float, typer.Option(help="Stop then, to go on later; 0 = no limit.")] = 0.0,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train or fine-tune a model on labelled tiles; the same command again goes on with a run cut short."""
    with exit_codes():
        from rscd.cli.early import refuse_early
        from rscd.config import TrainConfig
        from rscd.errors import UsageError

        config = TrainConfig(
            data=tuple(data or ()),
            output=output or Path(),
            validation=tuple(val or ()),
            reviews=tuple(from_review or ()),
            pair=pair,
            gsd_m=gsd,
            aoi=aoi,
            **options.band_lists(bands),
            grid=grid,
            align=align,
            name=name,
            encoder=encoder,
            init=init,
            tune=tune,
            lora_rank=lora_rank,
            checkpointing=checkpointing,
            loss=loss,
            tau=tau,
            floor=floor,
            warmup_steps=warmup_steps,
            normalise=normalise,
            epochs=epochs,
            crops=crops,
            crop=crop,
            batch_size=batch_size,
            micro_batch=micro_batch,
            rate=rate,
            encoder_factor=encoder_factor,
            layer_decay=layer_decay,
            ema=ema,
            simulated=simulated,
            one_date=tuple(one_date or ()),
            one_date_share=one_date_share,
            fine=fine,
            presence=presence,
            class_name=class_name,
            minimum_mapping_m2=smallest,
            licence=licence,
            seed=seed,
            threads=threads,
            device=device,
            save_every=save_every,
            limit_minutes=limit_minutes,
            overwrite=overwrite,
        )
        refuse_early(config)
        if check:
            return look_at(config, sheet, as_json=as_json, quiet=quiet or as_json)
        if output is None:
            raise UsageError("no -o MODEL.safetensors", remedy="name the checkpoint to write, or add --check")
        from rscd.training.loop import train as run
        from rscd.training.parallel import leads
        from rscd.training.state import state_path

        as_json = as_json and leads()
        with _shown(config, quiet=quiet or as_json or not leads()) as shown:
            contract = run(config, shown.step, shown.epoch, shown.notice, shown.validating)
        if as_json:
            print_json({**dataclasses.asdict(contract), "finished": not state_path(output).exists()})
        elif leads() and not quiet:
            figures = [(k, f"{v:.4f}") for k, v in contract.figures.items()]
            print_table([*figures, ("threshold", f"{contract.threshold:.4g}"), ("written", str(output))])


class _Shown:
    """A progress bar by crops on a terminal, and a line an epoch anywhere."""

    def __init__(self, config: TrainConfig, *, quiet: bool) -> None:
        self.config, self.quiet, self.steps, self.f1 = config, quiet, 0, 0.0
        self.bar = Bar("train", "crops", quiet=quiet)

    def step(self, step: int, steps: int, loss: float) -> None:
        size = self.config.batch_size
        self.steps = steps
        self.bar.turn_to("train", "crops")
        self.bar(step * size, steps * size)
        self.bar.note(f"loss {loss:.4f}, F1 {self.f1:.4f}")

    def validating(self, done: int, total: int) -> None:
        self.bar.turn_to("validate", "tiles")
        self.bar(done, total)

    def epoch(self, epoch: Epoch) -> None:
        self.bar.turn_to("train", "crops")
        self.bar(epoch.step * self.config.batch_size, self.steps * self.config.batch_size)
        self.f1 = max(self.f1, epoch.f1)
        self.bar.note(f"loss {epoch.loss:.4f}, F1 {self.f1:.4f}")
        left = (self.steps - epoch.step) * self.config.batch_size / max(epoch.crops_per_s, 1e-9) / 60
        self.notice(
            f"epoch {epoch.number}: loss {epoch.loss:.4f}, validation F1 {epoch.f1:.4f}"
            f"{', kept' if epoch.best else ''}, {epoch.crops_per_s:.1f} crops/s, {left:.0f} min left"
        )

    def notice(self, text: str) -> None:
        say(text, quiet=self.quiet)


@contextmanager
def _shown(config: TrainConfig, *, quiet: bool) -> Iterator[_Shown]:
    shown = _Shown(config, quiet=quiet)
    try:
        yield shown
    finally:
        shown.bar.close()
