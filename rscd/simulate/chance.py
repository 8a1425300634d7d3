"""The draws that homes and halls share: what changes, and the colour of a roof."""

from __future__ import annotations

import numpy as np

from rscd.simulate.block import AFTER, BEFORE, BOTH
from rscd.simulate.spec import SceneSpec
from rscd.types import DoubleArray

NEAR_M = 6.5
"""From a block's border to its first plots, m."""
ROOFS = {
    "grey": (122.0, 119.0, 114.0),
    "brown": (122.0, 104.0, 88.0),
    "dark": (84.0, 80.0, 76.0),
    "red": (150.0, 98.0, 76.0),
    "white": (206.0, 204.0, 198.0),
    "blue": (120.0, 138.0, 158.0),
}
SPRINKLED = 0.06
"""Share of plots that change one by one on a street that does not change as a whole."""
RENEWED = 0.88
"""Share of plots that change on a street that does."""


def street_odds(spec: SceneSpec) -> float:
    """Chance that a street changes as a whole, so that ``change_share`` of all plots change."""
    return float(np.clip((spec.change_share - SPRINKLED) / (RENEWED - SPRINKLED), 0.0, 1.0))


def fate(rng: np.random.Generator, share: float, lost: bool) -> tuple[bool, bool]:
    """On which dates the building of a plot stands."""
    if rng.random() >= share:
        return BOTH
    return BEFORE if lost else AFTER


def tinted(rng: np.random.Generator, colour: str) -> DoubleArray:
    """A roof colour with this building's own shade."""
    return np.asarray(ROOFS[colour]) * (rng.normal(1.0, 0.09) + rng.normal(0.0, 0.02, 3))


def odds(weights: dict[str, float]) -> DoubleArray:
    """Weights that sum to one, in the mapping's order."""
    return np.array(list(weights.values())) / sum(weights.values())
