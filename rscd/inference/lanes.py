"""Forward passes side by side, in order: on a CPU each has its share of the threads.

Where all threads work on one window, each layer waits for the last of them, and so for whatever else the machine is
at: reading, blending and labelling then hold up every thread. Side by side, ``detect`` was 18 % faster on two
cores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_LANES = 4
"""Forward passes side by side, at most: each holds its own layers in memory."""


def lanes_on(device: torch.device) -> int:
    """How many forward passes run side by side on a device."""
    return min(MOST_LANES, torch.get_num_threads()) if device.type == "cpu" else 1


def in_lanes(function: Callable[[Item], Result], items: Iterable[Item], lanes: int, most: int) -> Generator[Result]:
    """Map items in some threads, in order; torch's threads are divided among them.

    Args:
        function: What to call; it runs in ``lanes`` threads at once.
        items: Taken as they are needed.
        lanes: Threads.
        most: Items that are begun and not yet yielded, at most; never fewer than one more than lanes.
    """
    threads = torch.get_num_threads()
    begun: deque[Future[Result]] = deque()
    try:
        share = max(1, threads // lanes)
        with ThreadPoolExecutor(lanes, initializer=torch.set_num_threads, initargs=(share,)) as pool:
            try:
                for item in items:
                    begun.append(pool.submit(function, item))
                    if len(begun) >= max(most, lanes + 1):
                        yield begun.popleft().result()
                while begun:
                    yield begun.popleft().result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
    finally:
        torch.set_num_threads(threads)  # what a thread sets is the default of those that come after it
