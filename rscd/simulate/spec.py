"""Input (``SceneSpec``) and output of rendering a scene."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from shapely.geometry import Polygon

from rscd.core.errors import UsageError
from rscd.core.types import BoolArray, ByteArray

BlockKind = Literal["homes", "flats", "halls", "field", "meadow", "wood", "bare"]
ChangeKind = Literal["new", "vanished"]


@dataclass(frozen=True)
class Layout:
    """A named settlement pattern: parameters of the whole scene."""

    kinds: dict[BlockKind, float]
    """Weight of each kind of block; they need not sum to 1."""
    block_m: float = 150.0
    """Side of a block, m; roads run along block borders."""
    bend_m: float = 12.0
    """Amplitude of the slow waves that bend streets, m; 0 makes them straight."""
    plot_m: float = 19.0
    """Mean width of a house plot along its street, m."""
    occupancy: float = 0.92
    """Share of house plots with a building on at least one date."""
    togetherness: float = 0.6
    """0: streets change independently; 1: whole blocks change together."""
    trees: float = 0.25
    """Density of trees in gardens and meadows, 0..1."""
    turn_deg: float = 3.0
    """Standard deviation of a house's rotation relative to its street, degrees."""
    wings: int = 1
    """Maximum number of wings of a house beside its main part; each has its own ridge."""
    roofs: dict[str, float] = field(default_factory=lambda: {"grey": 3.0, "brown": 3.0, "dark": 2.0, "red": 0.5})
    """Weight of each roof colour of houses."""


LAYOUTS: dict[str, Layout] = {
    "suburb": Layout({"homes": 6.0, "meadow": 1.2, "field": 0.6, "wood": 0.8, "bare": 0.5, "halls": 0.2}),
    "village": Layout(
        {"homes": 3.0, "field": 4.0, "meadow": 1.5, "wood": 1.0, "halls": 0.2},
        block_m=170.0,
        bend_m=20.0,
        plot_m=29.0,
        occupancy=0.75,
        togetherness=0.3,
        trees=0.4,
        turn_deg=9.0,
        roofs={"red": 3.0, "brown": 2.0, "grey": 2.0, "white": 1.0},
    ),
    "new_town": Layout(
        {"homes": 6.0, "bare": 1.8, "meadow": 1.5, "field": 1.0, "halls": 0.3},
        block_m=148.0,
        bend_m=16.0,
        plot_m=17.0,
        togetherness=0.9,
        trees=0.1,
        roofs={"brown": 3.0, "grey": 3.0, "red": 1.0, "dark": 1.0},
    ),
    "industrial": Layout(
        {"halls": 4.0, "homes": 1.0, "field": 1.5, "meadow": 1.5, "bare": 1.0},
        block_m=180.0,
        bend_m=5.0,
        plot_m=22.0,
        togetherness=0.3,
        trees=0.12,
    ),
    "villas": Layout(
        {"homes": 5.0, "wood": 2.0, "meadow": 2.0, "bare": 0.6, "flats": 0.4},
        block_m=165.0,
        bend_m=24.0,
        plot_m=29.0,
        occupancy=0.85,
        togetherness=0.4,
        trees=0.5,
        turn_deg=8.0,
        wings=4,
        roofs={"grey": 3.0, "brown": 3.0, "red": 1.5, "dark": 1.5, "white": 0.5},
    ),
    "apartments": Layout(
        {"flats": 4.0, "homes": 2.5, "meadow": 1.5, "bare": 1.2, "wood": 0.8, "halls": 0.4},
        block_m=170.0,
        bend_m=10.0,
        plot_m=18.0,
        togetherness=0.6,
        trees=0.3,
        wings=3,
        roofs={"grey": 3.0, "brown": 2.5, "dark": 2.0, "red": 1.0, "white": 1.0},
    ),
    "demo": Layout(
        {"homes": 5.0, "field": 1.8, "meadow": 1.2, "wood": 1.0, "bare": 0.6, "halls": 0.5},
        block_m=156.0,
        bend_m=15.0,
        plot_m=20.5,
        occupancy=0.88,
        togetherness=0.7,
        trees=0.3,
        turn_deg=4.0,
        roofs={"grey": 2.0, "brown": 3.0, "red": 1.0, "dark": 2.0, "white": 0.4},
    ),
}
"""The named layouts. ``demo`` is held out: no model is trained on it."""


@dataclass(frozen=True)
class SceneSpec:
    """One before/after scene; equal specs give equal bytes."""

    seed: int
    """Seed of everything random; 0..2**32 - 1."""
    width: int = 1536
    """Columns, px."""
    height: int = 1280
    """Rows, px."""
    gsd_m: float = 0.5
    """Ground sample distance, m/px, 0.25..1."""
    layout: str = "suburb"
    """A key of ``LAYOUTS``."""
    change_share: float = 0.35
    """Share of building plots with a new or vanished building, 0..0.9."""
    vanished_share: float = 0.12
    """Share of vanished buildings among the changes, 0..1."""
    collar: bool = False
    """Whether the after date has a slanted nodata border, as at the edge of a satellite strip."""
    epsg: int = 32614
    """Code of the UTM zone's coordinate reference system."""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise UsageError(f"layout {self.layout!r} is not known", remedy=f"use one of {', '.join(LAYOUTS)}")
        if not 0 <= self.seed < 2**32 or min(self.width, self.height) < 1:
            raise UsageError(
                f"seed {self.seed}, size {self.width} x {self.height} px",
                remedy="give a seed in 0..2**32 - 1 and a size >= 1",
            )
        if not 0.25 <= self.gsd_m <= 1.0:
            raise UsageError(f"gsd_m {self.gsd_m}", remedy="give a ground sample distance in 0.25..1 m")
        if not (0.0 <= self.change_share <= 0.9 and 0.0 <= self.vanished_share <= 1.0):
            raise UsageError(
                f"change_share {self.change_share}, vanished_share {self.vanished_share}",
                remedy="give shares in 0..0.9 and 0..1",
            )


@dataclass(frozen=True, eq=False)
class Rendered:
    """The pixels of one window; the arrays are not shared."""

    before: ByteArray
    """Red, green, blue of the first date, shape (3, rows, columns)."""
    after: ByteArray
    """The same for the second date; 0 in the nodata border."""
    label: ByteArray
    """1 where the pixel's centre lies in a changed building's footprint, else 0; shape (rows, columns)."""
    before_valid: BoolArray
    """Whether the first date shows the pixel, shape (rows, columns)."""
    after_valid: BoolArray
    """Whether the second date shows the pixel, shape (rows, columns)."""
    before_built: BoolArray
    """Whether the pixel's centre lies in a building of the first date, shape (rows, columns)."""
    after_built: BoolArray
    """The same for the second date."""


@dataclass(frozen=True)
class ChangedBuilding:
    """One true change."""

    kind: ChangeKind
    """new: the building exists only on the after date; vanished: only on the before date."""
    footprint: Polygon
    """Its outline in the grid's CRS; may extend beyond the scene's edge."""
