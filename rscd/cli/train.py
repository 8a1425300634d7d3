"""``rscd train``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rscd.cli.command import Json, Quiet, command, refuse_early, typed
from rscd.cli.console import Progress, fail, print_json, print_table, say, silent
from rscd.cli.progress import Bar, counted
from rscd.core.errors import UsageError, several
from rscd.options.declare import declared
from rscd.options.training import TrainConfig

if TYPE_CHECKING:
    from rscd.training.data.survey import Survey, TileFacts
    from rscd.training.run_state import Epoch


REFUSED = 3


def look_at(config: TrainConfig, sheet: Path, *, as_json: bool, quiet: bool) -> None:
    """Report on labelled data and draw a contact sheet; exit with 3 and all reasons if any data is refused.

    Raises:
        UsageError: No data is given.
        typer.Exit: Some data is refused.
    """
    from rscd.training.data.survey import survey
    from rscd.training.evaluation.figures import write_sheet

    with counted("check", "tile", quiet=quiet) as progress:
        found = survey(config, images=True, progress=progress)
    facts = (*found.training, *found.validation)
    if facts:
        write_sheet(sheet, facts)
    summary = report(found, sheet if facts else None)
    if as_json:
        print_json(summary)
    else:
        print_table([(name, _words(value)) for name, value in summary.items() if name != "refused"], stdout=True)
    for error in found.refused:
        fail(error)
    if found.refused:
        raise typer.Exit(REFUSED)


def report(found: Survey, sheet: Path | None) -> dict[str, Any]:
    """The report that ``--json`` prints."""
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


@command(partial(TrainConfig, data=(), output=Path()), typed(declared(TrainConfig)))
def train(
    config: TrainConfig,
    check: Annotated[bool, typer.Option("--check", help="Check the data without training.")] = False,
    sheet: Annotated[Path, typer.Option(help="Contact sheet that --check draws (PNG).")] = Path("check.png"),
    as_json: Json = False,
    quiet: Quiet = False,
    progress: Progress = "auto",
) -> None:
    """Train or fine-tune a model on labelled tiles; the same command again continues an interrupted run."""
    refuse_early(config)
    quiet = silent(quiet=quiet, as_json=as_json, progress=progress)
    if check:
        return look_at(config, sheet, as_json=as_json, quiet=quiet)
    if config.output == Path():
        raise UsageError("no -o MODEL.safetensors", remedy="name the checkpoint to write, or add --check")
    from rscd.inference.device import own_process
    from rscd.model.catalog import find_model, read_contract
    from rscd.training.parallel import leads
    from rscd.training.run_state import state_path
    from rscd.workflows.train import train as run

    own_process(config.device)

    as_json = as_json and leads()
    with _shown(config, quiet=quiet or not leads()) as shown:
        contract = run(config, shown.step, shown.epoch, shown.notice, shown.validating)
    if as_json:
        print_json({**dataclasses.asdict(contract), "finished": not state_path(config.output).exists()})
    elif leads() and not quiet:
        if config.init is not None and contract.figures == read_contract(find_model(str(config.init))).figures:
            say("metrics of the starting model, on its own validation data:")
        figures = [(k, f"{v:.4f}") for k, v in contract.figures.items()]
        print_table([*figures, ("threshold", f"{contract.threshold:.4g}"), ("written", str(config.output))])


class _Shown:
    """A progress bar by crops on a terminal, and one line per epoch in any case."""

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
