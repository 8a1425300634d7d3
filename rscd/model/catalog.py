"""Models by name or path, without opening them: what a command can check before torch is loaded."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from rscd.core.errors import ModelError

WEIGHTS = Path(__file__).parent / "weights"
SUFFIX = ".safetensors"
DEFAULT = "buildings"
"""The model that is used where no other fits better."""


def embedded() -> dict[str, Path]:
    """The models that travel with the package: name -> checkpoint."""
    return {p.stem: p for p in sorted(WEIGHTS.glob(f"*{SUFFIX}"))}


def find_model(name: str) -> Path:
    """Turn the name of an embedded model, or a path, into a path.

    Raises:
        ModelError: Neither.
    """
    if name in embedded():
        return embedded()[name]
    path = Path(name)
    with suppress(OSError):  # a name that is too long is no file either
        if path.is_file():
            return path
    names = ", ".join(embedded()) or "none"
    raise ModelError("no such model", path=name, remedy=f"give a checkpoint file, or one of: {names}")
