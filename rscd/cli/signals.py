"""Signals: asked to stop, a run ends between two batches, keeps what is finished, and says how to go on."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rscd.errors import Interrupted

STOPPING = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
Handler = Callable[[int, FrameType | None], None]


@contextmanager
def handling(handler: Handler) -> Iterator[None]:
    """Let the signals that stop a run call ``handler``, except one that is ignored (``nohup``)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.getsignal(number) for number in STOPPING}
    heard = [number for number in STOPPING if old[number] != signal.SIG_IGN]
    try:
        for number in heard:
            signal.signal(number, handler)
        yield
    finally:
        for number in heard:
            signal.signal(number, old[number])


def end_at_once(number: int, frame: FrameType | None) -> None:
    """Handler: unwind the stack, as Ctrl-C does.

    Raises:
        KeyboardInterrupt: Always.
    """
    raise KeyboardInterrupt


@contextmanager
def stopping() -> Iterator[Callable[[], None]]:
    """Yield what a run calls between batches: once a signal came, it raises Interrupted.

    A second signal ends the run at once.
    """
    heard: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if heard:
            end_at_once(number, frame)
        heard.append(number)

    def interrupt() -> None:
        if heard:
            raise Interrupted(f"interrupted by {signal.Signals(heard[0]).name}; no output was changed")

    with handling(note):
        yield interrupt


def resume_command() -> str:
    """The command line that goes on where this one was."""
    return shlex.join(["rscd", *(word for word in sys.argv[1:] if word != "--no-resume")])
