import os
import subprocess

import pytest

from rscd.core.errors import OutputError, UsageError
from rscd.core.paths import check_target, placed_by_dead_run
from rscd.core.publish import Publication, publishing


@pytest.mark.parametrize("name", ["out.txt", "it's #1? [ü] 100%.txt"])
def test_the_target_appears_whole_or_stays_as_it_was(tmp_path, name):
    target = tmp_path / name
    target.write_text("old")
    with pytest.raises(ValueError, match="half way"), publishing(target) as temporary:
        temporary.write_text("new")
        temporary.with_name(temporary.name + "-journal").write_text("left by SQLite")
        assert target.read_text() == "old"
        raise ValueError("half way")
    assert target.read_text() == "old"
    with publishing(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_targets_are_checked_before_the_work(tmp_path):
    check_target(tmp_path / "new", overwrite=False)
    (tmp_path / "old").touch()
    check_target(tmp_path / "old", overwrite=True)
    with pytest.raises(UsageError, match="overwrite=True"):
        check_target(tmp_path / "old", overwrite=False)
    with pytest.raises(UsageError, match="folder"):
        check_target(tmp_path, overwrite=True)
    with pytest.raises(OutputError, match="mkdir"):
        check_target(tmp_path / "no" / "x", overwrite=True)


def test_outputs_appear_together_or_not_at_all(tmp_path):
    targets = [tmp_path / name for name in ("a.tif", "b.gpkg", "c.html")]
    targets[1].write_text("old")
    with pytest.raises(ValueError, match="half way"), Publication() as publication:
        for target in targets:
            publication.beside(target).write_text("new")
        publication.beside(targets[1]).with_name(f".b.{os.getpid()}.tmp.gpkg-journal").touch()
        raise ValueError("half way")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("b.gpkg", "old")]
    with Publication() as publication:
        for target in targets:
            publication.beside(target).write_text("new")
        publication.publish()
    assert sorted(tmp_path.iterdir()) == targets
    assert {path.read_text() for path in targets} == {"new"}


def test_what_a_dead_process_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path):
    process = subprocess.Popen(["sleep", "60"])
    alive = tmp_path / f".a.{process.pid}.tmp.tif"
    alive.touch()
    process.kill()
    process.wait()
    dead = [tmp_path / f"{alive.name}{end}" for end in ("", ".rows.tif")]
    others = [tmp_path / f".ab.{process.pid}.tmp.tif", tmp_path / ".a.1.tmp.tif", tmp_path / ".a.x.tmp.tif"]
    for path in (*dead, *others):
        path.touch()
    with publishing(tmp_path / "a.tif") as temporary:
        assert not any(path.exists() for path in dead)
        temporary.touch()
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "a.tif"])


def test_files_put_in_place_by_a_run_that_died_in_between_are_known(tmp_path, monkeypatch):
    record, first, second = (tmp_path / name for name in ("record", "a", "b"))
    replaced = type(record).replace

    def dying(self, target):
        if target == second:
            raise KeyboardInterrupt
        return replaced(self, target)

    monkeypatch.setattr(type(record), "replace", dying)
    with pytest.raises(KeyboardInterrupt), Publication(record) as publication:
        for target in (first, second):
            publication.beside(target).write_text("new")
        publication.publish()
    assert placed_by_dead_run(first, record)
    assert not placed_by_dead_run(second, record)
    first.write_text("the user's own by now")
    assert not placed_by_dead_run(first, record)
