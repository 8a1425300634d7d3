"""Provenance: what made an output, as items for the GeoPackage's metadata."""

from __future__ import annotations

import dataclasses
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import rscd
from rscd.scene.fingerprint import unchanged

PACKAGES = ("torch", "rasterio", "pyogrio", "shapely", "pyproj", "numpy")


def provenance(started: datetime, inputs: dict[str, dict[str, Any]], options: Any, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Collect inputs, options, versions and times as JSON-ready values, where the inputs are still what they were.

    Args:
        started: When the run began.
        inputs: Role, e.g. ``before`` -> fingerprint of the file, taken when it was opened.
        options: The command's config dataclass.
        **more: Further items, e.g. the model's contract.

    Raises:
        DataError: An input changed since.
    """
    versions = {"rscd": rscd.__version__, "python": platform.python_version()}
    return {
        "software": "rscd",
        "inputs": unchanged(inputs),
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(options).items()},
        "versions": versions | {name: version(name) for name in PACKAGES},
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        **more,
    }
