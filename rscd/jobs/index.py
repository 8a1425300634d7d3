"""The index: one page that lists the pairs and their reports, self-contained plain HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
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
from rscd.jobs.summary import Directions, directions_by_pair
from rscd.output.report.page import render
from rscd.output.report.statistics import nice_m2
from rscd.scene.metadata import WGS84
from rscd.vectorize.attributes import DIRECTIONS

WIDE, LEAST, EDGE = 1000.0, 60.0, 12.0
"""Longer side of the overview map, minimum of its shorter side, and margin around the outlines, in its units."""


def write_index(path: Path, folder: Path, entries: Sequence[Entry], summary: Path) -> None:
    """Write the page and put it in place.

    Args:
        path: The page.
        folder: Folder of the archive, with one folder per pair; links are relative to it.
        entries: The pairs.
        summary: GeoPackage of the archive, with their outlines in layer ``pairs``.

    Raises:
        OutputError: It cannot be written.
    """
    page = index_html(folder, entries, _places(summary), directions_by_pair(summary))
    with writing(path), publishing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _places(summary: Path) -> dict[str, Any]:
    """Pair -> its outline in longitude and latitude, if known."""
    pairs = pyogrio.read_dataframe(summary, layer="pairs", columns=["pair_id"]).to_crs(WGS84)
    known = pairs[pairs.geometry.notna() & ~pairs.geometry.is_empty]
    return dict(zip(known["pair_id"], known.geometry, strict=True))


def index_html(
    folder: Path,
    entries: Sequence[Entry],
    places: Mapping[str, Any] | None = None,
    ways: Mapping[str, Directions] | None = None,
) -> str:
    """The page as text.

    Args:
        folder: Folder of the archive.
        entries: The pairs.
        places: Pair -> its outline in longitude and latitude (shapely), for the overview map.
        ways: Pair -> number of its changes by direction (appeared, vanished, ...), if its model reports it.
    """
    ways = ways or {}
    done = [entry for entry in entries if entry.state == "done"]
    wrong = [entry for entry in entries if entry.state == "failed"]
    polygons = sum(entry.polygons for entry in done)
    return render(
        "index.html",
        title=f"{several(polygons, 'change')} in {several(len(done), 'pair')}",
        kicker=folder.absolute().name,
        lead=_lead(len(entries), len(done), len(wrong)),
        cards=_cards(done, wrong, len(entries), ways),
        overview=overview(folder, entries, places or {}),
        failed=wrong,
        rows=[_row(folder, entry, ways) for entry in entries if entry.state != "failed"],
        footer=f"rscd {VERSION} · {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )


def _lead(pairs: int, done: int, wrong: int) -> str:
    left = pairs - done - wrong
    notes = [f"{wrong:,} failed" * bool(wrong), f"{left:,} are not run yet" * bool(left)]
    rest = " and ".join(filter(None, notes))
    return (
        f"Of {pairs:,} pairs {rest}." if rest else "All pairs are done. Open a report to swipe between its dates."
    )


def _cards(
    done: Sequence[Entry], wrong: Sequence[Entry], pairs: int, ways: Mapping[str, Directions]
) -> list[tuple[str, str]]:
    told = []
    for way in DIRECTIONS[:2] if ways else ():
        counts, areas = zip(*(found.get(way, (0, 0.0)) for found in ways.values()), strict=True)
        told.append((nice_m2(sum(areas)), f"{way}, {several(sum(counts), 'change')}"))
    return [
        (f"{len(done):,} of {pairs:,}", "pairs done"),
        (f"{len(wrong):,}", "failed"),
        (nice_m2(sum(entry.changed_m2 for entry in done)), "changed area"),
        *told,
        (nice_m2(1e6 * sum(entry.observed_km2 for entry in done)), "seen by both dates"),
        (nice_m2(1e6 * sum(entry.not_observable_km2 for entry in done)), "not observable"),
    ]


def overview(folder: Path, entries: Sequence[Entry], places: Mapping[str, Any]) -> dict[str, Any] | None:
    """Overview map of the pairs for SVG: north is up, outlines link to reports. None if no outline is known."""
    known = [entry for entry in entries if entry.id in places]
    if not known:
        return None
    west, south, east, north = shapely.total_bounds(np.array([places[entry.id] for entry in known], dtype=object))
    narrow = max(np.cos(np.radians((south + north) / 2)), 0.01)  # a degree of longitude in degrees of latitude
    unit = WIDE / max((east - west) * narrow, (north - south), 1e-9)
    size = max((east - west) * narrow * unit, LEAST), max((north - south) * unit, LEAST)
    scale = np.array([narrow * unit, -unit])
    shapes = []
    for entry in sorted(known, key=lambda entry: -places[entry.id].area):  # the small ones on top
        path = _path(shapely.transform(places[entry.id], lambda xy: (xy - (west, north)) * scale))
        kind = "failed" if entry.state == "failed" else "changed" if entry.polygons else "plain"
        found = several(entry.polygons, "change") if entry.state == "done" else entry.state
        there = (folder / entry.id / REPORT).is_file()
        shape = {"path": path, "kind": kind, "words": f"{entry.id}: {found}"}
        shapes.append(shape | {"report": _address(entry.id, REPORT) if there else ""})
    box = f"{-EDGE} {-EDGE} {size[0] + 2 * EDGE:.1f} {size[1] + 2 * EDGE:.1f}"
    return {"box": box, "shapes": shapes}


def _path(shape: Any) -> str:  # noqa: ANN401 - shapely has no types
    """Outlines of a multipolygon as an SVG path."""
    rings = [ring for part in shapely.get_parts(shape) for ring in (part.exterior, *part.interiors)]
    lines = ("L".join(f"{x:.1f} {y:.1f}" for x, y in ring.coords[:-1]) for ring in rings)
    return "".join(f"M{line}Z" for line in lines)


def _row(folder: Path, entry: Entry, ways: Mapping[str, Directions]) -> dict[str, Any]:
    """A row of the table; without cells for a pair that has not run yet."""
    if entry.state != "done":
        return {"id": entry.id, "cells": ()}
    there = {name: (folder / entry.id / name).is_file() for name in (REPORT, CHANGES, PROBABILITY)}
    quality = [f"{entry.valid_share:.0%} valid"] if entry.valid_share is not None else []
    quality += [f"shift {entry.shift_px:.1f} px"] if entry.shift_px is not None else []
    cells = (
        entry.verdict,
        entry.model,
        ", ".join(quality),
        f"{entry.polygons:,}",
        ", ".join(f"{n:,} {way} ({nice_m2(area)})" for way, (n, area) in ways.get(entry.id, {}).items()),
        nice_m2(entry.changed_m2),
        nice_m2(1e6 * entry.observed_km2),
        nice_m2(1e6 * entry.not_observable_km2),
        f"{entry.seconds:,.1f} s",
    )
    files = [(name, words) for name, words in ((CHANGES, "polygons"), (PROBABILITY, "raster")) if there[name]]
    return {
        "id": entry.id,
        "report": _address(entry.id, REPORT) if there[REPORT] else "",
        "cells": cells,
        "files": [(_address(entry.id, name), words) for name, words in files],
    }


def _address(pair: str, file: str) -> str:
    return f"{quote(pair)}/{quote(file)}"
