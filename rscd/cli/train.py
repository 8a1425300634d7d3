"""``rscd train``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rscd.cli import options
from rscd.cli.check import look_at
from rscd.cli.console import exit_codes, print_json, print_table, say

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
    encoder: Annotated[str, typer.Option(help="lite, vit_t, vit_b, vit_l or vit_h.")] = "lite",
    init: Annotated[Path | None, typer.Option(help="Checkpoint, or embedded model, to start from.")] = None,
    tune: Annotated[str, typer.Option(help="What of the encoder learns: full, lora (SAM's) or frozen.")] = "full",
    lora_rank: Annotated[int, typer.Option(help="Rank of LoRA's matrices.")] = 8,
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="SAM encoders: spare memory.")] = False,
    loss: Annotated[str, typer.Option(help="A sum of cem, bce, focal, ohem, dice.")] = "cem+dice",
    tau: Annotated[float, typer.Option(help="CEM: unchanged pixels with p below this are masked.")] = 0.2,
    floor: Annotated[float, typer.Option(help="CEM: share of the masked pixels that is kept.")] = 0.1,
    warmup_steps: Annotated[int, typer.Option(help="CEM: steps of plain cross-entropy first.")] = 100,
    normalise: Annotated[str, typer.Option(help="CEM: mean over pixels that are kept, or over all.")] = "kept",
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
    class_name: Annotated[str, typer.Option(help="What a polygon means.")] = "change",
    smallest: Annotated[float, typer.Option(help="Smallest thing that may be, in m2.")] = 0.0,
    licence: Annotated[str, typer.Option(help="Terms of the weights.")] = "that of the training data",
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
        from rscd.config import TrainConfig
        from rscd.errors import UsageError
        from rscd.training.loop import train as run
        from rscd.training.parallel import leads
        from rscd.training.state import state_path

        config = TrainConfig(
            data=tuple(data or ()),
            output=output or Path(),
            validation=tuple(val or ()),
            reviews=tuple(from_review or ()),
            pair=pair,
            gsd_m=gsd,
            aoi=aoi,
            **options.band_lists(bands),
            grid=options.one_of("--grid", grid, "before", "after"),  # type: ignore[arg-type]
            align=options.one_of("--align", align, "auto", "off"),  # type: ignore[arg-type]
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
        if check:
            return look_at(config, sheet, as_json=as_json, quiet=quiet or as_json)
        if output is None:
            raise UsageError("no -o MODEL.safetensors", remedy="name the checkpoint to write, or add --check")
        as_json = as_json and leads()
        with _shown(config, quiet=quiet or as_json or not leads()) as shown:
            contract = run(config, shown.step, shown.epoch, shown.notice)
        if as_json:
            print_json({**dataclasses.asdict(contract), "finished": not state_path(output).exists()})
        elif leads() and not quiet:
            figures = [(k, f"{v:.4f}") for k, v in contract.figures.items()]
            print_table([*figures, ("threshold", f"{contract.threshold:.3f}"), ("written", str(output))])


class _Shown:
    """A progress bar by crops on a terminal, and a line an epoch anywhere."""

    def __init__(self, config: TrainConfig, *, quiet: bool) -> None:
        from tqdm import tqdm

        self.config, self.quiet, self.steps, self.f1 = config, quiet, 0, 0.0
        self.bar = tqdm(unit="crop", file=sys.stderr, disable=quiet or None, bar_format=_BAR)

    def step(self, step: int, steps: int, loss: float) -> None:
        size = self.config.batch_size
        if not self.steps:  # a resumed run does not begin at 0
            self.bar.initial = self.bar.n = (step - 1) * size
        self.steps = steps
        self.bar.total = steps * size
        self.bar.set_postfix_str(f"loss {loss:.4f}, F1 {self.f1:.4f}", refresh=False)
        self.bar.update(step * size - self.bar.n)

    def epoch(self, epoch: Epoch) -> None:
        self.f1 = max(self.f1, epoch.f1)
        left = (self.steps - epoch.step) * self.config.batch_size / max(epoch.crops_per_s, 1e-9) / 60
        self.notice(
            f"epoch {epoch.number}: loss {epoch.loss:.4f}, validation F1 {epoch.f1:.4f}"
            f"{', kept' if epoch.best else ''}, {epoch.crops_per_s:.1f} crops/s, {left:.0f} min left"
        )

    def notice(self, text: str) -> None:
        self.bar.clear()
        say(text, quiet=self.quiet)


@contextmanager
def _shown(config: TrainConfig, *, quiet: bool) -> Iterator[_Shown]:
    shown = _Shown(config, quiet=quiet)
    try:
        yield shown
    finally:
        shown.bar.close()


_BAR = "{percentage:3.0f}% |{bar}| {n}/{total} crops, {remaining} left, {rate_fmt}, {postfix}"
