"""``rscd inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from rscd.cli.command import Json, command, refuse_early
from rscd.cli.console import print_json, print_table
from rscd.core.errors import several
from rscd.options.pair import InspectConfig

if TYPE_CHECKING:
    from rscd.scene.inspection import DateFacts, Inspection, ShiftFacts


REFUSED = 3


@command(InspectConfig)
def inspect(config: InspectConfig, as_json: Json = False) -> None:
    """Report whether two GeoTIFFs are fit to compare, and why; exit code 3 if they are not."""
    if not as_json:  # with --json a missing file is a verdict, not an error
        refuse_early(config)
    from rscd.workflows.inspect import inspect as run

    found = run(config)
    if as_json:
        print_json(found)
    else:
        print_table(rows(found), stdout=True)
    if found.verdict == "refused":
        raise typer.Exit(REFUSED)


def rows(found: Inspection) -> list[tuple[str, str]]:
    """The rows of the table."""
    table: list[tuple[str, str]] = []
    for name, date in (("before", found.before), ("after", found.after)):
        if date is not None:
            table += _date(name, date)
    if found.before is not None and found.shift is not None and found.difference is not None:
        light = found.difference
        offsets = ", ".join(f"{v:+.0f}" for v in light.offset)
        table += [
            ("grid", f"of {found.grid}, {found.gsd_m:.3g} m; {found.overlap_share:.1%} of it in both files"),
            *_origin(found),
            ("valid in both", f"{found.valid_share:.1%} of the overlap"),
            ("light", f"after - before {offsets} of 255; contrast x {light.contrast}; r {light.correlation}"),
            ("shift", _shift(found.shift, found.search_radius_px)),
        ]
        if found.residual is not None:
            table.append(("after alignment", _shift(found.residual, found.search_radius_px)))
        table.append(("sample", f"{found.blocks_read:,} of {several(found.blocks, 'block')}"))
    table += [("", note) for note in found.notes]
    table.append(("verdict", found.verdict))
    for reason, remedy in zip(found.reasons, found.remedies, strict=True):
        table += [("  because", reason), ("  remedy", remedy)]
    return table


def _date(name: str, date: DateFacts) -> list[tuple[str, str]]:
    bands = ",".join(map(str, date.bands)) + ("" if date.nir is None else f" and near infrared {date.nir}")
    size = f"{date.width} x {date.height} px of {date.gsd_m:.3g} m, {date.crs}"
    pixels = f"{date.dtype}, bands {bands}, {date.valid_share:.1%} valid, {date.read}"
    return [(name, date.path), ("", size), ("", pixels)]


def _origin(found: Inspection) -> list[tuple[str, str]]:
    if found.origin_offset is None:
        return []
    x, y = found.origin_offset
    return [("corner", f"after minus before: {x:+.10g}, {y:+.10g} in units of the CRS")]


def _shift(shift: ShiftFacts, radius: float) -> str:
    if shift.rows_px is None or shift.cols_px is None or shift.spread_px is None:
        return "not measured"
    return (
        f"after lies {shift.cols_px:+.2f} px right, {shift.rows_px:+.2f} px down ({shift.metres:.2f} m); "
        f"spread {shift.spread_px:.2f} px; {shift.confidence:.0%} of {shift.patches} patches agree; "
        f"searched to {radius:g} px"
    )
