"""Provenance: how an output was made, and finding its input pair again."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rscd.core.errors import DataError
from rscd.core.version import VERSION, library_version
from rscd.options.declare import declared
from rscd.options.pair import PairConfig
from rscd.scene.files import fingerprint, gdal_name, unchanged

PACKAGES = ("torch", "pillow", "rasterio", "pyogrio", "shapely", "pyproj", "numpy")


def provenance(
    started: datetime,
    inputs: dict[str, dict[str, Any]],
    options: Any,  # noqa: ANN401
    *,
    folder: Path | None = None,
    **more: Any,  # noqa: ANN401
) -> dict[str, Any]:
    """Collect inputs, options, versions and times as JSON-ready values, after checking that inputs are unchanged.

    Args:
        started: When the run began.
        inputs: Role, e.g. ``before`` -> fingerprint of the file, taken when it was opened.
        options: The command's config dataclass.
        folder: Make paths relative to this folder, that of the output, so that its location is not revealed; None:
            full paths.
        **more: Further items, e.g. the model's contract.

    Raises:
        DataError: An input has changed.
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
        "versions": versions | {name: library_version(name) for name in PACKAGES},
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        **more,
    }


def _is_path(option: str, value: Any) -> bool:  # noqa: ANN401
    """Whether an option's value is a path; a model may be a path or a name."""
    return isinstance(value, Path) or (option == "model" and isinstance(value, str) and os.sep in value)


def shown_path(path: Path, folder: Path | None) -> str:
    """A path as text: in full, or relative to a folder; addresses are unchanged."""
    if folder is None or gdal_name(path) is not None:
        return str(path)
    return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()


DATES = ("before", "after")
READING = tuple(e for e in declared(PairConfig) if not (e.option.argument or e.option.permits))
"""Options that define how a pair is read."""
IDENTITY = ("bytes", "sampled_sha256", "sha256")
"""The part of a file's fingerprint that depends only on its contents."""


def origin_of(config: PairConfig, seen: Mapping[str, Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """Information written with an output so that ``pair_of`` finds the pair again, as JSON holds it.

    Args:
        config: How the pair was read.
        seen: Role -> fingerprint of the file.
        folder: The output's folder; paths are relative to it.
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
    """The pair of an output, if its files are unchanged.

    Args:
        origin: Result of ``origin_of``, or a GeoPackage's provenance.
        folder: The output's folder.

    Raises:
        KeyError, TypeError, ValueError: It does not describe a pair.
        DataError: An image is missing or has changed.
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
