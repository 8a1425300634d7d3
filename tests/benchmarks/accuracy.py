"""What a model finds: real scenes that it was not trained on, and rendered places.

Polygons of ``rscd detect`` are burnt back to pixels and compared with the label. Needs the shared data (RSCD_DATA).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
from PIL import Image
from rasterio.features import rasterize

from rscd import DetectConfig, detect, load_model
from rscd.core.types import Grid
from rscd.output.geotiff import write_geotiff
from rscd.training.evaluation.metrics import scores
from rscd.workflows.demo import render_pair, score

DEMO_SEEDS = (7, 101, 102, 103, 104, 105)
"""The demo's own seed first; all of the layout that is held out of training."""


def run(folder: Path | None = None, model: str = "buildings") -> dict[str, float | int]:
    """Figures by name: pixel F1 on real scenes, object recall and false share on rendered ones."""
    data = Path(os.environ.get("RSCD_DATA", Path(__file__).parents[3] / "shared" / "data"))
    loaded = load_model(model)
    figures: dict[str, float | int] = {}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        scene = data / "scenes" / "vhr_austin_0.5m"
        counts = _counts(scene / "t1.tif", scene / "t2.tif", _tif_label(scene / "label.tif"), loaded, place)
        figures |= _named("austin", counts)
        total = np.zeros(3, int)
        for tile in sorted((data / "levir" / "val" / "0.5m_1024" / "A").iterdir()):
            before, after = (_georeferenced(tile.parents[1] / d / tile.name, place / f"{d}.tif") for d in "AB")
            label = np.asarray(Image.open(tile.parents[1] / "label" / f"{tile.stem}.png")) > 0
            total += _counts(before, after, label, loaded, place)
        figures |= _named("levir val 0.5 m 1024", total)
        for seed in DEMO_SEEDS:
            rendered = render_pair(place / f"demo{seed}", seed)
            target = place / f"demo{seed}" / "changes.gpkg"
            detect(DetectConfig(rendered.before, rendered.after, target), model=loaded)
            report = score(rendered, target, place / f"demo{seed}" / "quicklook.png")
            figures[f"demo {seed} built"] = report["built"]
            figures[f"demo {seed} found"] = report["model"]["recall"]
            figures[f"demo {seed} false"] = report["model"]["false_share"]
            figures[f"demo {seed} found by differencing"] = report["differencing"]["recall"]
    return figures


def _counts(before: Path, after: Path, label: np.ndarray, model, place: Path) -> np.ndarray:
    """Pixels true positive, false positive, false negative of the burnt polygons."""
    target = place / "changes.gpkg"
    detect(DetectConfig(before, after, target, overwrite=True), model=model)
    with rasterio.open(before) as dataset:
        transform = dataset.transform
    polygons = pyogrio.read_dataframe(target, layer="changes").geometry
    found = np.zeros(label.shape, bool)
    if len(polygons):
        found = rasterize(polygons, out_shape=label.shape, transform=transform).astype(bool)
    return np.array([(found & label).sum(), (found & ~label).sum(), (~found & label).sum()])


def _tif_label(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1) > 0


def _georeferenced(image: Path, target: Path) -> Path:
    """A tile as a GeoTIFF at 0.5 m, at a made-up place."""
    pixels = np.moveaxis(np.asarray(Image.open(image).convert("RGB")), 2, 0)
    crs = rasterio.crs.CRS.from_epsg(32614).to_wkt()
    grid = Grid(crs, (0.5, 0, 6e5, 0, -0.5, 3.35e6), pixels.shape[2], pixels.shape[1])
    write_geotiff(target, grid, [pixels])
    return target


def _named(name: str, counts: np.ndarray) -> dict[str, float]:
    found = scores(*map(int, counts))
    return {f"{name} F1": found.f1, f"{name} precision": found.precision, f"{name} recall": found.recall}
