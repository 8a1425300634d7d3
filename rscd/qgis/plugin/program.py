"""The program ``rscd``, in its own environment: find it, check its version, run it, interrupt it."""

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
"""File with the path of the program that installed this copy of the plugin."""
SETTING = "Settings > Options > Processing > Providers > rscd"
RESUMABLE = 5
"""Exit code of an interrupted run that the same command continues."""
STEP_S = 0.1
"""Interval of checks whether a run was cancelled, s."""
PATIENCE_S = 60.0
"""Delay after which a second interrupt is sent, which ends the program at once, s."""
HIDDEN = getattr(subprocess, "CREATE_NO_WINDOW", 0) | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
"""On Windows: without a console window, and in a separate process group, so that a break reaches only this
process."""
FRAME = " │╭╮╰╯─"
"""Lines around a usage error."""
Event = dict


class ProgramError(Exception):
    """The program is missing, has another version, or ended with an error; the message is one line for the user."""


class Ended(NamedTuple):
    """Result of the program."""

    code: int
    """The exit code."""
    output: str
    """The whole standard output."""
    error: str
    """The error and its remedy in one line, or the last line of standard error; empty if there is none."""


def expected_version() -> str:
    """The rscd version that this plugin needs."""
    parser = ConfigParser()
    parser.read(HERE / "metadata.txt", encoding="utf-8")
    return parser["general"]["version"]


def series(version: str) -> str:
    """Major and minor version: programs with equal ones are compatible."""
    return ".".join(version.split(".")[:2])


def candidates(setting: str) -> Iterator[Path]:
    """Possible paths of the program: from the setting, the installation, PATH, the usual folders."""
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
        setting: The user's setting, or empty.

    Raises:
        ProgramError: It was not found.
    """
    for path in candidates(setting):
        if path.is_file():
            return str(path)
    wanted = f"install rscd {series(expected_version())} in a separate Python environment"
    if setting:
        raise ProgramError(f"{setting}: there is no such program - correct it in {SETTING}, or {wanted}")
    raise ProgramError(f"the program rscd was not found - {wanted}, and name it in {SETTING}")


def check_version(program: str) -> None:
    """Refuse a program of another version.

    Raises:
        ProgramError: It is of another version, or does not run.
    """
    wanted = series(expected_version())
    remedy = f"install rscd {wanted} there, or run 'rscd qgis install' with it to get the matching plugin"
    try:
        done = ask([program, "--version"], subprocess.STDOUT)
    except (OSError, subprocess.SubprocessError) as error:
        raise ProgramError(f"{program} does not run ({error}) - install rscd {wanted}") from error
    words = done.stdout.decode("utf-8", "replace").split()
    version = words[-1] if words else ""
    if done.returncode or not version[:1].isdigit():
        raise ProgramError(f"{program} does not report its version - install rscd {wanted}")
    if series(version) != wanted:
        raise ProgramError(f"{program} is rscd {version}, but this plugin needs {wanted} - {remedy}")


def ask(arguments: list[str], stderr: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[bytes]:
    """Run a program that answers at once; returns its standard output.

    Args:
        arguments: The program and its arguments.
        stderr: Destination of its standard error.

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
    """The environment without QGIS's variables for its own Python and GDAL, which would break the program."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GDAL_", "PROJ_"))}
    return {**kept, "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"}


def run(
    arguments: list[str],
    on_event: Callable[[Event], None],
    cancelled: Callable[[], bool],
) -> Ended:
    """Run a program that writes events to standard error, and interrupt it if the user cancels.

    Args:
        arguments: The program and its arguments.
        on_event: Called with each event; other lines are passed as messages.
        cancelled: Whether the user cancelled it.

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
    """Pass events on until standard error ends; returns the error, or the last line that was not an event."""
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
    """A line of the stream as an event; other lines, e.g. of a traceback, become messages."""
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
        process.terminate()  # finished work is on disk: this can also be continued


def _break(pid: int) -> None:
    """On Windows: send Ctrl-Break through the program's own console, because QGIS has none.

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
