"""Changed pixels as runs, ranges of a row; operations on masks are done on runs.

So labels, edges and corners cost time in proportion to the amount of change.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from rscd.core.types import BoolArray, LongArray, Runs


class Overlaps(NamedTuple):
    """Pairs of runs that share columns in neighbouring rows, all arrays of shape (m,)."""

    above: LongArray
    """Index of the upper run."""
    below: LongArray
    """Index of the lower run."""
    columns: LongArray
    """Number of shared columns, at least one."""


def runs_of(wanted: BoolArray) -> Runs:
    """Runs of a mask (rows, columns), in reading order, all with label 0."""
    framed = np.zeros((wanted.shape[0], wanted.shape[1] + 2), np.bool_)
    framed[:, 1:-1] = wanted
    row, col = np.divmod(np.flatnonzero(framed[:, 1:] != framed[:, :-1]), framed.shape[1] - 1)
    row, col = row.astype(np.int32), col.astype(np.int32)
    return Runs(row[0::2], col[0::2], col[1::2], np.zeros(len(row) // 2, np.int32))


def stacked(parts: Iterable[tuple[int, Runs]]) -> Runs:
    """Runs of consecutive blocks of rows, each given with its first row."""
    moved = [runs._replace(row=runs.row + np.int32(row)) for row, runs in parts]
    return Runs(*map(np.concatenate, zip(*moved, strict=True)))


def pixels_of(runs: Runs) -> tuple[LongArray, LongArray]:
    """Rows and columns of the pixels of runs, in reading order, shape (pixels,) each."""
    length = runs.stop - runs.start
    before = np.cumsum(length) - length
    cols = np.arange(int(length.sum())) + np.repeat(runs.start - before, length)
    return np.repeat(runs.row.astype(np.int64), length), cols


def overlaps(runs: Runs) -> Overlaps:
    """Pairs of runs, in reading order, that overlap vertically."""
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
    found = connected(n, over.above, over.below)
    _, first, of = np.unique(found, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(1, len(first) + 1)
    return runs._replace(label=rank[of])


def connected(nodes: int, one: LongArray, other: LongArray) -> LongArray:
    """Group of each of ``nodes`` nodes, from 0, shape (nodes,): edge i joins nodes ``one[i]`` and ``other[i]``."""
    from scipy.sparse import coo_array  # imported while windows are forwarded, not before
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(nodes, nodes))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def keys(runs: Runs) -> tuple[LongArray, LongArray, int]:
    """Starts and stops as numbers that ascend over all rows, and the difference between rows.

    Between two rows there are two unused numbers, so that the neighbour of a row's end is in no run.
    """
    pitch = int(runs.stop.max(initial=0)) + 2
    base = runs.row.astype(np.int64) * pitch + 1
    return base + runs.start, base + runs.stop, pitch
