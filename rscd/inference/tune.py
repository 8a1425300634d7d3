"""Tuning: how many windows a forward pass takes, and whether compiling the network repays itself.

On a CPU one window a pass is fastest (the next ones push the first out of the caches, and arrays that large are
fetched from the system anew each time), so nothing is measured there and bytes do not depend on chance. On a GPU
the batch is found by a short search.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np

from rscd.inference.predictor import Predictor
from rscd.scene.windows import WindowPlan

MOST = 64
"""Largest batch that is tried."""
WORTH = 0.95
"""A batch twice as large is taken if a window then takes less than this share of the time."""
COMPILE_S = 90.0
"""What compiling is assumed to take, s."""
COMPILED = 0.2
"""Share of the forward pass that compiling is assumed to save."""


def tune(predictor: Predictor, window: int, plan: WindowPlan) -> None:
    """Choose the batch of a predictor on CUDA, unless the user did, and compile its network if that pays.

    Args:
        predictor: Changed in place.
        window: Side of the model's window, px.
        plan: The windows to come.
    """
    if predictor.backend.device == "cpu":
        return
    asked = predictor.batch_size if predictor.batch_chosen else None

    def seconds(batch: int) -> float | None:
        return _seconds(predictor, window, batch)

    batch, each = best_batch(seconds, plan.cols.count) if asked is None else (asked, seconds(asked) or 0.0)
    predictor.batch_size = batch
    if each * plan.count * COMPILED > COMPILE_S:
        predictor.backend.compile()


def best_batch(seconds: Callable[[int], float | None], row: int) -> tuple[int, float]:
    """Double the batch while that pays; then the smallest that cuts a row of windows into as many passes.

    Args:
        seconds: Time a window for a batch, s; None where it does not fit in memory.
        row: Windows in a row: no batch spans two rows, and a short one is padded.

    Returns:
        The batch, and its seconds a window; (1, 0.0) where even one window does not fit.
    """
    best, least = 1, seconds(1)
    if least is None:
        return 1, 0.0
    batch = 2
    while batch <= min(MOST, 2 * row - 1):
        each = seconds(min(batch, row))
        if each is None or each > least * WORTH:
            break
        best, least, batch = min(batch, row), each, 2 * batch
    passes = -(-row // best)
    return -(-row // passes), least


def _seconds(predictor: Predictor, window: int, batch: int) -> float | None:
    """Time of one window in a batch of random ones, s, after a pass to warm up; None if memory does not hold it."""
    images = np.random.default_rng(0).integers(0, 256, (batch, 3, window, window), dtype=np.uint8)
    predictor.batch_size = batch
    times = []
    for _ in range(3):
        start = perf_counter()
        if predictor.attempt(images, images) is None:
            return None
        times.append(perf_counter() - start)
    return min(times[1:]) / batch
