"""Signals: a stopped run ends between two batches, keeps what is finished, and prints how to continue."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rscd.core.errors import Interrupted

NAMES = "SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"
STOPPING = tuple(signal.Signals[name] for name in NAMES if hasattr(signal, name))
"""Signals that stop a run; Windows has no SIGHUP, but SIGBREAK, which programs can send."""
AGAIN_S = 0.05
"""Delay after which an interrupt that was lost in a finaliser is sent again, s."""
Handler = Callable[[int, FrameType | None], None]


@contextmanager
def handling(handler: Handler) -> Iterator[None]:
    """Handle the signals that stop a run with ``handler``, except ignored ones (``nohup``)."""
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
        KeyboardInterrupt: Always, with the signal's number.
    """
    raise KeyboardInterrupt(number)


@contextmanager
def unwinding() -> Iterator[None]:
    """Let the signals that stop a run unwind the stack, whenever they arrive.

    Python drops an exception that is raised inside a finaliser (``__del__``, a weak reference's callback), and with
    it the user's request: the signal is then sent once more, after the finaliser.
    """
    previous = sys.unraisablehook
    inside = True

    def send(number: int) -> None:
        if inside:
            if sys.platform == "win32":
                signal.raise_signal(number)
            else:
                signal.pthread_kill(threading.main_thread().ident or 0, number)

    def dropped(what: sys.UnraisableHookArgs) -> None:
        if not isinstance(what.exc_value, KeyboardInterrupt):
            previous(what)
            return
        again = threading.Timer(AGAIN_S, send, what.exc_value.args or (signal.SIGINT,))
        again.daemon = True
        again.start()

    sys.unraisablehook = dropped
    try:
        with handling(end_at_once):
            yield
    finally:
        inside = False
        sys.unraisablehook = previous


@contextmanager
def stopping() -> Iterator[Callable[[], None]]:
    """Yield a function that a run calls between batches; after a signal it raises Interrupted.

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
    """The command line that continues this run."""
    return shlex.join(["rscd", *(word for word in sys.argv[1:] if word != "--no-resume")])
