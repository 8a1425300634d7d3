"""What the ground is made of, and how each season colours it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rscd.simulate.look import Season
from rscd.types import DoubleArray

Colour = tuple[int, int, int]

# Two colours between which the texture wanders, a season; brightness of a nominal exposure, 0..255.
_GREEN: dict[Season, tuple[Colour, Colour]] = {
    "green": ((82, 92, 60), (120, 122, 86)),
    "dry": ((166, 150, 112), (132, 122, 86)),
    "winter": ((124, 112, 88), (104, 98, 74)),
    "autumn": ((122, 112, 72), (98, 100, 62)),
}
_LAWN: dict[Season, tuple[Colour, Colour]] = {
    "green": ((82, 96, 60), (108, 116, 78)),
    "dry": ((128, 124, 86), (152, 142, 108)),
    "winter": ((134, 124, 98), (112, 106, 82)),
    "autumn": ((104, 108, 68), (126, 118, 84)),
}
_LITTER: dict[Season, tuple[Colour, Colour]] = {
    "green": ((70, 80, 48), (104, 104, 70)),
    "dry": ((142, 128, 98), (110, 102, 74)),
    "winter": ((112, 100, 82), (92, 84, 68)),
    "autumn": ((110, 94, 64), (90, 84, 56)),
}
_CONSTANT: dict[str, tuple[Colour, Colour]] = {
    "soil": ((164, 146, 120), (124, 108, 88)),
    "pad": ((186, 168, 138), (150, 130, 104)),
    "mulch": ((122, 106, 86), (102, 90, 72)),
    "asphalt": ((112, 111, 108), (124, 122, 117)),
    "worn": ((142, 138, 130), (128, 124, 116)),
    "concrete": ((194, 188, 176), (178, 172, 160)),
    "gravel": ((176, 168, 150), (154, 146, 130)),
    "paint": ((190, 184, 160), (170, 164, 142)),
    "fence": ((72, 64, 54), (84, 74, 62)),
    "water": ((88, 168, 190), (110, 186, 204)),
}
_CROPS: tuple[tuple[Colour, Colour], ...] = (
    ((72, 92, 54), (90, 104, 62)),
    ((94, 112, 58), (112, 124, 72)),
    ((180, 164, 122), (160, 146, 108)),
    ((116, 98, 80), (96, 82, 68)),
    ((158, 142, 108), (136, 122, 94)),
    ((142, 128, 112), (124, 112, 96)),
)
_CROP_ODDS: dict[Season, tuple[float, ...]] = {
    "green": (0.4, 0.3, 0.05, 0.15, 0.05, 0.05),
    "dry": (0.05, 0.1, 0.4, 0.1, 0.25, 0.1),
    "winter": (0.05, 0.1, 0.0, 0.4, 0.2, 0.25),
    "autumn": (0.1, 0.1, 0.1, 0.3, 0.3, 0.1),
}
# Share of brightness that the fine and the middle texture move, and density of trees (times the layout's).
_ROUGHNESS: dict[str, tuple[float, float, float]] = {
    "meadow": (0.12, 0.10, 0.7),
    "lawn": (0.07, 0.06, 1.0),
    "wood": (0.12, 0.10, 0.0),
    "field": (0.05, 0.04, 0.0),
    "soil": (0.09, 0.10, 0.1),
    "pad": (0.05, 0.07, 0.0),
    "mulch": (0.06, 0.06, 0.0),
}
_HARD = (0.025, 0.02, 0.0)
_SEASONAL = {"meadow": _GREEN, "lawn": _LAWN, "wood": _LITTER}


@dataclass(frozen=True, eq=False)
class Surface:
    """One patch's material on both dates."""

    colours: DoubleArray
    """The two end colours a date, 0..255, shape (2 dates, 2 ends, 3 bands)."""
    fine: float
    """Share of brightness that the fine texture moves (one standard deviation)."""
    middle: float
    """Likewise of the middle texture."""
    trees: float
    """Density of trees, 0..1."""
    rows: tuple[float, float]
    """Strength of tilled rows, share of brightness, before and after."""
    wave: tuple[float, float]
    """Wave vector of the rows, east and south, radians/m."""


def draw_surface(
    rng: np.random.Generator, name: str, seasons: tuple[Season, Season], tree_density: float
) -> Surface:
    """A patch of a material with its own shade of it.

    Args:
        rng: Of the block that owns the patch; a fixed count of numbers is drawn, whatever the name.
        name: Material: meadow, lawn, wood, field, soil, pad, or a hard one.
        seasons: Of the before and the after date.
        tree_density: Of gardens of the layout, 0..1.
    """
    tint = 1.0 + rng.normal(0.0, 0.05) + rng.normal(0.0, 0.018, 3)
    drift = 1.0 + rng.normal(0.0, 0.05, 2)
    crops, lush = rng.random(2), rng.uniform(0.2, 2.0)
    angle, spacing, strength = rng.uniform(0, np.pi), rng.uniform(1.6, 4.5), rng.uniform(0.0, 0.09, 2)
    ends = [_ends(name, season, crop) for season, crop in zip(seasons, crops, strict=True)]
    colours = np.array(ends, dtype=np.float64)
    colours *= tint
    if name in _ROUGHNESS:
        colours *= drift[:, None, None]
    fine, middle, trees = _ROUGHNESS.get(name, _HARD)
    density = 0.9 if name == "wood" else trees * tree_density * lush
    wave = (float(2 * np.pi / spacing * np.cos(angle)), float(2 * np.pi / spacing * np.sin(angle)))
    rows = (float(strength[0]), float(strength[1])) if name == "field" else (0.0, 0.0)
    return Surface(colours, fine, middle, density, rows, wave)


def _ends(name: str, season: Season, crop: float) -> tuple[Colour, Colour]:
    """The two end colours of a material on one date."""
    if name == "field":
        return _CROPS[int(np.searchsorted(np.cumsum(_CROP_ODDS[season]), crop).clip(0, len(_CROPS) - 1))]
    if name in _SEASONAL:
        return _SEASONAL[name][season]
    return _CONSTANT[name]
