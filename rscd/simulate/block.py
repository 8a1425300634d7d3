"""One block of land: its kind, its streets, its surfaces and buildings, and the random draws for them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rscd.core.types import DoubleArray
from rscd.simulate.appearance import Season, Surface, draw_surface, stream
from rscd.simulate.building import Building
from rscd.simulate.canvas import Frame
from rscd.simulate.spec import LAYOUTS, BlockKind, Layout, SceneSpec

BUILT: tuple[BlockKind, ...] = ("homes", "flats", "halls")
BOTH, BEFORE, AFTER = (True, True), (True, False), (False, True)


@dataclass(frozen=True)
class Patch:
    """A rectangle in street coordinates covered with a surface."""

    u0: float
    """Smallest u, m."""
    v0: float
    """Smallest v, m."""
    u1: float
    """Largest u, m."""
    v1: float
    """Largest v, m."""
    surface: int
    """Index into the block's surfaces."""
    dates: tuple[bool, bool]
    """Whether it exists on the before and after date."""
    ragged_m: float = 0.0
    """Amplitude of its irregular edges, m."""


@dataclass(frozen=True, eq=False)
class Car:
    """A parked car, on one date or on both."""

    x: float
    """Its centre, ground metres."""
    y: float
    """Its centre, ground metres."""
    angle: float
    """Direction of its length, radians."""
    colour: tuple[float, float, float]
    """Red, green, blue, 0..255."""
    dates: tuple[bool, bool]
    """Whether it exists on the before and after date."""


@dataclass(eq=False)
class Block:
    """The contents of the block that covers [i, i+1) x [j, j+1) block sides of (u, v)."""

    i: int
    """Index along u."""
    j: int
    """Index along v."""
    surfaces: list[Surface] = field(default_factory=list)
    """Materials that patches refer to by index; the first two are the base before and after."""
    patches: list[Patch] = field(default_factory=list)
    """Patches, in painting order."""
    buildings: list[Building] = field(default_factory=list)
    """Buildings; they do not overlap."""
    cars: list[Car] = field(default_factory=list)
    """Parked cars, as distractors."""


@dataclass(eq=False)
class Site:
    """A block while it is laid out: its location and random stream."""

    spec: SceneSpec
    """The scene."""
    frame: Frame
    """Its street frame."""
    seasons: tuple[Season, Season]
    """Seasons of the two dates."""
    block: Block
    """The contents so far."""
    rng: np.random.Generator
    """The block's own random stream."""
    turned: bool
    """Whether streets run along v instead of u."""

    @property
    def layout(self) -> Layout:
        """The parameters of the scene's layout."""
        return LAYOUTS[self.spec.layout]

    @property
    def side(self) -> float:
        """Side of the block, m."""
        return self.layout.block_m

    def surface(self, name: str) -> int:
        """Add a material and return its index."""
        self.block.surfaces.append(draw_surface(self.rng, name, self.seasons, self.layout.trees))
        return len(self.block.surfaces) - 1

    def cover(self, before: str, after: str) -> None:
        """Set the surfaces 0 and 1: the base of the whole block on each date."""
        self.surface(before)
        if after == before:
            self.block.surfaces.append(self.block.surfaces[0])
        else:
            self.surface(after)

    def patch(
        self,
        along: tuple[float, float],
        across: tuple[float, float],
        surface: int,
        dates: tuple[bool, bool] = BOTH,
        ragged_m: float = 0.0,
    ) -> None:
        """Cover a rectangle, given in metres along and across the block's street."""
        if not any(dates):
            return
        u, v = (across, along) if self.turned else (along, across)
        u0, v0 = self.block.i * self.side, self.block.j * self.side
        self.block.patches.append(Patch(u0 + u[0], v0 + v[0], u0 + u[1], v0 + v[1], surface, dates, ragged_m))

    def place(self, along: float, across: float) -> tuple[float, float, float]:
        """Ground x, y (m) and the street's direction (radians) at a point of the block."""
        p, q = (across, along) if self.turned else (along, across)
        u, v = self.block.i * self.side + p, self.block.j * self.side + q
        x, y, heading = self.frame.locate(u, v)
        return x, y, heading + (np.pi / 2 if self.turned else 0.0)

    def car(self, along: float, across: float, turn: float, dates: tuple[bool, bool] = BOTH) -> None:
        """Park a car on one of the dates, or rarely on both; only on dates in ``dates``."""
        x, y, angle = self.place(along, across)
        grey = self.rng.choice([40.0, 60.0, 120.0, 190.0, 225.0])
        red, _, blue = self.rng.normal(1.0, 0.07, 3)
        odds = self.rng.random()
        there = BOTH if odds < 0.1 else BEFORE if odds < 0.5 else AFTER
        there = (there[0] and dates[0], there[1] and dates[1])
        self.block.cars.append(Car(x, y, angle + turn, (grey * red, grey, grey * blue), there))


def block_kind(spec: SceneSpec, i: int, j: int) -> BlockKind:
    """Land use of a block; half of the blocks take the kind of their group of four."""
    kinds = LAYOUTS[spec.layout].kinds
    own = stream(spec.seed, spec.layout, "kind", i, j).random(2)
    draw = stream(spec.seed, spec.layout, "group", i // 2, j // 2).random() if own[0] < 0.5 else own[1]
    shares = np.cumsum(list(kinds.values())) / sum(kinds.values())
    return list(kinds)[int(np.searchsorted(shares, draw).clip(0, len(kinds) - 1))]


def border_road(spec: SceneSpec, i: int, j: int, across_u: bool) -> str:
    """The road on a block's low-u (or low-v) border: asphalt, gravel, hedge or none."""
    here = block_kind(spec, i, j)
    there = block_kind(spec, i - 1, j) if across_u else block_kind(spec, i, j - 1)
    if here in BUILT or there in BUILT:
        return "asphalt"
    draw = stream(spec.seed, spec.layout, "border", i, j, int(across_u)).random()
    return "gravel" if draw < 0.25 else "hedge" if draw < 0.5 else "none"


NEAR_M = 6.5
"""Distance from a block's border to its first plots, m."""
ROOFS = {
    "grey": (122.0, 119.0, 114.0),
    "brown": (122.0, 104.0, 88.0),
    "dark": (84.0, 80.0, 76.0),
    "red": (150.0, 98.0, 76.0),
    "white": (206.0, 204.0, 198.0),
    "blue": (120.0, 138.0, 158.0),
}
SPRINKLED = 0.06
"""Share of plots that change individually, on a street that does not change as a whole."""
RENEWED = 0.88
"""Share of plots that change on a street that changes as a whole."""


def street_odds(spec: SceneSpec) -> float:
    """Probability that a street changes as a whole, so that ``change_share`` of all plots change."""
    return float(np.clip((spec.change_share - SPRINKLED) / (RENEWED - SPRINKLED), 0.0, 1.0))


def fate(rng: np.random.Generator, share: float, lost: bool) -> tuple[bool, bool]:
    """Whether the building of a plot exists on the before and after date."""
    if rng.random() >= share:
        return BOTH
    return BEFORE if lost else AFTER


def tinted(rng: np.random.Generator, colour: str) -> DoubleArray:
    """A roof colour with this building's random shade."""
    return np.asarray(ROOFS[colour]) * (rng.normal(1.0, 0.09) + rng.normal(0.0, 0.02, 3))


def odds(weights: dict[str, float]) -> DoubleArray:
    """Weights normalised to sum 1, in the mapping's order."""
    return np.array(list(weights.values())) / sum(weights.values())
