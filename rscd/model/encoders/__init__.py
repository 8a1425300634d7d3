"""Encoders, a module each, and which there are by name."""

from __future__ import annotations

from typing import Any

from rscd.model.encoders import lite, pretrained, sam
from rscd.model.encoders.encoder import Encoder

FRESH = ("lite", *sam.SHAPES)
"""Encoders that rscd can build of their name alone; the others come with a configuration."""
ENCODERS = (*FRESH, *pretrained.FAMILIES)
"""All that a contract may name."""


def make_encoder(name: str, settings: dict[str, Any]) -> Encoder:
    """An encoder with fresh weights.

    Args:
        name: One of ``ENCODERS``.
        settings: Its configuration, for those that are not in ``FRESH``.

    Raises:
        ModelError: The configuration cannot be used, or the library that it is for is not installed.
    """
    if name == "lite":
        return lite.LiteEncoder()
    return sam.SamEncoder(name) if name in sam.SHAPES else pretrained.PretrainedEncoder(name, settings)


def normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, on the 0..255 scale, that the weights of an encoder in ``FRESH`` expect."""
    if name == "lite":
        return (lite.MEAN,) * 3, (lite.STD,) * 3
    return sam.MEAN, sam.STD
