import pytest

from rscd.errors import OutputError, UsageError
from rscd.output.publish import check_target, publishing


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
    with pytest.raises(UsageError, match="--overwrite"):
        check_target(tmp_path / "old", overwrite=False)
    with pytest.raises(UsageError, match="folder"):
        check_target(tmp_path, overwrite=True)
    with pytest.raises(OutputError, match="mkdir"):
        check_target(tmp_path / "no" / "x", overwrite=True)
