"""Provenance: what made an output, and the pair found again from it."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rscd.core.errors import DataError
from rscd.core.version import VERSION
from rscd.options.declare import declared
from rscd.options.pair import PairConfig
from rscd.scene.files import fingerprint, gdal_name, unchanged

PACKAGES = ("torch", "rasterio", "pyogrio", "shapely", "pyproj", "numpy")


def provenance(
    started: datetime,
    inputs: dict[str, dict[str, Any]],
    options: Any,  # noqa: ANN401
    *,
    folder: Path | None = None,
    **more: Any,  # noqa: ANN401
) -> dict[str, Any]:
    """Collect inputs, options, versions and times as JSON-ready values, where the inputs are still what they were.

    Args:
        started: When the run began.
        inputs: Role, e.g. ``before`` -> fingerprint of the file, taken when it was opened.
        options: The command's config dataclass.
        folder: Say paths as they are from this folder, the output's, so that nobody learns where it lies; None: in
            full.
        **more: Further items, e.g. the model's contract.

    Raises:
        DataError: An input changed since.
    """
    versions = {"rscd": VERSION, "python": platform.python_version()}
    return {
        "software": "rscd",
        "inputs": {
            role: known | {"path": shown_path(Path(known["path"]), folder)}
            for role, known in unchanged(inputs).items()
        },
        "options": {
            name: shown_path(Path(value), folder) if _is_path(name, value) else value
            for name, value in dataclasses.asdict(options).items()
        },
        "versions": versions | {name: version(name) for name in PACKAGES},
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        **more,
    }


def _is_path(option: str, value: Any) -> bool:  # noqa: ANN401
    """Whether an option's value is a path; a model may be one, or a name."""
    return isinstance(value, Path) or (option == "model" and isinstance(value, str) and os.sep in value)


def shown_path(path: Path, folder: Path | None) -> str:
    """A path as text: in full, or relative to a folder; addresses stay as they are."""
    if folder is None or gdal_name(path) is not None:
        return str(path)
    return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()


DATES = ("before", "after")
READING = tuple(e for e in declared(PairConfig) if not (e.option.argument or e.option.permits))
"""Options that say how a pair is read."""
IDENTITY = ("bytes", "sampled_sha256", "sha256")
"""The part of a file's fingerprint that depends on its contents alone."""


def origin_of(config: PairConfig, seen: Mapping[str, Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """What to write beside an output so that ``pair_of`` finds the pair again, as JSON holds it.

    Args:
        config: How the pair was read.
        seen: Role -> fingerprint of the file.
        folder: The output's; paths are said from there.
    """
    inputs = {
        role: {"path": shown_path(Path(known["path"]), folder)}
        | {name: known[name] for name in IDENTITY if name in known}
        for role, known in seen.items()
    }
    options = {
        each.name: shown_path(value, folder) if isinstance(value := getattr(config, each.name), Path) else value
        for each in READING
    }
    return {"inputs": inputs, "options": options}


def pair_of(origin: Mapping[str, Any], folder: Path) -> PairConfig:
    """The pair of an output, if it is still what it was.

    Args:
        origin: As of ``origin_of``, or a GeoPackage's provenance.
        folder: The output's folder.

    Raises:
        KeyError, TypeError, ValueError: It says nothing of a pair.
        DataError: A date is gone, or is not the file that it was.
    """
    inputs, options = origin["inputs"], origin["options"]
    dates = {role: folder / inputs[role]["path"] for role in DATES}
    for role, date in dates.items():
        if not date.is_file():
            raise DataError(f"{role} image {date} is not there", remedy="put it back")
        if fingerprint(date)["sampled_sha256"] != inputs[role]["sampled_sha256"]:
            raise DataError(
                f"{role} image {date} is not the file that it was made from", remedy="put that file back"
            )
    read = {each.name: options[each.name] for each in READING if options.get(each.name) is not None}
    files = {each.name for each in READING if each.is_file}
    return PairConfig(**dates, **{name: folder / v if name in files else v for name, v in read.items()})
