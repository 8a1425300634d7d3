"""Provenance: what made an output, as items for the GeoPackage's metadata."""

from __future__ import annotations

import dataclasses
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import rscd
from rscd.scene.fingerprint import unchanged
from rscd.scene.remote import gdal_name

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
    versions = {"rscd": rscd.__version__, "python": platform.python_version()}
    return {
        "software": "rscd",
        "inputs": {
            role: told | {"path": said(Path(told["path"]), folder)} for role, told in unchanged(inputs).items()
        },
        "options": {
            name: said(value, folder) if isinstance(value, Path) else value
            for name, value in dataclasses.asdict(options).items()
        },
        "versions": versions | {name: version(name) for name in PACKAGES},
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        **more,
    }


def said(path: Path, folder: Path | None) -> str:
    """A path as it is told: in full, or from a folder; addresses stay as they are."""
    if folder is None or gdal_name(path) is not None:
        return str(path)
    return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
