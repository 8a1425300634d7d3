"""Fill a block: homes along streets, halls in yards, or open land; and the roads around it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from rscd.simulate.block import AFTER, BEFORE, BOTH, Block, Site, block_kind, border_road
from rscd.simulate.frame import Frame
from rscd.simulate.halls import lay_halls
from rscd.simulate.homes import lay_homes
from rscd.simulate.look import Season
from rscd.simulate.noise import stream
from rscd.simulate.spec import SceneSpec

_BORDER_M = 4.2
"""Half the width of a road between blocks, m."""


def lay_block(spec: SceneSpec, frame: Frame, seasons: tuple[Season, Season], i: int, j: int) -> Block:
    """Everything on block (i, j), a pure function of its arguments."""
    rng = stream(spec.seed, spec.layout, "block", i, j)
    site = Site(spec, frame, seasons, Block(i, j), rng, bool(rng.random() < 0.5))
    kind = block_kind(spec, i, j)
    if kind == "homes":
        lay_homes(site)
    elif kind == "halls":
        lay_halls(site)
    else:
        _lay_open(site, kind)
    _lay_borders(site)
    return site.block


def _lay_open(site: Site, kind: str) -> None:
    """Fields in strips, meadows, woods, bare land; now and then it is ploughed up between the dates."""
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
    """The block's own half of the four roads around it, at right angles to u and v."""
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
            # A little over the block's edge, so that two ragged halves leave no seam.
            low, high = (-0.6, half + margin) if at == 0.0 else (side - half - margin, side + 0.6)
            band = (low, high)
            strip = (band, (0.0, side)) if across_u else ((0.0, side), band)
            site.patch(*strip, roads["concrete" if margin > 0 else name], ragged_m=0.0 if margin else 0.25)
            if margin == 0.0 and kind == "asphalt" and (p + q) % 2 == 0:
                line = (at - 0.12, at + 0.12)
                site.patch(*((line, (0.0, side)) if across_u else ((0.0, side), line)), roads["paint"])
