"""A contact sheet: before | after | label of tiles from all over the data, for a look before hours of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from rscd.errors import OutputError
from rscd.output.publish import publishing
from rscd.training.survey import TileFacts
from rscd.training.tiles import CHANGED, IGNORED, Triple
from rscd.types import ByteArray

SHOWN = 12
"""Tiles on the sheet, at most."""
SIDE, GAP, LINE = 256, 6, 16
"""Side of a picture, space between pictures, and height of a line of text, px."""
COLOURS = {CHANGED: (255, 255, 255), IGNORED: (90, 60, 120)}
"""Of label pixels; unchanged ones are black."""


def choose(facts: Sequence[TileFacts]) -> list[TileFacts]:
    """At most SHOWN tiles, evenly from first to last, most of them with changes where there are such."""
    some, none = [f for f in facts if f.changed], [f for f in facts if not f.changed]
    plain = min(len(none), max(SHOWN // 4, SHOWN - len(some)))
    picked = _evenly(some, SHOWN - plain) + _evenly(none, plain)
    return sorted(picked, key=lambda fact: fact.tile.name)


def _evenly(facts: Sequence[TileFacts], most: int) -> list[TileFacts]:
    if len(facts) <= most:
        return list(facts)
    return [facts[i] for i in np.linspace(0, len(facts) - 1, most).round().astype(int)]


def write_sheet(path: Path, facts: Sequence[TileFacts]) -> None:
    """Write the sheet as a PNG: two tiles a row, each with its name and share of change.

    Raises:
        DataError: A tile cannot be read.
        OutputError: The sheet cannot be written.
    """
    chosen = choose(facts)
    wide, high = 3 * SIDE + 2 * GAP, SIDE + LINE
    rows = -(-len(chosen) // 2)
    sheet = Image.new("RGB", (2 * wide + 5 * GAP, rows * (high + GAP) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for i, fact in enumerate(chosen):
        x, y = GAP + (i % 2) * (wide + 3 * GAP), GAP + (i // 2) * (high + GAP)
        share = fact.changed / max(fact.judged, 1)
        draw.text((x, y), f"{fact.tile.name[-95:]}   {share:.1%} changed", fill="black")
        for j, picture in enumerate(_pictures(fact.tile.read())):
            sheet.paste(picture, (x + j * (SIDE + GAP), y + LINE))
    try:
        with publishing(path) as temporary:
            sheet.save(temporary, format="PNG")
    except OSError as error:
        remedy = "name another file with --sheet"
        raise OutputError(f"could not be written ({error})", path=path, remedy=remedy) from error


def _pictures(triple: Triple) -> list[Image.Image]:
    before, after, label = triple
    colours: ByteArray = np.zeros((3, *label.shape), np.uint8)
    for value, colour in COLOURS.items():
        colours[:, label == value] = np.array(colour, np.uint8)[:, None]
    pictures = [Image.fromarray(np.ascontiguousarray(np.moveaxis(i, 0, 2))) for i in (before, after, colours)]
    for picture in pictures:
        picture.thumbnail((SIDE, SIDE))
    return pictures
