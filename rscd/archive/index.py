"""The index: one page that lists the pairs and their reports, plain HTML that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from urllib.parse import quote

import rscd
from rscd.archive.job import CHANGES, PROBABILITY, REPORT
from rscd.archive.ledger import Entry
from rscd.output.digest import nice_m2
from rscd.output.publish import publishing, writing
from rscd.output.template import cards, fill


def write_index(path: Path, folder: Path, entries: Sequence[Entry]) -> None:
    """Write the page and put it in place.

    Args:
        path: The page.
        folder: The archive's, with a folder a pair; links are relative to it.
        entries: The pairs.

    Raises:
        OutputError: It cannot be written.
    """
    page = index_html(folder, entries)
    with writing(path), publishing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def index_html(folder: Path, entries: Sequence[Entry]) -> str:
    """The page as text."""
    done = [entry for entry in entries if entry.state == "done"]
    wrong = [entry for entry in entries if entry.state == "failed"]
    polygons = sum(entry.polygons for entry in done)
    values = {
        "title": escape(f"{polygons:,} changes in {len(done):,} pairs"),
        "kicker": escape(folder.absolute().name),
        "lead": escape(_lead(len(entries), len(done), len(wrong))),
        "cards": _cards(done, wrong, len(entries)),
        "failed": _failed(wrong),
        "rows": "".join(_row(folder, entry) for entry in entries if entry.state != "failed"),
        "footer": escape(f"rscd {rscd.__version__} · {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
    }
    return fill("index.html", values)


def _lead(pairs: int, done: int, wrong: int) -> str:
    left = pairs - done - wrong
    told = [f"{wrong:,} failed" * bool(wrong), f"{left:,} are not run yet" * bool(left)]
    rest = " and ".join(filter(None, told))
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
    return cards(numbers)


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
