"""The index: one page that lists the pairs and their reports, plain HTML that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyogrio
import shapely

from rscd.core.errors import several
from rscd.core.publish import publishing, writing
from rscd.core.version import VERSION
from rscd.jobs.job import CHANGES, PROBABILITY, REPORT
from rscd.jobs.ledger import Entry
from rscd.output.report.sections import fill, number_cards
from rscd.output.report.statistics import nice_m2
from rscd.scene.metadata import WGS84

WIDE, LEAST, EDGE = 1000.0, 60.0, 12.0
"""Longer side of the overview map, its shorter side at least, and the room around the outlines, in its units."""


def write_index(path: Path, folder: Path, entries: Sequence[Entry], summary: Path) -> None:
    """Write the page and put it in place.

    Args:
        path: The page.
        folder: The archive's, with a folder a pair; links are relative to it.
        entries: The pairs.
        summary: GeoPackage of the archive, whose layer ``pairs`` says where they lie.

    Raises:
        OutputError: It cannot be written.
    """
    page = index_html(folder, entries, _places(summary))
    with writing(path), publishing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _places(summary: Path) -> dict[str, Any]:
    """Pair -> its outline in longitude and latitude, where that is known."""
    pairs = pyogrio.read_dataframe(summary, layer="pairs", columns=["pair_id"]).to_crs(WGS84)
    known = pairs[pairs.geometry.notna() & ~pairs.geometry.is_empty]
    return dict(zip(known["pair_id"], known.geometry, strict=True))


def index_html(folder: Path, entries: Sequence[Entry], places: Mapping[str, Any] | None = None) -> str:
    """The page as text.

    Args:
        folder: The archive's.
        entries: The pairs.
        places: Pair -> its outline in longitude and latitude (shapely), for the overview map.
    """
    done = [entry for entry in entries if entry.state == "done"]
    wrong = [entry for entry in entries if entry.state == "failed"]
    polygons = sum(entry.polygons for entry in done)
    values = {
        "title": escape(f"{several(polygons, 'change')} in {several(len(done), 'pair')}"),
        "kicker": escape(folder.absolute().name),
        "lead": escape(_lead(len(entries), len(done), len(wrong))),
        "cards": _cards(done, wrong, len(entries)),
        "overview": overview(folder, entries, places or {}),
        "failed": _failed(wrong),
        "rows": "".join(_row(folder, entry) for entry in entries if entry.state != "failed"),
        "footer": escape(f"rscd {VERSION} · {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
    }
    return fill("index.html", values)


def _lead(pairs: int, done: int, wrong: int) -> str:
    left = pairs - done - wrong
    notes = [f"{wrong:,} failed" * bool(wrong), f"{left:,} are not run yet" * bool(left)]
    rest = " and ".join(filter(None, notes))
    return (
        f"Of {pairs:,} pairs {rest}." if rest else "All pairs are done. Open a report to swipe between its dates."
    )


def _cards(done: Sequence[Entry], wrong: Sequence[Entry], pairs: int) -> str:
    numbers = [
        (f"{len(done):,} of {pairs:,}", "pairs done"),
        (f"{len(wrong):,}", "failed"),
        (nice_m2(sum(entry.changed_m2 for entry in done)), "changed area"),
        (nice_m2(1e6 * sum(entry.observed_km2 for entry in done)), "seen by both dates"),
        (nice_m2(1e6 * sum(entry.not_observable_km2 for entry in done)), "not observable"),
    ]
    return number_cards(numbers)


def overview(folder: Path, entries: Sequence[Entry], places: Mapping[str, Any]) -> str:
    """A map of where the pairs lie, as SVG: north is up, and an outline leads to its report."""
    known = [entry for entry in entries if entry.id in places]
    if not known:
        return ""
    west, south, east, north = shapely.total_bounds(np.array([places[entry.id] for entry in known], dtype=object))
    narrow = max(np.cos(np.radians((south + north) / 2)), 0.01)  # a degree of longitude, in those of latitude
    unit = WIDE / max((east - west) * narrow, (north - south), 1e-9)
    size = max((east - west) * narrow * unit, LEAST), max((north - south) * unit, LEAST)
    scale = np.array([narrow * unit, -unit])
    shapes = []
    for entry in sorted(known, key=lambda entry: -places[entry.id].area):  # the small ones on top
        path = _path(shapely.transform(places[entry.id], lambda xy: (xy - (west, north)) * scale))
        kind = "failed" if entry.state == "failed" else "changed" if entry.polygons else "plain"
        found = several(entry.polygons, "change") if entry.state == "done" else entry.state
        drawn = f'<path class="{kind}" d="{path}"><title>{escape(f"{entry.id}: {found}")}</title></path>'
        there = (folder / entry.id / REPORT).is_file()
        shapes.append(f'<a href="{quote(entry.id)}/{quote(REPORT)}">{drawn}</a>' if there else drawn)
    box = f"{-EDGE} {-EDGE} {size[0] + 2 * EDGE:.1f} {size[1] + 2 * EDGE:.1f}"
    note = "Red: with changes. Dashed: failed. Choose an outline to open its report."
    return (
        '<section class="overview"><h2>Where they lie</h2>'
        f'<svg viewBox="{box}" role="img" aria-label="Map of the pairs">{"".join(shapes)}</svg>'
        f'<p class="legend">{note}</p></section>'
    )


def _path(shape: Any) -> str:  # noqa: ANN401 - shapely has no types
    """Outlines of a multipolygon as an SVG path."""
    rings = [ring for part in shapely.get_parts(shape) for ring in (part.exterior, *part.interiors)]
    lines = ("L".join(f"{x:.1f} {y:.1f}" for x, y in ring.coords[:-1]) for ring in rings)
    return "".join(f"M{line}Z" for line in lines)


def _failed(wrong: Sequence[Entry]) -> str:
    if not wrong:
        return ""
    rows = "".join(f'<tr><td>{escape(e.id)}</td><td class="why">{escape(e.error)}</td></tr>' for e in wrong)
    head = '<tr><th scope="col">Pair</th><th scope="col" class="why">Why</th></tr>'
    return (
        f'<section><h2>Failed</h2><div class="scroll"><table class="pairs"><thead>{head}</thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _row(folder: Path, entry: Entry) -> str:
    if entry.state != "done":
        return f'<tr><td>{escape(entry.id)}</td><td class="waiting" colspan="9">not run yet</td></tr>'
    there = {name: (folder / entry.id / name).is_file() for name in (REPORT, CHANGES, PROBABILITY)}
    name = _link(entry.id, REPORT, entry.id) if there[REPORT] else escape(entry.id)
    links = [_link(entry.id, file, text) for file, text in ((CHANGES, "polygons"), (PROBABILITY, "raster"))]
    present = " ".join(link for link, file in zip(links, (CHANGES, PROBABILITY), strict=True) if there[file])
    quality = [f"{entry.valid_share:.0%} valid"] if entry.valid_share is not None else []
    quality += [f"shift {entry.shift_px:.1f} px"] if entry.shift_px is not None else []
    cells = (
        entry.verdict,
        entry.model,
        ", ".join(quality),
        f"{entry.polygons:,}",
        nice_m2(entry.changed_m2),
        nice_m2(1e6 * entry.observed_km2),
        nice_m2(1e6 * entry.not_observable_km2),
        f"{entry.seconds:,.1f} s",
    )
    return f"<tr><td>{name}</td>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}<td>{present}</td></tr>"


def _link(pair: str, file: str, text: str) -> str:
    return f'<a href="{quote(pair)}/{quote(file)}">{escape(text)}</a>'
