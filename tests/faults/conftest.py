"""The fault suite: ``pytest -m faults`` takes all of it, a plain ``pytest`` a sample; and the table in the end.

A test names its row of the table with ``@pytest.mark.row("...")``, and what it tried with
``record_property("tried", n)`` (default: 1).
"""

from __future__ import annotations

import random
import subprocess
from collections import Counter

import pytest

from faults.scenario import COLUMNS, STRIPS, Case, make_pair

SEED = 20261127
"""The seed of samples: of a commit, so that its tests are the same on every day. ``-m faults`` takes all."""


def sample(points: list, count: int) -> list:
    """A sample of a list."""
    return random.Random(SEED).sample(points, count)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory):
    """Two dates on disk."""
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="session")
def whole(pair, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """An uninterrupted run on them."""
    case = Case(*pair, tmp_path_factory.mktemp("whole"))
    assert case.run().windows == STRIPS * COLUMNS
    assert case.listing() == ["changes.gpkg", "p.qml", "p.tif", "report.html"]
    return case


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a file system is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(autouse=True)
def _row(request: pytest.FixtureRequest, record_property) -> None:
    mark = request.node.get_closest_marker("row")
    if mark is not None:
        record_property("row", mark.args[0])


def pytest_terminal_summary(terminalreporter) -> None:
    """Print the table: each row with its tests and what they tried."""
    rows: dict[str, Counter] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            told = dict(getattr(report, "user_properties", []))
            if "row" in told and (report.when == "call" or outcome != "passed"):
                row = rows.setdefault(told["row"], Counter())
                row[outcome] += 1
                row["tried"] += told.get("tried", 1) if outcome != "skipped" else 0
    if not rows:
        return
    terminalreporter.section(f"faults (seed {SEED})")
    for name, row in rows.items():
        outcomes = ", ".join(
            f"{row[outcome]} {outcome}" for outcome in ("passed", "failed", "error", "skipped") if row[outcome]
        )
        terminalreporter.write_line(f"{name:<58} {row['tried']:>5} tried  {outcomes}")
