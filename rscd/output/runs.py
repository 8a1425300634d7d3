"""Changed pixels as runs, stretches of a row: what is asked of a mask is asked of them.

So labels, edges and corners cost as much as there is change, and nothing where there is none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rscd.types import BoolArray, LongArray, Runs


class Overlaps(NamedTuple):
    """Pairs of runs that share columns in neighbouring rows, all arrays of shape (m,)."""

    above: LongArray
    """The upper run."""
    below: LongArray
    """The lower one."""
    columns: LongArray
    """Columns that they share, at least one."""


def runs_of(pixels: LongArray, width: int) -> Runs:
    """Runs of pixels, in reading order, all of label 0.

    Args:
        pixels: Places of the pixels, ``row * width + column``, ascending, shape (n,).
        width: Columns.
    """
    first = np.flatnonzero((np.diff(pixels, prepend=-2) != 1) | (pixels % width == 0))
    row, start = np.divmod(pixels[first], width)
    stop = start + np.diff(first, append=len(pixels))
    row, start, stop = (part.astype(np.int32) for part in (row, start, stop))
    return Runs(row, start, stop, np.zeros(len(row), np.int32))


def row_runs(wanted: BoolArray) -> Runs:
    """Runs of a mask (columns,) as those of row 0."""
    return runs_of(np.flatnonzero(wanted), max(1, len(wanted)))


def overlaps(runs: Runs) -> Overlaps:
    """Which runs, in reading order, lie on one another."""
    start, stop, pitch = keys(runs)
    first = np.searchsorted(stop, start + pitch, side="right")
    count = np.searchsorted(start, stop + pitch, side="left") - first
    above = np.repeat(np.arange(len(start)), count)
    below = np.arange(len(above)) + np.repeat(first - np.cumsum(count) + count, count)
    shared = np.minimum(stop[above] + pitch, stop[below]) - np.maximum(start[above] + pitch, start[below])
    return Overlaps(above, below, shared)


def labelled(runs: Runs, over: Overlaps) -> Runs:
    """The runs with the labels of their 4-connected components, 1..n in the order of their first pixel."""
    n = len(runs.row)
    graph = coo_array((np.ones(len(over.above), np.int8), (over.above, over.below)), shape=(n, n))
    found = connected_components(graph, directed=False)[1]
    _, first, of = np.unique(found, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(1, len(first) + 1)
    return runs._replace(label=rank[of])


def keys(runs: Runs) -> tuple[LongArray, LongArray, int]:
    """Starts and stops as numbers that ascend over all rows, and how far a row is from the next.

    Between two rows lie two numbers that no pixel has, so that what is beside a row's end is in no run.
    """
    pitch = int(runs.stop.max(initial=0)) + 2
    base = runs.row.astype(np.int64) * pitch + 1
    return base + runs.start, base + runs.stop, pitch
