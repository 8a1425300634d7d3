"""One forward pass: batches, test-time augmentation; pixels to calibrated probabilities, at any pixel size.

Also its tuning: batch size, and whether compiling the network pays off.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from rscd.core.contract import STRIDE, Contract
from rscd.core.errors import UsageError
from rscd.core.resources import Stopwatch
from rscd.core.types import ByteArray, FloatArray
from rscd.inference.backends import MOST_CALLS, Backend
from rscd.inference.backends.choice import open_backend
from rscd.model.registry import Model
from rscd.options.detect import DetectConfig
from rscd.options.training import EvaluateConfig
from rscd.scene.windows import WindowPlan

Forward = Callable[[ByteArray, ByteArray], FloatArray]
"""(n, bands, h, w) of both dates -> probabilities (n, h, w), or (n, 3, h, w) with presence, e.g. a Predictor."""


@dataclass(frozen=True)
class Faults:
    """Device problems that were worked around; each may change a probability by 1/254."""

    halvings: int = 0
    """How often the batch was halved because it did not fit in the device's memory."""
    fp32_batches: int = 0
    """Batches that gave NaN or Inf in bf16 and were forwarded again in fp32."""


class View(NamedTuple):
    """A rotation and flip of the last two axes of an array."""

    turns: int
    """Quarter turns, counterclockwise."""
    flipped: bool
    """Whether columns are mirrored first."""

    def of(self, images: ByteArray) -> ByteArray:
        """The images, flipped and rotated."""
        return np.rot90(images[..., ::-1] if self.flipped else images, self.turns, (-2, -1))

    def back(self, maps: FloatArray) -> FloatArray:
        """Undo the rotation and flip for maps of such images."""
        turned = np.rot90(maps, -self.turns, (-2, -1))
        return turned[..., ::-1] if self.flipped else turned


VIEWS = tuple(View(turns, flipped) for flipped in (False, True) for turns in range(4))
"""All eight views; the first changes nothing."""


class Predictor:
    """A network in a backend: batches of window pairs in, probabilities out.

    Args:
        backend: Runs the network.
        batch_size: Windows per forward pass; short batches are padded to it, so shapes never change and a window's
            result does not depend on the other windows. None: one, until ``tune`` finds a better size.
        tta: Test-time augmentation: mean over the eight rotations and flips of a square window.
    """

    def __init__(self, backend: Backend, batch_size: int | None = None, *, tta: bool = False) -> None:
        self.backend = backend
        self.batch_size, self.batch_chosen = batch_size or 1, batch_size is not None
        self.views = VIEWS if tta else VIEWS[:1]
        self._halvings = 0

    @classmethod
    def of(
        cls,
        model: Model,
        config: DetectConfig | EvaluateConfig,
        window: int,
        *,
        row: int | None = None,
        calls: int = MOST_CALLS,
    ) -> Predictor:
        """A predictor for a model, with the backend, device and settings of the options.

        Args:
            model: The model.
            config: Options.
            window: Side of the model's window, px.
            row: Windows in a row of the scene, if known: no batch is larger.
            calls: Maximum number of parallel calls on a CPU: 1 if there is a single window, which then uses all
                threads.

        Raises:
            UsageError: No such device on this machine, or the backend is not available.
            ModelError: The model was refused.
        """
        asked = config.batch_size
        if asked is not None and row is not None:
            asked = min(asked, row)
        shape = asked or 1, len(model.contract.bands), window, window
        backend = open_backend(model, config.backend, config.device, config.precision, shape, calls)
        return cls(backend, asked, tta=config.tta)

    @property
    def faults(self) -> Faults:
        """Problems that were worked around so far."""
        return Faults(self._halvings, self.backend.fp32_batches)

    def __call__(self, before: ByteArray, after: ByteArray) -> FloatArray:
        """Probabilities 0..1 of window pairs (n, 3, H, W) on the 0..255 scale.

        Returns:
            Probabilities of change (n, H, W); with a presence head (n, 3, H, W): change, presence before, presence
            after.

        Raises:
            UsageError: A single window does not fit in the device's memory.
            ModelError: The network gives NaN or Inf, also in fp32.
            Interrupted: The device was lost.
        """
        found: list[FloatArray] = []
        while (done := sum(map(len, found))) < len(before):
            part = slice(done, done + self.batch_size)
            p = self.attempt(before[part], after[part])
            if p is None:
                self._halve()
            else:
                found.append(p)
        return np.concatenate(found)

    def attempt(self, before: ByteArray, after: ByteArray) -> FloatArray | None:
        """One forward pass; None if it does not fit in the device's memory."""
        pair = self._padded(before), self._padded(after)
        try:
            p = self.backend(*pair)
            for view in self.views[1:]:
                p = p + view.back(self.backend(*(view.of(images) for images in pair)))
        except MemoryError:
            return None
        mean: FloatArray = p / np.float32(len(self.views)) if len(self.views) > 1 else p
        return mean[: len(before)]

    def _halve(self) -> None:
        """Use half the batch size from now on."""
        if self.batch_size == 1:
            on_gpu = self.backend.device != "cpu"
            raise UsageError(
                f"a single window does not fit in the memory of {self.backend.device}",
                remedy="free its memory, or use a smaller --window" + (", or --device cpu" if on_gpu else ""),
            )
        self.batch_size //= 2
        self._halvings += 1

    def _padded(self, images: ByteArray) -> ByteArray:
        """Fill the batch up with copies of its first window."""
        short = self.batch_size - len(images)
        return images if short <= 0 else np.concatenate([images, np.repeat(images[:1], short, axis=0)])


WHOLE = 256, 1024
"""Smallest and largest side of a window that is fitted to a scene, px."""
FIT = 128
"""Such a side is a multiple of this, px: an archive of scenes of several sizes needs few compiled networks."""


@dataclass(frozen=True)
class Windows:
    """Size of a model's windows, px at the model's pixel size."""

    side: int
    """Side of a window."""
    overlap: int
    """Overlap of neighbouring windows."""
    fit: bool = False
    """Whether a scene that is small enough is a single window."""

    @classmethod
    def of(cls, contract: Contract, window: int | None = None, overlap: int | None = None) -> Windows:
        """The requested window and overlap, else the contract's; a smaller window gets a smaller overlap.

        Raises:
            UsageError: The overlap is not smaller than the window.
        """
        fit = contract.any_window and contract.window >= WHOLE[0] and window is None and overlap is None
        side = contract.window if window is None else window
        overlap = min(contract.overlap, side // 4) if overlap is None else overlap
        if not 0 <= overlap < side:
            raise UsageError(f"--overlap {overlap}", remedy=f"use 0 to {side - 1} px")
        return cls(side, overlap, fit)

    def over(self, height: int, width: int, factor: float) -> Windows:
        """Those for a scene: a single one, if the scene fits into it and it has fewer pixels than the usual ones.

        Then no pixel is forwarded twice, and each has all context that there is. Depends only on the scene's size.

        Args:
            height: Rows of the scene.
            width: Its columns.
            factor: Model pixel size divided by scene pixel size.
        """
        least, most = WHOLE
        side = max(least, math.ceil(max(height, width) / factor / FIT - 1e-9) * FIT)
        usual = WindowPlan.over(height, width, *self.on_grid(factor)).count * self.side**2
        if not self.fit or side > most or side**2 >= usual:
            return self
        return Windows(side, min(self.overlap, side // 4))

    def on_grid(self, factor: float) -> tuple[int, int]:
        """Side and overlap in px of a scene.

        Args:
            factor: Model pixel size divided by scene pixel size: above 1 if the scene is finer.
        """
        side = max(STRIDE, round(self.side * factor))
        return side, min(round(self.overlap * factor), side - 1)


@dataclass(frozen=True)
class ForwardPass:
    """The network for windows of a scene, with batch size and parallel calls."""

    call: Forward
    """The network; results do not depend on the number of parallel calls."""
    batch_size: int = 1
    """Maximum number of windows per call."""
    workers: int = 1
    """Number of parallel calls."""
    presence: bool = False
    """Whether it also returns presence before and after."""

    @classmethod
    def of(cls, predictor: Predictor, window: int, factor: float) -> ForwardPass:
        """A predictor for windows of a scene, which are resampled if the scene has another pixel size.

        Args:
            predictor: The network.
            window: Side of its window, px.
            factor: Model pixel size divided by scene pixel size.
        """
        call = predictor if factor == 1 else Rescaled(predictor, window)
        return cls(call, predictor.batch_size, predictor.backend.workers, predictor.backend.presence)

    def interruptible(self, interrupt: Callable[[], None]) -> ForwardPass:
        """The same, with ``interrupt`` called before each batch; an exception that it raises ends the run."""

        def checked(before: ByteArray, after: ByteArray) -> FloatArray:
            interrupt()
            return self.call(before, after)

        return replace(self, call=checked)

    def timed(self, watch: Stopwatch) -> ForwardPass:
        """The same, with its calls timed as stage ``forward``."""
        return replace(self, call=watch.call("forward", self.call))


class Rescaled:
    """A predictor for windows of another size: resampled to its own size, and its output resampled back.

    Bilinear, with Pillow: where pixels become larger, finer ones are averaged (antialiasing).

    Args:
        predictor: The network.
        window: Side of the network's window, px.
    """

    def __init__(self, predictor: Predictor, window: int) -> None:
        self._predictor, self._window = predictor, window

    def __call__(self, before: ByteArray, after: ByteArray) -> FloatArray:
        """Probabilities for window pairs (n, 3, H, W), all in px of the scene."""
        p = self._predictor(*(_resampled(date, self._window) for date in (before, after)))
        return _resampled(p, before.shape[-1])


Maps = TypeVar("Maps", ByteArray, FloatArray)


def _resampled(maps: Maps, side: int) -> Maps:
    """Maps (..., h, w), resampled to (..., side, side)."""
    flat = maps.reshape(-1, *maps.shape[-2:])
    found = np.empty((len(flat), side, side), maps.dtype)
    for one, made in zip(flat, found, strict=True):
        image = Image.fromarray(np.ascontiguousarray(one))
        made[:] = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
    return found.reshape(*maps.shape[:-2], side, side)


MOST_WINDOWS = 64
"""Largest batch in the search."""
WORTH = 0.95
"""A batch twice as large is used if the time per window falls below this share."""
COMPILE_S = 90.0
"""Assumed time to compile, s."""
COMPILED_SAVES = 0.2
"""Assumed share of the forward pass that compiling saves."""


def tune(predictor: Predictor, window: int, plan: WindowPlan) -> None:
    """Choose a predictor's batch size on CUDA, unless the user did, and compile its network if that pays off.

    On a CPU one window per pass is fastest (further ones push the first out of the caches, and such large arrays
    are allocated anew each time), so nothing is measured and bytes do not depend on timing. On a GPU a short
    search finds the batch size.

    Args:
        predictor: Changed in place.
        window: Side of the model's window, px.
        plan: All windows of the scene.
    """
    if predictor.backend.device == "cpu" or (plan.count == 1 and not predictor.batch_chosen):
        return
    asked = predictor.batch_size if predictor.batch_chosen else None

    def seconds(batch: int) -> float | None:
        return _seconds(predictor, window, batch)

    batch, each = best_batch(seconds, plan.cols.count) if asked is None else (asked, seconds(asked) or 0.0)
    predictor.batch_size = batch
    if each * plan.count * COMPILED_SAVES > COMPILE_S:
        predictor.backend.compile()


def best_batch(seconds: Callable[[int], float | None], row: int) -> tuple[int, float]:
    """Double the batch while that pays off; then the smallest one that needs as many passes per row of windows.

    Args:
        seconds: Returns the time per window for a batch size, s; None if it does not fit in memory.
        row: Windows per row: no batch spans two rows, and a short one is padded.

    Returns:
        The batch size, and its seconds per window; (1, 0.0) if not even one window fits.
    """
    best, least = 1, seconds(1)
    if least is None:
        return 1, 0.0
    batch = 2
    while batch <= min(MOST_WINDOWS, 2 * row - 1):
        each = seconds(min(batch, row))
        if each is None or each > least * WORTH:
            break
        best, least, batch = min(batch, row), each, 2 * batch
    passes = -(-row // best)
    return -(-row // passes), least


def _seconds(predictor: Predictor, window: int, batch: int) -> float | None:
    """Time per window in a random batch, s, after a warm-up pass; None if it does not fit in memory."""
    images = np.random.default_rng(0).integers(0, 256, (batch, 3, window, window), dtype=np.uint8)
    predictor.batch_size = batch
    times = []
    for _ in range(3):
        start = perf_counter()
        if predictor.attempt(images, images) is None:
            return None
        times.append(perf_counter() - start)
    return min(times[1:]) / batch
