"""Two ways of doing a thing, measured in turns: on a noisy machine only the least of each is worth comparing."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter


def turns(one: Callable[[], object], other: Callable[[], object], pairs: int) -> tuple[float, float]:
    """Least wall time in s of each, after interleaved runs."""
    least = [float("inf")] * 2
    for _ in range(pairs):
        for i, way in enumerate((one, other)):
            start = perf_counter()
            way()
            least[i] = min(least[i], perf_counter() - start)
    return least[0], least[1]
