"""Regularised outlines of buildings: edges brought to right angles by the library ``buildingregulariser``."""

from __future__ import annotations

from importlib.util import find_spec

import geopandas
import numpy as np
import shapely
from shapely.geometry.polygon import orient

from rscd.core.errors import UsageError
from rscd.core.types import BoolArray
from rscd.vectorize.attributes import GeometryArray
from rscd.vectorize.outline import Reshape

LEAST_IOU = 0.8
"""Smallest intersection over union of a regularised outline with its pixels; below it the pixel outline stays."""
PARALLEL_PX = 2.0
"""Parallel edges closer than this are joined, px."""
TOLERANCE_PX = 1.0
"""Tolerance of the simplification that comes before, px."""
REACH_PX = 4.0
"""No point of a regularised outline may be further from the pixels' than this, px."""


def check_regularizer() -> None:
    """See that the extra is installed.

    Raises:
        UsageError: It is not.
    """
    if find_spec("buildingregulariser") is None:
        raise UsageError(
            "--regularize needs the library buildingregulariser",
            remedy="in rscd's folder: pip install '.[regularize]'",
        )


def regularize(metres: tuple[float, float], pixel_m: float) -> Reshape:
    """Right-angled outlines, polygon by polygon; the old one where the new one is too different.

    Args:
        metres: Metres in a CRS unit eastwards and northwards: the library works on a local plane in metres, for
            right angles in degrees are none on the ground.
        pixel_m: Ground sample distance, m.
    """

    def reshape(exact: GeometryArray) -> GeometryArray:
        if not len(exact):
            return exact
        plane = np.asarray(shapely.transform(exact, lambda xy: xy * metres), dtype=object)
        made = _regularized(plane, pixel_m)
        good = _close(plane, made, REACH_PX * pixel_m)
        out = exact.copy()
        back = shapely.transform(made[good], lambda xy: xy / metres)
        out[good] = [orient(polygon) for polygon in back]
        return out

    return reshape


def _regularized(plane: GeometryArray, pixel_m: float) -> GeometryArray:
    """What the library makes of each polygon; None where it makes nothing or several parts of it."""
    from buildingregulariser import regularize_geodataframe

    frame = geopandas.GeoDataFrame({"of": np.arange(len(plane))}, geometry=plane)
    result = regularize_geodataframe(
        frame,
        parallel_threshold=PARALLEL_PX * pixel_m,
        simplify_tolerance=TOLERANCE_PX * pixel_m,
        allow_circles=False,
        num_cores=1,
    )
    made = np.full(len(plane), None, dtype=object)
    of = result["of"].to_numpy()
    single = np.bincount(of, minlength=len(plane))[of] == 1
    made[of[single]] = result.geometry.to_numpy()[single]
    return made


def _close(plane: GeometryArray, made: GeometryArray, reach: float) -> BoolArray:
    """Which results are valid polygons that keep LEAST_IOU and stay within ``reach``."""
    good = (shapely.get_type_id(made) == shapely.GeometryType.POLYGON) & shapely.is_valid(made)
    one, two = plane[good], made[good]
    common = shapely.area(shapely.intersection(one, two))
    iou = common / (shapely.area(one) + shapely.area(two) - common)
    good[good] = (iou >= LEAST_IOU) & (shapely.hausdorff_distance(one, two) <= reach)
    return np.asarray(good)
