"""Paint the ground: which surface lies where on each date, and the colour that gives."""

from __future__ import annotations

import numpy as np

from rscd.simulate.block import Block, Patch
from rscd.simulate.canvas import Canvas
from rscd.simulate.frame import Frame
from rscd.simulate.surfaces import Surface
from rscd.types import DoubleArray, FloatArray


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
    """Lay one patch on the dates that have it."""
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
    """Colour of the ground in full light.

    Args:
        canvas: With its surfaces painted.
        palette: What the surface indices mean.
        date: 0 or 1.
        drift: Another texture of the date alone, mean 0 and variance 1, shape (h, w): growth, moisture.

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
    """Light and dark stripes of fields, share of brightness, shape (h, w)."""
    index = canvas.surface[date]
    table = np.array([(s.rows[date], *s.wave) for s in palette], dtype=np.float32)
    out = np.zeros(index.shape, dtype=np.float32)
    where = np.nonzero(table[:, 0][index])
    if where[0].size == 0:
        return out
    strength, east, south = table[index[where]].T
    # Float32 phases would lose the rows far from the origin: reduce in float64.
    phase = east * canvas.x[where[1]] + south * canvas.y[where[0]] + 0.5 * canvas.middle[where]
    out[where] = strength * np.sin(phase)
    return out
