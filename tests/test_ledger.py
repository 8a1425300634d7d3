"""The ledger: what became of each pair survives the run, also one that was cut off."""

import sqlite3
from pathlib import Path

import pytest

from rscd.core.errors import OutputError
from rscd.jobs.job import PairJob, PairOutcome
from rscd.jobs.ledger import LEDGER, Ledger
from rscd.options.detect import DetectConfig


def job(name: str) -> PairJob:
    return PairJob(name, DetectConfig(Path(f"{name}1.tif"), Path(f"{name}2.tif"), Path(f"{name}.gpkg")), "0" * 64)


def states(ledger: Ledger) -> dict[str, str]:
    return {entry.id: entry.state for entry in ledger.entries()}


def test_outcomes_are_there_when_it_is_opened_again(tmp_path):
    with Ledger(tmp_path) as ledger:
        assert ledger.expect([job("a"), job("b"), job("c")]) == set()
        ledger.start(job("a"))
        ledger.record(PairOutcome("a", "done", fingerprint="f", polygons=7, changed_m2=12.5, model="m 1"))
        ledger.record(PairOutcome("b", "failed", error="b1.tif: no such file", exit_code=3))
    with Ledger(tmp_path) as ledger:
        assert states(ledger) == {"a": "done", "b": "failed", "c": "pending"}
        first, second, _ = ledger.entries()
        assert (first.polygons, first.changed_m2, first.fingerprint, first.model) == (7, 12.5, "f", "m 1")
        assert first.ended
        assert second.error == "b1.tif: no such file"


def test_what_a_cut_off_run_was_at_is_named_and_pending_again(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.expect([job("a"), job("b")])
    ledger.start(job("b"))
    ledger._database.close()  # as a killed process leaves it
    ledger._lock.close()
    with Ledger(tmp_path) as again:
        assert again.expect([job("a"), job("b")]) == {"b"}
        assert states(again) == {"a": "pending", "b": "pending"}


def test_the_order_and_the_pairs_are_those_of_the_manifest_that_came_last(tmp_path):
    with Ledger(tmp_path) as ledger:
        ledger.expect([job("a"), job("b")])
        ledger.record(PairOutcome("a", "done"))
        ledger.expect([job("c"), job("a")])
        assert states(ledger) == {"c": "pending", "a": "done"}
        ledger.forget(["a"])
        assert states(ledger) == {"c": "pending", "a": "pending"}


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path):
    with sqlite3.connect(tmp_path / LEDGER) as database:
        database.execute("CREATE TABLE pairs (colour TEXT)")
    before = (tmp_path / LEDGER).read_bytes()
    with pytest.raises(OutputError, match="is not a usable ledger"):
        Ledger(tmp_path)
    assert (tmp_path / LEDGER).read_bytes()[:100] != b""
    assert len(before) <= (tmp_path / LEDGER).stat().st_size
