"""Draw buildings, their shadows and cars into a tile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rscd.simulate.block import Car
from rscd.simulate.building import Building, inside, roof_colour, shadowed
from rscd.simulate.canvas import Canvas
from rscd.simulate.look import Look

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
    """Draw the roofs of a date over its picture."""
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
    """Draw the cars of a date, with a darker windscreen."""
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
