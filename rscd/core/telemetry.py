"""Telemetry: where a run's time went, and how much memory it took at most."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from time import perf_counter
from typing import ParamSpec, TypeVar

from rscd.core.memory import peak_memory_mb

T = TypeVar("T")
P = ParamSpec("P")

STAGES = ("read", "forward", "blend", "vectorise", "write")
"""The stages that are timed, in the order of the data."""


@dataclass
class Stopwatch:
    """Adds up the seconds that each stage was at work, in one thread or in several at a time."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Stage -> s. Stages overlap, so together they may exceed the wall time."""
    started: float = field(default_factory=perf_counter)
    """When it was made, s."""
    _inside: dict[str, tuple[int, float]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body; where bodies overlap, the time that any of them takes."""
        with self._lock:
            inside, start = self._inside.get(name, (0, 0.0))
            self._inside[name] = inside + 1, start if inside else perf_counter()
        try:
            yield
        finally:
            with self._lock:
                inside, start = self._inside[name]
                self._inside[name] = inside - 1, start
                if inside == 1:
                    self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - start

    def each(self, name: str, items: Iterable[T]) -> Generator[T]:
        """Yield the items, and time how long each takes to come."""
        source = iter(items)
        try:
            while True:
                with self.stage(name):
                    try:
                        item = next(source)
                    except StopIteration:
                        return
                yield item
        finally:
            if isinstance(source, Generator):
                source.close()

    def call(self, name: str, function: Callable[P, T]) -> Callable[P, T]:
        """The function, timed."""

        def timed(*args: P.args, **kwargs: P.kwargs) -> T:
            with self.stage(name):
                return function(*args, **kwargs)

        return timed


@dataclass(frozen=True)
class Telemetry:
    """What a run cost."""

    wall_s: float
    """From start to end, s."""
    stages_s: dict[str, float]
    """Seconds at work per stage of ``STAGES``; they overlap."""
    device_busy: float
    """Share of the wall time in which the network ran or its input and output were moved, 0..1."""
    peak_memory_mb: float
    """Largest resident memory of the process, MB."""
    gpu_memory_mb: float | None
    """Most memory that torch held on the GPU, MB; None on the CPU."""


def telemetry(watch: Stopwatch, gpu_memory_mb: float | None = None) -> Telemetry:
    """Totals of a run; blending is the time of its loop minus the time it waited for forwarded windows."""
    wall, taken = perf_counter() - watch.started, watch.seconds
    blend = taken.get("strips", 0.0) - taken.get("wait", 0.0)
    stages = {name: round(taken.get(name, 0.0), 3) for name in STAGES} | {"blend": round(max(blend, 0.0), 3)}
    return Telemetry(wall, stages, min(1.0, taken.get("forward", 0.0) / wall), peak_memory_mb(), gpu_memory_mb)
