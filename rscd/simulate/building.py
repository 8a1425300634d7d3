"""A building: its exact footprint, its illuminated roof, and its shadow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from shapely.geometry import Polygon
from shapely.ops import unary_union

from rscd.core.types import BoolArray, DoubleArray, FloatArray
from rscd.simulate.appearance import Look

RoofForm = Literal["gable", "hip", "flat"]


@dataclass(frozen=True)
class Part:
    """A rectangle of a building, parallel to the building's own axes, m."""

    a: float
    """Centre along the building's first axis."""
    b: float
    """Centre along its second axis."""
    half_a: float
    """Half the side along the first axis."""
    half_b: float
    """Half the side along the second axis."""


@dataclass(frozen=True, eq=False)
class Building:
    """A building in ground metres (x east, y south of the scene's upper left corner)."""

    x: float
    """Its origin, x."""
    y: float
    """Its origin, y."""
    angle: float
    """Direction of its first axis, radians from x towards y."""
    parts: tuple[Part, ...]
    """Rectangles whose union is the footprint."""
    form: RoofForm
    """Shape of the roof."""
    pitch: float
    """Tangent of the roof's slope."""
    eaves_m: float
    """Height of the walls, m."""
    colour: DoubleArray
    """Colour of the roof, 0..255, shape (3,)."""
    ribs: tuple[float, float]
    """Period (m) and strength of the roof's sheet or tile pattern."""
    units: tuple[tuple[float, float, float, float], ...]
    """Rooftop units: a, b, half side (m), brightness factor."""
    before: bool
    """Whether it exists on the before date."""
    after: bool
    """Whether it exists on the after date."""

    @property
    def reach_m(self) -> float:
        """Radius around the origin that contains the footprint, m."""
        return max(float(np.hypot(abs(p.a) + p.half_a, abs(p.b) + p.half_b)) for p in self.parts)

    @property
    def height_m(self) -> float:
        """Height of the ridge, m."""
        if self.form == "flat":
            return self.eaves_m
        return self.eaves_m + self.pitch * max(min(p.half_a, p.half_b) for p in self.parts)

    def local(self, x: DoubleArray, y: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
        """Convert ground metres to the building's axes, in float64 so that edges are exact."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        dx, dy = x - self.x, y - self.y
        return np.asarray(dx * c + dy * s), np.asarray(dy * c - dx * s)

    def outline(self) -> Polygon:
        """The footprint in ground metres (y south)."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        rings = []
        for p in self.parts:
            corners = [(p.a + i * p.half_a, p.b + j * p.half_b) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            rings.append(Polygon([(self.x + a * c - b * s, self.y + a * s + b * c) for a, b in corners]))
        return unary_union(rings)


def inside(building: Building, a: DoubleArray, b: DoubleArray) -> BoolArray:
    """Whether points in the building's axes lie in its footprint."""
    mask = np.zeros(a.shape, dtype=bool)
    for p in building.parts:
        mask |= (np.abs(a - p.a) <= p.half_a) & (np.abs(b - p.b) <= p.half_b)
    return mask


def shadowed(building: Building, a: DoubleArray, b: DoubleArray, look: Look) -> BoolArray:
    """Whether points lie in the footprint swept along the shadow (a slab test per rectangle)."""
    east, south = look.shadow_step(0.5 * (building.eaves_m + building.height_m))
    c, s = np.cos(building.angle), np.sin(building.angle)
    step_a, step_b = east * c + south * s, south * c - east * s
    mask = np.zeros(a.shape, dtype=bool)
    for p in building.parts:
        near_a, far_a = _slab(a - p.a, p.half_a, step_a)
        near_b, far_b = _slab(b - p.b, p.half_b, step_b)
        mask |= np.maximum(np.maximum(near_a, near_b), 0.0) <= np.minimum(np.minimum(far_a, far_b), 1.0)
    return mask


def _slab(offset: DoubleArray, half: float, step: float) -> tuple[DoubleArray, DoubleArray]:
    """The range of t where |offset - t * step| <= half."""
    step = step if abs(step) > 1e-6 else 1e-6
    first, second = (offset - half) / step, (offset + half) / step
    return np.minimum(first, second), np.maximum(first, second)


def roof_colour(building: Building, a: DoubleArray, b: DoubleArray, look: Look, grain: FloatArray) -> FloatArray:
    """Brightness of the roof, meaningless outside the footprint.

    Args:
        building: The building.
        a: First axis of the points, m, shape (h, w).
        b: Second axis, m.
        look: Look of the date, for its sun.
        grain: Fine texture, mean 0 and variance 1, shape (h, w).

    Returns:
        float32 0..255, shape (3, h, w).
    """
    tilt_a, tilt_b, ridge = _faces(building, a, b)
    c, s = np.cos(building.angle), np.sin(building.angle)
    east, south, up = look.sun
    sun_a, sun_b = east * c + south * s, south * c - east * s
    slope = 0.0 if building.form == "flat" else building.pitch
    facing = (tilt_a * (slope * sun_a) + tilt_b * (slope * sun_b) + up) / np.sqrt(1.0 + slope**2)
    light = 0.54 + 0.46 * np.clip(facing, 0.0, None) / up
    period, strength = building.ribs
    along = np.where(np.abs(tilt_b) > 0, a, b)
    light *= 1.0 + 0.05 * grain + strength * np.sin(along * (2 * np.pi / period)) + 0.06 * ridge
    for unit_a, unit_b, half, factor in building.units:
        on = (np.abs(a - unit_a) <= half) & (np.abs(b - unit_b) <= 0.8 * half)
        light = np.where(on, light * factor, light)
    return np.asarray(building.colour[:, None, None] * light, dtype=np.float32)


def _faces(building: Building, a: DoubleArray, b: DoubleArray) -> tuple[DoubleArray, DoubleArray, BoolArray]:
    """Direction in which the roof slopes: -1, 0 or 1 along each axis; and whether there is a ridge or hip."""
    top: DoubleArray = np.full(a.shape, -np.inf)
    tilt_a: DoubleArray = np.zeros(a.shape)
    tilt_b: DoubleArray = np.zeros(a.shape)
    ridge: BoolArray = np.zeros(a.shape, dtype=bool)
    for p in building.parts:
        in_a, in_b = p.half_a - np.abs(a - p.a), p.half_b - np.abs(b - p.b)
        ends = in_a < in_b if building.form == "hip" else np.full(a.shape, p.half_b > p.half_a)
        rise = np.where(ends, in_a, in_b)
        here = (np.minimum(in_a, in_b) >= 0) & (rise > top)
        top = np.where(here, rise, top)
        tilt_a = np.where(here, np.where(ends, np.sign(a - p.a), 0.0), tilt_a)
        tilt_b = np.where(here, np.where(ends, 0.0, np.sign(b - p.b)), tilt_b)
        line = (rise > min(p.half_a, p.half_b) - 0.3) | ((building.form == "hip") & (np.abs(in_a - in_b) < 0.3))
        ridge = np.where(here, line, ridge)
    return tilt_a, tilt_b, ridge
