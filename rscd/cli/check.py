"""``rscd train --check``: what the labelled data is, without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rscd.cli.console import print_json, print_table, say
from rscd.cli.progress import counted
from rscd.words import several

if TYPE_CHECKING:
    from rscd.config import TrainConfig
    from rscd.training.survey import Survey, TileFacts

REFUSED = 3


def look_at(config: TrainConfig, sheet: Path, *, as_json: bool, quiet: bool) -> None:
    """Report on labelled data and draw a contact sheet; exit with 3, all reasons told, if anything is refused.

    Raises:
        UsageError: No data is given.
        typer.Exit: Something is refused.
    """
    from rscd.training.contact import write_sheet
    from rscd.training.survey import survey

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
