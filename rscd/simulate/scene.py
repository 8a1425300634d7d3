"""A whole scene: georeference, true changes, and pixels of any window.

Pixels are rendered in fixed tiles of ``TILE_PX``, each with a margin and independent of all others; a window is cut
from the tiles that it intersects. So overlapping windows have equal pixels, and memory depends only on the window.
Request windows at multiples of ``TILE_PX`` to render each tile only once.
"""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache

import numpy as np
from rasterio.crs import CRS
from shapely.affinity import affine_transform
from shapely.geometry import Polygon, box

from rscd.core.errors import UsageError
from rscd.core.types import BoolArray, Grid, LongArray, Window
from rscd.simulate.appearance import Texture, draw_looks, expose, stream
from rscd.simulate.block import Block
from rscd.simulate.building import Building
from rscd.simulate.canvas import Canvas, Textures, draw_frame
from rscd.simulate.ground import (
    Grove,
    cast_shadow,
    colour_ground,
    mark_buildings,
    paint_cars,
    paint_roofs,
    paint_surfaces,
)
from rscd.simulate.settlement import lay_block
from rscd.simulate.spec import LAYOUTS, ChangedBuilding, Rendered, SceneSpec

TILE_PX = 512
"""Side of a tile, px."""
MARGIN_M = 16.0
"""Margin of a tile, m: more than the reach of crowns, their shadows and the blur."""
REACH_M = 70.0
"""Maximum distance of a building's shadow from its block, m."""
_KEPT_TILES = 6
_KEPT_BLOCKS = 512


class Scene:
    """A before/after pair of any size, rendered on request.

    Args:
        spec: The scene to render.
    """

    def __init__(self, spec: SceneSpec) -> None:
        self.spec = spec
        self.layout = LAYOUTS[spec.layout]
        self.frame = draw_frame(spec.seed, spec.layout, self.layout.bend_m)
        self.looks = draw_looks(spec.seed, spec.layout)
        self._textures = Textures.of(spec.seed)
        self._drift = tuple(Texture(spec.seed, name, 14.0) for name in ("drift before", "drift after"))
        self._block = lru_cache(maxsize=_KEPT_BLOCKS)(self._lay)
        self._tile = lru_cache(maxsize=_KEPT_TILES)(self._draw)

    @property
    def grid(self) -> Grid:
        """The pixel grid of both dates, in UTM, north up."""
        rng = stream(self.spec.seed, "place")
        east, north = 1000.0 * rng.integers(420, 660), 1000.0 * rng.integers(3200, 3600)
        gsd = self.spec.gsd_m
        wkt = CRS.from_epsg(self.spec.epsg).to_wkt()
        return Grid(wkt, (gsd, 0.0, east, 0.0, -gsd, north), self.spec.width, self.spec.height)

    def render(self, window: Window) -> Rendered:
        """The pixels of a window inside the scene; they depend only on spec and window.

        Raises:
            UsageError: The window is empty or extends beyond the scene.
        """
        self._check(window)
        out = _blank(window.height, window.width)
        for ti in range(window.row // TILE_PX, (window.row_stop - 1) // TILE_PX + 1):
            for tj in range(window.col // TILE_PX, (window.col_stop - 1) // TILE_PX + 1):
                _paste(out, self._tile(ti, tj), window, ti * TILE_PX, tj * TILE_PX)
        return out

    def buildings(self, window: Window | None = None) -> list[Building]:
        """All buildings whose footprint intersects a window (the whole scene if None), in a fixed order."""
        window = window or Window(0, 0, self.spec.height, self.spec.width)
        gsd = self.spec.gsd_m
        extent = box(window.col * gsd, window.row * gsd, window.col_stop * gsd, window.row_stop * gsd)
        blocks = self._blocks(*extent.bounds)
        return [b for block in blocks for b in block.buildings if _meets(b, extent)]

    def changed_buildings(self, window: Window | None = None) -> list[ChangedBuilding]:
        """The true changes in a window (the whole scene if None), as exact polygons in the grid's CRS."""
        east, north = self.grid.affine.c, self.grid.affine.f
        return [
            ChangedBuilding(
                "new" if building.after else "vanished",
                affine_transform(building.outline(), (1.0, 0.0, 0.0, -1.0, east, north)),
            )
            for building in self.buildings(window)
            if building.before != building.after
        ]

    def _check(self, window: Window) -> None:
        spec = self.spec
        if min(window.height, window.width) < 1 or min(window.row, window.col) < 0:
            raise UsageError(f"{window} is empty or negative", remedy="use a window inside the scene")
        if window.row_stop > spec.height or window.col_stop > spec.width:
            raise UsageError(
                f"{window} extends beyond {spec.height} rows x {spec.width} columns",
                remedy="use a window inside the scene",
            )

    def _lay(self, i: int, j: int) -> Block:
        seasons = (self.looks[0].season, self.looks[1].season)
        return lay_block(self.spec, self.frame, seasons, i, j)

    def _blocks(self, x0: float, y0: float, x1: float, y1: float) -> list[Block]:
        """Blocks that may extend into a box of ground metres, in a fixed order."""
        edge = np.linspace(0.0, 1.0, 9)
        xs, ys = x0 + (x1 - x0) * edge, y0 + (y1 - y0) * edge
        u, v = self.frame.to_streets(xs[None, :], ys[:, None])
        # Between the nine samples per side the waves move a border by less than twice their amplitude.
        slack = 2.0 + (2 * self.layout.bend_m if max(x1 - x0, y1 - y0) > 1000.0 else 0.1 * self.layout.bend_m)
        side = self.layout.block_m
        first_i, last_i = (int(np.floor(e / side)) for e in (u.min() - slack, u.max() + slack))
        first_j, last_j = (int(np.floor(e / side)) for e in (v.min() - slack, v.max() + slack))
        return [self._block(i, j) for i in range(first_i, last_i + 1) for j in range(first_j, last_j + 1)]

    def _draw(self, ti: int, tj: int) -> Rendered:
        """Render one tile; its bytes do not depend on the order of rendering."""
        spec, margin = self.spec, int(np.ceil(MARGIN_M / self.spec.gsd_m))
        rows = np.arange(ti * TILE_PX - margin, (ti + 1) * TILE_PX + margin)
        cols = np.arange(tj * TILE_PX - margin, (tj + 1) * TILE_PX + margin)
        canvas = Canvas(rows, cols, spec.gsd_m, self._textures)
        around = (canvas.x[0], canvas.y[0], canvas.x[-1], canvas.y[-1])
        palette = paint_surfaces(canvas, self._blocks(*around), self.frame, self.layout.block_m)
        far = self._blocks(around[0] - REACH_M, around[1] - REACH_M, around[2] + REACH_M, around[3] + REACH_M)
        buildings = [b for block in far for b in block.buildings]
        cars = [car for block in far for car in block.cars]
        mark_buildings(canvas, buildings, self.looks)
        grove = Grove(canvas, palette, spec.seed)
        for date, look in enumerate(self.looks):
            crowns = grove.crowns(canvas, date)
            canvas.shadow[date] |= cast_shadow(grove.opaque(canvas, crowns, look), look, spec.gsd_m)
            picture = colour_ground(canvas, palette, date, self._drift[date].cut(rows, cols))
            canvas.picture.append(picture)
            paint_cars(canvas, cars, date)
            shade = np.array([0.94, 1.0, 1.1], dtype=np.float32) * np.float32(look.shade)
            picture *= np.where(canvas.shadow[date], shade[:, None, None], np.float32(1.0))
            paint_roofs(canvas, buildings, date, look)
            grove.paint(canvas, crowns, date, look)
        return self._develop(canvas, margin)

    def _develop(self, canvas: Canvas, margin: int) -> Rendered:
        """Convert brightness with margin to the tile's bytes."""
        inner = slice(margin, -margin)
        rows, cols = canvas.rows, canvas.cols
        images = []
        for date, look in enumerate(self.looks):
            # Each date reads the grain at a different place, so that noise does not cancel in a difference.
            image = expose(canvas.picture[date], look, self._textures.grain, rows + 211 * date, cols + 5 * date)
            images.append(image[:, inner, inner])
        seen = ~self._in_collar(rows[inner], cols[inner])
        before, after = images[0].copy(), images[1] * seen
        label = canvas.label[inner, inner].astype(np.uint8)
        built = [mask[inner, inner] for mask in canvas.built]
        return Rendered(before, after, label, np.ones_like(seen), seen, built[0], built[1])

    def _in_collar(self, rows: LongArray, cols: LongArray) -> BoolArray:
        """Whether pixels lie beyond the slanted edge of the after date, shape (h, w)."""
        if not self.spec.collar:
            return np.zeros((rows.size, cols.size), dtype=bool)
        rng = stream(self.spec.seed, "collar")
        start, end = rng.uniform(0.02, 0.08), rng.uniform(0.1, 0.2)
        if rng.random() < 0.5:
            start, end = end, start
        edge = self.spec.width * (start + (end - start) * rows / self.spec.height)
        place = cols if rng.random() < 0.5 else self.spec.width - 1 - cols
        return np.asarray(place[None, :] < edge[:, None])


def _meets(building: Building, extent: Polygon) -> bool:
    """Whether a footprint intersects a box; for most, a test of its circle avoids computing the outline."""
    left, top, right, bottom = extent.bounds
    inward = min(building.x - left, right - building.x, building.y - top, bottom - building.y)
    reach = 1.5 * building.reach_m
    return inward > reach or (inward > -reach and bool(building.outline().intersects(extent)))


def _blank(height: int, width: int) -> Rendered:
    images = [np.zeros((3, height, width), dtype=np.uint8) for _ in range(2)]
    masks = [np.zeros((height, width), dtype=bool) for _ in range(4)]
    return Rendered(images[0], images[1], np.zeros((height, width), dtype=np.uint8), *masks)


def _paste(out: Rendered, tile: Rendered, window: Window, row: int, col: int) -> None:
    """Copy the part of a tile at (row, col) that lies in the window."""
    r0, r1 = max(window.row, row), min(window.row_stop, row + TILE_PX)
    c0, c1 = max(window.col, col), min(window.col_stop, col + TILE_PX)
    into = (..., slice(r0 - window.row, r1 - window.row), slice(c0 - window.col, c1 - window.col))
    source = (..., slice(r0 - row, r1 - row), slice(c0 - col, c1 - col))
    for name in (field.name for field in fields(Rendered)):
        getattr(out, name)[into] = getattr(tile, name)[source]
