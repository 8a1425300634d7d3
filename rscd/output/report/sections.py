"""Contents of the report's sections: headline, cards, charts, table, run. The templates in ``page`` draw them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rscd.core.errors import several
from rscd.options.declare import declared
from rscd.options.detect import DetectConfig
from rscd.output.report.statistics import AREA_BINS, AREA_STEPS, PROBABILITY_BINS, PolygonStatistics, nice_m2
from rscd.output.results import Facts, PairFacts
from rscd.vectorize.attributes import DIRECTIONS, Column

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 560, 200, 44, 36, 12
"""Size of a histogram, and margins for labels, px."""
STAGE_COLOURS = ("#3f72af", "#b3122f", "#e08e2b", "#4c956c", "#7a5ba6")


@dataclass(frozen=True)
class Histogram:
    """A bar chart with a caption, also for screen readers."""

    title: str
    """Caption of the chart."""
    label: str
    """Description for screen readers."""
    bars: Sequence[Mapping[str, str]]
    """x, y, width, height in px, and the text of each bar: its meaning and count."""
    texts: Sequence[Mapping[str, object]]
    """x, y, anchor, and text of each label."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    base: int = HEIGHT - BOTTOM


def histogram(
    title: str, axis: str, counts: Sequence[int], names: Sequence[str], ticks: Sequence[tuple[float, str]]
) -> Histogram:
    """Compute the layout of a histogram.

    Args:
        title: Caption.
        axis: Title of the axis, with its unit.
        counts: Height of each bar.
        names: Meaning of each bar, e.g. ``10 to 20 m2``.
        ticks: Positions on the axis (0..1) and their labels.
    """
    most = max([*counts, 1])
    wide, tall, base = WIDTH - LEFT, HEIGHT - BOTTOM - TOP, HEIGHT - BOTTOM
    step = wide / max(len(counts), 1)
    bars = []
    for i, (count, name) in enumerate(zip(counts, names, strict=True)):
        high = tall * count / most
        box = {"x": LEFT + i * step, "y": base - high, "width": max(step - 1.5, 1), "height": high}
        bars.append({key: f"{value:.1f}" for key, value in box.items()} | {"words": f"{name}: {count:,}"})
    texts: list[dict[str, object]] = [
        {"x": LEFT - 6, "y": TOP + 10, "anchor": "end", "words": f"{most:,}"},
        {"x": LEFT - 6, "y": base, "anchor": "end", "words": "0"},
        {"x": LEFT + wide / 2, "y": HEIGHT - 4, "anchor": "middle", "words": axis},
    ]
    for place, name in ticks:
        anchor = "end" if place > 0.97 else "start" if place < 0.03 else "middle"
        texts.append({"x": f"{LEFT + place * wide:.1f}", "y": base + 14, "anchor": anchor, "words": name})
    found = f"{sum(counts):,} polygons, at most {most:,} in a bar" if any(counts) else "none"
    return Histogram(title, f"{title}: {found}", bars, texts)


def shares(seconds: Mapping[str, float], wall_s: float) -> list[dict[str, str]]:
    """The stages' colours, their shares of the total in percent, and texts with shares of the wall time."""
    total = sum(seconds.values()) or 1.0
    return [
        {
            "colour": colour,
            "share": f"{100 * taken / total:.2f}",
            "words": f"{name} {taken:.1f} s ({f'{taken / wall_s:.0%}' if wall_s else '-'})",
        }
        for colour, (name, taken) in zip(STAGE_COLOURS, seconds.items(), strict=False)
    ]


SHOWN = (
    "id",
    "direction",
    "area_m2",
    "mean_probability",
    "max_probability",
    "brightness_change",
    "lon",
    "lat",
)
"""Columns of the table of polygons."""
LISTED = 25
"""Number of the largest polygons listed below the map."""
FILES = {each.name for each in declared(DetectConfig) if each.is_file or each.option.model}
"""Options that are files."""
READ_ERRORS = 100
"""Maximum number of unreadable blocks that are listed; all are in the vector file's provenance."""


def headline(statistics: PolygonStatistics, facts: Facts) -> str:
    """One-line summary of the result."""
    if not facts.written.observed_km2:
        return "Nothing could be compared"
    if not statistics.polygons:
        return "No change found"
    places = f"{statistics.polygons:,} place{'s' * (statistics.polygons > 1)}"
    return f"{places} changed, {nice_m2(statistics.area_m2)} in all"


def lead(statistics: PolygonStatistics, facts: Facts, seen: float) -> str:
    """One or two sentences below the headline; ``seen`` is the area of the grid, km2."""
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
    """Number of polygons by direction, with area: ``12 appeared (0.8 ha), ...``."""
    ways = [way for way in DIRECTIONS if statistics.directions[way]]
    return ", ".join(
        f"{statistics.directions[way]:,} {way} ({nice_m2(statistics.directions_m2[way])})" for way in ways
    )


def cards(statistics: PolygonStatistics, facts: Facts) -> list[tuple[str, str]]:
    """The headline numbers."""
    outside = facts.written.outside_aoi_km2
    told = [(way, statistics.directions_m2[way]) for way in DIRECTIONS[:2] if statistics.directions]
    mean = f"{statistics.weighted_p / statistics.area_m2:.0%}" if statistics.area_m2 else "-"
    return [
        (f"{statistics.polygons:,}", "changed places"),
        (nice_m2(statistics.area_m2), "changed area"),
        *((nice_m2(area), f"{way}, {several(statistics.directions[way], 'place')}") for way, area in told),
        (mean, "mean probability, by area"),
        (nice_m2(facts.written.observed_km2 * 1e6), "seen by both dates"),
        (nice_m2(facts.written.not_observable_km2 * 1e6), "not observable"),
        (f"{statistics.on_edge:,}", "places cut by the edge"),
        *([(nice_m2(outside * 1e6), "outside the area of interest")] if outside else []),
    ]


def plain_unit(unit: str) -> str:
    """The unit to show after a number; empty for ratios."""
    return {"1": "", "0..1": "", "-2..2": "", "degree": "°", "m2": "m²"}.get(unit, unit)


def drawn(drawn: int, polygons: int) -> str:
    """A note if not all polygons are drawn; else empty."""
    if drawn == polygons:
        return ""
    return f"The {drawn:,} largest of {polygons:,} polygons are drawn; tick probability to see where all lie."


def shift_words(pair: PairFacts) -> str:
    """Explanation of dots and lines in the shift map; empty if no shift was measured."""
    if not pair.shifts:
        return ""
    most = max((right**2 + down**2) ** 0.5 for _, _, right, down in pair.shifts)
    return (
        "Each yellow dot is a patch of ground where the shift of the later date was measured; its line, drawn 20 "
        f"times as long, points the way. The longest shift is {most:.2f} px."
    )


def charts(statistics: PolygonStatistics) -> tuple[Histogram, Histogram]:
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
    return (
        histogram("How large the places are", "area", areas, sizes[first:last], ticks),
        histogram(
            "How sure the model is",
            "mean probability of a polygon",
            statistics.probabilities[low:].tolist(),
            named,
            tenths,
        ),
    )


def table(rows: Sequence[Sequence[Any]], columns: Sequence[Column]) -> dict[str, list[Any]]:
    """The largest polygons: column heads, and rows of cells."""
    index = {column.name: k for k, column in enumerate(columns)}
    return {
        "heads": [_head(columns[index[name]]) for name in SHOWN],
        "rows": [[_cell(name, row[index[name]]) for name in SHOWN] for row in rows[:LISTED]],
    }


def _head(column: Column) -> str:
    unit = plain_unit(column.unit)
    return f"{column.title} ({unit})" if unit and unit != "°" else column.title


def _cell(name: str, value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or "-"
    digits = {"id": 0, "area_m2": 1, "lon": 6, "lat": 6, "brightness_change": 1}.get(name, 3)
    return f"{value:,.{digits}f}"


def run(facts: Facts, model: Mapping[str, Any]) -> dict[str, dict[str, str]]:
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
    return {title: {str(k): _text(v) for k, v in items.items()} for title, items in groups.items()}


def _named(option: str, value: Any) -> Any:  # noqa: ANN401
    """A file by its name only: the page is sent to people who need not know the folders."""
    return Path(value).name if option in FILES and isinstance(value, str) else value


def _without_folders(words: str) -> str:
    """A message with file names instead of paths."""
    return re.sub(r"(?<![\w.])(?:[A-Za-z]:)?[/\\](?:[^:*?\"<>|\n]*[/\\])?(?=[^/\\])", "", words)


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def footer(facts: Facts) -> str:
    """Version of the program that made the page."""
    version = facts.provenance.get("versions", {}).get("rscd", "")
    return f"Made by rscd {version}. The page is complete in itself and asks the network for nothing."
