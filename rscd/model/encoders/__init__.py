"""Encoders, one module each, and their names."""

from __future__ import annotations

from typing import Any

from rscd.model.encoders import lite, pretrained, sam
from rscd.model.encoders.encoder import Encoder

FRESH = ("lite", *sam.SHAPES)
"""Encoders that rscd can build from the name only; the others need a configuration."""
ENCODERS = (*FRESH, *pretrained.FAMILIES)
"""All encoder names that a contract may contain."""


def make_encoder(name: str, settings: dict[str, Any]) -> Encoder:
    """An encoder with newly initialised weights.

    Args:
        name: One of ``ENCODERS``.
        settings: Its configuration, if it is not in ``FRESH``.

    Raises:
        ModelError: The configuration cannot be used, or its library is not installed.
    """
    if name == "lite":
        return lite.LiteEncoder()
    return sam.SamEncoder(name) if name in sam.SHAPES else pretrained.PretrainedEncoder(name, settings)


def normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the input, 0..255 scale, for the weights of an encoder in ``FRESH``."""
    if name == "lite":
        return (lite.MEAN,) * 3, (lite.STD,) * 3
    return sam.MEAN, sam.STD
