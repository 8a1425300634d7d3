"""The program ``rscd``, in an environment of its own: find it, check its version, run it, interrupt it."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any, Callable, NamedTuple

HERE = Path(__file__).parent
INSTALLED_BY = "installed_by.txt"
"""File that names the program which installed this copy of the plugin."""
SETTING = "Settings > Options > Processing > Providers > rscd"
RESUMABLE = 5
"""Exit code of an interrupted run that the same command continues."""
STEP_S = 0.1
"""How often a run looks whether it was cancelled, s."""
PATIENCE_S = 60.0
"""So long after an interrupt another is sent, which ends the program at once, s."""
HIDDEN = getattr(subprocess, "CREATE_NO_WINDOW", 0) | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
"""On Windows: without a console window, and in a group of its own, so that a break reaches it alone."""
FRAME = " │╭╮╰╯─"
"""What surrounds an error of usage."""
Event = dict


class ProgramError(Exception):
    """The program is missing, of another version, or ended with an error: one line for the user."""


class Ended(NamedTuple):
    """How the program ended."""

    code: int
    """Its exit code."""
    output: str
    """All of its standard output."""
    error: str
    """Its error and the remedy in one line, or its last words; empty if there were none."""


def expected_version() -> str:
    """The version that this plugin goes with."""
    parser = ConfigParser()
    parser.read(HERE / "metadata.txt", encoding="utf-8")
    return parser["general"]["version"]


def series(version: str) -> str:
    """Major and minor number: programs with the same understand each other."""
    return ".".join(version.split(".")[:2])


def candidates(setting: str) -> Iterator[Path]:
    """Where the program may lie: as set, else as installed, on PATH, in the usual folders."""
    if setting:
        yield Path(setting).expanduser()
        return
    noted = HERE / INSTALLED_BY
    if noted.is_file():
        yield Path(noted.read_text(encoding="utf-8").strip())
    found = shutil.which("rscd")
    if found:
        yield Path(found)
    home, local = Path.home(), os.environ.get("LOCALAPPDATA", "")
    folders = [home / ".local", home / ".venv", home / "rscd" / ".venv", Path("/opt/homebrew"), Path("/usr/local")]
    folders += [Path(local) / "rscd"] if local else []
    for folder in folders:
        for name in ("bin/rscd", "bin/rscd.exe", "Scripts/rscd.exe"):
            yield folder / name


def find_program(setting: str) -> str:
    """The path of the program.

    Args:
        setting: What the user set, or nothing.

    Raises:
        ProgramError: It is not there.
    """
    for path in candidates(setting):
        if path.is_file():
            return str(path)
    wanted = f"install rscd {series(expected_version())} in a Python environment of its own"
    if setting:
        raise ProgramError(f"{setting}: there is no such program - correct it in {SETTING}, or {wanted}")
    raise ProgramError(f"the program rscd was not found - {wanted}, and name it in {SETTING}")


def check_version(program: str) -> None:
    """Refuse a program of another version.

    Raises:
        ProgramError: It is of another version, or does not run.
    """
    wanted = series(expected_version())
    remedy = f"install rscd {wanted} there, or run 'rscd qgis install' with it to get the plugin that goes with it"
    try:
        done = ask([program, "--version"], subprocess.STDOUT)
    except (OSError, subprocess.SubprocessError) as error:
        raise ProgramError(f"{program} does not run ({error}) - install rscd {wanted}") from error
    words = done.stdout.decode("utf-8", "replace").split()
    version = words[-1] if words else ""
    if done.returncode or not version[:1].isdigit():
        raise ProgramError(f"{program} does not say its version - install rscd {wanted}")
    if series(version) != wanted:
        raise ProgramError(f"{program} is rscd {version}, and this plugin goes with {wanted} - {remedy}")


def ask(arguments: list[str], stderr: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[bytes]:
    """Run a program that answers at once; its standard output is the answer.

    Args:
        arguments: The program and its arguments.
        stderr: What becomes of its standard error.

    Raises:
        OSError, subprocess.SubprocessError: It does not start, or does not end within a minute.
    """
    return subprocess.run(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        timeout=60,
        env=clean_environment(),
        creationflags=HIDDEN,
    )


def clean_environment() -> dict[str, str]:
    """The environment without what QGIS sets for its own Python and GDAL: it would break those of the program."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GDAL_", "PROJ_"))}
    return {**kept, "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"}


def run(
    arguments: list[str],
    on_event: Callable[[Event], None],
    cancelled: Callable[[], bool],
) -> Ended:
    """Run a program that writes events to standard error, and interrupt it when that is asked for.

    Args:
        arguments: The program and its arguments.
        on_event: Called with each event; a line that is none is given as a message.
        cancelled: Whether the user wants it to stop.

    Raises:
        ProgramError: It cannot be started.
    """
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(),
            creationflags=HIDDEN,
        )
    except OSError as error:
        raise ProgramError(f"{arguments[0]} does not start ({error})") from error
    lines: queue.Queue[str | None] = queue.Queue()
    output: list[bytes] = []
    with process:
        readers = [
            threading.Thread(target=_read_lines, args=(process.stderr, lines), daemon=True),
            threading.Thread(target=_read_all, args=(process.stdout, output), daemon=True),
        ]
        for reader in readers:
            reader.start()
        words = _listen(process, lines, on_event, cancelled)
        for reader in readers:
            reader.join()
        code = process.wait()
    return Ended(code, b"".join(output).decode("utf-8", "replace"), words)


def _read_all(stream: Any, output: list[bytes]) -> None:  # noqa: ANN401
    output.append(stream.read())


def _read_lines(stream: Any, lines: queue.Queue[str | None]) -> None:  # noqa: ANN401
    for line in stream:
        lines.put(line.decode("utf-8", "replace").rstrip())
    lines.put(None)


def _listen(
    process: subprocess.Popen[bytes],
    lines: queue.Queue[str | None],
    on_event: Callable[[Event], None],
    cancelled: Callable[[], bool],
) -> str:
    """Pass events on until standard error ends; returns the error, or the last line that was no event."""
    errors: list[str] = []
    plain, asked_s = "", -float("inf")
    while True:
        if cancelled() and time.monotonic() > asked_s + PATIENCE_S:
            interrupt(process)
            asked_s = time.monotonic()
        try:
            line = lines.get(timeout=STEP_S)
        except queue.Empty:
            continue
        if line is None:
            return " ".join(errors) or plain
        event = parsed(line)
        if event["event"] == "error":
            errors.append(f"{event['text']} - {event['remedy']}" if event.get("remedy") else str(event["text"]))
        elif not line.startswith("{"):
            words = line.strip(FRAME)
            plain = words if any(map(str.isalnum, words)) else plain
        on_event(event)


def parsed(line: str) -> Event:
    """A line of the stream as an event; one that is none, such as a traceback's, is a message."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if isinstance(event, dict) and "event" in event:
        return event
    return {"event": "message", "text": line}


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """Ask the program to stop, as Ctrl-C does; it keeps what is finished, and ends."""
    try:
        if sys.platform == "win32":
            _break(process.pid)
        else:
            process.send_signal(signal.SIGINT)
    except OSError:
        process.terminate()  # what is finished is on disk: this can be continued, too


def _break(pid: int) -> None:
    """On Windows: send Ctrl-Break through the program's own console, for QGIS has none.

    Raises:
        OSError: It cannot be sent.
    """
    if sys.platform == "win32":
        import ctypes

        kernel = ctypes.windll.kernel32
        attached = kernel.AttachConsole(pid)
        try:
            if not kernel.GenerateConsoleCtrlEvent(signal.CTRL_BREAK_EVENT, pid):
                raise OSError("no console")
        finally:
            if attached:
                kernel.FreeConsole()
