"""Overlapped stages: run an iterator in a thread of its own, a few items ahead of its consumer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _Made(Generic[T]):
    """What the thread hands over: an item, or the end, or the exception that ended it."""

    item: T | None = None
    last: bool = False
    error: BaseException | None = None


def ahead(items: Iterable[T], depth: int = 1) -> Generator[T]:
    """Yield the items while a thread already makes the next ``depth``.

    An exception in the thread is raised here, in place of the item that it cost. When the consumer stops early
    (``close``, Ctrl-C), the thread ends after the item it is at; close it to be sure that it has.
    """
    slots: queue.Queue[_Made[T]] = queue.Queue(maxsize=depth)
    stopped = threading.Event()
    thread = threading.Thread(target=_fill, args=(slots, items, stopped), daemon=True)
    thread.start()
    try:
        while not (made := slots.get()).last:
            yield made.item  # type: ignore[misc]  # None only if an item is
        if made.error is not None:
            raise made.error
    finally:
        stopped.set()
        thread.join()


def _fill(slots: queue.Queue[_Made[T]], items: Iterable[T], stopped: threading.Event) -> None:
    """Put every item, then the end; stop as soon as nobody wants them."""
    try:
        for item in items:
            _put(slots, _Made(item), stopped)
            if stopped.is_set():
                return
        end: _Made[T] = _Made(last=True)
    except BaseException as error:
        end = _Made(last=True, error=error)
    finally:
        if isinstance(items, Generator):
            items.close()  # here, so that what it holds open is free before the consumer goes on
    _put(slots, end, stopped)


def _put(slots: queue.Queue[_Made[T]], made: _Made[T], stopped: threading.Event) -> None:
    while not stopped.is_set():
        with suppress(queue.Full):
            slots.put(made, timeout=0.1)
            return
