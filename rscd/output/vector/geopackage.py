"""The GeoPackage: layers ``changes`` and ``extent``, a QGIS style, and provenance.

A GeoPackage is written next to its target, closed, opened again and checked, and only then moved into place:
until then an older output is untouched, and after any failure no file is left behind. As in other formats, GDAL
writes features batch by batch while later ones are still being computed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import shapely

from rscd.core.pixel_area import PixelAreas
from rscd.core.publish import Publication, writing
from rscd.core.runs import labelled, overlaps, runs_of
from rscd.core.types import NOT_OBSERVABLE, SLAB, BoolArray, Grid, StripRecord
from rscd.output.vector.sqlite import note_outlines
from rscd.output.vector.style import changes_qml, extent_qml
from rscd.vectorize.attributes import GEOMETRY_METADATA, REVIEW_STATES, Column, columns
from rscd.vectorize.tracer import FEATURE_SCHEMA, find_corners, trace

_EXTENSION = "gpkg_schema", "http://www.geopackage.org/spec121/#extension_schema", "read-write"
_REVIEW = "rscd_review"
# Table definitions as the GeoPackage encoding standard 1.3 gives them (tables 9, 13 and 14 there).
_TABLES = """
CREATE TABLE IF NOT EXISTS gpkg_extensions (
    table_name TEXT, column_name TEXT, extension_name TEXT NOT NULL, definition TEXT NOT NULL,
    scope TEXT NOT NULL, CONSTRAINT ge_tce UNIQUE (table_name, column_name, extension_name));
CREATE TABLE IF NOT EXISTS gpkg_data_columns (
    table_name TEXT NOT NULL, column_name TEXT NOT NULL, name TEXT, title TEXT, description TEXT,
    mime_type TEXT, constraint_name TEXT, CONSTRAINT pk_gdc PRIMARY KEY (table_name, column_name),
    CONSTRAINT gdc_tn UNIQUE (table_name, name));
CREATE TABLE IF NOT EXISTS gpkg_data_column_constraints (
    constraint_name TEXT NOT NULL, constraint_type TEXT NOT NULL, value TEXT, min NUMERIC,
    min_is_inclusive BOOLEAN, max NUMERIC, max_is_inclusive BOOLEAN, description TEXT,
    CONSTRAINT gdcc_ntv UNIQUE (constraint_name, constraint_type, value));
"""


def add_data_dictionary(
    database: sqlite3.Connection, layer: str, columns: Iterable[Column], review: Mapping[str, str]
) -> None:
    """Describe a layer's columns, and define the review states as an enumeration.

    Args:
        database: An open GeoPackage.
        layer: Name of the layer.
        columns: Its columns.
        review: Values of the column ``review`` and their meaning.
    """
    database.executescript(_TABLES)
    database.executemany(
        "INSERT INTO gpkg_extensions VALUES (?, NULL, ?, ?, ?)",
        [(table, *_EXTENSION) for table in ("gpkg_data_columns", "gpkg_data_column_constraints")],
    )
    # "name" is the alias that GDAL reads, and must be unique in a layer.
    database.executemany(
        "INSERT INTO gpkg_data_columns VALUES (?, ?, ?, ?, ?, NULL, ?)",
        [(layer, c.name, c.alias, c.title, _told(c), _REVIEW if c.name == "review" else None) for c in columns],
    )
    database.executemany(
        "INSERT INTO gpkg_data_column_constraints VALUES (?, 'enum', ?, NULL, NULL, NULL, NULL, ?)",
        [(_REVIEW, value, meaning) for value, meaning in review.items()],
    )


def _told(column: Column) -> str:
    return f"{column.meaning} [{column.unit}]" if column.unit else column.meaning


Outside = Callable[[int, int], BoolArray]
"""Returns the pixels outside the area of interest, shape (rows, width), for a first row and number of rows."""
COARSE_CELLS = 2048
"""Maximum side of the mask from which the extent's polygon is traced, cells."""

_GDAL_OPTIONS = {
    "GDAL_CACHEMAX": 64,  # MB
    # The index is built at the end: a parallel thread would need memory and save no time.
    "OGR_GPKG_ALLOW_THREADED_RTREE": "NO",
}
_EXTENT_SCHEMA = pa.schema(
    [
        ("observed_km2", pa.float64()),
        ("not_observable_km2", pa.float64()),
        ("outside_aoi_km2", pa.float64()),
        pa.field("geometry", pa.binary(), metadata=GEOMETRY_METADATA),
    ]
)
# As QGIS creates it, so that QGIS can add its own styles.
_STYLE_SQL = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
    f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
    useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
    update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')));
INSERT INTO gpkg_contents (table_name, data_type, identifier, description, srs_id)
    VALUES ('layer_styles', 'attributes', 'layer_styles', '', 0);
"""


class ObservedExtent:
    """The observed ground: its exact area, and its polygon from a coarse mask of at most 2048 x 2048 cells.

    A cell counts as observed if any of its pixels is, so the polygon covers all observed ground and at most one
    cell more; if everything was observed, it is the grid's rectangle. Unobserved area is split into ground that is
    not valid in a date, and ground outside the area of interest.
    """

    def __init__(self, grid: Grid, pixel_areas: PixelAreas, outside: Outside | None = None) -> None:
        self.grid, self._outside = grid, outside
        self.observed_m2 = 0.0
        self.not_observable_m2 = 0.0
        self.outside_aoi_m2 = 0.0
        self._areas = pixel_areas
        self._factor = -(-max(grid.shape) // COARSE_CELLS)
        rows, cols = (-(-n // self._factor) for n in grid.shape)
        self._cells = np.zeros((rows, cols), dtype=np.bool_)

    def add(self, record: StripRecord) -> None:
        """Add a strip; each once, in any order."""
        for start in range(0, record.height, SLAB):  # because masks need as much memory as the strip
            self._add(record.probability[start : start + SLAB] != NOT_OBSERVABLE, record.row + start)

    def _add(self, observed: BoolArray, row: int) -> None:
        rows = np.arange(row, row + len(observed)) // self._factor
        self.observed_m2 += self._areas.total(observed, row)
        if observed.all():
            self._cells[rows[0] : rows[-1] + 1] = True
            return
        hidden = ~observed
        if self._outside is not None:
            outside = hidden & self._outside(row, len(hidden))
            self.outside_aoi_m2 += self._areas.total(outside, row)
            hidden &= ~outside
        self.not_observable_m2 += self._areas.total(hidden, row)
        first_of_cell = np.flatnonzero(np.diff(rows, prepend=-1))
        cells = np.logical_or.reduceat(observed, first_of_cell, axis=0)
        cells = np.logical_or.reduceat(cells, np.arange(0, observed.shape[1], self._factor), axis=1)
        self._cells[rows[first_of_cell]] |= cells

    def multipolygon(self) -> shapely.MultiPolygon:
        """The observed cells, in the grid's CRS; empty if there are none."""
        runs = runs_of(self._cells)
        of = labelled(runs, overlaps(runs)).label.astype(np.int64) - 1
        corners = find_corners(runs._replace(row=runs.row + 1), of, -1, len(self._cells) + 2)
        rings = trace(corners, mirrored=self.grid.mirrored)
        last = np.array([self.grid.width, self.grid.height])
        rings = rings._replace(points=np.minimum(rings.points * self._factor, last))
        return shapely.MultiPolygon(list(rings.polygons(self.grid.transform)))

    def batch(self) -> pa.RecordBatch:
        """The single feature of the layer ``extent``."""
        areas = self.observed_m2, self.not_observable_m2, self.outside_aoi_m2
        km2 = [[round(m2 / 1e6, 9)] for m2 in areas]
        return pa.RecordBatch.from_arrays(
            [*map(pa.array, km2), pa.array([shapely.to_wkb(self.multipolygon())])], schema=_EXTENT_SCHEMA
        )


def write_geopackage(
    path: Path,
    grid: Grid,
    changes: FeatureStream,
    extent: ObservedExtent,
    *,
    provenance: Callable[[], Mapping[str, object]],
    publication: Publication,
    style: str | None = None,
) -> None:
    """Write the GeoPackage next to its target, features as they arrive, and check it.

    Args:
        path: The target; may exist, its folder must.
        grid: Grid with the CRS.
        changes: Features of the layer ``changes``.
        extent: Feature of the layer ``extent``, read after all changes.
        provenance: Called after all changes: names and JSON values, the metadata of the layer ``changes``.
        publication: Puts it in place.
        style: QML of the layer ``changes``; default: rscd's own.

    Raises:
        OutputError: It could not be written, or the written file is damaged. Errors of making features are raised
            unchanged.
    """
    temporary = publication.beside(path)
    with changes.reader() as stream, vector_writing(path):
        write_layer(temporary, "changes", "Polygon", grid.crs, stream)
    with vector_writing(path):
        _complete(temporary, grid, changes.schema, extent, provenance())
        described = columns(bands_of(changes.schema.names))
        look = style if style is not None else changes_qml(described, REVIEW_STATES)
        add_styles(temporary, {"changes": look, "extent": extent_qml()})
        _describe(temporary, described)
        note_outlines(temporary)
        _check(temporary, changes.features)


def vector_writing(path: Path) -> AbstractContextManager[None]:
    """Convert errors of the file system, GDAL or SQLite to an OutputError about ``path``."""
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError

    return writing(path, DataSourceError, DataLayerError, FeatureError, sqlite3.Error)


def _complete(
    path: Path, grid: Grid, schema: pa.Schema, extent: ObservedExtent, provenance: Mapping[str, object]
) -> None:
    """Add what is known only after all features: the layer ``extent``, and the metadata of ``changes``."""
    write_layer(path, "extent", "MultiPolygon", grid.crs, pa.Table.from_batches([extent.batch()]))
    # Metadata of the layer: that of a data set makes GDAL write an .aux.xml next to the file when it is read.
    metadata = {key: json.dumps(value, ensure_ascii=False) for key, value in provenance.items()}
    write_layer(path, "changes", "Polygon", grid.crs, schema.empty_table(), append=True, layer_metadata=metadata)


def write_layer(
    path: Path, layer: str, kind: str, crs: str, features: pa.Table | pa.RecordBatchReader, **more: object
) -> None:
    """Write a layer of a GeoPackage, which is created if missing.

    Args:
        path: The GeoPackage.
        layer: Name of the layer.
        kind: Type of its geometries.
        crs: CRS in any form that pyproj accepts.
        features: With a column ``geometry``, WKB.
        more: Options of ``pyogrio.write_arrow``.
    """
    import pyogrio  # takes a quarter of a second with pandas; windows are already forwarded meanwhile

    pyogrio.set_gdal_config_options(_GDAL_OPTIONS)  # pyogrio has its own GDAL
    pyogrio.write_arrow(
        features,
        str(path),
        layer=layer,
        driver="GPKG",
        geometry_type=kind,
        crs=crs,
        geometry_name="geometry",  # in the Arrow stream
        layer_options={"GEOMETRY_NAME": "geometry", "SPATIAL_INDEX": "YES"},  # in the GeoPackage
        **more,
    )


def add_styles(path: Path, styles: Mapping[str, str]) -> None:
    """Add QGIS styles to layers of a GeoPackage.

    Args:
        path: The GeoPackage; it has no styles yet.
        styles: Layer -> QML.
    """
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(_STYLE_SQL)
        database.executemany(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column,"
            " styleName, styleQML, styleSLD, useAsDefault, description, owner)"
            " VALUES ('', '', :layer, 'geometry', :layer, :qml, '', 1, '', '')",
            [{"layer": layer, "qml": qml} for layer, qml in styles.items()],
        )


def bands_of(names: Iterable[str]) -> list[str]:
    """Names of the bands whose means are columns of a layer."""
    return [name.removeprefix("before_") for name in names if name.startswith("before_")]


def _describe(path: Path, described: Sequence[Column]) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        add_data_dictionary(database, "changes", described, REVIEW_STATES)


def _check(path: Path, features: int) -> None:
    """Open the written file and compare it with the expected contents."""
    import pyogrio

    with closing(sqlite3.connect(path)) as database:
        verdict = database.execute("PRAGMA quick_check").fetchone()[0]
        if verdict != "ok":
            raise OSError(f"SQLite's integrity check failed: {verdict}")
        # A disk that fills up while GDAL builds the index raises nothing: the index is not there.
        indexed = database.execute("SELECT count(*) FROM rtree_changes_geometry_rowid").fetchone()[0]
        if indexed != features:
            raise OSError(f"the index of layer changes holds {indexed} features of {features}")
    for layer, expected in (("changes", features), ("extent", 1)):
        found = pyogrio.read_info(path, layer=layer, force_feature_count=True)["features"]
        if found != expected:
            raise OSError(f"layer {layer} holds {found} features of {expected}")


BATCH_FEATURES = 1024
"""Maximum number of features written at once: a writer blocks all other Python threads meanwhile."""


class FeatureStream:
    """Batches of features for one writer; no batch is kept.

    Args:
        batches: The features, possibly computed on demand.
        schema: Their columns.
    """

    def __init__(self, batches: Iterable[pa.RecordBatch], schema: pa.Schema = FEATURE_SCHEMA) -> None:
        self._batches, self.schema = batches, schema
        self._error: BaseException | None = None
        self.features = 0
        """Features drawn so far."""

    @contextmanager
    def reader(self) -> Iterator[pa.RecordBatchReader]:
        """The stream for a writer, available when the first features are.

        Raises:
            BaseException: The original error of making the features: a writer in C would change its message.
        """
        with closing(self._drawn()) as drawn:
            first = list(islice(drawn, 1))
            try:
                yield pa.RecordBatchReader.from_batches(self.schema, chain(first, drawn))
            except Exception:
                if self._error is not None:
                    raise self._error from None
                raise

    def _drawn(self) -> Generator[pa.RecordBatch]:
        try:
            for batch in self._batches:
                self.features += batch.num_rows
                for start in range(0, batch.num_rows, BATCH_FEATURES):
                    yield batch.slice(start, BATCH_FEATURES)
        except GeneratorExit:  # the consumer has stopped
            raise
        except BaseException as error:
            self._error = error
            raise
