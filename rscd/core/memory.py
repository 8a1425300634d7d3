"""Memory of the process: its peak, and the allocator of the C library.

glibc's allocator returns large freed arrays to the system at once, and the next forward pass fetches them anew. A
command may have it keep them; strips then return what is free after some millions of pixels. With another C library
the functions do nothing.
"""

from __future__ import annotations

import ctypes
import re
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, MB (10^6 bytes).

    Linux's ``ru_maxrss`` is at least that of the process that started this one, so the kernel's own mark is read.
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
"""Names of mallopt(3)."""


@cache
def keep_freed_memory() -> None:
    """Let the heap keep what is freed, for the whole process, until ``return_freed_memory``.

    It is for programs of our own, the command line and its workers: a library does not change its host's allocator.
    By default arrays above 32 MB are fetched from the system and zeroed anew each time, and those of threads lie in
    arenas of 64 MB that come and go: page faults took a fifth of a forward pass of ``lite`` on a CPU. Arrow, too,
    then takes its memory from there: what its own pool keeps could not be given back.
    """
    with suppress(ImportError):  # a bare machine that trains has none
        import pyarrow as pa

        pa.set_memory_pool(pa.system_memory_pool())
    with suppress(OSError, AttributeError):
        set_option = ctypes.CDLL(None).mallopt
        for option, value in ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, 1 << 30), (_TOP_PAD, 1 << 26)):
            set_option(option, value)


def return_freed_memory() -> None:
    """Give freed memory back to the system: gaps in the heap would add up over a tall scene."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
