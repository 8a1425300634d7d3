import numpy as np
import pytest
from PIL import Image

from rscd.core.errors import DataError
from rscd.training.data.tiles import CHANGED, UNCHANGED, find_part, find_tiles, scene_of


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
    assert "label values 7 other than 0, 1 and 255" in refused(folder)
    save(folder, "label", "a.png", np.zeros((39, 50), np.uint8))
    assert "sizes differ: before 50 x 40, after 50 x 40, label 50 x 39 px" in refused(folder)
    (folder / "label" / "a.png").write_bytes(b"no image")
    told = refused(folder)
    assert "a.png" in told
    assert "cannot be read" in told
    (folder / "label" / "a.png").unlink()
    assert "no partner for 'a'" in refused(folder)
    assert "no such folder" in refused(tmp_path / "elsewhere")
    for part in ("A", "B", "label"):
        (tmp_path / "empty" / part).mkdir(parents=True)
    assert "no image in A/" in refused(tmp_path / "empty")
    (tmp_path / "empty" / "B").rmdir()
    assert "no folder B/ (or b, Image2" in refused(tmp_path / "empty")


def test_an_image_of_more_than_8_bit_is_refused_and_not_cut(folder):
    Image.fromarray(np.full((40, 50), 3000, np.uint16)).save(folder / "A" / "a.png")
    assert "more than 8 bit" in refused(folder)


def test_all_that_is_wrong_is_told_to_who_asks(folder):
    (folder / "A" / "a.png").unlink()
    (folder / "label" / "b.png").unlink()
    bad = []
    assert find_tiles([folder, folder / "nowhere"], bad.append) == []
    assert len(bad) == 3


@pytest.mark.parametrize(
    "names", [("Image1", "Image2", "label"), ("im1", "im2", "GT"), ("A", "B", "OUT"), ("a", "b", "mask")]
)
def test_the_layouts_of_data_sets_are_known(tmp_path, names):
    for name in names:
        save(tmp_path, name, "1.tif", np.zeros((32, 32), np.uint8))
    (tile,) = find_tiles([tmp_path])
    assert tile.paths == tuple(tmp_path / name / "1.tif" for name in names)


def test_lists_and_folders_tell_what_is_for_training(folder, tmp_path):
    (folder / "list").mkdir()
    (folder / "list" / "train.txt").write_text("a.png\n\n")
    (folder / "list" / "val.txt").write_text("b\n")
    assert [t.label.stem for t in find_part(folder, "train")] == ["a"]
    assert [t.label.stem for t in find_part(folder, "val")] == ["b"]
    assert find_part(folder, "test") is None
    (folder / "list" / "test.txt").write_text("c.png")
    with pytest.raises(DataError, match=r"no partner for 'c', which .*test\.txt names"):
        find_part(folder, "test")
    for part in ("A", "B", "label"):
        save(tmp_path / "set" / "val", part, "9.png", np.zeros((32, 32), np.uint8))
    assert [t.label.stem for t in find_part(tmp_path / "set", "val")] == ["9"]
    assert find_part(tmp_path / "set", "train") is None


@pytest.mark.parametrize(
    ("stem", "scene"),
    [
        ("train_12_0_3", "train_12"),
        ("train_12_r256_c512", "train_12"),
        ("train_12", "train_12"),
        ("00012", "00012"),
        ("city-3 x100 y200", "city-3"),
    ],
)
def test_a_crop_knows_its_scene(stem, scene):
    assert scene_of(stem) == scene


def test_contents_change_with_the_label_and_not_with_the_place(folder, tmp_path):
    tile = find_tiles([folder])[0]
    before = tile.contents()
    assert len(before) == 3
    save(folder, "label", "a.png", np.ones((40, 50), np.uint8))
    assert tile.contents()[:2] == before[:2]
    assert tile.contents()[2] != before[2]
