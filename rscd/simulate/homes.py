"""Houses in rows of plots along a street."""

from __future__ import annotations

import numpy as np

from rscd.simulate.block import AFTER, BEFORE, BOTH, Site
from rscd.simulate.building import Building, Part, RoofForm
from rscd.simulate.chance import NEAR_M, RENEWED, SPRINKLED, fate, odds, street_odds, tinted

_STREET_M = 3.6
"""Half the width of a street inside a block, m."""


def lay_homes(site: Site) -> None:
    """A street through the block with two rows of plots on either side."""
    rng, spec, middle = site.rng, site.spec, site.side / 2
    estate = rng.random() < street_odds(spec)
    together = rng.random() < site.layout.togetherness
    whole = estate and together
    ground = str(rng.choice(["meadow", "field", "soil", "meadow"])) if whole else "meadow"
    site.cover(ground, "mulch" if whole and rng.random() < 0.4 else "meadow" if whole else ground)
    street = BOTH if not whole or rng.random() < 0.35 else AFTER
    concrete, asphalt = site.surface("concrete"), site.surface("asphalt" if rng.random() < 0.6 else "worn")
    ends = (0.0, site.side)
    depth = (middle - _STREET_M - 1.4 - NEAR_M) / 2
    fronts = (NEAR_M, middle - _STREET_M - 1.4, middle + _STREET_M + 1.4, site.side - NEAR_M)
    for number, front in enumerate(fronts):
        inward = 1.0 if number % 2 == 0 else -1.0
        renewed = estate if together else rng.random() < street_odds(spec)
        _lay_row(site, front, inward, depth, renewed, (concrete, asphalt))
    for half, surface in ((_STREET_M + 1.2, concrete), (_STREET_M, asphalt)):
        site.patch(ends, (middle - half, middle + half), surface, street, 0.15)
    for _ in range(int(rng.poisson(4))):
        side = float(rng.choice([-1.0, 1.0])) * (_STREET_M - 1.2)
        site.car(float(rng.uniform(12.0, site.side - 12.0)), middle + side, 0.0, street)


def _lay_row(site: Site, front: float, inward: float, depth: float, renewed: bool, paving: tuple[int, int]) -> None:
    """Plots side by side; ``front`` is where they meet the street, ``inward`` points away from it."""
    rng, spec = site.rng, site.spec
    count = max(1, int((site.side - 2 * NEAR_M) / (site.layout.plot_m * rng.uniform(0.9, 1.12))))
    width = (site.side - 2 * NEAR_M) / count
    lawns = [site.surface("lawn") for _ in range(3)]
    rough = [site.surface(name) for name in ("soil", "pad", "mulch", "meadow")]
    fence = site.surface("fence")
    lost = renewed and rng.random() < spec.vanished_share
    share = RENEWED if renewed else min(SPRINKLED, spec.change_share)
    prepared = not renewed and rng.random() < 0.08
    back = sorted((front, front + inward * depth))
    if renewed and not lost and rng.random() < 0.4:
        site.patch((NEAR_M, site.side - NEAR_M), (back[0], back[1]), rough[int(rng.integers(3))], BEFORE, 0.7)
    style = str(rng.choice(list(site.layout.roofs), p=odds(site.layout.roofs)))
    for k in range(count):
        low = NEAR_M + k * width
        dates = fate(rng, share, lost if renewed else rng.random() < spec.vanished_share)
        if prepared or rng.random() > site.layout.occupancy:
            dates = (False, False)
        _lay_plot(site, (low, low + width), (front, inward, depth), dates, (lawns, rough, fence, *paving), style)


def _lay_plot(
    site: Site,
    along: tuple[float, float],
    row: tuple[float, float, float],
    dates: tuple[bool, bool],
    paint: tuple[list[int], list[int], int, int, int],
    style: str,
) -> None:
    """One garden, its drive, fences, pool and house."""
    rng, (front, inward, depth), (lawns, rough, fence, concrete, _) = site.rng, row, paint
    back = front + inward * depth
    q0, q1 = sorted((front, back))
    vacant = int(rng.integers(4))
    garden = lawns[int(rng.integers(3))] if rng.random() < 0.75 else rough[int(rng.integers(4))]
    if not any(dates):
        pads = (BOTH, AFTER, BEFORE)[int(rng.integers(3))]
        site.patch(along, (q0, q1), rough[vacant], pads, 0.7)
        return
    absent = (not dates[0], not dates[1])
    if dates != BOTH and rng.random() < 0.3:
        site.patch(along, (q0, q1), rough[vacant], absent, 0.7)
    site.patch(along, (q0, q1), garden, dates, 0.5)
    setback = float(rng.uniform(5.5, 8.5))
    house = _draw_house(site, along, front + inward * setback, inward, depth - setback - 3.0, dates, style)
    drive = along[0] + (0.28 if rng.random() < 0.7 else 0.7) * (along[1] - along[0])
    span = sorted((front - inward * 0.8, front + inward * (setback + 2.0)))
    site.patch((drive - 2.4, drive + 2.4), (span[0], span[1]), concrete, dates)
    if rng.random() < 0.6:
        reach = sorted((back, front + inward * 9.0))
        site.patch((along[0] - 0.2, along[0] + 0.2), (reach[0], reach[1]), fence, dates)
        site.patch(along, (back - 0.2, back + 0.2), fence, dates)
    if rng.random() < 0.06:
        at = float(rng.uniform(along[0] + 3.0, along[1] - 8.0))
        pool = sorted((back - inward * 6.0, back - inward * 2.5))
        site.patch((at, at + 5.5), (pool[0], pool[1]), site.surface("water"), dates, 0.3)
    if rng.random() < 0.5:
        site.car(drive + float(rng.uniform(-1.0, 1.0)), front + inward * 3.0, np.pi / 2, dates)
    site.block.buildings.append(house)


def _draw_house(
    site: Site,
    along: tuple[float, float],
    face: float,
    inward: float,
    room: float,
    dates: tuple[bool, bool],
    style: str,
) -> Building:
    """A house whose street side is at ``face`` and that has ``room`` metres behind it."""
    rng = site.rng
    width = min(float(rng.uniform(11.0, 20.0)), along[1] - along[0] - 3.2)
    deep = min(float(rng.uniform(11.0, 18.5)), room)
    x, y, angle = site.place(0.5 * (along[0] + along[1]), face + inward * deep / 2)
    sign = float(inward) * (-1.0 if site.turned else 1.0)
    turn = np.radians(rng.normal(0.0, site.layout.turn_deg))
    colour = style if rng.random() < 0.6 else str(rng.choice(list(site.layout.roofs), p=odds(site.layout.roofs)))
    form: RoofForm = ("hip", "gable", "flat")[int(np.searchsorted((0.62, 0.93), rng.random()))]
    return Building(
        x=x,
        y=y,
        angle=angle + float(np.clip(turn, -0.12, 0.12)),
        parts=_house_parts(rng, width / 2, deep / 2, sign),
        form=form,
        pitch=float(rng.uniform(0.35, 0.75)),
        eaves_m=float(rng.choice([2.8, 3.0, 5.6])),
        colour=tinted(rng, colour),
        ribs=(float(rng.uniform(0.8, 1.4)), 0.02),
        units=(),
        before=dates[0],
        after=dates[1],
    )


def _house_parts(rng: np.random.Generator, half_a: float, half_b: float, front: float) -> tuple[Part, ...]:
    """A rectangle, an L or a T inside 2 half_a x 2 half_b; ``front`` is the sign of b towards the garden."""
    shape = rng.random()
    if shape < 0.25:
        return (Part(0.0, 0.0, half_a, half_b),)
    cut = float(rng.uniform(0.2, 0.42)) * half_b
    main = Part(0.0, front * cut, half_a, half_b - cut)
    wing_half = half_a * float(rng.uniform(0.34, 0.5))
    side = float(rng.choice([-1.0, 1.0])) * (half_a - wing_half) if shape < 0.75 else 0.0
    wing = Part(side, -front * cut / 2, wing_half, half_b - cut / 2)
    return (main, wing)
