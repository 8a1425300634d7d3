import numpy as np
import pytest
from PIL import Image

from rscd.errors import DataError
from rscd.training.tiles import CHANGED, UNCHANGED, find_tiles


def save(folder, part, name, pixels):
    (folder / part).mkdir(exist_ok=True, parents=True)
    Image.fromarray(pixels).save(folder / part / name)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for stem in ("b", "a"):
        for part in ("A", "B"):
            save(tmp_path, part, f"{stem}.png", rng.integers(0, 255, (40, 50, 3), dtype=np.uint8))
        label = np.zeros((40, 50), np.uint8)
        label[5:9, 7:20] = 255 if stem == "a" else 1
        save(tmp_path, "label", f"{stem}.png", label)
    return tmp_path


def test_tiles_are_found_in_order_and_read(folder):
    tiles = find_tiles([folder])
    assert [t.before.stem for t in tiles] == ["a", "b"]
    for tile in tiles:
        before, after, label = tile.read()
        assert before.shape == after.shape == (3, 40, 50)
        assert label.dtype == np.uint8
        assert set(np.unique(label)) == {UNCHANGED, CHANGED}
        assert label.sum() == 4 * 13


def refused(folder):
    with pytest.raises(DataError) as caught:
        for tile in find_tiles([folder]):
            tile.read()
    assert caught.value.exit_code == 3
    return str(caught.value)


def test_what_cannot_be_used_is_named(folder, tmp_path):
    save(folder, "label", "a.png", np.full((40, 50), 7, np.uint8))
    assert "label values [7]" in refused(folder)
    save(folder, "label", "a.png", np.zeros((39, 50), np.uint8))
    assert "sizes differ" in refused(folder)
    (folder / "label" / "a.png").write_bytes(b"no image")
    told = refused(folder)
    assert "a.png" in told
    assert "cannot be read" in told
    (folder / "label" / "a.png").unlink()
    assert "no partner for 'a'" in refused(folder)
    assert "no folder A/" in refused(tmp_path / "elsewhere")
    for part in ("A", "B", "label"):
        (tmp_path / "empty" / part).mkdir(parents=True)
    assert "no image in A/" in refused(tmp_path / "empty")
