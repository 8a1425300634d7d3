"""The plain way to map change, as a script on a desk has it: no rscd but the model.

A tile of both dates is read, forwarded and added to a whole-scene array; the mask becomes polygons at the end.
Same model, same tiles and the same overlap as ``rscd detect``. Kept at 60 lines, and from before optimising.
"""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import rasterio
import torch
from rasterio.features import shapes
from rasterio.windows import Window

from rscd.model.registry import load_model

TILE, OVERLAP = 448, 64


def starts(size: int) -> list[int]:
    """Where tiles begin along an axis; the last one is moved inside."""
    stride = TILE - OVERLAP
    return [*range(0, size - TILE, stride), size - TILE]


def plain(before: Path, after: Path, output: Path, raster: Path) -> int:
    """Write a probability raster and polygons; returns how many tiles were forwarded."""
    network, contract = load_model("buildings")
    ramp = np.minimum(np.arange(TILE) + 1, np.arange(TILE)[::-1] + 1).clip(max=OVERLAP).astype(np.float32)
    weight = ramp[:, None] * ramp[None, :]
    tiles = 0
    with rasterio.open(before) as a, rasterio.open(after) as b:
        profile, height, width = a.profile, a.height, a.width
        total, weights = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
        for row in starts(height):
            for col in starts(width):
                window = Window(col, row, TILE, TILE)
                pair = [torch.from_numpy(date.read(window=window))[None] for date in (a, b)]
                with torch.inference_mode():
                    p = (network(*pair).change[0] / contract.temperature).sigmoid().numpy()
                total[row : row + TILE, col : col + TILE] += p * weight
                weights[row : row + TILE, col : col + TILE] += weight
                tiles += 1
    total /= weights
    profile.update(count=1, dtype="float32", compress="deflate", interleave="band")
    with rasterio.open(raster, "w", **profile) as dataset:
        dataset.write(total, 1)
    mask = (total >= contract.threshold).astype(np.uint8)
    features = [
        {"type": "Feature", "geometry": geometry, "properties": {}}
        for geometry, _ in shapes(mask, mask=mask > 0, transform=profile["transform"])
    ]
    frame = geopandas.GeoDataFrame.from_features(features, columns=["geometry"], crs=profile["crs"])
    frame["area_m2"] = frame.geometry.area
    frame.to_file(output, layer="changes", driver="GPKG")
    return tiles
