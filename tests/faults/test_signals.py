"""Asked to stop, a run ends between two batches with exit code 5, and says how to go on."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

from faults.scenario import MOST_FORWARDED, Case, same_result, start_stub


def check_and_resume(case: Case, whole: Case, code: int, told: str, group: int, forwarded: int) -> None:
    assert code == 5, told
    assert case.listing() == ["changes.gpkg.rscd"], "outputs or temporary files are left"
    assert not [path for path in case.journal.iterdir() if path.name.startswith(".")]
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)  # a process that it started lives on
    line = re.search(r"to continue this run: (.*)", told)
    assert line is not None, told
    words = shlex.split(line[1])
    assert words == ["rscd", *case.words()]
    again = start_stub(command=words[1:])
    assert again.finish()[0] == 0
    assert forwarded + again.windows <= MOST_FORWARDED
    same_result(case, whole)
    assert case.listing() == ["changes.gpkg", "p.qml", "p.tif", "report.html"]


@pytest.mark.row("SIGTERM, SIGINT, terminal closed")
@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("hold", "nth"), [("forward", 5), ("keep", 3), ("cog-copy", 1)])
def test_a_signal_ends_the_run_so_that_it_can_go_on(pair, whole, tmp_path, number, hold, nth):
    case = Case(*pair, tmp_path)
    victim = start_stub(hold=hold, nth=nth, command=case.words("--no-resume"))
    victim.kill(number)
    victim.go_on()
    code, told = victim.finish()
    assert signal.Signals(number).name in told
    check_and_resume(case, whole, code, told, victim.process.pid, victim.windows)


@pytest.mark.row("SIGTERM, SIGINT, terminal closed")
@pytest.mark.faults
def test_a_closed_terminal_ends_the_run_so_that_it_can_go_on(pair, whole, tmp_path):
    case = Case(*pair, tmp_path)
    ours, theirs = os.openpty()
    victim = start_stub(hold="forward", nth=6, command=case.words(), terminal=os.ttyname(theirs))
    assert victim.read_until("HOLD")
    os.close(theirs)
    os.close(ours)
    victim.go_on()
    code, _ = victim.finish()
    told = f"to continue this run: {shlex.join(['rscd', *case.words()])}"  # nobody could read it
    check_and_resume(case, whole, code, told, victim.process.pid, victim.windows)


@pytest.mark.row("SIGTERM, SIGINT, terminal closed")
@pytest.mark.faults
def test_polygons_ends_at_once_and_leaves_nothing(whole, tmp_path):
    words = ["polygons", str(whole.outputs[1]), "-o", str(tmp_path / "c.gpkg")]
    victim = start_stub(hold="gpkg-style", command=words)
    victim.kill(signal.SIGTERM)
    code, told = victim.finish()
    assert (code, [*tmp_path.iterdir()]) == (5, []), told


@pytest.mark.row("SIGTERM, SIGINT, terminal closed")
@pytest.mark.faults
def test_nohup_is_heeded():
    code = (
        "import os, signal\nfrom rscd.cli.console import exit_codes\n"
        "with exit_codes():\n    os.kill(os.getpid(), signal.SIGHUP)\nprint('lives')"
    )
    command = ["nohup", sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "lives\n"
