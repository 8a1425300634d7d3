"""Small pictures: both dates and the probabilities for the report, and quicklooks.

Pictures of the report are computed while the images are read: nothing is read twice. A cell of the picture is k x k
pixels. Its colour is the mean of at least 4 x 4 of them, evenly spread, or of all if they are fewer; its
probability is the maximum of all k x k, so that no change is lost. Memory is proportional to the picture.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import shapely
from affine import Affine
from PIL import Image, ImageDraw

from rscd.core.publish import publishing
from rscd.core.types import NOT_OBSERVABLE, P_SCALE, BoolArray, ByteArray, FloatArray, Grid, ImageArray, StripRecord
from rscd.output.vector.style import STEPS
from rscd.scene.window_stream import WindowInput

SIDE = 2048
"""Maximum side of a preview, px."""
JPEG_BYTES = 1_600_000
"""Maximum size of a preview picture, bytes, before base64."""
PNG_BYTES = 700_000
"""The same for the picture of probabilities."""
LEAST_SHOWN = 0.25
"""Probabilities below this are transparent."""
_SAMPLES = 4
_HATCH = np.array([214, 222], np.uint8)


class Decimator:
    """Reduces one date, part by part, to cells of the preview: mean colour, and whether any pixel was valid."""

    def __init__(self, grid: Grid, factor: int) -> None:
        self._factor = factor
        self._stride = max(1, factor // _SAMPLES)
        cells = -(-grid.height // factor), -(-grid.width // factor)
        self._sums: FloatArray = np.zeros((0, *cells), np.float32)
        self._seen = np.zeros(cells, np.float32)

    def add(self, row: int, col: int, pixels: ImageArray, valid: BoolArray) -> None:
        """Add a part of the grid; each pixel once.

        Args:
            row: First row of the arrays in the grid.
            col: Their first column.
            pixels: Shape (bands, h, w).
            valid: Shape (h, w).
        """
        s = self._stride
        rows, cols = -row % s, -col % s
        pixels, valid = pixels[:3, rows::s, cols::s], valid[rows::s, cols::s]
        if not valid.size:
            return
        if not len(self._sums):
            self._sums = np.zeros((len(pixels), *self._seen.shape), np.float32)
        down, across = (
            np.arange(start + skipped, start + skipped + s * n, s) // self._factor
            for start, skipped, n in ((row, rows, valid.shape[0]), (col, cols, valid.shape[1]))
        )
        first = [np.flatnonzero(np.diff(cells, prepend=-1)) for cells in (down, across)]
        place = np.ix_(down[first[0]], across[first[1]])
        values = np.where(valid, pixels, 0).astype(np.float32)
        sums = np.add.reduceat(np.add.reduceat(values, first[0], axis=1), first[1], axis=2)
        for total, part in zip(self._sums, sums, strict=True):
            total[place] += part
        seen = valid.astype(np.float32)
        self._seen[place] += np.add.reduceat(np.add.reduceat(seen, first[0], axis=0), first[1], axis=1)

    def picture(self, limits: tuple[float, float] | None) -> Image.Image:
        """The preview in colour; cells without valid pixels are hatched grey.

        Args:
            limits: Values shown as black and white; None: 0 and 255.
        """
        colours, seen = self._means(), self._seen > 0
        if limits is not None:
            colours = (colours - limits[0]) * (255 / max(limits[1] - limits[0], 1e-9))
        colours = np.clip(np.rint(colours), 0, 255).astype(np.uint8)
        if len(colours) < 3:
            colours = np.repeat(colours[:1], 3, axis=0)
        rows, cols = np.ogrid[: seen.shape[0], : seen.shape[1]]
        hatch = _HATCH[(rows + cols) // 6 % 2]
        return Image.fromarray(np.where(seen, colours, hatch).transpose(1, 2, 0))

    def values(self) -> FloatArray:
        """Colours of the cells with valid pixels, shape (bands, n)."""
        return self._means()[:, self._seen > 0]

    def _means(self) -> FloatArray:
        return np.asarray(self._sums / np.maximum(self._seen, 1), np.float32)


class Previews:
    """Small pictures of both dates and the probabilities."""

    def __init__(self, grid: Grid) -> None:
        factor = -(-max(grid.shape) // SIDE)
        even = 1 if factor <= _SAMPLES else 2 if factor <= 3 * _SAMPLES else _SAMPLES
        self.factor = -(-factor // even) * even  # a multiple of its quarter, rounded down, which is the stride
        self.size = -(-grid.width // self.factor), -(-grid.height // self.factor)
        self._dates = Decimator(grid, self.factor), Decimator(grid, self.factor)
        self._eight_bits = True
        self._largest = np.zeros(self.size[::-1], np.uint8)

    def watch(self, inputs: Iterable[WindowInput]) -> Iterator[WindowInput]:
        """Yield the windows of both dates unchanged, and add their cells to the pictures."""
        for window in inputs:
            part, cell = window.in_cell, window.cell
            self._eight_bits &= window.before.dtype == window.after.dtype == np.uint8
            self._dates[0].add(cell.row, cell.col, window.before[:, *part], window.before_valid[part])
            self._dates[1].add(cell.row, cell.col, window.after[:, *part], window.after_valid[part])
            yield window

    def note(self, record: StripRecord) -> None:
        """Add a strip's probabilities; each strip once, in any order."""
        values = np.where(record.probability == NOT_OBSERVABLE, 0, record.probability)
        cells = np.arange(record.row, record.row + record.height) // self.factor
        first_of_cell = np.flatnonzero(np.diff(cells, prepend=-1))
        largest = np.maximum.reduceat(values, first_of_cell, axis=0)
        largest = np.maximum.reduceat(largest, np.arange(0, record.width, self.factor), axis=1)
        rows = cells[first_of_cell]
        self._largest[rows] = np.maximum(self._largest[rows], largest)

    def pictures(self) -> tuple[str, str]:
        """Both dates as data URIs, with a common scale of grey values."""
        limits = None
        if not self._eight_bits:
            both = np.concatenate([date.values().ravel() for date in self._dates])
            low, high = np.percentile(both, [1, 99]) if len(both) else (0.0, 1.0)
            limits = float(low), float(high)
        return _jpeg(self._dates[0].picture(limits)), _jpeg(self._dates[1].picture(limits))

    def probability(self) -> str:
        """Maximum probabilities in the colours of the style, as the data URI of a PNG with transparency."""
        bounds = [LEAST_SHOWN, *(low for low, _, _ in STEPS[1:])]
        classes = np.digitize(self._largest / P_SCALE, bounds).astype(np.uint8)
        image = Image.fromarray(classes)
        palette = [0, 0, 0, *(int(part) for _, _, colour in STEPS for part in colour.split(","))]
        image = image.convert("P")  # grey values, to which the palette is applied
        image.putpalette(palette)
        alpha = bytes([0, 110, 160, 190, 210])
        while len(data := _encoded(image, "PNG", transparency=alpha, optimize=True)) > PNG_BYTES:
            image = image.resize((image.width // 2, image.height // 2), Image.Resampling.NEAREST)
        return _uri("png", data)


def _jpeg(image: Image.Image) -> str:
    """JPEG in the best quality that fits in JPEG_BYTES: first lower quality, then fewer pixels."""
    for quality in (85, 75, 62, 50):
        if len(data := _encoded(image, "JPEG", quality=quality, optimize=True)) <= JPEG_BYTES:
            return _uri("jpeg", data)
    return _jpeg(image.resize((max(1, image.width * 3 // 4), max(1, image.height * 3 // 4)), Image.Resampling.BOX))


def _encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


QUICKLOOK_SIDE = 900
"""Maximum side of each of the three panels, px."""
FILL, LINE = (255, 60, 0, 90), (255, 60, 0, 255)


def write_quicklook(path: Path, before: ByteArray, after: ByteArray, changes: np.ndarray, grid: Grid) -> None:
    """Write ``before | after | overlay`` as one PNG.

    Args:
        path: PNG to write.
        before: Pixels (3, rows, columns) on the grid.
        after: Pixels (3, rows, columns) on the grid.
        changes: Shapely polygons in the grid's CRS.
        grid: Grid of the images.
    """
    scale = min(1.0, QUICKLOOK_SIDE / max(grid.shape))
    size = max(1, round(grid.width * scale)), max(1, round(grid.height * scale))
    panels = [Image.fromarray(np.moveaxis(i, 0, 2)).resize(size, Image.Resampling.BOX) for i in (before, after)]
    overlay = Image.new("RGBA", size)
    draw = ImageDraw.Draw(overlay)
    to_pixels = Affine.scale(scale) @ ~grid.affine
    for polygon in changes:
        ring = np.column_stack(to_pixels @ tuple(shapely.get_coordinates(polygon.exterior).T))
        draw.polygon([tuple(point) for point in ring], fill=FILL, outline=LINE)
    panels.append(Image.alpha_composite(panels[1].convert("RGBA"), overlay).convert("RGB"))
    picture = Image.new("RGB", (3 * size[0] + 2 * 8, size[1]), "white")
    for i, panel in enumerate(panels):
        picture.paste(panel, (i * (size[0] + 8), 0))
    with publishing(path) as temporary:
        picture.save(temporary, format="PNG")
