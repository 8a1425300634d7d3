"""The journal: finished strips are not forwarded again, however a run ended, and the result is the same."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import utm_grid

from rscd.core.paths import KEY_NAME
from rscd.core.pixel_area import PixelAreas
from rscd.inference.components import label_changes
from rscd.inference.journal import Journal, differences, open_journal, plan_work
from rscd.inference.predictor import ForwardPass
from rscd.inference.strips import IN_FLIGHT, Tally, strip_records
from rscd.scene.window_stream import windows_in_memory
from rscd.scene.windows import WindowPlan

SHAPES = [(32, 8), (32, 0), (32, 24), (32, 28)]  # window and overlap: reach of 1, 0, 3 and 7 windows


class Case:
    """A scene in memory, and a network whose answer depends on where its window lies: wrong blending shows."""

    def __init__(self, window: int, overlap: int) -> None:
        rng = np.random.default_rng(1)
        self.grid = utm_grid(130, 90)
        self.dates = rng.integers(0, 255, (2, 3, *self.grid.shape), dtype=np.uint8)
        self.plan = WindowPlan.over(*self.grid.shape, window, overlap)
        self.fail_at = -1
        self.forwarded = 0

    def forward(self, before, after):
        self.forwarded += len(before)
        if 0 <= self.fail_at < self.forwarded:
            raise KeyboardInterrupt
        difference = after[:, 0].astype(np.float32) - before[:, 0]
        p = 0.5 + difference / 1000 + difference.mean((1, 2), keepdims=True) / 20
        return np.clip(p, 0, 1).astype(np.float32)

    def run(self, journal=None, *, strips=None, threshold=127, all_pixels=False):
        work = plan_work(self.plan, threshold, strips=strips, journal=journal, all_pixels=all_pixels)
        self.read = work.read
        options = {"threshold": threshold, "areas": PixelAreas(self.grid)}
        self.tally = Tally()
        inputs = windows_in_memory(*self.dates, self.plan, work.read)
        return list(
            strip_records(inputs, self.plan, ForwardPass(self.forward, 2), work=work, tally=self.tally, **options)
        )


def same(ours, theirs) -> None:
    assert [r.index for r in ours] == [r.index for r in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert (one.sha256, one.threshold, one.row) == (other.sha256, other.threshold, other.row)
        np.testing.assert_array_equal(one.probability, other.probability)
        np.testing.assert_array_equal(one.runs, other.runs)
        for name, column in vars(one.table).items():
            np.testing.assert_array_equal(column, getattr(other.table, name), err_msg=name)


@pytest.mark.parametrize(("window", "overlap"), SHAPES)
@pytest.mark.parametrize("fail_at", [0, 1, 4, 9, 13])
def test_wherever_a_run_ends_the_next_goes_on_to_the_same_records(tmp_path, window, overlap, fail_at):
    case = Case(window, overlap)
    whole = case.run()
    case.fail_at, case.forwarded = fail_at, 0
    with pytest.raises(KeyboardInterrupt):
        case.run(Journal(tmp_path, case.plan))
    kept = [record.index for record in whole if record.index in Journal(tmp_path, case.plan)]
    assert len(kept) >= (fail_at - IN_FLIGHT) // case.plan.cols.count - 1
    case.fail_at, case.forwarded = -1, 0
    rows = plan_work(case.plan, 127, journal=Journal(tmp_path, case.plan)).forwarded
    assert rows.isdisjoint(kept[: len(kept) - case.plan.rows.reach])
    same(case.run(Journal(tmp_path, case.plan)), whole)
    assert case.forwarded == len(rows) * case.plan.cols.count
    case.forwarded = 0
    same(case.run(Journal(tmp_path, case.plan)), whole)
    assert (case.forwarded, case.read) == (0, ())


@pytest.mark.parametrize(("window", "overlap"), SHAPES)
def test_strips_may_be_made_in_ranges_and_put_together(tmp_path, window, overlap):
    case = Case(window, overlap)
    whole, n = case.run(), case.plan.rows.count
    pieces = [range(0, 1), range(n // 2, n), range(1, n // 2)]
    same([r for strips in sorted(pieces, key=min) for r in case.run(strips=strips)], whole)
    for strips in pieces:
        case.run(Journal(tmp_path, case.plan), strips=strips)
    case.forwarded = 0
    same(case.run(Journal(tmp_path, case.plan)), whole)
    assert case.forwarded == 0


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-1] + bytes([b[-1] ^ 4])]
)
@pytest.mark.parametrize("kind", ["strip", "tail"])
def test_what_is_damaged_is_computed_again(tmp_path, damage, kind):
    case = Case(32, 8)
    whole = case.run(Journal(tmp_path, case.plan))
    for path in tmp_path.glob(f"*2.{kind}") if kind == "strip" else tmp_path.glob("*.tail"):
        path.write_bytes(damage(path.read_bytes()))
    if kind == "tail":
        max(tmp_path.glob("*.strip")).unlink()
    journal = Journal(tmp_path, case.plan)
    assert len(journal) == len(whole) - 1
    assert len(journal.damaged) == (kind == "strip")
    case.forwarded = 0
    same(case.run(journal), whole)
    assert case.forwarded == 2 * case.plan.cols.count  # the strip's windows, and those above that reach into it


def test_another_threshold_reads_pixels_for_the_colours_and_forwards_nothing(tmp_path):
    case = Case(32, 8)
    case.run(Journal(tmp_path, case.plan))
    again = case.run(threshold=140)
    case.forwarded = 0
    same(case.run(Journal(tmp_path, case.plan), threshold=140), again)
    assert case.forwarded == 0
    assert len(case.read) == case.plan.rows.count
    assert len(again[0].table) != len(case.run(Journal(tmp_path, case.plan))[0].table)
    np.testing.assert_array_equal(again[0].runs, label_changes(again[0].probability, 140))


def test_a_journal_of_another_run_is_told_and_begun_anew(tmp_path):
    case, told = Case(32, 8), []
    key = {"model": "a" * 64, "options": {"batch_size": 8}}
    case.run(open_journal(tmp_path, case.plan, key, notify=told.append))
    assert told == []
    n = case.plan.rows.count
    assert len(open_journal(tmp_path, case.plan, key, notify=told.append)) == n
    assert told.pop() == f"resuming: {n} of {n} strips finished in {tmp_path.name}"
    other = {"model": "b" * 64, "options": {"batch_size": 4}}
    assert len(open_journal(tmp_path, case.plan, other, notify=told.append)) == 0
    why = "model differs, options.batch_size was 8, is 4"
    assert told.pop() == f"starting from the beginning, not from {tmp_path.name}: {why}"
    assert json.loads((tmp_path / KEY_NAME).read_text())["options"] == {"batch_size": 4}
    case.run(open_journal(tmp_path, case.plan, other))
    assert len(open_journal(tmp_path, case.plan, other, resume=False, notify=told.append)) == 0
    assert "--no-resume" in told.pop()


def test_differences_name_what_is_new_and_what_is_gone():
    assert differences({"a": 1, "b": {"c": 2}}, {"b": {"c": 3, "d": None}, "e": 5}) == [
        "b.c was 2, is 3",
        "b.d was absent, is None",
        "e was absent, is 5",
        "a was 1, is absent",
    ]
