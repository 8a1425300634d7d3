"""The pair that an output was made from, as the output itself says it: found again, read again in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rscd.config import PairConfig
from rscd.errors import DataError
from rscd.output.provenance import said
from rscd.scene.fingerprint import fingerprint

DATES = ("before", "after")
NOT_READING = ("remote", "bad_blocks", "force_gsd")
"""Options of a pair that do not say how it is read, or that nobody should carry over unseen."""
READING = tuple(f.name for f in fields(PairConfig) if f.name not in (*DATES, *NOT_READING))
"""Options that say how a pair is read."""
PATHS = "before_mask", "after_mask", "aoi"
"""Those that are files."""
IDENTITY = ("bytes", "sampled_sha256", "sha256")
"""Of a file's fingerprint, what tells its contents, whenever it was copied."""


def origin_of(config: PairConfig, seen: Mapping[str, Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """What to write beside an output so that ``pair_of`` finds the pair again, as JSON holds it.

    Args:
        config: How the pair was read.
        seen: Role -> fingerprint of the file.
        folder: The output's; paths are said from there.
    """
    inputs = {
        role: {"path": said(Path(known["path"]), folder)}
        | {name: known[name] for name in IDENTITY if name in known}
        for role, known in seen.items()
    }
    options = {
        name: said(value, folder) if isinstance(value, Path) else value
        for name, value in asdict(config).items()
        if name in READING
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
    read = {name: options[name] for name in READING if options.get(name) is not None}
    read = {name: tuple(value) if isinstance(value, list) else value for name, value in read.items()}
    return PairConfig(**dates, **{n: folder / v if n in PATHS else v for n, v in read.items()})
