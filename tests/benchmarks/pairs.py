"""Ways of doing a thing, measured in turns: on a noisy machine only the least of each is worth comparing."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter


def turns(*ways: Callable[[], object], times: int) -> list[float]:
    """Least wall time in s of each, after interleaved runs."""
    least = [float("inf")] * len(ways)
    for _ in range(times):
        for i, way in enumerate(ways):
            start = perf_counter()
            way()
            least[i] = min(least[i], perf_counter() - start)
    return least
