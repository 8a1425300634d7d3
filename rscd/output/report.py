"""The report: one HTML page that needs no network, for whoever gets the map forwarded.

Whatever comes from files or options is escaped: as text by ``html.escape``, as data by ``_script_json``; the page
itself forbids every address by its Content-Security-Policy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rscd.errors import OutputError
from rscd.output.chart import histogram, shares
from rscd.output.digest import AREA_BINS, AREA_STEPS, PROBABILITY_BINS, Digest, nice_m2, svg_paths
from rscd.output.evidence import columns
from rscd.output.preview import Previews
from rscd.output.publish import publishing
from rscd.output.style import STEPS
from rscd.scene.grid import gsd_m, name_of
from rscd.scene.reader import BandInput
from rscd.telemetry import Telemetry
from rscd.types import BandRecord, Grid

if TYPE_CHECKING:
    from rscd.output.outputs import Written

LISTED = 25
"""So many of the largest polygons are listed below the map."""
_COLOURS = ("red", "green", "blue")


@dataclass(frozen=True)
class PairFacts:
    """How fit the pair was to be compared, as far as the run measured it."""

    verdict: str = "Pair on one grid."
    """A few words."""
    reason: str = "Whether the dates are shifted against each other was not measured in this run."
    """Why."""
    level: str = ""
    """``good``, ``warn``, ``bad``, or empty where nothing was measured."""
    shifts: Sequence[tuple[float, float, float, float]] = ()
    """Measured shifts: column and row on the grid, shift to the right and down, all in px."""


@dataclass(frozen=True)
class Facts:
    """What the page tells beside the pictures and the polygons."""

    written: Written
    """What came out of the run."""
    threshold: float
    """Probability from which a pixel counted as changed, 0..1."""
    cost: Telemetry
    """Times and memory."""
    provenance: Mapping[str, Any]
    """Inputs, options, model contract, versions, times: as in the GeoPackage's metadata."""
    precision: str = ""
    """Arithmetic of the network."""
    pair: PairFacts = PairFacts()
    """How fit the pair was."""


class Report:
    """Looks on while a run goes, and makes the page in the end.

    Args:
        path: HTML file to write; with None, nothing is gathered but the digest.
        grid: The common grid.
    """

    def __init__(self, path: Path | None, grid: Grid) -> None:
        self.path, self.digest = path, Digest()
        self._grid = grid
        self._previews = Previews(grid) if path is not None else None

    def watch(self, inputs: Iterator[BandInput]) -> Iterator[BandInput]:
        """Pass the rows of both dates through, and keep small pictures of them."""
        return inputs if self._previews is None else self._previews.watch(inputs)

    def note(self, record: BandRecord) -> None:
        """Take a band's probabilities in."""
        if self._previews is not None:
            self._previews.note(record)

    def publish(self, facts: Facts) -> None:
        """Write the page, if one is wanted, and put it in place.

        Raises:
            OutputError: It cannot be written.
        """
        if self.path is None or self._previews is None:
            return
        page = report_html(self._grid, self._previews, self.digest, facts)
        try:
            with publishing(self.path) as temporary:
                temporary.write_text(page, encoding="utf-8")
        except OSError as error:
            remedy = "see that the folder exists, is writable and has room, then run again"
            raise OutputError(f"could not be written ({error})", path=self.path, remedy=remedy) from error


def report_html(grid: Grid, previews: Previews, digest: Digest, facts: Facts) -> str:
    """The page as text."""
    data = _map_data(grid, previews, digest, facts)
    before, after = previews.pictures()
    names = {role: Path(str(told["path"])).name for role, told in facts.provenance["inputs"].items()}
    model = facts.provenance.get("model", {})
    seen = facts.written.observed_km2 + facts.written.not_observable_km2
    headline = _headline(digest, facts)
    place = f"{grid.width:,} x {grid.height:,} px of {gsd_m(grid):.2f} m, {name_of(grid)}"
    values = {
        "title": escape(f"{headline} - rscd report"),
        "kicker": escape(f"{names.get('before', '')} → {names.get('after', '')} · {place}"),
        "headline": escape(headline),
        "lead": escape(_lead(digest, facts, seen)),
        "cards": _cards(digest, facts),
        "verdict": escape(facts.pair.verdict),
        "verdict_reason": escape(facts.pair.reason),
        "verdict_class": facts.pair.level if facts.pair.level in ("good", "warn", "bad") else "",
        "before": before,
        "after": after,
        "probability": previews.probability(),
        "legend": _legend(),
        "drawn": escape(_drawn(len(data["paths"]), digest.polygons)),
        "hint": escape(data["hint"]),
        "shift_toggle": _shift_toggle(facts.pair),
        "charts": _charts(digest),
        "table_title": f"The {min(LISTED, digest.polygons)} largest" if digest.polygons else "Polygons",
        "table": _table(data),
        "stages": shares(facts.cost.stages_s, facts.cost.wall_s),
        "run": _run(facts, model),
        "terms": _terms(data["all_columns"]),
        "footer": escape(_footer(facts)),
        "data": _script_json({k: v for k, v in data.items() if k != "all_columns"}),
    }
    return _fill(values)


def _fill(values: dict[str, str]) -> str:
    """Put the values into the template in one pass, so that no value is searched for marks itself."""
    page = files("rscd.output") / "page"
    own = {name: (page / f"report.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    template = (page / "report.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: {**values, **own}[mark[1]], template)


def _script_json(value: object) -> str:
    """JSON that may stand in a script element: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _headline(digest: Digest, facts: Facts) -> str:
    if not facts.written.observed_km2:
        return "Nothing could be compared"
    if not digest.polygons:
        return "No change found"
    return f"{digest.polygons:,} place{'s' * (digest.polygons > 1)} changed, {nice_m2(digest.area_m2)} in all"


def _lead(digest: Digest, facts: Facts, seen: float) -> str:
    if not facts.written.observed_km2:
        return "No ground is shown by both dates: see what could not be observed, and why, in the input files."
    share = digest.area_m2 / 1e6 / facts.written.observed_km2
    told = f"{share:.2%} of the {nice_m2(facts.written.observed_km2 * 1e6)} that both dates show."
    if facts.written.not_observable_km2:
        hidden = facts.written.not_observable_km2 / seen
        area = nice_m2(facts.written.not_observable_km2 * 1e6)
        told += f" {area} ({hidden:.1%}) could not be compared; it is hatched grey."
    return told + " A polygon says that something changed there, not what it was or became: look before you act."


def _cards(digest: Digest, facts: Facts) -> str:
    mean = f"{digest.weighted_p / digest.area_m2:.0%}" if digest.area_m2 else "-"
    cards = [
        (f"{digest.polygons:,}", "changed places"),
        (nice_m2(digest.area_m2), "changed area"),
        (mean, "mean probability, by area"),
        (nice_m2(facts.written.observed_km2 * 1e6), "seen by both dates"),
        (nice_m2(facts.written.not_observable_km2 * 1e6), "not observable"),
        (f"{digest.on_edge:,}", "places cut by the edge"),
    ]
    return "".join(f'<div class="card"><b>{escape(b)}</b><span>{escape(s)}</span></div>' for b, s in cards)


def _map_data(grid: Grid, previews: Previews, digest: Digest, facts: Facts) -> dict[str, Any]:
    """What the page's script draws: sizes, outlines, evidence, shifts."""
    largest = digest.largest()
    schema = largest.schema.names[:-1] if largest is not None else []
    bands = [name.removeprefix("before_") for name in schema if name.startswith("before_")]
    told = columns(bands)
    swatches = set(bands) == set(_COLOURS)
    index = {column.name: k for k, column in enumerate(told)}
    paths = svg_paths(largest["geometry"], grid, previews.factor) if largest is not None else []
    return {
        "size": previews.size,
        "paths": paths,
        "rows": _rows(largest, len(paths)),
        "columns": [[c.title, _unit(c.unit), not (swatches and _is_colour(c.name))] for c in told],
        "colours": [
            [f"Mean colour {date}", [index[f"{date}_{band}"] for band in _COLOURS]]
            for date in ("before", "after")
            if swatches
        ],
        "mean": index["mean_probability"],
        "steps": [[low, colour] for low, _, colour in STEPS],
        "shifts": [[value / previews.factor for value in shift[:2]] + [*shift[2:]] for shift in facts.pair.shifts],
        "hint": "Point at a polygon to see its evidence." if paths else "There is no polygon to show.",
        "all_columns": told,
    }


def _rows(table: pa.Table | None, count: int) -> list[list[Any]]:
    """The first ``count`` rows without geometry, floats cut to what is worth reading."""
    if table is None:
        return []
    plain = table.slice(0, count).drop_columns(["geometry"])
    parts = [column.to_pylist() for column in plain.columns]
    return [[round(v, 6) if isinstance(v, float) else v for v in row] for row in zip(*parts, strict=True)]


def _is_colour(name: str) -> bool:
    return name.startswith(("before_", "after_"))


def _unit(unit: str) -> str:
    """The unit as a reader wants it behind a number; none for ratios."""
    return {"1": "", "0..1": "", "-2..2": "", "degree": "°", "m2": "m²"}.get(unit, unit)


def _legend() -> str:
    keys = "".join(
        f'<span class="key" style="background:rgb({colour})"></span>{low:.2f} to {high:.2f}'
        for low, high, colour in STEPS
    )
    return f'Mean probability:{keys}<span class="key unseen"></span>not shown by that date.'


def _drawn(drawn: int, polygons: int) -> str:
    if drawn == polygons:
        return ""
    return f"The {drawn:,} largest of {polygons:,} polygons are drawn; tick probability to see where all lie."


def _shift_toggle(pair: PairFacts) -> str:
    if not pair.shifts:
        return ""
    return '<label><input id="show-shifts" type="checkbox" checked> shifts between the dates</label>'


def _charts(digest: Digest) -> str:
    sizes = [f"{nice_m2(low)} to {nice_m2(high)}" for low, high in pairwise(AREA_BINS)]
    used = [i for i, count in enumerate(digest.areas) if count]
    first = max(0, (min(used) if used else 0) // AREA_STEPS * AREA_STEPS)
    last = min(len(sizes), -(-(max(used) + 1 if used else 12) // AREA_STEPS) * AREA_STEPS)
    marks = range(first, last + 1, AREA_STEPS)
    ticks = [((i - first) / (last - first), nice_m2(AREA_BINS[i])) for i in marks]
    low = min(int(digest.probabilities.nonzero()[0].min(initial=20)), 20)
    bounds = PROBABILITY_BINS[low:]
    named = [f"{a:.3f} to {b:.3f}" for a, b in pairwise(bounds)]
    span = 1 - bounds[0]
    tenths = [((t / 10 - bounds[0]) / span, f"{t / 10:.1f}") for t in range(11) if t / 10 >= bounds[0] - 1e-9]
    areas = digest.areas[first:last].tolist()
    return histogram("How large the places are", "area", areas, sizes[first:last], ticks) + histogram(
        "How sure the model is", "mean probability of a polygon", digest.probabilities[low:].tolist(), named, tenths
    )


def _table(data: dict[str, Any]) -> str:
    if not data["rows"]:
        return "<p>There is none.</p>"
    wanted = ("id", "area_m2", "mean_probability", "max_probability", "brightness_change", "lon", "lat")
    index = {column.name: k for k, column in enumerate(data["all_columns"])}
    head = "".join(f"<th>{escape(_head(data['all_columns'][index[name]]))}</th>" for name in wanted)
    body = []
    for i, row in enumerate(data["rows"][:LISTED]):
        cells = "".join(f"<td>{escape(_cell(name, row[index[name]]))}</td>" for name in wanted)
        button = f'<button type="button" data-i="{i}" aria-label="Show number {row[0]} on the map">show</button>'
        body.append(f'<tr data-i="{i}">{cells}<td>{button}</td></tr>')
    table = f"<table><thead><tr>{head}<th></th></tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _head(column: Any) -> str:  # noqa: ANN401
    unit = _unit(column.unit)
    return f"{column.title} ({unit})" if unit and unit != "°" else column.title


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    digits = {"id": 0, "area_m2": 1, "lon": 6, "lat": 6, "brightness_change": 1}.get(name, 3)
    return f"{value:,.{digits}f}"


def _run(facts: Facts, model: Mapping[str, Any]) -> str:
    told, cost = facts.provenance, facts.cost
    run = {
        "device": f"{told.get('device', '')} {facts.precision}".strip(),
        "wall time": f"{cost.wall_s:.1f} s",
        "device busy": f"{cost.device_busy:.0%} of the wall time",
        "peak memory": f"{cost.peak_memory_mb:,.0f} MB",
        "GPU memory": "-" if cost.gpu_memory_mb is None else f"{cost.gpu_memory_mb:,.0f} MB",
        "threshold": f"p >= {facts.threshold:.3f}",
        "smallest polygon": f"{facts.written.min_area_m2:.3g} m2",
        "started": told.get("started", ""),
        "ended": told.get("ended", ""),
    }
    keys = ("name", "version", "encoder", "class_name", "gsd_m", "bands", "threshold", "trained_on", "licence")
    inputs = {
        role: f"{file['path']} ({file['bytes']:,} bytes, sampled sha256 {str(file['sampled_sha256'])[:16]})"
        for role, file in told["inputs"].items()
    }
    groups = {
        "Inputs": inputs,
        "Cost": run,
        "Model contract": {key: model[key] for key in keys if key in model},
        "Options": {k: v for k, v in told.get("options", {}).items() if v not in (None, "", False)},
        "Versions": told.get("versions", {}),
    }
    return "".join(_group(title, items) for title, items in groups.items())


def _group(title: str, items: Mapping[str, Any]) -> str:
    entries = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(_text(v))}</dd>" for k, v in items.items())
    return f"<div><h3>{escape(title)}</h3><dl>{entries}</dl></div>"


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _terms(told: Sequence[Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(c.title)}</td><td>{escape(c.unit)}</td><td>{escape(c.meaning)}</td></tr>" for c in told
    )
    head = "<tr><th>Name</th><th>Unit</th><th>Meaning</th></tr>"
    return f'<table class="terms"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def _footer(facts: Facts) -> str:
    version = facts.provenance.get("versions", {}).get("rscd", "")
    return f"Made by rscd {version}. The page is complete in itself and asks the network for nothing."
