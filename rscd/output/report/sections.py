"""The sections of the report as HTML, escaped: headline, cards, charts, table, run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from rscd.output.report.statistics import AREA_BINS, AREA_STEPS, PROBABILITY_BINS, PolygonStatistics, nice_m2
from rscd.output.results import Facts, PairFacts
from rscd.output.vector.style import STEPS
from rscd.vectorize.attributes import DIRECTIONS, Column


def fill(name: str, values: Mapping[str, str]) -> str:
    """Put values, and the style and script of all pages, into a template.

    It is one pass, so that no value is searched for marks itself.

    Args:
        name: The template's file name.
        values: Mark -> HTML.
    """
    page = files("rscd.output.report") / "page"
    own = {kind: (page / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")}
    template = (page / name).read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: {**values, **own}[mark[1]], template)


def number_cards(numbers: Sequence[tuple[str, str]]) -> str:
    """Headline numbers with what they count, as HTML."""
    return "".join(f'<div class="card"><b>{escape(b)}</b><span>{escape(s)}</span></div>' for b, s in numbers)


_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 560, 200, 44, 36, 12
STAGE_COLOURS = ("#3f72af", "#b3122f", "#e08e2b", "#4c956c", "#7a5ba6")


def histogram(
    title: str, axis: str, counts: Sequence[int], names: Sequence[str], ticks: Sequence[tuple[float, str]]
) -> str:
    """A figure of bars with a caption, for sight and for screen readers.

    Args:
        title: Caption.
        axis: What lies along the axis, with its unit.
        counts: Height of each bar.
        names: What each bar stands for, e.g. ``10 to 20 m2``.
        ticks: Places along the axis (0..1) and their labels.
    """
    most = max([*counts, 1])
    wide, tall = _WIDTH - _LEFT, _HEIGHT - _BOTTOM - _TOP
    step = wide / max(len(counts), 1)
    base = _TOP + tall
    parts = []
    for i, (count, name) in enumerate(zip(counts, names, strict=True)):
        height = tall * count / most
        parts.append(
            f'<rect x="{_LEFT + i * step:.1f}" y="{base - height:.1f}" width="{max(step - 1.5, 1):.1f}" '
            f'height="{height:.1f}" fill="#b3122f"><title>{escape(name)}: {count:,}</title></rect>'
        )
    parts.append(f'<path d="M{_LEFT} {base}H{_WIDTH}" stroke="#5b6876"/>')
    text = 'font-size="12" fill="#5b6876"'
    parts.append(f'<text x="{_LEFT - 6}" y="{_TOP + 10}" text-anchor="end" {text}>{most:,}</text>')
    parts.append(f'<text x="{_LEFT - 6}" y="{base}" text-anchor="end" {text}>0</text>')
    for place, name in ticks:
        anchor = "end" if place > 0.97 else "start" if place < 0.03 else "middle"
        x = _LEFT + place * wide
        parts.append(f'<text x="{x:.1f}" y="{base + 14}" text-anchor="{anchor}" {text}>{escape(name)}</text>')
    middle = _LEFT + wide / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle" {text}>{escape(axis)}</text>')
    label = f"{title}: {sum(counts):,} polygons, at most {most:,} in a bar" if any(counts) else f"{title}: none"
    head = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">'
    return f"<figure><figcaption>{escape(title)}</figcaption>{head}{''.join(parts)}</svg></figure>"


def shares(seconds: dict[str, float], wall_s: float) -> str:
    """One bar cut by the stages' seconds, with a legend of seconds and shares of the wall time."""
    total = sum(seconds.values()) or 1.0
    cuts, legend = [], []
    for colour, (name, taken) in zip(STAGE_COLOURS, seconds.items(), strict=False):
        cuts.append(f'<span style="width:{100 * taken / total:.2f}%;background:{colour}"></span>')
        share = f"{taken / wall_s:.0%}" if wall_s else "-"
        legend.append(f'<i style="background:{colour}"></i>{escape(name)} {taken:.1f} s ({share})')
    return f'<div class="bar" aria-hidden="true">{"".join(cuts)}</div><p class="legend">{"".join(legend)}</p>'


LISTED = 25
"""So many of the largest polygons are listed below the map."""
PATHS = ("before", "after", "before_mask", "after_mask", "aoi", "output", "probability", "report", "model")
"""Options that are files."""
READ_ERRORS = 100
"""So many of the blocks that could not be read are listed; all are in the vector file's provenance."""


def headline(statistics: PolygonStatistics, facts: Facts) -> str:
    """The result in one line."""
    if not facts.written.observed_km2:
        return "Nothing could be compared"
    if not statistics.polygons:
        return "No change found"
    places = f"{statistics.polygons:,} place{'s' * (statistics.polygons > 1)}"
    return f"{places} changed, {nice_m2(statistics.area_m2)} in all"


def lead(statistics: PolygonStatistics, facts: Facts, seen: float) -> str:
    """A sentence or two below it; ``seen`` is the area of the grid, km2."""
    if not facts.written.observed_km2:
        return "No ground is shown by both dates: see what could not be observed, and why, in the input files."
    share = statistics.area_m2 / 1e6 / facts.written.observed_km2
    text = f"{share:.2%} of the {nice_m2(facts.written.observed_km2 * 1e6)} that both dates show."
    if facts.written.not_observable_km2:
        hidden = facts.written.not_observable_km2 / seen
        area = nice_m2(facts.written.not_observable_km2 * 1e6)
        text += f" {area} ({hidden:.1%}) could not be compared; it is hatched grey."
    if facts.written.outside_aoi_km2:
        text += f" {nice_m2(facts.written.outside_aoi_km2 * 1e6)} of the picture lie outside the area of interest."
    if statistics.directions:
        text += f" {directions(statistics)}."
    else:
        text += " A polygon says that something changed there, not what it was or became."
    return text + " Look before you act."


def directions(statistics: PolygonStatistics) -> str:
    """How many polygons appeared, vanished, were replaced or are unclear: ``12 appeared, 3 vanished``."""
    return ", ".join(f"{statistics.directions[way]:,} {way}" for way in DIRECTIONS if statistics.directions[way])


def cards(statistics: PolygonStatistics, facts: Facts) -> str:
    """The headline numbers."""
    outside = facts.written.outside_aoi_km2
    mean = f"{statistics.weighted_p / statistics.area_m2:.0%}" if statistics.area_m2 else "-"
    numbers = [
        (f"{statistics.polygons:,}", "changed places"),
        (nice_m2(statistics.area_m2), "changed area"),
        (mean, "mean probability, by area"),
        (nice_m2(facts.written.observed_km2 * 1e6), "seen by both dates"),
        (nice_m2(facts.written.not_observable_km2 * 1e6), "not observable"),
        (f"{statistics.on_edge:,}", "places cut by the edge"),
        *([(nice_m2(outside * 1e6), "outside the area of interest")] if outside else []),
    ]
    return number_cards(numbers)


def plain_unit(unit: str) -> str:
    """The unit as a reader wants it behind a number; none for ratios."""
    return {"1": "", "0..1": "", "-2..2": "", "degree": "°", "m2": "m²"}.get(unit, unit)


def legend(statistics: PolygonStatistics) -> str:
    """What the colours on the map mean."""
    keys = "".join(
        f'<span class="key" style="background:rgb({colour})"></span>{low:.2f} to {high:.2f}'
        for low, high, colour in STEPS
    )
    ways = "".join(f'<span class="key {way}"></span>{way}' for way in DIRECTIONS if statistics.directions[way])
    outlines = f" Outline:{ways}." if ways else ""
    return f'Mean probability:{keys}<span class="key unseen"></span>not shown by that date.{outlines}'


def drawn(drawn: int, polygons: int) -> str:
    """Says so where not all polygons are drawn."""
    if drawn == polygons:
        return ""
    return f"The {drawn:,} largest of {polygons:,} polygons are drawn; tick probability to see where all lie."


def shift_toggle(pair: PairFacts) -> str:
    """A switch for the shift map, if shifts were measured."""
    if not pair.shifts:
        return ""
    return '<label><input id="show-shifts" type="checkbox"> shifts between the dates</label>'


def shift_words(pair: PairFacts) -> str:
    """What the dots and lines of the shift map are, shown with them."""
    if not pair.shifts:
        return ""
    most = max((right**2 + down**2) ** 0.5 for _, _, right, down in pair.shifts)
    return (
        '<span id="shift-words" hidden>Each yellow dot is a patch of ground where the shift of the later date was '
        f"measured; its line, drawn 20 times as long, points the way. The longest shift is {most:.2f} px.</span>"
    )


def charts(statistics: PolygonStatistics) -> str:
    """Histograms of sizes and of mean probabilities."""
    sizes = [f"{nice_m2(low)} to {nice_m2(high)}" for low, high in pairwise(AREA_BINS)]
    used = [i for i, count in enumerate(statistics.areas) if count]
    first = max(0, (min(used) if used else 0) // AREA_STEPS * AREA_STEPS)
    last = min(len(sizes), -(-(max(used) + 1 if used else 12) // AREA_STEPS) * AREA_STEPS)
    marks = range(first, last + 1, AREA_STEPS)
    ticks = [((i - first) / (last - first), nice_m2(AREA_BINS[i])) for i in marks]
    low = min(int(statistics.probabilities.nonzero()[0].min(initial=20)), 20)
    bounds = PROBABILITY_BINS[low:]
    named = [f"{a:.3f} to {b:.3f}" for a, b in pairwise(bounds)]
    span = 1 - bounds[0]
    tenths = [((t / 10 - bounds[0]) / span, f"{t / 10:.1f}") for t in range(11) if t / 10 >= bounds[0] - 1e-9]
    areas = statistics.areas[first:last].tolist()
    return histogram("How large the places are", "area", areas, sizes[first:last], ticks) + histogram(
        "How sure the model is",
        "mean probability of a polygon",
        statistics.probabilities[low:].tolist(),
        named,
        tenths,
    )


def table(data: dict[str, Any]) -> str:
    """The largest polygons, each with a button that shows it on the map."""
    if not data["rows"]:
        return "<p>There is none.</p>"
    wanted = (
        "id",
        "direction",
        "area_m2",
        "mean_probability",
        "max_probability",
        "brightness_change",
        "lon",
        "lat",
    )
    index = {column.name: k for k, column in enumerate(data["all_columns"])}
    head = "".join(f"<th>{escape(_head(data['all_columns'][index[name]]))}</th>" for name in wanted)
    body = []
    for i, row in enumerate(data["rows"][:LISTED]):
        cells = "".join(f"<td>{escape(_cell(name, row[index[name]]))}</td>" for name in wanted)
        button = f'<button type="button" data-i="{i}" aria-label="Show number {row[0]} on the map">show</button>'
        body.append(f'<tr data-i="{i}">{cells}<td>{button}</td></tr>')
    lines = f"<table><thead><tr>{head}<th></th></tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="scroll">{lines}</div>'


def _head(column: Column) -> str:
    unit = plain_unit(column.unit)
    return f"{column.title} ({unit})" if unit and unit != "°" else column.title


def _cell(name: str, value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or "-"
    digits = {"id": 0, "area_m2": 1, "lon": 6, "lat": 6, "brightness_change": 1}.get(name, 3)
    return f"{value:,.{digits}f}"


def run(facts: Facts, model: Mapping[str, Any]) -> str:
    """Inputs, cost, model contract, options and versions."""
    metadata, cost = facts.provenance, facts.cost
    run = {
        "device": f"{metadata.get('device', '')} {facts.precision}".strip(),
        "wall time": f"{cost.wall_s:.1f} s",
        "device busy": f"{cost.device_busy:.0%} of the wall time",
        "peak memory": f"{cost.peak_memory_mb:,.0f} MB",
        "GPU memory": "-" if cost.gpu_memory_mb is None else f"{cost.gpu_memory_mb:,.0f} MB",
        "threshold": f"p >= {facts.threshold:.4g}",
        "smallest polygon": f"{facts.written.min_area_m2:.3g} m2",
        "started": metadata.get("started", ""),
        "ended": metadata.get("ended", ""),
    }
    keys = ("name", "version", "encoder", "class_name", "gsd_m", "bands", "threshold", "trained_on", "licence")
    inputs = {
        role: f"{Path(file['path']).name} ({file['bytes']:,} bytes, sha256 {str(file['sampled_sha256'])[:16]})"
        for role, file in metadata["inputs"].items()
    }
    groups = {
        "Inputs": inputs,
        "Cost": run,
        "Model contract": {key: model[key] for key in keys if key in model},
        "Options": {k: _named(k, v) for k, v in metadata.get("options", {}).items() if v not in (None, "", False)},
        "Versions": metadata.get("versions", {}),
    }
    if facts.written.read_errors:
        groups["Blocks that could not be read and were masked"] = {
            str(i + 1): _without_folders(words) for i, words in enumerate(facts.written.read_errors[:READ_ERRORS])
        }
    return "".join(_group(title, items) for title, items in groups.items())


def _named(option: str, value: Any) -> Any:  # noqa: ANN401
    """A file by its name alone: the page is forwarded to people whom the folders do not concern."""
    return Path(value).name if option in PATHS and isinstance(value, str) else value


def _without_folders(words: str) -> str:
    """A message, with files by their names alone."""
    return re.sub(r"(?<![\w.])(?:[A-Za-z]:)?[/\\](?:[^:*?\"<>|\n]*[/\\])?(?=[^/\\])", "", words)


def _group(title: str, items: Mapping[str, Any]) -> str:
    entries = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(_text(v))}</dd>" for k, v in items.items())
    return f"<div><h3>{escape(title)}</h3><dl>{entries}</dl></div>"


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def terms(columns: Sequence[Column]) -> str:
    """Names, units and meanings of the columns."""
    rows = "".join(
        f"<tr><td>{escape(c.title)}</td><td>{escape(c.unit)}</td><td>{escape(c.meaning)}</td></tr>" for c in columns
    )
    head = "<tr><th>Name</th><th>Unit</th><th>Meaning</th></tr>"
    return f'<table class="terms"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def footer(facts: Facts) -> str:
    """Who made the page."""
    version = facts.provenance.get("versions", {}).get("rscd", "")
    return f"Made by rscd {version}. The page is complete in itself and asks the network for nothing."
