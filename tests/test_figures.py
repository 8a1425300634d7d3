"""Contact sheets and the pictures of an evaluation."""

import csv
import json

import numpy as np
from conftest import Pointwise
from PIL import Image
from typer.testing import CliRunner

from rscd.cli.app import app
from rscd.core.contract import Contract
from rscd.options.training import EvaluateConfig, TrainConfig
from rscd.training.data.survey import TileFacts, survey
from rscd.training.evaluation.figures import (
    LINE,
    PRECISION_RECALL,
    RELIABILITY,
    SCENES,
    SHOWN,
    SIDE,
    choose,
    write_sheet,
)
from rscd.workflows.evaluate import evaluate


def rscd(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_sheet_shows_dates_and_label_side_by_side(tiny_tiles, tmp_path):
    found = survey(TrainConfig((tiny_tiles,), tmp_path / "m"))
    write_sheet(tmp_path / "sheet.png", found.training[:1])
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    before, after, label = found.training[0].tile.read()
    top, left = 6 + LINE, 6
    for i, image in enumerate((before, after)):
        shown = sheet[top : top + 128, left + i * (SIDE + 6) : left + i * (SIDE + 6) + 128]
        assert (shown == np.moveaxis(image, 0, 2)).all()
    shown = sheet[top : top + 128, left + 2 * (SIDE + 6) : left + 2 * (SIDE + 6) + 128]
    assert ((shown[..., 0] == 255) == (label == 1)).all()


def test_tiles_with_changes_are_preferred_and_spread():
    class Named:
        def __init__(self, i):
            self.name = f"{i:03}"

    facts = [TileFacts(Named(i), (8, 8), i % 4 == 0, 0) for i in range(200)]
    chosen = choose(facts)
    assert len(chosen) == SHOWN
    assert sum(f.changed for f in chosen) == SHOWN - SHOWN // 4
    assert (chosen[0].tile.name, chosen[-1].tile.name) == ("000", "199")


def test_check_reports_and_does_not_train(tiny_tiles, tmp_path):
    sheet = tmp_path / "sheet.png"
    done = rscd("train", tiny_tiles, "--check", "--sheet", sheet, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    parts = told["training"], told["validation"]
    assert [p["tiles"] for p in parts] == [5, 1]
    assert [p["changed_px"] for p in parts] == [5 * 1600, 1600]
    assert parts[0]["label_values"] == [0, 255]
    assert parts[0]["sizes"] == {"128 x 128 px": 5}
    assert told["refused"] == []
    assert Image.open(sheet).width > 6 * SIDE
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sheet.png"]


def test_check_lists_every_bad_file_with_exit_code_3(tiny_tiles, tmp_path):
    for part in ("A", "B", "label"):
        (tmp_path / part).mkdir()
        for path in (tiny_tiles / part).iterdir():
            (tmp_path / part / path.name).write_bytes(path.read_bytes())
    (tmp_path / "label" / "1.png").unlink()
    (tmp_path / "B" / "2.png").write_bytes(b"no image")
    Image.new("L", (128, 128), 77).save(tmp_path / "label" / "3.png")
    done = rscd("train", tmp_path, "--check", "--sheet", tmp_path / "sheet.png")
    assert done.exit_code == 3
    lines = [line for line in done.stderr.splitlines() if line.startswith("rscd:")]
    assert len(lines) == 3
    for word in ("no partner for '1'", "2.png: cannot be read", "label values 77"):
        assert any(word in line for line in lines)
    assert "training" in done.stdout
    done = rscd("train", tmp_path)
    assert done.exit_code == 2
    assert "-o MODEL.safetensors" in done.stderr


STAND_IN = Pointwise(), Contract("stand-in", "1", "lite", 8, (0.0,) * 3, (1.0,) * 3, window=96, threshold=0.6)


def test_pictures_and_the_table_of_scenes_are_written(tiny_tiles, tmp_path):
    told = evaluate(EvaluateConfig((tiny_tiles,), output=tmp_path / "new" / "out"), model=STAND_IN)
    folder = tmp_path / "new" / "out"
    assert sorted(p.name for p in folder.iterdir()) == sorted((PRECISION_RECALL, RELIABILITY, SCENES))
    for name in (PRECISION_RECALL, RELIABILITY):
        assert np.asarray(Image.open(folder / name).convert("L")).std() > 5
    with (folder / SCENES).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows][-1] == "all"
    assert float(rows[-1]["f1"]) == told.total.f1
