"""Numbers in messages."""

from __future__ import annotations


def several(count: int, thing: str) -> str:
    """A count with its noun, in the plural unless it is one: ``1 polygon``, ``2,345 polygons``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
