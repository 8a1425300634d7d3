"""What the backends and precisions of the CPU do to the map of real tiles, against torch in fp32.

Maps are those of ``detect``, in values of 1/254. Needs the shared data (RSCD_DATA).
"""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter

import numpy as np

from rscd.inference.backends.choice import open_backend
from rscd.inference.components import threshold_value
from rscd.inference.predictor import Predictor, Windows
from rscd.model.registry import Model
from rscd.training.data.tiles import CHANGED, find_tiles
from rscd.training.evaluation.maps import Mapper
from rscd.training.evaluation.metrics import scores

FOLDERS = ("0.5m_1024", "1m_512")
WAYS = (("torch", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))


def run(folder: Path | None = None, model: str = "buildings") -> dict[str, float | int]:
    """Figures by name: pixel F1 of each way; differences of p to the first one: largest, 99.9th percentile over all
    pixels and over those of the worst tile, share of pixels on the other side of the threshold."""
    data = Path(os.environ.get("RSCD_DATA", Path(__file__).parents[3] / "shared" / "data")) / "levir" / "val"
    tiles = [tile for name in FOLDERS for tile in find_tiles([data / name], lambda error: None)]
    loaded, figures = Model.named(model), {}
    contract, reference = loaded.contract, []
    threshold = threshold_value(contract.threshold)
    for backend, precision in WAYS:
        shape = 1, 3, contract.window, contract.window
        predictor = Predictor(open_backend(loaded, backend, "cpu", precision, shape))
        mapper = Mapper(predictor, contract, Windows.of(contract), threshold)
        counts, began = np.zeros(3, int), perf_counter()
        maps = []
        for tile in tiles:
            before, after, label = tile.read()
            values = mapper.of_tile(before, after, 1.0 if before.shape[1] == 512 else 0.5).values
            found, changed = values >= threshold, label == CHANGED
            counts += (found & changed).sum(), (found & ~changed).sum(), (~found & changed).sum()
            maps.append(values)
        taken = perf_counter() - began
        reference = reference or maps
        pairs = list(zip(maps, reference, strict=True))
        differences = [np.abs(values.astype(int) - known).ravel() / 254 for values, known in pairs]
        every = np.concatenate(differences)
        flipped = sum(int(((values >= threshold) != (known >= threshold)).sum()) for values, known in pairs)
        figures |= {
            f"{backend} {precision}, F1": scores(*map(int, counts)).f1,
            f"{backend} {precision}, largest difference of p": float(every.max()),
            f"{backend} {precision}, 99.9th percentile": float(np.quantile(every, 0.999)),
            f"{backend} {precision}, of the worst tile": max(float(np.quantile(d, 0.999)) for d in differences),
            f"{backend} {precision}, pixels on the other side, millionths": flipped / every.size * 1e6,
            f"{backend} {precision}, s": taken,
        }
    return figures
