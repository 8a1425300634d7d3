"""Guards of other places: what a model finds where it was not trained.

* Ten images of a single date (New Zealand, SpaceNet, Tyrol, Vienna), the upper left 256 px of each, in all pairs:
  the label is the exclusive or of their outlines. Needs the shared data (RSCD_DATA).
* Rendered places of a layout that is held out: changed buildings found at IoU 0.5, false polygons, and direction of
  those that one polygon covers to more than half.
"""

from __future__ import annotations

import os
import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np
import pyogrio
import shapely
from PIL import Image

from rscd import DetectConfig, detect
from rscd.inference.components import threshold_value
from rscd.inference.predictor import Predictor, Windows
from rscd.model.registry import Model
from rscd.simulate.scene import Scene
from rscd.simulate.score import match_objects
from rscd.simulate.spec import SceneSpec
from rscd.training.evaluation.maps import Mapper
from rscd.training.evaluation.metrics import scores
from rscd.workflows.demo import HEIGHT, WIDTH, render_pair

SIDE = 256
HELD_OUT = ("tyrol", "vienna", "nzlnd", "spacenet")
SEEDS = (101, 102, 103, 104, 105)
"""Places; found and false are counted in the first four."""
WORDS = {"new": "appeared", "vanished": "vanished"}


def run(folder: Path | None = None, model: str = "buildings") -> dict[str, float | int]:
    """Figures by name."""
    data = Path(os.environ.get("RSCD_DATA", Path(__file__).parents[3] / "shared" / "data"))
    loaded = Model.named(model)
    return single_dates(data / "buildings_single_date", loaded) | rendered(folder, model)


def single_dates(folder: Path, model: Model) -> dict[str, float | int]:
    """Pixel F1 of all pairs."""
    contract, threshold = model.contract, threshold_value(model.contract.threshold)
    options = DetectConfig(Path("unused"), Path("unused"), Path("unused.gpkg"), precision="fp32")
    predictor = Predictor.of(model, options, contract.window)
    mapper = Mapper(predictor, contract, Windows.of(contract), threshold)
    chosen = [path for path in sorted((folder / "image").iterdir()) if any(name in path.name for name in HELD_OUT)]
    images = [np.asarray(Image.open(path).convert("RGB"))[:SIDE, :SIDE].transpose(2, 0, 1) for path in chosen]
    masks = []
    for path in chosen:
        (label,) = (folder / "label").glob(f"{path.stem}.*")
        masks.append(np.asarray(Image.open(label).convert("L"))[:SIDE, :SIDE] > 127)
    counts = np.zeros(3, int)
    for i, j in combinations(range(len(chosen)), 2):
        found, changed = mapper.of_tile(images[i], images[j], 0.5).values >= threshold, masks[i] ^ masks[j]
        counts += (found & changed).sum(), (found & ~changed).sum(), (~found & changed).sum()
    return {"images": len(chosen), "exclusive or of single dates, pixel F1": scores(*map(int, counts)).f1}


def rendered(folder: Path | None, model: str) -> dict[str, float | int]:
    """Buildings found, false polygons, directions right."""
    built = found = matched = told = right = 0
    with tempfile.TemporaryDirectory(dir=folder) as name:
        for k, seed in enumerate(SEEDS):
            place = render_pair(Path(name, str(seed)), seed)
            target = Path(name, f"{seed}.gpkg")
            detect(DetectConfig(place.before, place.after, target, model=model))
            frame = pyogrio.read_dataframe(target, layer="changes")
            polygons = frame.geometry.to_numpy()
            if k < 4:
                score = match_objects(place.built, polygons, 0.5)
                built, found, matched = built + score.built, found + score.found, matched + score.matched
            scene = Scene(SceneSpec(seed=seed, width=WIDTH, height=HEIGHT, layout="demo", collar=True))
            for building in scene.changed_buildings():
                shared = shapely.area(shapely.intersection(polygons, building.footprint))
                if len(shared) and shared.max() > 0.5 * building.footprint.area:
                    told += 1
                    right += frame.direction[int(shared.argmax())] == {"new": "appeared"}.get(
                        building.kind, "vanished"
                    )
    return {
        "rendered, buildings": built,
        "rendered, found at IoU 0.5": matched,
        "rendered, false polygons": found - matched,
        "rendered, direction asked": told,
        "rendered, direction right": right,
    }
