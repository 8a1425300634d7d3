"""Option files (TOML): read by ``--config``, printed by ``rscd config``."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rscd.core.errors import UsageError
from rscd.core.paths import require_file
from rscd.options.declare import Declared

WIDTH = 100
"""Line width of the printed file, characters."""


def read_options(path: Path, known: Iterable[Declared]) -> dict[str, Any]:
    """The options in a file, by field name. Paths are relative to the file's folder.

    Args:
        path: The file.
        known: Options that it may contain.

    Raises:
        DataError: No such file.
        UsageError: It is not valid TOML, or contains an unknown option.
    """
    require_file(path, "give a TOML file; rscd config COMMAND prints one")
    by_name = {each.name: each for each in known}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"invalid TOML: {error}", path=path, remedy="compare with rscd config COMMAND") from error
    values: dict[str, Any] = {}
    for name, value in found.items():
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, 1)
            remedy = f"did you mean {near[0]}?" if near else "see what rscd config COMMAND prints"
            raise UsageError(f"contains {name}, which is not an option here", path=path, remedy=remedy)
        values |= value_of(by_name[name], value, path.parent)
    return values


def value_of(option: Declared, value: Any, folder: Path) -> dict[str, Any]:  # noqa: ANN401 - of TOML
    """Field -> value, for a value from a file in ``folder``."""
    if option.option.model and isinstance(value, str) and not ("/" in value or value.endswith(".safetensors")):
        return {option.name: value}
    if option.is_file or option.option.model:
        several = isinstance(value, list)
        placed = [os.fspath(folder / str(each)) for each in (value if several else [value])]
        return {option.name: placed if several else placed[0]}
    return option.values(value)


def template(command: str, known: Iterable[Declared]) -> str:
    """A file of all options of a command with their help texts; every line is a comment."""
    return "\n".join(_lines(command, known)) + "\n"


def _lines(command: str, known: Iterable[Declared]) -> Iterator[str]:
    yield f"# Options of rscd {command}: uncomment those you need, then run rscd {command} --config THIS_FILE"
    yield "# The command line overrides this file. Paths are relative to this file's folder."
    group = None
    for each in (option for option in known if option.option.typed):
        if each.group != group:
            group = each.group
            yield f"\n# {group}"
        yield ""
        yield from _wrapped(each.words)
        yield f"# {each.name} = {_example(each)}"


def _wrapped(words: str) -> Iterator[str]:
    line = "#"
    for word in words.split():
        if len(line) + 1 + len(word) > WIDTH:
            yield line
            line = "#"
        line += f" {word}"
    yield line


def _example(each: Declared) -> str:
    """The default as TOML, or the kind of value that it takes."""
    value = each.default
    if value is dataclasses.MISSING or value is None:
        return f"<{each.option.metavar or ('required' if each.required else 'none')}>"
    return json.dumps(list(value) if isinstance(value, tuple) else value, default=str)
