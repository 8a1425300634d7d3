"""Random crops of labelled tiles: scale, flips, quarter turns, date swap, radiometry; one seeded generator."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from rscd.core.types import BoolArray, ByteArray, FloatArray
from rscd.training.data.tiles import CHANGED, IGNORED

CHANGE_SHARE = 0.6
"""Share of crops that are centred near a changed pixel, if the tile has one."""
SHARP = 1.25
"""Above this zoom a label's outline is not exact to the pixel: pixels next to it are ignored."""


class Crop(NamedTuple):
    """A labelled pair of images, and the presence label of each date where it is known."""

    before: ByteArray
    """(3, H, W)."""
    after: ByteArray
    """(3, H, W)."""
    label: ByteArray
    """(H, W), as in ``tiles``."""
    built: ByteArray | None = None
    """(2, H, W): 1 where the object class is present on a date, 0 where it is absent, IGNORED where that is not
    known; None if it is not known anywhere."""


def random_crop(tile: Crop, size: int, scale: tuple[float, float], rng: Generator) -> Crop:
    """Cut a square of ``size / zoom`` px and resize it to ``size`` px; zoom is log-uniform in ``scale``.

    A tile smaller than that is enlarged, so its zoom may exceed the range.
    """
    zoom = float(np.exp(rng.uniform(np.log(scale[0]), np.log(scale[1]))))
    cut = min(round(size / zoom), *tile.label.shape)
    row, col = _corner(tile.label, cut, rng)
    part = np.s_[row : row + cut, col : col + cut]
    built = None if tile.built is None else np.stack([_resize_label(date[part], size) for date in tile.built])
    before, after = (_resize(image[:, *part], size) for image in (tile.before, tile.after))
    return Crop(before, after, _resize_label(tile.label[part], size), built)


def _corner(label: ByteArray, cut: int, rng: Generator) -> tuple[int, int]:
    rows, cols = label.shape
    corner = rng.integers(0, (rows - cut + 1, cols - cut + 1))
    if rng.random() < CHANGE_SHARE:
        spots = np.flatnonzero(label == CHANGED)
        if len(spots):
            spot = np.array(divmod(int(spots[rng.integers(len(spots))]), cols))
            offset = rng.integers(cut // 8, max(cut - cut // 8, cut // 8 + 1), 2)
            corner = np.clip(spot - offset, 0, (rows - cut, cols - cut))
    return int(corner[0]), int(corner[1])


def _resize(image: ByteArray, size: int) -> ByteArray:
    if image.shape[1] == size:
        return image
    # Pillow's bilinear filter widens when it shrinks, so fine texture is averaged, without aliasing
    pixels = Image.fromarray(np.ascontiguousarray(np.moveaxis(image, 0, 2)))
    return np.moveaxis(np.asarray(pixels.resize((size, size), Image.Resampling.BILINEAR)), 2, 0)


def _resize_label(label: ByteArray, size: int) -> ByteArray:
    """CHANGED by the majority of a new pixel; IGNORED if any of it was, and next to edges that are enlarged."""
    if label.shape[0] == size:
        return label
    if size > SHARP * label.shape[0]:
        label = np.where(_beside_edges(label), np.uint8(IGNORED), label)
    changed = (_share(label == CHANGED, size) >= 128).astype(np.uint8)
    if not (label == IGNORED).any():
        return changed
    return np.where(_share(label == IGNORED, size) > 0, np.uint8(IGNORED), changed)


def _beside_edges(label: ByteArray) -> BoolArray:
    """Pixels with a different label in one of their four neighbours."""
    beside = np.zeros(label.shape, bool)
    down, across = label[1:] != label[:-1], label[:, 1:] != label[:, :-1]
    beside[1:] |= down
    beside[:-1] |= down
    beside[:, 1:] |= across
    beside[:, :-1] |= across
    return beside


def _share(mask: BoolArray, size: int) -> ByteArray:
    """Share of each new pixel that the mask covers, 0..255."""
    shade = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(shade.resize((size, size), Image.Resampling.BILINEAR))


def displaced(crop: Crop, most_px: int, rng: Generator) -> Crop:
    """Move one date against the other by up to ``most_px`` px in rows and columns, as if registered imperfectly.

    What changed is where it is on the date that shows it. Rows and columns that only one date has are cut off.

    Args:
        crop: Images with the presence label of both dates.
        most_px: Maximum offset, px.
        rng: Random generator.
    """
    if crop.built is None:
        raise ValueError("without the presence of each date there is no telling which one shows a change")
    down, right = (int(offset) for offset in rng.integers(-most_px, most_px + 1, 2))
    rows, cols = crop.label.shape
    first = np.s_[max(down, 0) : rows + min(down, 0), max(right, 0) : cols + min(right, 0)]
    second = np.s_[max(-down, 0) : rows + min(-down, 0), max(-right, 0) : cols + min(-right, 0)]
    built = np.stack([crop.built[0][first], crop.built[1][second]])
    changed = np.stack([crop.label[first], crop.label[second]]) == CHANGED
    label = (changed & (built == 1)).any(0).astype(np.uint8) * np.uint8(CHANGED)
    return Crop(crop.before[:, *first], crop.after[:, *second], label, built)


def augment(crop: Crop, rng: Generator, other_sensors: float = 0.0) -> Crop:
    """Rotate, flip and swap the dates at random, and change brightness and colours of each date.

    Args:
        crop: Images and label.
        rng: Random generator.
        other_sensors: Share of images that are also modified as if by another sensor, 0..1.
    """
    turns, flip, swap = int(rng.integers(4)), bool(rng.integers(2)), bool(rng.integers(2))

    def turned(array: ByteArray) -> ByteArray:
        found = np.rot90(array, turns, (-2, -1))
        return np.ascontiguousarray(found[..., ::-1] if flip else found)

    images = [turned(image) for image in (crop.before, crop.after)]
    built = None if crop.built is None else turned(crop.built)
    if swap:
        images.reverse()
        built = None if built is None else built[::-1].copy()
    shared = _light(rng, 0.5)
    lit = [_relight(i.astype(np.float32), _light(rng, 1.0), shared, rng) for i in images]
    lit = [other_sensor(i, rng) if other_sensors and rng.random() < other_sensors else i for i in lit]
    return Crop(lit[0], lit[1], turned(crop.label), built)


def other_sensor(image: ByteArray, rng: Generator) -> ByteArray:
    """An image (3, H, W) as another sensor and another processing might have given it.

    Sharper or softer, brighter or darker, with more or less contrast, and compressed again as JPEG.
    """
    pixels = Image.fromarray(np.ascontiguousarray(np.moveaxis(image, 0, 2)))
    if rng.random() < 0.5:
        pixels = pixels.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9)))
    else:
        pixels = pixels.filter(ImageFilter.UnsharpMask(radius=1, percent=int(rng.uniform(40, 120)), threshold=0))
    gain, offset = np.exp(rng.normal(0, 0.12)), rng.normal(0, 10)
    lit = np.clip((np.asarray(pixels, np.float32) - 128) * gain + 128 + offset, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(lit).save(file, "JPEG", quality=int(rng.integers(60, 93)))
    with Image.open(file) as decoded:
        return np.moveaxis(np.asarray(decoded), 2, 0)


def _light(rng: Generator, strength: float) -> tuple[FloatArray, FloatArray, float, float]:
    """Draw gain and offset per band (0..255 scale), gamma and saturation."""
    gain = 1 + strength * (0.15 * rng.standard_normal() + 0.05 * rng.standard_normal((3, 1, 1)))
    offset = strength * (12 * rng.standard_normal() + 5 * rng.standard_normal((3, 1, 1)))
    gamma = float(np.exp(strength * 0.15 * rng.standard_normal()))
    saturation = float(np.exp(strength * 0.25 * rng.standard_normal()))
    return gain.astype(np.float32), offset.astype(np.float32), gamma, saturation


def _relight(
    image: FloatArray,
    own: tuple[FloatArray, FloatArray, float, float],
    shared: tuple[FloatArray, FloatArray, float, float],
    rng: Generator,
) -> ByteArray:
    for gain, offset, gamma, saturation in (own, shared):
        grey = image.mean(0, keepdims=True)
        image = (grey + (image - grey) * saturation - 128) * gain + 128 + offset
        image = (255 * np.clip(image / 255, 0, 1) ** gamma).astype(np.float32)
    if rng.random() < 0.5:
        image = image + rng.standard_normal(image.shape, dtype=np.float32) * rng.uniform(0, 6)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
