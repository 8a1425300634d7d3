"""kill -9: wherever a run ends, outputs are absent or complete, and the next run comes to the same result."""

from __future__ import annotations

import random

import pytest

from faults.conftest import SEED, sample
from faults.scenario import MOST_FORWARDED, STRIPS, Case, features_of, raster_of, same_result

MIDDLE = range(3, STRIPS - 1)
"""Bands that are neither among the first nor the last."""
PHASES = {
    "first strip": [
        ("forward", range(1, 3)),
        ("blended", [1]),
        ("keep", [1]),
        ("replace-strip", [2]),
        ("kept", [1]),
    ],
    "middle": [
        ("forward", range(5, 2 * STRIPS - 2)),
        *((name, MIDDLE) for name in ("keep", "replace-strip", "kept", "traced")),
    ],
    "seam tail": [("blended", MIDDLE), ("tail-written", MIDDLE), ("replace-stripd", MIDDLE)],
    "COG": [("cog-rows", [STRIPS]), *((name, [1]) for name in ("cog", "cog-copy", "cog-copied", "cog-verified"))],
    "GPKG": [(name, [1]) for name in ("gpkg", "gpkg-layers", "gpkg-style", "gpkg-described", "gpkg-checked")],
    "replace": [("publish", [1]), ("recorded", [1]), ("replace", [1, 2, 3]), ("replaced", [2, 3]), ("placed", [1])],
}
"""Where a run is killed: points that the stub announces, and which time."""
EACH = 5


def kill_points() -> list[tuple[str, str, int]]:
    """EACH of every phase: every kind of point once, then others, their times drawn by the seed."""
    rng, points = random.Random(SEED), []
    for phase, kinds in PHASES.items():
        everywhere = [(phase, name, nth) for name, times in kinds for nth in times]
        first = [(phase, name, rng.choice(list(times))) for name, times in kinds][:EACH]
        others = [point for point in everywhere if point not in first]
        points += first + rng.sample(others, min(EACH - len(first), len(others)))
    return points


POINTS = kill_points()


def kill_and_resume(pair, whole: Case, folder, hold: str, nth: int, *, overwrite: bool) -> None:
    case = Case(*pair, folder, {"overwrite": overwrite})
    old = case.old_outputs() if overwrite else {}
    victim = case.start(hold=hold, nth=nth)
    victim.kill()
    for path in case.outputs:  # the old one, or none, or, killed while they are put in place, the new one
        state = path.read_bytes() if path.exists() else None
        if state != old.get(path):
            assert hold in ("replace", "replaced", "placed"), f"{path.name} was put in place before all were ready"
    raster = case.outputs[1]
    if raster.exists() and raster.read_bytes() != old.get(raster):
        assert raster_of(case) == raster_of(whole)
    if case.output.exists() and case.output.read_bytes() != old.get(case.output):
        assert features_of(case) == features_of(whole)
    result = case.run()
    same_result(case, whole)
    assert case.listing() == ["changes.gpkg", "p.qml", "p.tif", "report.html"], "temporary files are left"
    assert victim.windows + result.windows <= MOST_FORWARDED
    assert result.bands_resumed >= victim.points.count("kept")


@pytest.mark.row("kill -9 at 30 seeded points")
@pytest.mark.faults
@pytest.mark.parametrize(("phase", "hold", "nth"), POINTS)
def test_killed_anywhere_the_next_run_comes_to_the_same_result(pair, whole, tmp_path, phase, hold, nth):
    kill_and_resume(pair, whole, tmp_path, hold, nth, overwrite=nth % 2 == 0)


@pytest.mark.row("kill -9, a sample")
@pytest.mark.parametrize(("phase", "hold", "nth"), sample(POINTS, 5))
def test_killed_at_some_points(pair, whole, tmp_path, phase, hold, nth):
    kill_and_resume(pair, whole, tmp_path, hold, nth, overwrite=nth % 2 == 1)


def test_there_are_thirty_points_and_at_least_three_of_each_phase():
    assert len(set(POINTS)) == len(POINTS) == 30
    assert all(sum(point[0] == phase for point in POINTS) >= 3 for phase in PHASES)
