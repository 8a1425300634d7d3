"""The report: one HTML page that needs no network, for people who receive the map.

All values from files or options are escaped by Jinja, as text or as JSON; the page's Content-Security-Policy blocks
every address.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rscd.core.grid import gsd_m, name_of
from rscd.core.publish import Publication, writing
from rscd.core.types import Grid, StripRecord
from rscd.output.report import sections
from rscd.output.report.pictures import Previews
from rscd.output.report.statistics import PolygonStatistics, svg_paths
from rscd.output.results import Facts
from rscd.output.vector.style import STEPS
from rscd.scene.window_stream import WindowInput
from rscd.vectorize.attributes import DIRECTIONS, Column, columns

if TYPE_CHECKING:
    from jinja2 import Environment

_COLOURS = ("red", "green", "blue")


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # most runs write no page

    pages = Environment(
        loader=PackageLoader("rscd.output.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return pages


def render(template: str, **values: Any) -> str:  # noqa: ANN401 - what the template shows
    """A page of the folder ``page``, with all values escaped.

    Args:
        template: The template's file name.
        **values: Values to show.
    """
    return _templates().get_template(template).render(values)


class Report:
    """Collects data during a run, and writes the page at the end.

    Args:
        path: HTML file to write; None: only the counts of the statistics are collected.
        grid: The common grid.
    """

    def __init__(self, path: Path | None, grid: Grid) -> None:
        self.path, self.statistics = path, PolygonStatistics(drawn=path is not None)
        self._grid = grid
        self._previews = Previews(grid) if path is not None else None

    def watch(self, inputs: Iterator[WindowInput]) -> Iterator[WindowInput]:
        """Yield the windows of both dates unchanged, and keep small pictures of them."""
        return inputs if self._previews is None else self._previews.watch(inputs)

    def note(self, record: StripRecord) -> None:
        """Add a strip's probabilities."""
        if self._previews is not None:
            self._previews.note(record)

    def write(self, facts: Facts, publication: Publication) -> None:
        """Write the page next to its target, if requested.

        Raises:
            OutputError: It cannot be written.
        """
        if self.path is None or self._previews is None:
            return
        page = report_html(self._grid, self._previews, self.statistics, facts)
        with writing(self.path):
            publication.beside(self.path).write_text(page, encoding="utf-8")


def report_html(grid: Grid, previews: Previews, statistics: PolygonStatistics, facts: Facts) -> str:
    """The page as text."""
    data, known = _map_data(grid, previews, statistics, facts)
    before, after = previews.pictures()
    names = {role: Path(str(known["path"])).name for role, known in facts.provenance["inputs"].items()}
    model = facts.provenance.get("model", {})
    seen = facts.written.observed_km2 + facts.written.not_observable_km2  # within the area of interest
    result = sections.headline(statistics, facts)
    headline = facts.title or result
    place = f"{grid.width:,} x {grid.height:,} px of {gsd_m(grid):.2f} m, {name_of(grid)}"
    largest = f"The {min(sections.LISTED, statistics.polygons)} largest" if statistics.polygons else "Polygons"
    return render(
        "report.html",
        title=f"{headline} - rscd report",
        kicker=f"{_with_date(names, 0, facts)} → {_with_date(names, 1, facts)} · {place}",
        before_tag=" ".join(("before", facts.dates[0])).strip(),
        after_tag=" ".join(("after", facts.dates[1])).strip(),
        headline=headline,
        lead=(f"{result}. " if facts.title else "") + sections.lead(statistics, facts, seen),
        cards=sections.cards(statistics, facts),
        verdict=facts.pair.verdict,
        verdict_reason=facts.pair.reason,
        verdict_class=facts.pair.level if facts.pair.level in ("good", "warn", "bad") else "",
        before=before,
        after=after,
        probability=previews.probability(),
        steps=STEPS,
        ways=[way for way in DIRECTIONS if statistics.directions[way]],
        drawn=sections.drawn(len(data["paths"]), statistics.polygons),
        hint=data["hint"],
        shift_words=sections.shift_words(facts.pair),
        charts=sections.charts(statistics),
        table_title=largest,
        table=sections.table(data["rows"], known),
        stages=sections.shares(facts.cost.stages_s, facts.cost.wall_s),
        run=sections.run(facts, model),
        terms=known,
        footer=sections.footer(facts),
        data=data,
    )


def _with_date(names: Mapping[str, str], which: int, facts: Facts) -> str:
    """A file's name, with its acquisition date if known."""
    name, day = names.get(("before", "after")[which], ""), facts.dates[which]
    return f"{name} ({day})" if day else name


def _map_data(
    grid: Grid, previews: Previews, statistics: PolygonStatistics, facts: Facts
) -> tuple[dict[str, Any], Sequence[Column]]:
    """Data for the page's script: sizes, outlines, evidence, shifts; and the columns of the evidence."""
    largest = statistics.largest()
    schema = largest.schema.names[:-1] if largest is not None else []
    bands = [name.removeprefix("before_") for name in schema if name.startswith("before_")]
    known = columns(bands)
    swatches = set(bands) >= set(_COLOURS)
    index = {column.name: k for k, column in enumerate(known)}
    paths = svg_paths(largest["geometry"], grid, previews.factor) if largest is not None else []
    data = {
        "size": previews.size,
        "paths": paths,
        "rows": _rows(largest, len(paths)),
        "columns": [[c.title, sections.plain_unit(c.unit), not (swatches and _is_colour(c.name))] for c in known],
        "colours": [
            [f"Mean colour {date}", [index[f"{date}_{band}"] for band in _COLOURS]]
            for date in ("before", "after")
            if swatches
        ],
        "mean": index["mean_probability"],
        "direction": index["direction"],
        "steps": [[low, colour] for low, _, colour in STEPS],
        "shifts": [[value / previews.factor for value in shift] for shift in facts.pair.shifts],
        "hint": "Point at a polygon to see its evidence." if paths else "There is no polygon to show.",
    }
    return data, known


def _rows(table: pa.Table | None, count: int) -> list[list[Any]]:
    """The first ``count`` rows without geometry, floats rounded for display."""
    if table is None:
        return []
    plain = table.slice(0, count).drop_columns(["geometry"])
    parts = [column.to_pylist() for column in plain.columns]
    return [[round(v, 6) if isinstance(v, float) else v for v in row] for row in zip(*parts, strict=True)]


def _is_colour(name: str) -> bool:
    return name.removeprefix("before_").removeprefix("after_") in _COLOURS
