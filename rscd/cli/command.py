"""What all commands share: their options, each declared once in ``rscd/options``, and checks before any work."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from rscd.cli.console import exit_codes
from rscd.core.paths import GEOTIFF, MANIFEST, VECTORS, Targets, require_file
from rscd.model.catalog import find_model
from rscd.options.batch import BatchConfig
from rscd.options.declare import Declared, declared
from rscd.options.detect import DetectConfig, PolygonsConfig
from rscd.options.pair import InspectConfig, PairConfig
from rscd.options.toml import read_options
from rscd.options.training import LabelledConfig
from rscd.output.vector.formats import check_vector_name

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file of options; the command line wins. See rscd config.")
]


def command(
    make: Callable[..., Any],
    options: Sequence[Declared] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a group.

    Args:
        make: Makes the options object, the command's first argument, from the given values.
        options: Options of the command; default: all of ``make``, a class made by ``options``.

    Returns:
        A decorator of ``command(config, **others)``; parameters after the first are options of this command only.
    """
    known = typed(declared(make)) if options is None and isinstance(make, type) else tuple(options or ())

    def decorate(body: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(body, eval_str=True).parameters.values())[1:]

        @wraps(body)
        def run(ctx: typer.Context, config: Path | None, **given: Any) -> None:  # noqa: ANN401 - as typed
            with exit_codes():
                others = {parameter.name: given.pop(parameter.name) for parameter in own}
                values = read_options(config, declared_by(known)) if config is not None else {}
                for each in known:
                    source = ctx.get_parameter_source(each.name)
                    if source is not None and source.name == "COMMANDLINE":
                        values |= each.values(given[each.name])
                body(make(**values), **others)

        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [
            inspect.Parameter("ctx", keyword, annotation=typer.Context),
            *(inspect.Parameter(each.name, keyword, **_parameter(each)) for each in known),
            inspect.Parameter("config", keyword, annotation=ConfigFile, default=None),
            *(parameter.replace(kind=keyword) for parameter in own),
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del run.__wrapped__  # otherwise Typer uses its signature
        return run

    return decorate


def typed(options: Sequence[Declared]) -> tuple[Declared, ...]:
    """Options that the command line has, arguments first."""
    return tuple(sorted((e for e in options if e.option.typed), key=lambda e: not e.option.argument))


def declared_by(options: Sequence[Declared]) -> tuple[Declared, ...]:
    """All options of the classes that declare these, including those without a flag of their own."""
    names = {each.name: each for each in options}
    beside = [
        other
        for each in options
        for other in declared(each.home)
        if not (other.option.typed or other.option.permits)
    ]
    return tuple({**{each.name: each for each in beside}, **names}.values())


def _parameter(each: Declared) -> dict[str, Any]:
    """Annotation and default for Typer."""
    option, kind = each.option, each.type
    default = None if each.required else each.default
    metavar = option.metavar
    if option.parse is not None:
        kind, default = str | None, None
    elif get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis:
        kind, default = list[get_args(kind)[0]] | None, None  # type: ignore[misc]
    elif each.required:
        kind |= None
    if metavar is None and (choices := _choices(kind)):
        metavar = f"[{'|'.join(choices)}]"
    words = each.words + (" Required, here or in --config." if each.required else "")
    if option.argument:
        made = typer.Argument(help=each.words, metavar=each.flag if each.required else None, show_default=False)
    else:
        made = typer.Option(*_flags(each), metavar=metavar, help=words, rich_help_panel=each.group)
    return {"annotation": Annotated[kind, made], "default": default}


def _flags(each: Declared) -> list[str]:
    flags = [each.option.short] if each.option.short else []
    if bool in (each.type, *get_args(each.type)) and each.default is not False:
        return [f"{each.flag}/--no-{each.flag.removeprefix('--')}"]
    return [*flags, each.flag]


def _choices(kind: Any) -> tuple[str, ...]:  # noqa: ANN401 - any annotation
    if get_origin(kind) is Literal:
        return tuple(get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        return next((found for part in get_args(kind) if (found := _choices(part))), ())
    return ()


Config = DetectConfig | InspectConfig | PolygonsConfig | BatchConfig | LabelledConfig


def refuse_early(config: Config) -> None:
    """Check a command's inputs and outputs without opening them; the command itself checks again.

    Raises:
        UsageError: An output exists already, or has an unsuitable name.
        DataError: An input is missing.
        ModelError: There is no such model.
        OutputError: An output cannot be written.
    """
    for path, remedy in _inputs(config):
        require_file(path, remedy)
    model = config.detect.model if isinstance(config, BatchConfig) else getattr(config, "model", None)
    if model is not None:
        find_model(model)
    if isinstance(config, DetectConfig | PolygonsConfig):
        check_vector_name(config.output)
    if isinstance(config, DetectConfig):
        targets = Targets(config.output, config.probability, config.report, config.project)
        targets.check(config.inputs, overwrite=config.overwrite)
    if isinstance(config, PolygonsConfig):
        Targets(config.output).check([config.probability], overwrite=config.overwrite)


def _inputs(config: Config) -> list[tuple[Path, str]]:
    """Files that must exist, and the remedy for each if it does not."""
    if isinstance(config, PolygonsConfig):
        return [(config.probability, GEOTIFF)]
    if isinstance(config, BatchConfig):
        return [(config.manifest, MANIFEST)] if config.manifest is not None else []
    images = config.rasters.values() if isinstance(config, PairConfig) else (config.pair or ())[:2]
    areas = [config.aoi] if config.aoi is not None else []
    return [*((image, GEOTIFF) for image in images), *((area, VECTORS) for area in areas)]
