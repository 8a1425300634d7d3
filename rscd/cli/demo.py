"""``rscd demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rscd.cli.command import Json, Quiet
from rscd.cli.console import Progress, exit_codes, print_json, print_table, say, silent
from rscd.cli.progress import megapixels
from rscd.core.errors import several

SEED = 7


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path("rscd-demo"),
    seed: Annotated[int, typer.Option(help="Random seed of the rendered scene.")] = SEED,
    model: Annotated[str, typer.Option(help="Name of an embedded model, or a checkpoint file.")] = "buildings",
    device: Annotated[str, typer.Option(metavar="[auto|cpu|cuda:N]", help="Device for the network.")] = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    progress: Progress = "auto",
) -> None:
    """Render a before and an after image, detect the change, and compare with what was built."""
    with exit_codes():
        from rscd.inference.device import own_process
        from rscd.options.detect import DetectConfig
        from rscd.workflows.demo import render_pair, score
        from rscd.workflows.detect import detect

        own_process(device)
        quiet = silent(quiet=quiet, as_json=as_json, progress=progress)
        say(f"rendering a scene with seed {seed} into {output} ...", quiet=quiet)
        place = render_pair(output, seed)
        config = DetectConfig(
            before=place.before,
            after=place.after,
            output=output / "changes.gpkg",
            probability=output / "probability.tif",
            report=output / "report.html",
            project=output / "demo.qgz",
            model=model,
            device=device,
            overwrite=True,
        )
        with megapixels("detect", quiet=quiet) as bar:
            result = detect(config, progress=bar, on_start=lambda line: say(line, quiet=quiet))
        report = score(place, result.written.geopackage, output / "quicklook.png")
        if as_json:
            print_json({"seed": seed, **report, "detect": _plain(result)}, output)
        elif not quiet:
            _tell(report, output)


def _plain(result: Any) -> Any:  # noqa: ANN401
    import dataclasses

    return dataclasses.asdict(result)


def _tell(report: dict[str, Any], output: Path) -> None:
    model, plain = report["model"], report["differencing"]
    print_table(
        [
            ("built", f"{report['built']} visible changed buildings (new or vanished)"),
            ("found", f"{model['matched']} of them, {model['recall']:.0%}, at IoU 0.3"),
            ("false", f"{_false(model)} of {several(model['found'], 'polygon')}, {model['false_share']:.0%}"),
            (
                "|after - before|",
                f"for comparison, at its best threshold: {plain['matched']} found ({plain['recall']:.0%}), "
                f"{_false(plain)} of {plain['found']} false",
            ),
            ("look at", f"{output / 'quicklook.png'} (before | after | changes)"),
            ("report", f"{output / 'report.html'}, a page to compare the dates by swiping"),
            ("in QGIS", f"{output / 'demo.qgz'}: both dates, changes, map themes before and after"),
        ],
    )


def _false(score: dict[str, Any]) -> int:
    return int(score["found"] - score["matched"])
