"""The user's settings, and the models of the program."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import QgsSettings

from .program import ProgramError, ask, find_program

PROGRAM = "RSCD_PROGRAM"
"""Key of the setting with the program's path."""
MODELS = "rscd/models"
"""Key under which a program's models are cached."""
AUTOMATIC = "automatic"
"""Choice: the model whose pixel sizes fit."""


def program() -> str:
    """The path of the program.

    Raises:
        ProgramError: It was not found.
    """
    return find_program(str(ProcessingConfig.getSetting(PROGRAM) or "").strip())


def models() -> list[str]:
    """Names of the program's models; empty if it cannot be asked.

    The answer is cached with the program's path and time, so that QGIS starts without starting rscd.
    """
    try:
        path = program()
    except ProgramError:
        return []
    seen = f"{path} {Path(path).stat().st_mtime_ns}"
    settings = QgsSettings()
    kept = settings.value(MODELS, "")
    try:
        known = json.loads(kept)
    except (TypeError, ValueError):
        known = {}
    if isinstance(known, dict) and known.get("program") == seen:
        return [str(name) for name in known["models"]]
    names = _asked(path)
    if names:
        settings.setValue(MODELS, json.dumps({"program": seen, "models": names}))
    return names


def _asked(path: str) -> list[str]:
    try:
        return list(json.loads(ask([path, "models", "list", "--json"]).stdout))
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
