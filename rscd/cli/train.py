"""``rscd train``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rscd.cli import options
from rscd.cli.console import exit_codes, print_json, print_table, say
from rscd.cli.progress import Bar, counted
from rscd.core.errors import several
from rscd.options.config import Encoder, Normalise, Tune

if TYPE_CHECKING:
    from rscd.options.config import TrainConfig
    from rscd.training.data.survey import Survey, TileFacts
    from rscd.training.run_state import Epoch


REFUSED = 3


def look_at(config: TrainConfig, sheet: Path, *, as_json: bool, quiet: bool) -> None:
    """Report on labelled data and draw a contact sheet; exit with 3, all reasons told, if anything is refused.

    Raises:
        UsageError: No data is given.
        typer.Exit: Something is refused.
    """
    from rscd.training.data.survey import survey
    from rscd.training.evaluation.figures import write_sheet

    with counted("check", "tile", quiet=quiet) as progress:
        found = survey(config, images=True, progress=progress)
    facts = (*found.training, *found.validation)
    if facts:
        write_sheet(sheet, facts)
    told = report(found, sheet if facts else None)
    if as_json:
        print_json(told)
    else:
        print_table([(name, _words(value)) for name, value in told.items() if name != "refused"], stdout=True)
    for error in found.refused:
        say(f"rscd: {error.line}")
    if found.refused:
        raise typer.Exit(REFUSED)


def report(found: Survey, sheet: Path | None) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "training": _part(found.training),
        "validation": _part(found.validation),
        "split": found.split or "none yet",
        "refused": [error.line for error in found.refused],
        "contact_sheet": sheet,
    }


def _part(facts: Sequence[TileFacts]) -> dict[str, Any]:
    sizes: dict[str, int] = {}
    for fact in facts:
        size = f"{fact.size[0]} x {fact.size[1]} px"
        sizes[size] = sizes.get(size, 0) + 1
    judged, changed = sum(f.judged for f in facts), sum(f.changed for f in facts)
    return {
        "tiles": len(facts),
        "scenes": len({f.tile.scene for f in facts}),
        "tiles_with_change": sum(f.changed > 0 for f in facts),
        "changed_share": round(changed / max(judged, 1), 5),
        "unchanged_px": judged - changed,
        "changed_px": changed,
        "ignored_px": sum(f.ignored for f in facts),
        "label_values": sorted({value for f in facts for value in f.values}),
        "sizes": dict(sorted(sizes.items(), key=lambda item: -item[1])),
    }


def _words(value: Any) -> str:  # noqa: ANN401 - what the report holds
    if not isinstance(value, dict):
        return str(value)
    sizes = [f"{count} of {size}" for size, count in value["sizes"].items()]
    more = [f"{len(sizes) - 5} sizes more"] if len(sizes) > 5 else []
    tiles, scenes = several(value["tiles"], "tile"), several(value["scenes"], "scene")
    words = [f"{tiles} of {scenes}: " + ", ".join(sizes[:5] + more)]
    changed = several(value["tiles_with_change"], "tile")
    words.append(f"{value['changed_share']:.2%} of the pixels changed, in {changed}")
    if value["ignored_px"]:
        words.append(f"{value['ignored_px']} px ignored")
    if value["label_values"]:
        words.append("label values " + ", ".join(map(str, value["label_values"])))
    return "; ".join(words)


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
        from rscd.core.errors import UsageError
        from rscd.options.config import TrainConfig

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
        from rscd.training.parallel import leads
        from rscd.training.run_state import state_path
        from rscd.workflows.train import train as run

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
