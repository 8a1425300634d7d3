"""Probability maps of labelled tiles and pairs, made by the same stages as in ``detect``."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyproj

from rscd.core.contract import Contract
from rscd.core.pixel_area import PixelAreas
from rscd.core.types import ByteArray, Grid
from rscd.inference.predictor import ForwardPass, Predictor, Windows
from rscd.inference.strips import strip_records
from rscd.inference.workers import prefetched
from rscd.scene.prepare import Prepared
from rscd.scene.window_stream import WindowInput, read_windows, windows_in_memory
from rscd.scene.windows import WindowPlan

FLAT = pyproj.CRS.from_user_input("+proj=aeqd +lat_0=0 +lon_0=0 +datum=WGS84 +units=m +type=crs").to_wkt()
"""CRS of a tile without georeference: around a point where map units are metres on the ground."""


class Map(NamedTuple):
    """Prediction for a tile or a pair."""

    values: ByteArray
    """Probability values of change (rows, columns); 255: not observable."""
    presence: ByteArray | None
    """Probability values of presence, before and after (2, rows, columns); None without a presence head."""


@dataclass(frozen=True)
class Mapper:
    """A model with the windows and the threshold that ``detect`` would use."""

    predictor: Predictor
    """The network, with its calibration."""
    contract: Contract
    """The model's contract."""
    windows: Windows
    """Size of its windows."""
    threshold: int
    """Smallest probability value (1..254) that counts as changed."""

    def of_tile(self, before: ByteArray, after: ByteArray, gsd_m: float) -> Map:
        """Map a tile's images (3, rows, columns) of pixels of ``gsd_m`` m.

        Raises:
            DataError: The model does not accept this pixel size.
        """
        height, width = before.shape[1:]
        grid = Grid(FLAT, (gsd_m, 0.0, 0.0, 0.0, -gsd_m, 0.0), width, height)
        factor = (self.contract.working_gsd(gsd_m, "--gsd") or gsd_m) / gsd_m
        windows = self.windows.over(*grid.shape, factor)
        plan = WindowPlan.over(*grid.shape, *windows.on_grid(factor))
        return self._values(windows_in_memory(before, after, plan), plan, grid, windows.side, factor)

    def of_pair(self, prepared: Prepared) -> Map:
        """Map a pair's common grid.

        Raises:
            DataError: The model does not accept this pixel size, or a block cannot be decoded.
        """
        if prepared.refusal is not None:
            raise prepared.refusal
        prepared = self.framed(prepared)
        pair, factor = prepared.pair, prepared.factor
        windows = self._windows_of(prepared)
        plan = WindowPlan.on(pair.full, pair.crop, *windows.on_grid(factor))
        with closing(prefetched(read_windows(pair, plan))) as inputs:
            return self._values(inputs, plan, pair.grid, windows.side, factor)

    def framed(self, prepared: Prepared) -> Prepared:
        """The pair on the grid on which ``of_pair`` maps it."""
        return prepared.with_margin(self._windows_of(prepared).on_grid(prepared.factor)[1])

    def least_px(self, gsd_m: float) -> int:
        """The contract's minimum mapping unit in pixels of ``gsd_m`` m."""
        return math.ceil(self.contract.minimum_m2(gsd_m) / gsd_m**2)

    def _windows_of(self, prepared: Prepared) -> Windows:
        return self.windows.over(*prepared.pair.full.shape, prepared.factor)

    def _values(
        self, windows: Iterable[WindowInput], plan: WindowPlan, grid: Grid, side: int, factor: float
    ) -> Map:
        # a batch never spans two rows of windows and is padded: on small tiles a large batch would be mostly
        # padding
        predictor = copy.copy(self.predictor)
        predictor.batch_size = min(predictor.batch_size, plan.cols.count)
        forward = ForwardPass.of(predictor, side, factor)
        records = [*strip_records(windows, plan, forward, threshold=self.threshold, areas=PixelAreas(grid))]
        presence = [record.presence for record in records if record.presence is not None]
        values = np.concatenate([record.probability for record in records])
        return Map(values, np.concatenate(presence, axis=1) if presence else None)
