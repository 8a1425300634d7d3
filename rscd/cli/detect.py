"""``rscd detect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rscd.cli.command import Json, Quiet, command, refuse_early
from rscd.cli.console import Progress, print_json, print_table, say, silent
from rscd.cli.progress import megapixels
from rscd.cli.signals import stopping
from rscd.core.errors import several
from rscd.options.detect import DetectConfig

if TYPE_CHECKING:
    from rscd.output.results import Result, Written


SHOWN = 10
"""Unreadable blocks that are listed at most."""


@command(DetectConfig)
def detect(
    config: DetectConfig,
    scheduler: Annotated[
        str | None, typer.Option(help="Dask scheduler, e.g. tcp://host:8786, whose workers share the strips.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    progress: Progress = "auto",
) -> None:
    """Map what changed between two GeoTIFFs into a GeoPackage."""
    refuse_early(config)
    quiet = silent(quiet=quiet, as_json=as_json, progress=progress)
    result = _run(config, scheduler, quiet=quiet)
    if as_json:
        print_json(result, result.written.geopackage)
    if not quiet:
        odd = result.inspection.verdict not in ("fit", "fit after alignment")
        print_table(
            [
                *([("pair", result.inspection.verdict)] if odd else []),
                *summary(result.written, result.threshold, config.report),
                ("windows", f"{result.windows:,} forwarded, {result.windows_skipped:,} without a valid pixel"),
                *(
                    [("resumed", f"{several(result.bands_resumed, 'strip')} of an earlier run")]
                    * (result.bands_resumed > 0)
                ),
                *cost_rows(result),
            ],
        )


def _run(config: DetectConfig, scheduler: str | None, *, quiet: bool) -> Result:
    """Detect on this machine, or on the workers of a cluster."""

    def announce(line: str) -> None:
        say(line, quiet=quiet)

    with megapixels("detect", quiet=quiet) as bar:
        from rscd.inference.device import own_process
        from rscd.workflows.detect import detect as run

        own_process(config.device)

        with stopping() as interrupt:
            return run(config, scheduler=scheduler, progress=bar, on_start=announce, interrupt=interrupt)


def cost_rows(result: Result) -> list[tuple[str, str]]:
    """Rows on time and memory for the closing table."""
    cost = result.cost
    taken = ", ".join(f"{name} {seconds / cost.wall_s:.0%}" for name, seconds in cost.stages_s.items())
    memory = f"{cost.peak_memory_mb:,.0f} MB"
    if cost.gpu_memory_mb is not None:
        memory += f", and {cost.gpu_memory_mb:,.0f} MB on the GPU"
    return [
        ("time", f"{cost.wall_s:.1f} s on {result.device}, which was busy {cost.device_busy:.0%} of the time"),
        ("stages", f"{taken} of the time; they overlap"),
        ("peak memory", memory),
    ]


def _directions(written: Written) -> str:
    """Number and area of the polygons by direction: appeared, vanished, and so on."""
    ways = written.directions.items()
    return ", ".join(f"{n:,} {way} ({written.directions_m2.get(way, 0.0):,.0f} m2)" for way, n in ways)


def summary(written: Written, threshold: float, report: Path | None = None) -> list[tuple[str, str]]:
    """Rows of the closing table for both detect and polygons."""
    rows = [
        ("changes", f"{several(written.polygons, 'polygon')}, {written.changed_m2:,.0f} m2"),
        *([("", _directions(written))] if written.directions else []),
        ("observed", f"{written.observed_km2:.4f} km2"),
        ("not observable", f"{written.not_observable_km2:.4f} km2"),
        *([("outside the AOI", f"{written.outside_aoi_km2:.4f} km2")] if written.outside_aoi_km2 else []),
        ("threshold", f"p >= {threshold:.4g}, at least {written.min_area_m2:.3g} m2"),
        ("written", str(written.geopackage)),
    ]
    rows += [("", str(path)) for path in (written.probability, report, written.project) if path is not None]
    rows += [("reviews", str(written.reviews))] * bool(written.reviews)
    if bad := written.read_errors:
        rows += [("unreadable", f"{several(len(bad), 'block')} of the inputs, masked: not observable")]
        rows += [("", words) for words in bad[:SHOWN]]
        rows += [("", f"and {len(bad) - SHOWN} more, in the provenance of {written.geopackage}")] * (
            len(bad) > SHOWN
        )
    return rows
