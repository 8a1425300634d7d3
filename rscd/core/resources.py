"""Cost of a run: time of its stages, peak memory, and settings of the C library's allocator.

glibc's allocator returns large freed arrays to the system at once, and the next forward pass allocates them again.
A command may keep freed memory instead; strips then return it after some millions of pixels. With other C libraries
the functions do nothing.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import ParamSpec, TypeVar

import psutil

T = TypeVar("T")
P = ParamSpec("P")

STAGES = ("read", "forward", "blend", "vectorise", "write")
"""The timed stages, in the order of the data."""


@dataclass
class Stopwatch:
    """Adds up the working time of each stage, in one or several threads."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Stage -> s. Stages overlap, so together they may exceed the wall time."""
    started: float = field(default_factory=perf_counter)
    """Time of creation, s."""
    _inside: dict[str, tuple[int, float]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body; overlapping bodies of a stage are counted once."""
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
        """Yield the items, and time how long each takes to be produced."""
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
    """Cost of a run."""

    wall_s: float
    """Wall time, s."""
    stages_s: dict[str, float]
    """Working time per stage of ``STAGES``, s; stages overlap."""
    device_busy: float
    """Share of the wall time in which the network ran or its data were transferred, 0..1."""
    peak_memory_mb: float
    """Peak resident memory of the process, MB."""
    gpu_memory_mb: float | None
    """Peak memory of torch on the GPU, MB; None on the CPU."""


def telemetry(watch: Stopwatch, gpu_memory_mb: float | None = None) -> Telemetry:
    """Totals of a run; blending is the time of its loop minus the time waiting for forwarded windows."""
    wall, taken = perf_counter() - watch.started, watch.seconds
    blend = taken.get("strips", 0.0) - taken.get("wait", 0.0)
    stages = {name: round(taken.get(name, 0.0), 3) for name in STAGES} | {"blend": round(max(blend, 0.0), 3)}
    return Telemetry(wall, stages, min(1.0, taken.get("forward", 0.0) / wall), peak_memory_mb(), gpu_memory_mb)


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far, MB (10^6 bytes).

    Linux's ``ru_maxrss`` is at least that of the parent process, so the kernel's own high-water mark is read.
    """
    with suppress(OSError):
        found = re.search(
            r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        )
        if found is not None:
            return int(found[1]) * 1024 / 1e6
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 1e6
    else:
        import resource  # which Windows lacks

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB on Linux, bytes on macOS
        return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
"""Parameter numbers of mallopt(3)."""


@cache
def keep_freed_memory() -> None:
    """Make the allocator keep freed memory, for the whole process, until ``return_freed_memory``.

    Only for rscd's own programs, the command line and its workers: a library must not change its host's allocator.
    By default arrays above 32 MB are allocated from the system and zeroed each time, and threads use arenas of 64
    MB that come and go: page faults took a fifth of a forward pass of ``lite`` on a CPU. Arrow then also uses this
    allocator, because memory in its own pool could not be returned.
    """
    with suppress(ImportError):  # not installed on a machine that only trains
        import pyarrow as pa

        pa.set_memory_pool(pa.system_memory_pool())
    with suppress(OSError, AttributeError):
        set_option = ctypes.CDLL(None).mallopt
        for option, value in ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, 1 << 30), (_TOP_PAD, 1 << 26)):
            set_option(option, value)


def return_freed_memory() -> None:
    """Return freed memory to the system: otherwise gaps in the heap would add up over a tall scene."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
