"""Reviewed outputs as labelled pairs: a GeoPackage of detect or polygons, or the summary of an archive."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio

from rscd.core.errors import DataError
from rscd.options.pair import PairConfig
from rscd.output.provenance import pair_of
from rscd.scene.aoi import read_vectors
from rscd.training.data.labels import LAYER, UNREADABLE, answers_of, layers_of
from rscd.training.data.tiles import IGNORED, PairSource

PAIRS, OUTPUT = "pairs", "changes.gpkg"
"""Layer of a summary that lists its pairs, and what each pair's own output is called."""


def reviewed_pairs(path: Path, aoi: Path | None) -> list[PairSource]:
    """The pairs that a reviewed file judges: one, or of a summary those with answers.

    Args:
        path: What detect, polygons or batch wrote.
        aoi: Inside this area of interest all was looked over.

    Raises:
        DataError: It is none of those, nothing in it is reviewed, or an image is gone or is another one.
    """
    if not (path.is_file() and PAIRS in layers_of(path)):
        return [PairSource(str(path), detected_from(path, aoi), path, reviewed=True)]
    rows = _rows_of_pairs(path)
    if not rows:
        remedy = "open it in QGIS and fill the column review of layer changes with accepted or rejected"
        raise DataError("no polygon of it is reviewed", path=path, remedy=remedy)
    return [
        PairSource(f"{path}, pair {pair}", detected_from(path.parent / pair / OUTPUT, aoi), path, True, where)
        for pair, where in rows.items()
    ]


def _rows_of_pairs(path: Path) -> dict[str, tuple[int, ...]]:
    """Pair -> rows of the summary's changes that are of it, for pairs with answers.

    A polygon that somebody drew has no pair: it is of the one on whose ground it lies.

    Raises:
        DataError: It lies on the ground of several, or of none.
    """
    frame, pairs = read_vectors(path, layer=LAYER), read_vectors(path, layer=PAIRS)
    pairs = pairs[pairs["status"] == "done"]
    answered = answers_of(path, frame, IGNORED) != IGNORED
    of = frame["pair_id"].fillna("").astype(str).to_numpy(dtype=object)
    for row in np.flatnonzero((of == "") & answered):
        on = pairs[pairs.geometry.intersects(frame.geometry.iloc[row])]["pair_id"].tolist()
        if len(on) != 1:
            where = f"of {', '.join(on)}" if on else "of no pair"
            problem = f"a polygon drawn at {frame.geometry.iloc[row].centroid.wkt} lies on the ground {where}"
            raise DataError(problem, path=path, remedy="fill its column pair_id with the pair that it is of")
        of[row] = on[0]
    return {pair: tuple(np.flatnonzero(of == pair).tolist()) for pair in dict.fromkeys(of[answered])}


def detected_from(path: Path, aoi: Path | None) -> PairConfig:
    """How detect read the pair that it made this GeoPackage from, by the provenance in it.

    Raises:
        DataError: It is no output of detect, or a date is gone, or is not the file that it was.
    """
    other = f"or name them: --pair BEFORE AFTER '{path}'"
    try:
        metadata = pyogrio.read_info(path, layer=LAYER)["layer_metadata"] or {}
        origin = {name: json.loads(metadata[name]) for name in ("inputs", "options")}
        return replace(pair_of(origin, path.parent), aoi=aoi)
    except (*UNREADABLE, KeyError, TypeError, ValueError) as error:
        remedy = "give a GeoPackage that rscd detect wrote, " + other
        raise DataError("does not say which pair it was made from", path=path, remedy=remedy) from error
    except DataError as error:
        raise DataError(error.problem, path=path, remedy=f"{error.remedy}, {other}") from error
