import dataclasses
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from conftest import Pointwise, utm_grid, write_image, write_polygons
from PIL import Image

from rscd import DetectConfig, detect
from rscd.core.contract import Contract
from rscd.core.errors import DataError
from rscd.model.catalog import read_contract
from rscd.options.training import TrainConfig
from rscd.training.data.labels import COLLAR_PX
from rscd.training.data.survey import TileFacts, hold_out, survey
from rscd.training.data.tiles import FolderTile
from rscd.workflows.train import train


def save(folder, stem, changed, side=64):
    for part in ("A", "B", "label"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        shape = (side, side) if part == "label" else (side, side, 3)
        pixels = np.zeros(shape, np.uint8)
        if part == "label" and changed:
            pixels[:8, :8] = 255
        Image.fromarray(pixels).save(folder / part / f"{stem}.png")


def config(*data, **options):
    return TrainConfig(data, Path("m.safetensors"), **options)


def facts(stem, changed):
    path = Path(f"{stem}.png")
    return TileFacts(FolderTile(path, path, path), (64, 64), changed, 0)


@pytest.mark.parametrize("seed", range(8))
def test_crops_of_a_scene_stay_together_and_both_sides_have_changes(seed):
    given = [facts(f"town_{scene}_{part}", 5 if scene in (3, 7) else 0) for scene in range(10) for part in range(4)]
    training, validation, words = hold_out(given, seed)
    assert not {f.tile.scene for f in training} & {f.tile.scene for f in validation}
    assert len(training) + len(validation) == 40
    assert any(f.changed for f in training)
    assert any(f.changed for f in validation)
    assert words == f"held out: {len(validation)} of 40 tiles, seed {seed}, whole scenes"
    assert hold_out(given, seed)[1] == validation


def test_one_scene_alone_is_split_by_tiles():
    training, validation, words = hold_out([facts(f"town_1_{part}", 5) for part in range(20)], 0)
    assert (len(training), len(validation)) == (18, 2)
    assert "scenes" not in words


def test_lists_of_the_data_split_it(tmp_path):
    for stem in "abcd":
        save(tmp_path, stem, True)
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "train.txt").write_text("a.png\nb.png\n")
    (tmp_path / "list" / "val.txt").write_text("c.png\n")
    found = survey(config(tmp_path))
    assert [f.tile.label.stem for f in (*found.training, *found.validation)] == ["a", "b", "c"]
    assert found.split == "the data's own list or folder val"


def test_all_that_is_refused_is_listed_and_training_does_not_begin(tmp_path):
    for stem in "abcd":
        save(tmp_path, stem, True)
    save(tmp_path, "b", True, side=32)
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "label" / "b.png")
    Image.fromarray(np.full((64, 64), 128, np.uint8)).save(tmp_path / "label" / "c.png")
    (tmp_path / "A" / "d.png").write_bytes(b"no image")
    found = survey(config(tmp_path, tmp_path / "nowhere"))
    assert [Path(e.path).name for e in found.refused] == ["nowhere", "b.png", "c.png", "d.png"]
    with pytest.raises(DataError, match="3 more refused, which rscd train --check lists") as caught:
        train(dataclasses.replace(config(tmp_path, tmp_path / "nowhere"), output=tmp_path / "m.safetensors"))
    assert caught.value.exit_code == 3
    assert not (tmp_path / "m.safetensors").exists()


def test_data_without_any_change_is_refused(tmp_path):
    for stem in "abc":
        save(tmp_path / "still", stem, False)
        save(tmp_path / "moving", stem, True)
    with pytest.raises(DataError, match=r"still: no changed pixel in the \d training tile"):
        survey(config(tmp_path / "still")).ready()
    with pytest.raises(DataError, match=r"still: no changed pixel in the 3 validation tile"):
        survey(config(tmp_path / "moving", validation=(tmp_path / "still",))).ready()


def test_validation_among_training_and_too_few_tiles_are_refused(tmp_path):
    save(tmp_path, "a", True)
    with pytest.raises(DataError, match=r"a\.png: is among the training and the validation tiles"):
        survey(config(tmp_path, validation=(tmp_path,))).ready()
    with pytest.raises(DataError, match="too few to split"):
        survey(config(tmp_path)).ready()


def test_images_are_decoded_only_where_asked(tmp_path):
    for stem in "abc":
        save(tmp_path, stem, True)
    path = tmp_path / "A" / "b.png"
    path.write_bytes(path.read_bytes()[:60])  # the header alone
    assert not survey(config(tmp_path)).refused
    (error,) = survey(config(tmp_path), images=True).refused
    assert error.path == path


def test_training_on_a_scene_promises_its_pixel_size_and_names_it(labelled_scene, tmp_path):
    three = labelled_scene / "before.tif", labelled_scene / "after.tif", labelled_scene / "drawn.gpkg"
    options = dict(encoder="vit_t", epochs=1, crops=2, crop=64, batch_size=2, threads=1, device="cpu")
    target = tmp_path / "m.safetensors"
    train(TrainConfig((), target, pair=three, **options))
    told = read_contract(target)
    assert told.gsd_m == pytest.approx((0.5 / 2**0.5, 0.5 * 2**0.5), rel=0.01)
    assert told.trained_on.endswith("drawn.gpkg")


def test_a_reviewed_output_of_detect_is_training_data(labelled_scene, tmp_path):
    target = tmp_path / "changes.gpkg"
    contract = Contract("stand-in", "1", "lite", 8, (0.0,) * 3, (1.0,) * 3, window=96, threshold=0.6)
    dates = labelled_scene / "before.tif", labelled_scene / "after.tif"
    detect(DetectConfig(*dates, target, align="off"), model=(Pointwise(), contract))
    given = TrainConfig((), tmp_path / "m.safetensors", reviews=(target,))
    with pytest.raises(DataError, match="no polygon of it is reviewed - open it in QGIS"):
        survey(given).ready()
    with closing(sqlite3.connect(target)) as database, database:  # as QGIS does: the metadata stay
        for name in ("IsEmpty", "MinX", "MaxX", "MinY", "MaxY"):  # what the index's triggers name
            database.create_function(f"ST_{name}", 1, lambda shape: 0)
        database.execute("UPDATE changes SET review = CASE id WHEN 1 THEN 'yes' ELSE 'no' END")
    found = survey(dataclasses.replace(given, aoi=None))
    facts = (*found.training, *found.validation)
    assert sum(f.changed for f in facts) == 50 * 70
    assert 0 < sum(f.judged for f in facts) - 50 * 70 < 60 * 40 + 400 * (2 * COLLAR_PX + 2)


def test_many_scenes_are_held_out_whole(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(5):
        (tmp_path / f"s{i}").mkdir()
        for name in ("before", "after"):
            write_image(tmp_path / f"s{i}" / f"{name}.tif", rng.integers(1, 255, (3, 64, 700), dtype=np.uint8))
        write_polygons(tmp_path / f"s{i}" / "changes.gpkg", [(5, 5, 20, 600)], utm_grid(64, 700))
    found = survey(config(tmp_path, align="off"))
    assert not {f.tile.scene for f in found.training} & {f.tile.scene for f in found.validation}
    assert {f.tile.scene for f in found.validation} <= {str(tmp_path / f"s{i}") for i in range(5)}
    assert len(found.validation) == 3  # the blocks of one scene
