import csv

import numpy as np
from conftest import Pointwise
from PIL import Image

from rscd.core.contract import Contract
from rscd.options.training import EvaluateConfig
from rscd.training.evaluation.figures import PRECISION_RECALL, RELIABILITY, SCENES
from rscd.workflows.evaluate import evaluate

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
