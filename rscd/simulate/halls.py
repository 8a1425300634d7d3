"""Halls in paved yards."""

from __future__ import annotations

import numpy as np

from rscd.simulate.block import AFTER, BEFORE, BOTH, Site
from rscd.simulate.building import Building, Part
from rscd.simulate.chance import NEAR_M, fate, odds, tinted

_HALL_ROOFS = {"white": 3.0, "grey": 3.0, "brown": 0.8, "blue": 0.5, "dark": 0.8}


def lay_halls(site: Site) -> None:
    """A paved yard with one to six halls on plots of their own."""
    rng, inner = site.rng, site.side - 2 * NEAR_M - 4.0
    site.cover("meadow", "meadow")
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    paving = [site.surface(name) for name in ("concrete", "asphalt", "worn", "gravel")]
    rough = [site.surface(name) for name in ("soil", "pad", "meadow")]
    width, depth = inner / columns, inner / rows
    for number in range(columns * rows):
        p, q = NEAR_M + 2.0 + number % columns * width, NEAR_M + 2.0 + number // columns * depth
        dates = fate(rng, site.spec.change_share, rng.random() < site.spec.vanished_share)
        along, across = (p + 1.0, p + width - 1.0), (q + 1.0, q + depth - 1.0)
        if rng.random() < 0.12:
            site.patch(along, across, rough[int(rng.integers(3))], (BOTH, AFTER, BEFORE)[int(rng.integers(3))], 1.5)
            continue
        site.patch(along, across, rough[int(rng.integers(3))], (not dates[0], not dates[1]), 1.5)
        site.patch(along, across, paving[int(rng.integers(4))], dates if rng.random() < 0.7 else BOTH, 0.3)
        _lay_hall(site, along, across, dates)


def _lay_hall(
    site: Site, along: tuple[float, float], across: tuple[float, float], dates: tuple[bool, bool]
) -> None:
    """One hall with rooftop units, and cars in a row beside it."""
    rng = site.rng
    half_a = min(float(rng.uniform(0.26, 0.4)) * (along[1] - along[0]), 45.0)
    half_b = min(float(rng.uniform(0.26, 0.38)) * (across[1] - across[0]), 30.0)
    x, y, angle = site.place(0.5 * (along[0] + along[1]), 0.5 * (across[0] + across[1]))
    spots = rng.uniform(-0.85, 0.85, (int(rng.integers(0, 9)), 2)) * (half_a, half_b)
    units = tuple(
        (float(a), float(b), float(rng.uniform(0.6, 1.6)), float(rng.choice([0.6, 1.25]))) for a, b in spots
    )
    colour = str(rng.choice(list(_HALL_ROOFS), p=odds(_HALL_ROOFS)))
    flat = rng.random() < 0.7
    site.block.buildings.append(
        Building(
            x=x,
            y=y,
            angle=angle,
            parts=(Part(0.0, 0.0, half_a, half_b),),
            form="flat" if flat else "gable",
            pitch=0.12,
            eaves_m=float(rng.uniform(5.0, 11.0)),
            colour=tinted(rng, colour),
            ribs=(float(rng.uniform(2.0, 6.0)), float(rng.uniform(0.01, 0.035))),
            units=units if flat else (),
            before=dates[0],
            after=dates[1],
        )
    )
    for p in np.arange(along[0] + 3.0, along[1] - 3.0, 2.9):
        if rng.random() < 0.45:
            site.car(float(p), across[0] + 3.2, np.pi / 2)
