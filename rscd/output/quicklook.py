"""A picture for a first look: before, after, and after with the changes drawn on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely
from PIL import Image, ImageDraw

from rscd.output.publish import publishing
from rscd.types import ByteArray, Grid

SIDE = 900
"""Longest side of each of the three panels in px."""
FILL, LINE = (255, 60, 0, 90), (255, 60, 0, 255)


def write_quicklook(path: Path, before: ByteArray, after: ByteArray, changes: np.ndarray, grid: Grid) -> None:
    """Write ``before | after | overlay`` as one PNG.

    Args:
        path: PNG to write.
        before: Pixels (3, rows, columns) on the grid.
        after: Likewise.
        changes: Shapely polygons in the grid's CRS.
        grid: Where they are.
    """
    scale = min(1.0, SIDE / max(grid.shape))
    size = max(1, round(grid.width * scale)), max(1, round(grid.height * scale))
    panels = [Image.fromarray(np.moveaxis(i, 0, 2)).resize(size, Image.Resampling.BOX) for i in (before, after)]
    overlay = Image.new("RGBA", size)
    draw = ImageDraw.Draw(overlay)
    a, b, c, d, e, f = grid.transform
    to_pixels = np.linalg.inv(np.array([[a, b], [d, e]])) * scale
    for polygon in changes:
        ring = (shapely.get_coordinates(polygon.exterior) - (c, f)) @ to_pixels.T
        draw.polygon([tuple(point) for point in ring], fill=FILL, outline=LINE)
    panels.append(Image.alpha_composite(panels[1].convert("RGBA"), overlay).convert("RGB"))
    picture = Image.new("RGB", (3 * size[0] + 2 * 8, size[1]), "white")
    for i, panel in enumerate(panels):
        picture.paste(panel, (i * (size[0] + 8), 0))
    with publishing(path) as temporary:
        picture.save(temporary, format="PNG")
