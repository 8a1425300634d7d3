"""Ground, trees and other objects that are not buildings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from rscd.core.types import BoolArray, DoubleArray, FloatArray, LongArray
from rscd.simulate.appearance import Look, Season, Surface
from rscd.simulate.block import Block, Car, Patch
from rscd.simulate.building import Building, inside, roof_colour, shadowed
from rscd.simulate.canvas import Canvas, Frame


def paint_surfaces(canvas: Canvas, blocks: list[Block], frame: Frame, side: float) -> list[Surface]:
    """Fill ``canvas.surface`` with indices into the returned list."""
    u, v = frame.to_streets(canvas.x[None, :], canvas.y[:, None])
    base = [np.zeros(canvas.shape, dtype=np.int32) for _ in range(2)]
    palette: list[Surface] = []
    column, row = np.floor(u / side), np.floor(v / side)
    starts = []
    for block in blocks:
        here = (column == block.i) & (row == block.j)
        starts.append(len(palette))
        for date in range(2):
            base[date][here] = len(palette) + date
        palette.extend(block.surfaces)
    canvas.surface = base
    wander = 0.6 * canvas.middle + 0.4 * canvas.large
    for block, start in zip(blocks, starts, strict=True):
        for patch, (x0, y0, x1, y1) in zip(block.patches, _boxes(block, frame), strict=True):
            _paint_patch(canvas, patch, (x0, y0, x1, y1), start, (u, v, wander))
    return palette


def _boxes(block: Block, frame: Frame) -> DoubleArray:
    """Bounding boxes of a block's patches in ground metres, shape (n, 4): x0, y0, x1, y1."""
    edges = np.array([(p.u0, p.v0, p.u1, p.v1, 1.0 + p.ragged_m) for p in block.patches]).reshape(-1, 5)
    steps = np.linspace(0.0, 1.0, 5)
    s, t = (grid.ravel() for grid in np.meshgrid(steps, steps))
    u = edges[:, :1] + (edges[:, 2:3] - edges[:, :1]) * s
    v = edges[:, 1:2] + (edges[:, 3:4] - edges[:, 1:2]) * t
    x, y = frame.to_ground(u, v)
    slack = edges[:, 4] * 2.0
    return np.stack([x.min(1) - slack, y.min(1) - slack, x.max(1) + slack, y.max(1) + slack], axis=1)


def _paint_patch(
    canvas: Canvas,
    patch: Patch,
    box: tuple[float, float, float, float],
    start: int,
    fields: tuple[DoubleArray, DoubleArray, FloatArray],
) -> None:
    """Paint one patch on the dates on which it exists."""
    where = canvas.box(*box)
    if where is None:
        return
    u, v = fields[0][where], fields[1][where]
    slack = patch.ragged_m * fields[2][where] if patch.ragged_m else 0.0
    inside = (u >= patch.u0 + slack) & (u < patch.u1 - slack) & (v >= patch.v0 + slack) & (v < patch.v1 - slack)
    for date in range(2):
        if patch.dates[date]:
            canvas.surface[date][where][inside] = start + patch.surface


def colour_ground(canvas: Canvas, palette: list[Surface], date: int, drift: FloatArray) -> FloatArray:
    """Colour of the fully lit ground.

    Args:
        canvas: Canvas with painted surfaces.
        palette: Surface of each index.
        date: 0 or 1.
        drift: Texture of this date only, mean 0 and variance 1, shape (h, w): growth, moisture.

    Returns:
        float32 0..255, shape (3, h, w).
    """
    index = canvas.surface[date]
    ends = np.array([s.colours[date] for s in palette], dtype=np.float32)
    rough = np.array([(s.fine, s.middle) for s in palette], dtype=np.float32)
    mix = np.clip(0.5 + 0.28 * canvas.large + 0.2 * drift + 0.12 * canvas.middle, 0.0, 1.0)
    bright = 1.0 + rough[:, 0][index] * canvas.fine + rough[:, 1][index] * canvas.middle
    bright += _tilled_rows(canvas, palette, date)
    out = np.empty((3, *index.shape), dtype=np.float32)
    for band in range(3):
        first = ends[:, 0, band]
        out[band] = (first[index] + (ends[:, 1, band] - first)[index] * mix) * bright
    return out


def _tilled_rows(canvas: Canvas, palette: list[Surface], date: int) -> FloatArray:
    """Light and dark stripes of fields, as a share of brightness, shape (h, w)."""
    index = canvas.surface[date]
    table = np.array([(s.rows[date], *s.wave) for s in palette], dtype=np.float32)
    out = np.zeros(index.shape, dtype=np.float32)
    where = np.nonzero(table[:, 0][index])
    if where[0].size == 0:
        return out
    strength, east, south = table[index[where]].T
    # Float32 phases would lose the rows far from the origin, so they are reduced in float64.
    phase = east * canvas.x[where[1]] + south * canvas.y[where[0]] + 0.5 * canvas.middle[where]
    out[where] = strength * np.sin(phase)
    return out


STEP_M = 6.0
"""Side of a lattice cell, m."""
CLEAR_M = 3.0
"""Minimum distance from a trunk to a wall, m."""
SHADOW_M = 9.0
"""Maximum length of a crown's shadow, m; within the tile's margin."""
_LEAVES: dict[Season, tuple[float, float, float]] = {
    "green": (62.0, 76.0, 46.0),
    "dry": (80.0, 86.0, 54.0),
    "winter": (112.0, 102.0, 88.0),
    "autumn": (112.0, 92.0, 62.0),
}
_EVERGREEN = (52.0, 66.0, 46.0)


class Grove:
    """The trees of a tile and its margin; arrays over lattice cells, shape (m, n).

    Args:
        canvas: Canvas with painted surfaces and buildings.
        palette: Surface of each index.
        seed: The scene's seed.
    """

    def __init__(self, canvas: Canvas, palette: list[Surface], seed: int) -> None:
        self.step = max(4, round(STEP_M / canvas.gsd_m))
        gsd = canvas.gsd_m
        self._i = np.arange(canvas.rows[0] // self.step - 1, canvas.rows[-1] // self.step + 2)
        self._j = np.arange(canvas.cols[0] // self.step - 1, canvas.cols[-1] // self.step + 2)
        draw = [_hashed(seed, k, self._i[:, None], self._j[None, :]) for k in range(6)]
        self.row = (self._i[:, None] + draw[0]) * self.step
        self.col = (self._j[None, :] + draw[1]) * self.step
        self.radius = (1.5 + 3.4 * draw[2] ** 1.5) / gsd
        self.evergreen = draw[3] < 0.4
        self.tone = 0.85 + 0.3 * draw[5]
        density = np.array([s.trees for s in palette], dtype=np.float32)
        self.present = [self._standing(canvas, density, draw[4], date) for date in range(2)]

    def _standing(self, canvas: Canvas, density: FloatArray, luck: DoubleArray, date: int) -> BoolArray:
        """Lattice cells with a tree on a date; trees cluster with the large texture."""
        r = np.clip(self.row.astype(int) - canvas.rows[0], 0, canvas.rows.size - 1)
        c = np.clip(self.col.astype(int) - canvas.cols[0], 0, canvas.cols.size - 1)
        clump = np.clip(1.0 + 0.9 * canvas.large[r, c], 0.0, 2.5)
        near = ndimage.maximum_filter(canvas.built[date], size=2 * round(CLEAR_M / canvas.gsd_m) + 1)
        return np.asarray((luck < density[canvas.surface[date][r, c]] * clump) & ~near[r, c])

    def crowns(self, canvas: Canvas, date: int) -> tuple[FloatArray, LongArray]:
        """The highest crown at each pixel.

        Returns:
            height: 0 outside crowns, up to 1 at the top of a tall crown, float32, shape (h, w).
            which: Flat lattice index of the tree, int64, shape (h, w); meaningless where height is 0.
        """
        h, w = canvas.shape
        cell_r = canvas.rows // self.step - self._i[0]
        cell_c = canvas.cols // self.step - self._j[0]
        height = np.zeros((h, w), dtype=np.float32)
        which = np.zeros((h, w), dtype=np.int64)
        wobble = 1.0 - 0.16 * canvas.middle - 0.05 * canvas.fine
        if not self.present[date].any():
            return height, which
        tall = 0.5 + 0.1 * self.radius * canvas.gsd_m
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                there = self.present[date].take(cell_r + di, axis=0).take(cell_c + dj, axis=1)
                r, c = np.nonzero(there)
                tree = (cell_r[r] + di) * self.row.shape[1] + cell_c[c] + dj
                dy = canvas.rows[r] + 0.5 - self.row.ravel()[tree]
                dx = canvas.cols[c] + 0.5 - self.col.ravel()[tree]
                apart = (dx * dx + dy * dy) / self.radius.ravel()[tree] ** 2
                dome = ((1.0 - apart * wobble[r, c]) * tall.ravel()[tree]).astype(np.float32)
                higher = dome > height[r, c]
                height[r[higher], c[higher]] = dome[higher]
                which[r[higher], c[higher]] = tree[higher]
        return height, which

    def opaque(self, canvas: Canvas, crowns: tuple[FloatArray, LongArray], look: Look) -> BoolArray:
        """Pixels of crowns that block the sun; only some pixels of leafless crowns, shape (h, w)."""
        height, which = crowns
        mask = height > 0.12
        if look.season == "winter":
            mask &= self.evergreen.ravel()[which] | (canvas.middle > 0.4)
        return mask

    def paint(self, canvas: Canvas, crowns: tuple[FloatArray, LongArray], date: int, look: Look) -> None:
        """Paint the crowns over ``canvas.picture[date]``; the ground is visible through leafless ones."""
        height, which = crowns
        where = np.nonzero(height > 0)
        tree = which[where]
        dx = canvas.cols[where[1]] + 0.5 - self.col.ravel()[tree]
        dy = canvas.rows[where[0]] + 0.5 - self.row.ravel()[tree]
        scale = 1.0 / self.radius.ravel()[tree]
        facing = (dx * look.sun[0] + dy * look.sun[1]) * scale
        leaf = 0.13 * canvas.fine[where] + 0.07 * canvas.middle[where]
        light = 0.78 + 0.34 * facing + 0.2 * height[where] + leaf
        light = np.clip(light, 0.25, 1.5) * self.tone.ravel()[tree]
        evergreen = self.evergreen.ravel()[tree]
        leaves = np.where(evergreen[:, None], np.array(_EVERGREEN), np.array(_LEAVES[look.season]))
        cover = np.where(evergreen | (look.season != "winter"), 0.95, 0.55)
        cover *= np.clip(height[where] * 6.0, 0.0, 1.0)
        for band in range(3):
            under = canvas.picture[date][band][where]
            canvas.picture[date][band][where] = under + cover * (leaves[:, band] * light - under)


def cast_shadow(mask: BoolArray, look: Look, gsd_m: float) -> BoolArray:
    """Ground in the shadow of crowns: their opaque pixels swept along the shadow, shape (h, w)."""
    out = mask.copy()
    east, south = look.shadow_step(4.8)
    length = np.hypot(east, south)
    shrink = min(1.0, SHADOW_M / length)
    for share in np.linspace(0.125, 1.0, 8):
        rows, cols = round(south * shrink * share / gsd_m), round(east * shrink * share / gsd_m)
        out |= _shifted(mask, rows, cols)
    return out


def _shifted(mask: BoolArray, rows: int, cols: int) -> BoolArray:
    """The mask moved down and right, filled with False."""
    out = np.zeros_like(mask)
    h, w = mask.shape
    out[max(rows, 0) : h + min(rows, 0), max(cols, 0) : w + min(cols, 0)] = mask[
        max(-rows, 0) : h + min(-rows, 0), max(-cols, 0) : w + min(-cols, 0)
    ]
    return out


def _hashed(seed: int, purpose: int, i: LongArray, j: LongArray) -> DoubleArray:
    """Uniform numbers in 0..1 that depend only on the seed and the lattice cell (splitmix64's finaliser)."""
    with np.errstate(over="ignore"):
        key = np.uint64((seed * 8 + purpose) & 0xFFFFFFFFFFFFFFFF) * np.uint64(0x9E3779B97F4A7C15)
        z = i.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03) + key
        z = z + j.astype(np.uint64) * np.uint64(0x8CB92BA72F3D8DD7)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        z ^= z >> np.uint64(31)
    return np.asarray((z >> np.uint64(11)) * 2.0**-53)


_CAR_HALF_M = (2.25, 0.95)


def mark_buildings(canvas: Canvas, buildings: Sequence[Building], looks: tuple[Look, Look]) -> None:
    """Fill ``built`` and ``shadow`` of both dates, and the label."""
    for building in buildings:
        reach = building.reach_m
        where = canvas.box(building.x - reach, building.y - reach, building.x + reach, building.y + reach)
        if where is not None:
            a, b = building.local(canvas.x[None, where[1]], canvas.y[where[0], None])
            mask = inside(building, a, b)
            for date, there in enumerate((building.before, building.after)):
                if there:
                    canvas.built[date][where] |= mask
            if building.before != building.after:
                canvas.label[where] |= mask
        for date, there in enumerate((building.before, building.after)):
            if there:
                _mark_shadow(canvas, building, looks[date], date)


def _mark_shadow(canvas: Canvas, building: Building, look: Look, date: int) -> None:
    east, south = look.shadow_step(building.height_m)
    reach, x, y = building.reach_m, building.x, building.y
    where = canvas.box(
        x - reach + min(east, 0),
        y - reach + min(south, 0),
        x + reach + max(east, 0),
        y + reach + max(south, 0),
    )
    if where is not None:
        a, b = building.local(canvas.x[None, where[1]], canvas.y[where[0], None])
        canvas.shadow[date][where] |= shadowed(building, a, b, look)


def paint_roofs(canvas: Canvas, buildings: Sequence[Building], date: int, look: Look) -> None:
    """Paint the roofs of a date."""
    for building in buildings:
        reach = building.reach_m
        where = canvas.box(building.x - reach, building.y - reach, building.x + reach, building.y + reach)
        if where is None or not (building.before, building.after)[date]:
            continue
        a, b = building.local(canvas.x[None, where[1]], canvas.y[where[0], None])
        mask = inside(building, a, b)
        grain = 0.7 * canvas.fine[where] + 0.5 * canvas.middle[where]
        colour = roof_colour(building, a, b, look, grain)
        np.copyto(canvas.picture[date][(slice(None), *where)], colour, where=mask)


def paint_cars(canvas: Canvas, cars: Sequence[Car], date: int) -> None:
    """Paint the cars of a date, with a darker windscreen."""
    for car in cars:
        where = canvas.box(car.x - 2.5, car.y - 2.5, car.x + 2.5, car.y + 2.5)
        if where is None or not car.dates[date]:
            continue
        c, s = np.cos(car.angle), np.sin(car.angle)
        dx, dy = canvas.x[None, where[1]] - car.x, canvas.y[where[0], None] - car.y
        a, b = dx * c + dy * s, dy * c - dx * s
        mask = (np.abs(a) <= _CAR_HALF_M[0]) & (np.abs(b) <= _CAR_HALF_M[1])
        glass = np.where(np.abs(a - 0.7) < 0.4, 0.45, 1.0)
        colour = np.asarray(car.colour)[:, None, None] * glass
        np.copyto(canvas.picture[date][(slice(None), *where)], colour.astype(np.float32), where=mask)
