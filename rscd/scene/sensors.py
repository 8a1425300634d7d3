"""What a file's tags say of where its pixels are from: sensor and day, and whether the model has seen the like."""

from __future__ import annotations

import datetime
import re
from typing import Any

SENSORS = re.compile(
    r"\b(sentinel[-_ ]?[1-6][abc]?|landsat[-_ ]?[1-9]?|modis|viirs|planetscope|rapideye|worldview[-_ ]?[1-4]?"
    r"|geoeye|quickbird|ikonos|pl[eé]iades|spot[-_ ]?[1-7]|kompsat|gaofen|superview|naip|terrasar|radarsat"
    r"|palsar|s1[abc]|s2[abc]|s2[abc]?_msi|sar)\b",
    re.IGNORECASE,
)
DATA_SETS = {"OSCD": "sentinel2"}
"""Training data -> the sensor that it shows, in lower case letters and digits."""
KEYS = re.compile("sensor|satellite|mission|platform|spacecraft|instrument|description|software|title|source", re.I)
"""Tags that may name one."""


def named_sensor(tags: dict[str, Any]) -> str:
    """The sensor that a GeoTIFF's tags name; empty if none is recognised.

    Args:
        tags: Name -> value.
    """
    for name, value in tags.items():
        found = SENSORS.search(str(value)) if KEYS.search(name) else None
        if found is not None:
            return found[0]
    return ""


def date_taken(tags: dict[str, Any]) -> str:
    """The day that a GeoTIFF's tag TIFFTAG_DATETIME names, as 2024-05-31; empty if it names none."""
    found = re.match(r"(\d{4})[:/-](\d\d)[:/-](\d\d)(?!\d)", str(tags.get("TIFFTAG_DATETIME", "")))
    try:
        return datetime.date(*map(int, found.groups())).isoformat() if found else ""
    except ValueError:
        return ""


def unseen(sensor: str, trained_on: str) -> bool:
    """Whether a model has not been trained on a sensor, as far as its contract says.

    Args:
        sensor: As the tags name it.
        trained_on: The contract's words on the training data.
    """
    plain = re.sub(r"[^a-z0-9]", "", sensor.lower())
    plain = re.sub(r"^s([12])", r"sentinel\1", plain)
    known = [seen for data, seen in DATA_SETS.items() if data in trained_on]
    words = re.sub(r"[^a-z0-9]", "", trained_on.lower())
    return bool(plain) and plain not in words and not any(plain.startswith(seen) for seen in known)
