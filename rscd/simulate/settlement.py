"""Settlements: blocks of houses, flats and halls, before and after."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from rscd.simulate.appearance import Season, stream
from rscd.simulate.block import (
    AFTER,
    BEFORE,
    BOTH,
    NEAR_M,
    RENEWED,
    SPRINKLED,
    Block,
    Site,
    block_kind,
    border_road,
    fate,
    odds,
    street_odds,
    tinted,
)
from rscd.simulate.building import Building, Part, RoofForm
from rscd.simulate.canvas import Frame
from rscd.simulate.spec import SceneSpec

_HALL_ROOFS = {"white": 3.0, "grey": 3.0, "brown": 0.8, "blue": 0.5, "dark": 0.8}


def lay_halls(site: Site) -> None:
    """A paved yard with one to six halls, each on its own plot."""
    rng = site.rng
    site.cover("meadow", "meadow")
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    paving = [site.surface(name) for name in ("concrete", "asphalt", "worn", "gravel")]
    rough = [site.surface(name) for name in ("soil", "pad", "meadow")]
    for along, across in _plots(site, columns, rows):
        dates = fate(rng, site.spec.change_share, rng.random() < site.spec.vanished_share)
        if rng.random() < 0.12:
            site.patch(along, across, rough[int(rng.integers(3))], (BOTH, AFTER, BEFORE)[int(rng.integers(3))], 1.5)
            continue
        site.patch(along, across, rough[int(rng.integers(3))], (not dates[0], not dates[1]), 1.5)
        site.patch(along, across, paving[int(rng.integers(4))], dates if rng.random() < 0.7 else BOTH, 0.3)
        _lay_hall(site, along, across, dates)


def _lay_hall(
    site: Site, along: tuple[float, float], across: tuple[float, float], dates: tuple[bool, bool]
) -> None:
    """One hall with rooftop units, and a row of cars next to it."""
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
    _park(site, along, across[0] + 3.2)


def _plots(site: Site, columns: int, rows: int) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """Divide the block into equal plots, 2 m apart: where each begins and ends along and across the street, m."""
    inner = site.side - 2 * NEAR_M - 4.0
    width, depth = inner / columns, inner / rows
    for number in range(columns * rows):
        p, q = NEAR_M + 2.0 + number % columns * width, NEAR_M + 2.0 + number // columns * depth
        yield (p + 1.0, p + width - 1.0), (q + 1.0, q + depth - 1.0)


def _park(site: Site, along: tuple[float, float], at: float, dates: tuple[bool, bool] = BOTH) -> None:
    """A row of cars, with gaps, ``at`` metres across the street."""
    for p in np.arange(along[0] + 3.0, along[1] - 3.0, 2.9):
        if site.rng.random() < 0.45:
            site.car(float(p), at, np.pi / 2, dates)


def lay_flats(site: Site) -> None:
    """One to four apartment buildings of several wings, between parking lots and lawns."""
    rng = site.rng
    site.cover("lawn", "lawn" if rng.random() < 0.7 else "meadow")
    columns, rows = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    lost = rng.random() < site.spec.vanished_share
    whole = rng.random() < street_odds(site.spec)
    for along, across in _plots(site, columns, rows):
        dates = fate(rng, RENEWED if whole else min(SPRINKLED, site.spec.change_share), lost)
        rough = site.surface(("soil", "pad", "meadow", "mulch")[int(rng.integers(4))])
        if rng.random() < 0.6:
            site.patch(along, across, rough, (not dates[0], not dates[1]), 1.5)
        _lay_flat(site, along, across, dates)


def _lay_flat(
    site: Site, along: tuple[float, float], across: tuple[float, float], dates: tuple[bool, bool]
) -> None:
    """A bar with up to three wings across it, and a row of cars in front."""
    rng = site.rng
    half_a = min(float(rng.uniform(0.3, 0.44)) * (along[1] - along[0]), 36.0)
    thick = float(rng.uniform(5.5, 9.0))
    room = 0.42 * (across[1] - across[0])
    parts = [Part(0.0, 0.0, half_a, thick)]
    for place in rng.permutation([-1.0, 0.0, 1.0])[: int(rng.integers(0, 4))]:
        half_b = min(float(rng.uniform(1.3, 2.6)) * thick, room)
        shift = float(rng.choice([-1.0, 0.0, 1.0])) * (half_b - thick if half_b > thick else 0.0)
        wide = float(rng.uniform(0.7, 1.0)) * thick
        parts.append(Part(float(place) * max(half_a - wide, 0.0), shift, wide, half_b))
    lot = ("asphalt", "worn", "concrete")[int(rng.integers(3))]
    front = across[0] + float(rng.uniform(7.0, 16.0))
    site.patch(along, (across[0], front), site.surface(lot), dates, 0.2)
    x, y, angle = site.place(0.5 * (along[0] + along[1]), 0.5 * (front + across[1]))
    roofs = site.layout.roofs
    form: RoofForm = ("hip", "gable", "flat")[int(np.searchsorted((0.55, 0.85), rng.random()))]
    site.block.buildings.append(
        Building(
            x=x,
            y=y,
            angle=angle + float(np.clip(np.radians(rng.normal(0.0, site.layout.turn_deg)), -0.08, 0.08)),
            parts=tuple(parts),
            form=form,
            pitch=float(rng.uniform(0.3, 0.6)),
            eaves_m=float(rng.uniform(5.5, 11.0)),
            colour=tinted(rng, str(rng.choice(list(roofs), p=odds(roofs)))),
            ribs=(float(rng.uniform(0.8, 1.8)), 0.02),
            units=(),
            before=dates[0],
            after=dates[1],
        )
    )
    _park(site, along, across[0] + 3.0, dates)


_STREET_M = 3.6
"""Half the width of a street inside a block, m."""


def lay_homes(site: Site) -> None:
    """A street through the block with two rows of plots on each side."""
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
    """Plots in a row; ``front`` is their border with the street, ``inward`` points away from it."""
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
    """One garden with its drive, fences, pool and house."""
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
    """A house with its street side at ``face`` and ``room`` metres behind it."""
    rng = site.rng
    wings = site.layout.wings
    width = min(float(rng.uniform(11.0, 18.0 + 2.0 * wings)), along[1] - along[0] - 3.2)
    deep = min(float(rng.uniform(11.0, 17.0 + 1.5 * wings)), room)
    x, y, angle = site.place(0.5 * (along[0] + along[1]), face + inward * deep / 2)
    sign = float(inward) * (-1.0 if site.turned else 1.0)
    turn = np.radians(rng.normal(0.0, site.layout.turn_deg))
    colour = style if rng.random() < 0.6 else str(rng.choice(list(site.layout.roofs), p=odds(site.layout.roofs)))
    form: RoofForm = ("hip", "gable", "flat")[int(np.searchsorted((0.62, 0.93), rng.random()))]
    return Building(
        x=x,
        y=y,
        angle=angle + float(np.clip(turn, -0.12, 0.12)),
        parts=_house_parts(rng, width / 2, deep / 2, sign, wings),
        form=form,
        pitch=float(rng.uniform(0.35, 0.75)),
        eaves_m=float(rng.choice([2.8, 3.0, 5.6])),
        colour=tinted(rng, colour),
        ribs=(float(rng.uniform(0.8, 1.4)), 0.02),
        units=(),
        before=dates[0],
        after=dates[1],
    )


def _house_parts(
    rng: np.random.Generator, half_a: float, half_b: float, front: float, wings: int
) -> tuple[Part, ...]:
    """A main part with up to ``wings`` wings inside 2 half_a x 2 half_b; a rectangle, an L or a T with one.

    ``front`` is the sign of b towards the garden.
    """
    shape = rng.random()
    if shape < 0.25:
        return (Part(0.0, 0.0, half_a, half_b),)
    cut = float(rng.uniform(0.2, 0.42)) * half_b
    main = Part(0.0, front * cut, half_a, half_b - cut)
    wing_half = half_a * float(rng.uniform(0.34, 0.5))
    side = float(rng.choice([-1.0, 1.0])) * (half_a - wing_half) if shape < 0.75 else 0.0
    wing = Part(side, -front * cut / 2, wing_half, half_b - cut / 2)
    more = int(rng.integers(wings)) if wings > 1 else 0
    return (main, wing, *(_further_wing(rng, main, half_a, half_b) for _ in range(more)))


def _further_wing(rng: np.random.Generator, main: Part, half_a: float, half_b: float) -> Part:
    """A narrow wing from the middle of the main part to one of the long sides of the house."""
    wide, side = half_a * float(rng.uniform(0.16, 0.3)), float(rng.choice([-1.0, 1.0]))
    reach = side * half_b - main.b
    return Part(float(rng.uniform(-1.0, 1.0)) * (half_a - wide), main.b + reach / 2, wide, abs(reach) / 2)


_BORDER_M = 4.2
"""Half the width of a road between blocks, m."""


def lay_block(spec: SceneSpec, frame: Frame, seasons: tuple[Season, Season], i: int, j: int) -> Block:
    """Everything on block (i, j), a pure function of its arguments."""
    rng = stream(spec.seed, spec.layout, "block", i, j)
    site = Site(spec, frame, seasons, Block(i, j), rng, bool(rng.random() < 0.5))
    kind = block_kind(spec, i, j)
    if kind == "homes":
        lay_homes(site)
    elif kind == "flats":
        lay_flats(site)
    elif kind == "halls":
        lay_halls(site)
    else:
        _lay_open(site, kind)
    _lay_borders(site)
    return site.block


def _lay_open(site: Site, kind: str) -> None:
    """Fields in strips, meadows, woods, bare land; sometimes ploughed up between the dates."""
    names = {"field": "field", "meadow": "meadow", "wood": "wood", "bare": "soil"}
    turned_up = kind in ("meadow", "bare") and site.rng.random() < 0.25
    flipped = "meadow" if kind == "bare" else "soil"
    site.cover(names[kind], flipped if turned_up else names[kind])
    strips = int(site.rng.integers(1, 4)) if kind == "field" else 1
    edges = np.linspace(0.0, site.side, strips + 1)
    for low, high in pairwise(edges[1:]):
        site.patch((0.0, site.side), (float(low), float(high)), site.surface("field"), ragged_m=0.3)
    for _ in range(int(site.rng.integers(0, 4)) if kind != "wood" else 0):
        p, q = site.rng.uniform(10.0, site.side - 45.0, 2)
        w, h = site.rng.uniform(8.0, 35.0, 2)
        dates = (BOTH, BEFORE, AFTER)[int(site.rng.integers(3))]
        site.patch((p, p + w), (q, q + h), site.surface("soil" if kind != "bare" else "meadow"), dates, 3.0)


def _lay_borders(site: Site) -> None:
    """The block's half of the four roads around it, at right angles to u and v."""
    spec, i, j, side = site.spec, site.block.i, site.block.j, site.side
    site.turned = False
    roads = {name: site.surface(name) for name in ("asphalt", "gravel", "wood", "concrete", "paint")}
    sides = [(True, i, j, 0.0), (True, i + 1, j, side), (False, i, j, 0.0), (False, i, j + 1, side)]
    for margin in (1.4, 0.0):
        for across_u, p, q, at in sides:
            kind = border_road(spec, p, q, across_u)
            half = {"asphalt": _BORDER_M, "gravel": 2.2, "hedge": 2.5}.get(kind, 0.0)
            name = {"hedge": "wood"}.get(kind, kind)
            if half == 0.0 or (margin > 0 and kind != "asphalt"):
                continue
            # Slightly beyond the block's edge, so that two ragged halves leave no gap.
            low, high = (-0.6, half + margin) if at == 0.0 else (side - half - margin, side + 0.6)
            band = (low, high)
            strip = (band, (0.0, side)) if across_u else ((0.0, side), band)
            site.patch(*strip, roads["concrete" if margin > 0 else name], ragged_m=0.0 if margin else 0.25)
            if margin == 0.0 and kind == "asphalt" and (p + q) % 2 == 0:
                line = (at - 0.12, at + 0.12)
                site.patch(*((line, (0.0, side)) if across_u else ((0.0, side), line)), roads["paint"])
