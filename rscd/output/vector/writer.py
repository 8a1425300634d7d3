"""The vector file in the format of its suffix, with the same columns in each.

A GeoPackage holds extent and provenance itself; the others get them beside them, see ``paths.siblings``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa

from rscd.core.paths import siblings
from rscd.core.publish import Publication
from rscd.core.types import Grid
from rscd.output.vector.features import FeatureStream
from rscd.output.vector.formats import GEOPACKAGE, format_of
from rscd.output.vector.geopackage import ObservedExtent, vector_writing, write_geopackage


def write_vectors(
    path: Path,
    grid: Grid,
    changes: FeatureStream,
    extent: ObservedExtent,
    *,
    provenance: Callable[[], Mapping[str, object]],
    publication: Publication,
) -> None:
    """Write the vector file in the format of its suffix, and its siblings, beside their targets; check them.

    Args:
        path: The target; may exist, its folder must.
        grid: Gives the CRS.
        changes: The polygons.
        extent: What was observed, once all polygons have come.
        provenance: Asked then: names, and values that JSON can hold.
        publication: Puts them in place.

    Raises:
        OutputError: It could not be written, or what was written is not sound. What making polygons raises comes
            as it is.
    """
    if path.suffix.lower() == GEOPACKAGE:
        write_geopackage(path, grid, changes, extent, provenance=provenance, publication=publication)
        return
    written = format_of(path)
    beside, metadata, main = (publication.beside(each) for each in (*siblings(path), path))
    with changes.reader() as stream, vector_writing(path):
        written.write(main, stream, grid, "Polygon", "changes")
    with vector_writing(path):
        _check(written.count(main), changes.features)
        area = extent.batch()
        reader = pa.RecordBatchReader.from_batches(area.schema, [area])
        written.write(beside, reader, grid, "MultiPolygon", "extent")
        _check(written.count(beside), 1)
        metadata.write_text(json.dumps(dict(provenance()), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _check(found: int, features: int) -> None:
    if found != features:
        raise OSError(f"it holds {found} features of {features}")
