"""Estimated time of an archive, from the headers of its files and one timed batch; no pair is run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from rscd.core.errors import RscdError
from rscd.core.grid import gsd_m
from rscd.core.types import intersection
from rscd.inference.predictor import Predictor, choose_window, window_on_grid
from rscd.jobs.job import PairJob
from rscd.model.catalog import DEFAULT, read_contract
from rscd.model.registry import Model
from rscd.options.detect import DetectConfig
from rscd.scene.pair import open_pair
from rscd.scene.windows import WindowPlan

READERS = 8
"""Pairs whose headers are read at once."""
TRIALS = 2
"""Batches that are timed, after one that is not."""


@dataclass(frozen=True)
class PairEstimate:
    """What the headers of a pair give."""

    id: str
    """Its name."""
    width: int = 0
    """Columns of the common grid."""
    height: int = 0
    """Rows of it."""
    windows: int = 0
    """Windows where the dates overlap; those without a valid pixel will not be forwarded."""
    problem: str = ""
    """Why it cannot be run."""

    @property
    def megapixels(self) -> float:
        """Size of the common grid, Mpx (10^6 px)."""
        return self.width * self.height / 1e6


def estimate_pairs(jobs: Iterable[PairJob]) -> Iterator[PairEstimate]:
    """Read the headers of all pairs, several at once; in order."""
    with ThreadPoolExecutor(READERS) as pool:
        yield from pool.map(estimate_pair, jobs)


def estimate_pair(job: PairJob) -> PairEstimate:
    """Open a pair, and count its windows."""
    config = job.config
    if job.problem:
        return PairEstimate(job.id, problem=job.problem)
    try:
        contract = read_contract(Path(str(config.model)))
        with open_pair(config, contract.bands) as pair:
            gsd = gsd_m(pair.full)
            wanted = None if config.force_gsd else contract.working_gsd(gsd, config.before)
            sides = window_on_grid(
                *choose_window(config.window, config.overlap, contract), 1.0 if wanted is None else wanted / gsd
            )
            plan = WindowPlan.on(
                pair.full, intersection(pair.with_margin(sides[1]).crop, pair.overlap.window), *sides
            )
            return PairEstimate(job.id, pair.grid.width, pair.grid.height, plan.count)
    except RscdError as error:
        return PairEstimate(job.id, problem=error.line)


def seconds_per_window(config: DetectConfig) -> tuple[float, str]:
    """Time one batch on this machine: s a window, and the device. Reading and writing mostly overlap with it."""
    model = Model.named(config.model or DEFAULT)
    side, _ = choose_window(config.window, config.overlap, model.contract)
    predictor = Predictor.of(model, config, side)
    shape = predictor.batch_size, len(model.contract.bands), side, side
    images = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    taken = []
    for _ in range(1 + TRIALS):
        start = perf_counter()
        predictor(images[0], images[1])
        taken.append(perf_counter() - start)
    return min(taken[1:]) / predictor.batch_size, predictor.backend.device
