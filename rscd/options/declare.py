"""How an option is declared: once, as a typed field of a frozen dataclass.

Each field carries its type, default, range, unit (in its name), help text (its docstring), and an ``Option``: its
name on the command line and which results depend on it. Command lines, range checks, run keys, fingerprints,
provenance and option files are derived from that.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform, get_args, get_origin, get_type_hints

from rscd.core.errors import UsageError

Cls = TypeVar("Cls")
Changes = Literal["strips", "rounding", "polygons", "report", "weights", "nothing"]
"""What an option changes: the bytes of strips; strips by at most 1/254; only the polygons, or only the report,
derived from strips; the weights of a trained model; or nothing in a result (e.g. only where it is written)."""
UNIT = re.compile("_(m2|m|s|px)$")
"""Units in the names of fields; the command line leaves them out."""


@dataclass(frozen=True)
class Option:
    """What is declared of an option in addition to its type, default, range and help text."""

    changes: Changes = "nothing"
    """Which results depend on it."""
    flag: str = ""
    """Its flag; default: derived from the field's name."""
    short: str = ""
    """Its one-letter flag."""
    metavar: str | None = None
    """Placeholder for its value in help texts; default: from its type."""
    argument: bool = False
    """Whether it is a positional argument."""
    of_pair: bool = False
    """Whether it belongs to one pair of images, so that each pair of an archive has its own value."""
    resolved: bool = False
    """Whether a run's key holds its resolved value (a file's fingerprint, the result of ``auto``) instead."""
    parse: Callable[[str], Any] | None = None
    """Converts typed text to the value if the type does not say how; a dict sets several fields."""
    permits: bool = False
    """Whether it allows what is refused by default; such an option is not copied from an earlier run."""
    model: bool = False
    """Whether it names a model: an embedded model, or a file."""
    typed: bool = True
    """Whether it has its own flag on the command line; otherwise another option's ``parse`` sets it."""


@dataclass(frozen=True)
class Declared:
    """An option, and the field that declares it."""

    name: str
    """The field's name."""
    flag: str
    """Its flag, e.g. ``--min-area``; for an argument its name in capitals."""
    option: Option
    """Its declaration."""
    type: Any
    """Its type."""
    default: Any
    """Its default; ``dataclasses.MISSING`` if it is required."""
    group: str
    """First words of the docstring of the class that declares it."""
    home: type
    """That class."""

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is dataclasses.MISSING

    @property
    def is_file(self) -> bool:
        """Whether its value is a path or contains paths."""
        return _holds_path(self.type)

    @property
    def words(self) -> str:
        """Its help text: the field's docstring."""
        return _docstrings(self.home.__module__).get((self.home.__name__, self.name), "").replace("``", "")

    def values(self, value: Any) -> dict[str, Any]:  # noqa: ANN401 - as typed, or as a file has it
        """Field -> value, from a value that may still be text to parse.

        Raises:
            UsageError: The text cannot be parsed.
        """
        if self.option.parse is None or not isinstance(value, str):
            return {self.name: value}
        parsed = self.option.parse(value)
        return parsed if isinstance(parsed, dict) else {self.name: parsed}


def _holds_path(kind: Any) -> bool:  # noqa: ANN401 - any annotation
    return kind is Path or any(map(_holds_path, get_args(kind)))


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def options(cls: type[Cls]) -> type[Cls]:
    """Make a frozen dataclass whose values pydantic checks on creation, with the error messages of rscd.

    Raises (on creation):
        UsageError: A value is missing, of the wrong type, or out of range.
    """
    made: Any = dataclass(frozen=True)(cls)
    names = [field.name for field in dataclasses.fields(made)]
    by_place = [field.name for field in dataclasses.fields(made) if not field.kw_only]

    @wraps(made.__init__)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as declared
        if len(args) > len(by_place):
            raise UsageError(f"{cls.__name__}: too many positional values", remedy="name them: option=value")
        checked = _checked(made, dict(zip(by_place, args, strict=False)) | kwargs)
        for name in names:
            object.__setattr__(self, name, getattr(checked, name))

    made.__init__ = init
    return made  # type: ignore[no-any-return]


@cache
def _checker(cls: type) -> Any:  # noqa: ANN401 - of pydantic, which is imported as late as here for "rscd --help"
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _checked(cls: type, given: dict[str, Any]) -> Any:  # noqa: ANN401 - an instance
    """An instance of the class, with all values checked.

    Raises:
        UsageError: As ``options``.
    """
    known = {each.name: each for each in declared(cls)} | {f.name: None for f in dataclasses.fields(cls)}
    odd = next((name for name in given if name not in known), None)
    if odd is not None:
        near = difflib.get_close_matches(odd, known, 1)
        remedy = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
        raise UsageError(f"{cls.__name__} has no option {odd!r}", remedy=remedy)
    checker = _checker(cls)
    from pydantic import ValidationError

    try:
        return checker.validate_python(given)
    except ValidationError as error:
        raise _refusal(cls, error.errors(include_url=False)[0]) from None


def _refusal(cls: type, error: Any) -> UsageError:  # noqa: ANN401 - of pydantic
    """Pydantic's error as a UsageError: flag, value, remedy."""
    option = next(each for each in declared(cls) if each.name == error["loc"][0])
    if error["type"] == "missing":
        return UsageError(f"no {option.flag}", remedy="give it")
    value = error["input"]
    shown = f"{value!r}" if isinstance(value, str) and option.option.metavar else f"{value}"
    return UsageError(f"{option.flag} {shown}", remedy=_remedy(error["type"], error))


def _remedy(kind: str, error: Any) -> str:  # noqa: ANN401 - of pydantic
    """What to use instead."""
    context = error.get("ctx", {})
    if kind == "literal_error":
        return "use " + str(context["expected"]).replace("'", "")
    if kind == "value_error":
        return str(context["error"])
    what = str(error["msg"]).removeprefix("Input should be ")
    return f"give {what}"


@cache
def declared(cls: type) -> tuple[Declared, ...]:
    """All options of a class: its own first, then those of its base classes in order.

    Args:
        cls: A class made by ``options``.
    """
    return tuple(sorted(_declared(cls), key=lambda each: cls.__mro__.index(each.home)))


def _declared(cls: type) -> Iterator[Declared]:
    hints = get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        kind, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        option = next((mark for mark in marks if isinstance(mark, Option)), None)
        if option is None:
            continue
        home = next(base for base in cls.__mro__ if field.name in inspect.get_annotations(base))
        plain = UNIT.sub("", field.name)
        flag = plain.upper() if option.argument else option.flag or "--" + plain.replace("_", "-")
        group = (inspect.getdoc(home) or "").partition(":")[0].partition(".")[0]
        yield Declared(field.name, flag, option, kind, field.default, group, home)


def names(cls: type, *, changes: tuple[Changes, ...], resolved: bool | None = None) -> tuple[str, ...]:
    """Names of the options of a class that change one of these.

    Args:
        cls: A class made by ``options``.
        changes: What they change.
        resolved: True: only options whose resolved value is in a run's key; False: only the others.
    """
    return tuple(
        each.name
        for each in declared(cls)
        if each.option.changes in changes and resolved in (None, each.option.resolved)
    )


@cache
def _docstrings(module: str) -> dict[tuple[str, str], str]:
    """(class, field) -> docstring below the field, for a module."""
    found: dict[tuple[str, str], str] = {}
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, below in zip(node.body, node.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                words = below.value if isinstance(below, ast.Expr) else None
                text = str(words.value) if isinstance(words, ast.Constant) else ""
                found[node.name, field.target.id] = " ".join(text.split())
    return found
