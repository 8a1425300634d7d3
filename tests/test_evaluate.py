import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch
from conftest import Pointwise, pointwise_probability, utm_grid, write_image, write_polygons
from PIL import Image
from typer.testing import CliRunner

from rscd import DetectConfig, detect
from rscd.cli.app import app
from rscd.core.contract import Contract
from rscd.core.errors import DataError, UsageError
from rscd.model.network import Logits
from rscd.options.training import EvaluateConfig
from rscd.workflows.evaluate import evaluate

TERMS = {"window": 96, "overlap": 32, "threshold": 0.6, "trained_on": "nothing", "minimum_mapping_px": 5}
STAND_IN = Pointwise(), Contract("stand-in", "1", "lite", 8, (0.0,) * 3, (1.0,) * 3, **TERMS)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Two tiles of noise of other sizes, with labels that the stand-in gets partly right."""
    folder, rng = tmp_path_factory.mktemp("noise"), np.random.default_rng(2)
    for part in ("A", "B", "label"):
        (folder / part).mkdir()
    for stem, shape in (("one", (130, 200)), ("two", (64, 90))):
        before, after = rng.integers(0, 255, (2, *shape, 3), dtype=np.uint8)
        p = pointwise_probability(np.moveaxis(before, 2, 0), np.moveaxis(after, 2, 0))
        label = ((p > 0.8) ^ (rng.random(shape) < 0.2)).astype(np.uint8)
        for part, image in (("A", before), ("B", after), ("label", label)):
            Image.fromarray(image).save(folder / part / f"{stem}.png")
    return folder


def test_pixel_counts_through_the_tiler_agree_with_scikit_learn(noise):
    metrics = pytest.importorskip("sklearn.metrics")
    told = evaluate(EvaluateConfig((noise,), batch_size=3), model=STAND_IN)
    truth, called = [], []
    for stem in ("one", "two"):
        before, after = (np.moveaxis(np.asarray(Image.open(noise / p / f"{stem}.png")), 2, 0) for p in "AB")
        values = np.rint(pointwise_probability(before, after).astype(np.float32) * 254)
        truth.append(np.asarray(Image.open(noise / "label" / f"{stem}.png")).ravel())
        called.append(values.ravel() >= np.ceil(0.6 * 254))
    total = told.total
    matrix = metrics.confusion_matrix(np.concatenate(truth), np.concatenate(called))
    assert np.abs(matrix - [[total.tn, total.fp], [total.fn, total.tp]]).max() <= 2  # blending's last bit
    scores = metrics.precision_recall_fscore_support(
        np.concatenate(truth), np.concatenate(called), average="binary"
    )
    assert (total.precision, total.recall, total.f1) == pytest.approx(scores[:3], abs=1e-3)
    assert [s.pixels for s in told.scenes] == [130 * 200, 64 * 90]
    assert total.pixels == sum(s.pixels for s in told.scenes)
    for count in ("tp", "fp", "fn", "tn", "objects_there", "objects_found", "objects_matched"):
        assert getattr(total, count) == sum(getattr(s, count) for s in told.scenes)


class Shown(torch.nn.Module):
    """Changed is what differs; there is what is bright."""

    presence = True

    def forward(self, before, after):
        change = ((after[:, 0].float() - before[:, 0].float()).abs() - 40) / 4
        there = torch.stack([before[:, 1], after[:, 1]], dim=1).float()
        return Logits(change, torch.nn.functional.avg_pool2d(there, 4) / 8 - 15)


def test_found_objects_are_counted_by_direction(tmp_path):
    pixels = np.zeros((2, 3, 160, 160), np.uint8)
    for row, (before, after) in {10: (0, 250), 50: (0, 250), 90: (250, 0), 130: (250, 240)}.items():
        for date, value in enumerate((before, after)):
            pixels[date, :, row : row + 20, 30:70] = value
    pixels[1, 0, 130:150, 30:70] = 100  # replaced: bright on both dates, in another colour
    paths = [write_image(tmp_path / f"{name}.tif", image) for name, image in zip("ab", pixels, strict=True)]
    label = write_image(
        tmp_path / "label.tif", (pixels[0] != pixels[1]).any(axis=0, keepdims=True).astype(np.uint8)
    )
    model = Shown().eval(), replace(STAND_IN[1], presence=True)
    for pictures in (None, tmp_path / "pictures"):
        told = evaluate(EvaluateConfig((), pair=(*paths, label), align="off", output=pictures), model=model)
        assert told.total.directions == {"appeared": 2, "replaced": 1, "vanished": 1}
    table = list(csv.DictReader((tmp_path / "pictures" / "scenes.csv").read_text().splitlines()))
    assert [table[-1][way] for way in ("appeared", "replaced", "vanished")] == ["2", "1", "1"]
    assert evaluate(EvaluateConfig((), pair=(*paths, label), align="off"), model=STAND_IN).total.directions == {}


def scene(folder, **options):
    return EvaluateConfig((), pair=(folder / "before.tif", folder / "after.tif", folder / "drawn.gpkg"), **options)


def test_a_scene_is_judged_by_polygons_as_by_a_raster_and_as_detect_maps_it(labelled_scene, tmp_path):
    drawn = evaluate(scene(labelled_scene), model=STAND_IN).total
    raster = evaluate(EvaluateConfig((labelled_scene,)), model=STAND_IN).total
    assert drawn.f1 == drawn.object_f1 == 1
    assert (drawn.tp, drawn.objects_there) == (50 * 70 + 60 * 40, 2)
    assert {**vars(raster), "name": ""} == {**vars(drawn), "name": ""}
    dates = labelled_scene / "before.tif", labelled_scene / "after.tif"
    found = detect(DetectConfig(*dates, tmp_path / "c.gpkg", probability=tmp_path / "p.tif"), model=STAND_IN)
    with rasterio.open(tmp_path / "p.tif") as dataset:
        assert np.count_nonzero(dataset.read(1) >= found.threshold * 254) == drawn.tp + drawn.fp


def test_what_is_not_observable_or_outside_the_area_is_not_judged(labelled_scene, tmp_path):
    with rasterio.open(labelled_scene / "before.tif") as dataset:
        before = dataset.read()
    before[:, :100] = 0
    write_image(tmp_path / "before.tif", before, nodata=0)
    (tmp_path / "after.tif").write_bytes((labelled_scene / "after.tif").read_bytes())
    (tmp_path / "drawn.gpkg").write_bytes((labelled_scene / "drawn.gpkg").read_bytes())
    told = evaluate(scene(tmp_path, align="off"), model=STAND_IN).total
    assert (told.pixels, told.tp, told.objects_there) == (220 * 420, 60 * 40, 1)
    area = write_polygons(tmp_path / "aoi.gpkg", [(0, 0, 150, 420)], utm_grid(320, 420))
    told = evaluate(scene(tmp_path, align="off", aoi=area), model=STAND_IN).total
    assert (told.pixels, told.tp) == (50 * 420, 0)


def test_objects_below_the_minimum_mapping_unit_do_not_count(labelled_scene):
    network, contract = STAND_IN
    large = Contract(**{**vars(contract), "minimum_mapping_m2": 3000 * 0.25})
    told = evaluate(scene(labelled_scene), model=(network, large))
    assert told.minimum_px[0] == pytest.approx(3000, rel=0.01)
    assert (told.total.objects_there, told.total.objects_found) == (1, 1)
    assert told.total.tp == 50 * 70 + 60 * 40  # pixels are judged all the same


def test_parts_of_a_data_set(tiny_tiles, tmp_path):
    (tmp_path / "val").symlink_to(tiny_tiles)
    assert len(evaluate(EvaluateConfig((tmp_path,), split="val"), model=STAND_IN).scenes) == 6
    with pytest.raises(DataError, match=r"holds tiles in val - name one of them, or give --split"):
        evaluate(EvaluateConfig((tmp_path,)), model=STAND_IN)
    with pytest.raises(DataError, match=r"has no list/test\.txt and no folder test/"):
        evaluate(EvaluateConfig((tiny_tiles,), split="test"), model=STAND_IN)
    with pytest.raises(UsageError, match="--split some"):
        evaluate(EvaluateConfig((tiny_tiles,), split="some"), model=STAND_IN)


def test_the_command_prints_a_table_or_json(tiny_tiles, tmp_path):
    def rscd(*arguments):
        return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])

    done = rscd(tiny_tiles, "--window", 64, "--json", "--batch-size", 4)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["model"].startswith("buildings")
    assert told["total"]["pixels"] == 6 * 128 * 128
    assert len(told["scenes"]) == 6
    done = rscd(tiny_tiles, "--window", 64)
    assert "5.png" in done.stdout
    assert "left out of map and labels" in done.stderr
    assert rscd(tmp_path).exit_code == 3
    assert rscd().exit_code == 2
    assert rscd(tiny_tiles, "--model", "nothing").exit_code == 4
