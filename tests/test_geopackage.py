"""GeoPackages on disk: features on their way, layers, style, provenance, and what a failure leaves behind."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pyarrow as pa
import pyogrio
import pytest
import shapely
from conftest import Pointwise
from numpy.typing import NDArray
from pyproj import CRS
from test_attributes import CONTRACT
from test_formats import pair

from rscd.core.errors import Interrupted, OutputError
from rscd.core.pixel_area import PixelAreas
from rscd.core.publish import Publication
from rscd.core.types import NOT_OBSERVABLE, Grid
from rscd.inference.components import strip_record
from rscd.options.detect import DetectConfig
from rscd.output.vector.formats import suffixes
from rscd.output.vector.geopackage import (
    BATCH_FEATURES,
    FeatureStream,
    ObservedExtent,
    write_geopackage,
    write_layer,
)
from rscd.output.vector.style import DRAWN, HATCHED, SHOWN, STEPS, changes_qml, extent_qml
from rscd.vectorize.attributes import REVIEW_STATES, columns
from rscd.vectorize.tracer import FEATURE_SCHEMA, PolygonTracer
from rscd.workflows.detect import detect

SCHEMA = pa.schema([pa.field("n", pa.int64()), pa.field("geometry", pa.binary())])


def features(start: int, stop: int) -> pa.RecordBatch:
    numbers = range(start, stop)
    return pa.RecordBatch.from_arrays(
        [pa.array(numbers), pa.array([None] * len(numbers), pa.binary())], schema=SCHEMA
    )


def test_the_first_features_are_in_the_file_while_the_last_are_made(tmp_path: Path) -> None:
    path = tmp_path / "c.gpkg"
    sizes = []

    def made() -> Iterator[pa.RecordBatch]:
        for start in range(0, 60_000, 20_000):
            sizes.append(path.stat().st_size if path.exists() else None)
            yield features(start, start + 20_000)

    changes = FeatureStream(made(), SCHEMA)
    with changes.reader() as stream:
        write_layer(path, "changes", "Polygon", "EPSG:32614", stream)
    assert sizes[0] is None
    assert 100_000 < sizes[1] < sizes[2]
    assert changes.features == pyogrio.read_info(path, layer="changes")["features"] == 60_000


def test_no_more_than_so_many_are_written_at_once() -> None:
    with FeatureStream(
        [features(0, 3), features(3, 3), features(3, 2 * BATCH_FEATURES)], SCHEMA
    ).reader() as stream:
        batches = list(stream)
    assert [batch.num_rows for batch in batches] == [3, BATCH_FEATURES, BATCH_FEATURES - 3]
    assert pa.Table.from_batches(batches)["n"].to_pylist() == [*range(2 * BATCH_FEATURES)]


@pytest.mark.parametrize("suffix", suffixes())
@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted("by a test"), OSError("not of the output")])
def test_what_ends_a_run_among_its_features_is_told_as_it_was(
    tmp_path: Path, suffix: str, error: Exception
) -> None:
    before, after = pair(tmp_path / "in")

    def progress(done: int, total: int) -> None:
        if total // 2 < done < total:  # the first polygon is on its way to the file
            raise error

    config = DetectConfig(
        before, after, tmp_path / f"c{suffix}", device="cpu", threshold=0.9, window=64, overlap=16
    )
    with pytest.raises(type(error)) as caught:
        detect(config, model=(Pointwise(), CONTRACT), progress=progress)
    assert caught.value is error
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"c{suffix}.rscd", "in"]


PROVENANCE = {
    "rscd_version": "0.1",
    "inputs": {"before": "vorher ä.tif", "bytes": 12},
    "options": [1, None, "x"],
}


def grid_of(shape: tuple[int, int], crs: str = "EPSG:32633") -> Grid:
    return Grid(CRS(crs).to_wkt(), (10.0, 0, 500_000.0, 0, -10.0, 6_700_000.0), shape[1], shape[0])


def write(path: Path, probability: NDArray[np.uint8], grid: Grid | None = None, band: int = 7) -> ObservedExtent:
    """Take a probability raster through records and polygons into a GeoPackage."""
    grid = grid if grid is not None else grid_of(probability.shape)
    areas, tracer = PixelAreas(grid), PolygonTracer(grid)
    extent = ObservedExtent(grid, areas)

    def features() -> Iterator[pa.RecordBatch]:
        for index, row in enumerate(range(0, grid.height, band)):
            record = strip_record(
                index,
                row,
                probability[row : row + band],
                threshold=128,
                areas=areas,
            )
            extent.add(record)
            yield tracer.add(record)
        yield tracer.finish()

    with Publication() as publication:
        changes = FeatureStream(features())
        write_geopackage(path, grid, changes, extent, provenance=lambda: PROVENANCE, publication=publication)
        publication.publish()
    return extent


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "changes.gpkg"


@pytest.fixture
def probability() -> NDArray[np.uint8]:
    values = np.where(np.random.default_rng(3).random((50, 40)) < 0.2, 200, 10).astype(np.uint8)
    values[:10, :20] = NOT_OBSERVABLE
    return values


def test_the_layer_of_changes(target: Path, probability: NDArray[np.uint8]) -> None:
    write(target, probability)
    info = pyogrio.read_info(target, layer="changes")
    frame = pyogrio.read_dataframe(target, layer="changes")
    assert [*frame.columns] == FEATURE_SCHEMA.names
    assert info["geometry_type"] == "Polygon"
    assert frame.crs.to_epsg() == 32633
    assert frame["id"].tolist() == list(range(1, len(frame) + 1))
    assert frame["touches_edge"].dtype == bool
    assert frame.geometry.is_valid.all()
    assert frame.geometry.area.sum() == pytest.approx(100 * (probability == 200).sum())
    with closing(sqlite3.connect(target)) as database:
        assert database.execute("SELECT count(*) FROM rtree_changes_geometry").fetchone()[0] == len(frame)
    part = pyogrio.read_dataframe(target, layer="changes", bbox=(500_000, 6_699_500, 500_100, 6_699_600))
    assert 0 < len(part) < len(frame)


def test_the_layer_of_the_extent(target: Path, probability: NDArray[np.uint8]) -> None:
    extent = write(target, probability)
    frame = pyogrio.read_dataframe(target, layer="extent")
    assert frame["not_observable_km2"].tolist() == [pytest.approx(0.02, rel=2e-3)]
    assert frame["observed_km2"].tolist() == [pytest.approx(0.18, rel=2e-3)]
    assert frame.geometry.geom_type.tolist() == ["MultiPolygon"]
    assert frame.geometry.area.tolist() == [pytest.approx(1800 * 100)]
    assert extent.observed_m2 + extent.not_observable_m2 == pytest.approx(
        PixelAreas(grid_of((50, 40))).total(np.ones((50, 40), dtype=bool), 0)
    )


def test_an_extent_seen_whole_is_the_grids_rectangle(target: Path) -> None:
    grid = grid_of((5, 4099))  # three pixels to a cell, and neither side a multiple of it
    extent = write(target, np.zeros(grid.shape, dtype=np.uint8), grid, band=2)
    box = shapely.box(500_000, 6_700_000 - 50, 500_000 + 40_990, 6_700_000)
    assert extent.multipolygon().normalize() == shapely.MultiPolygon([box]).normalize()
    assert extent.not_observable_m2 == 0.0


def test_an_extent_is_whole_and_at_most_a_cell_too_large() -> None:
    grid = grid_of((6000, 30))
    probability = np.full(grid.shape, NOT_OBSERVABLE, dtype=np.uint8)
    probability[1000:2000, 7:20] = 0
    areas = PixelAreas(grid)
    extent = ObservedExtent(grid, areas)
    for index, row in enumerate(range(0, 6000, 448)):
        band = probability[row : row + 448]
        extent.add(strip_record(index, row, band, threshold=128, areas=areas))
    seen = shapely.box(500_070, 6_680_000, 500_200, 6_690_000)
    assert extent.multipolygon().covers(seen)
    assert seen.buffer(30, join_style="mitre").covers(extent.multipolygon())
    assert extent.observed_m2 == pytest.approx(13_000 * 100, rel=2e-3)


def test_valid_when_nothing_changed_and_when_nothing_was_seen(target: Path) -> None:
    for value in (0, NOT_OBSERVABLE):
        write(target, np.full((9, 9), value, dtype=np.uint8))
        assert pyogrio.list_layers(target)[:2].tolist() == [
            ["changes", "Polygon"],
            ["extent", "MultiPolygon"],
        ]
        frame = pyogrio.read_dataframe(target, layer="changes")
        assert len(frame) == 0
        assert [*frame.columns] == FEATURE_SCHEMA.names
        assert len(pyogrio.read_dataframe(target, layer="extent")) == 1


def test_provenance_reads_back(target: Path, probability: NDArray[np.uint8]) -> None:
    write(target, probability)
    stored = pyogrio.read_info(target, layer="changes")["layer_metadata"]
    assert {key: json.loads(value) for key, value in stored.items()} == PROVENANCE
    with closing(sqlite3.connect(target)) as database:
        xml = database.execute("SELECT metadata FROM gpkg_metadata").fetchone()[0]
    items = {item.get("key"): item.text for item in ET.fromstring(xml).iter("MDI")}
    assert json.loads(items["inputs"] or "") == PROVENANCE["inputs"]


def test_the_style_is_where_qgis_looks(target: Path, probability: NDArray[np.uint8]) -> None:
    write(target, probability)
    with closing(sqlite3.connect(target)) as database:
        rows = database.execute(
            "SELECT f_table_name, f_geometry_column, useAsDefault, styleQML FROM layer_styles"
        ).fetchall()
        kind = database.execute("SELECT data_type FROM gpkg_contents WHERE table_name = 'layer_styles'").fetchone()
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    assert [row[:3] for row in rows] == [("changes", "geometry", 1), ("extent", "geometry", 1)]
    assert [row[3] for row in rows] == [changes_qml(columns(), REVIEW_STATES), extent_qml()]
    assert kind == ("attributes",)


def test_the_style_fills_by_mean_probability_without_gaps() -> None:
    qgis = ET.fromstring(changes_qml())
    renderer = qgis.find("renderer-v2")
    assert qgis.tag == "qgis" and qgis.get("labelsEnabled") == "0"
    assert renderer is not None and renderer.get("attr") == SHOWN and '"mean_probability"' in SHOWN
    ranges = [(float(r.get("lower", "")), float(r.get("upper", ""))) for r in renderer.iter("range")]
    hatched = [label for label in (r.get("label") or "" for r in renderer.iter("range")) if "hatched" in label]
    assert [label.removeprefix("hatched: ") for label in hatched] == list(HATCHED), "the legend explains it"
    explained = [ranges.pop() for _ in hatched]
    assert all(upper < DRAWN[0] for _, upper in explained), "no polygon is in such a class"
    assert ranges.pop() == DRAWN[:2]
    assert ranges[0][0] == 0 and ranges[-1][1] == 1
    assert all(one[1] == two[0] for one, two in pairwise(ranges))
    symbols = renderer.findall("symbols/symbol")
    assert [s.get("name") for s in symbols] == [r.get("symbol") for r in renderer.iter("range")]
    assert len(symbols) == len(STEPS) + 1 + len(HATCHED)


def test_the_style_outlines_by_review_state() -> None:
    qgis = ET.fromstring(changes_qml())
    for layer in list(qgis.iter("layer"))[: len(STEPS) + 1]:
        defined = {
            option.get("name"): {part.get("name"): part.get("value") for part in option}
            for option in layer.findall("data_defined_properties/Option/Option[@name='properties']/Option")
        }
        colour = defined["outlineColor"]
        assert (colour["active"], colour["type"]) == ("true", "3")
        states = re.findall(r"\"review\" = '(\w+)' THEN '[\d,]+'", colour["expression"] or "")
        assert {"", *states} == set(REVIEW_STATES)


def test_an_old_output_is_replaced_and_nothing_else_is_left(target: Path, probability: NDArray[np.uint8]) -> None:
    target.write_bytes(b"an older output")
    write(target, probability)
    assert len(pyogrio.read_dataframe(target, layer="changes")) > 0
    assert [file.name for file in target.parent.iterdir()] == [target.name]


def test_a_missing_folder_is_an_output_error(tmp_path: Path, probability: NDArray[np.uint8]) -> None:
    with pytest.raises(OutputError, match="no_such") as caught:
        write(tmp_path / "no_such" / "changes.gpkg", probability)
    assert caught.value.exit_code == 7
    assert caught.value.remedy


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from rscd.core.errors import OutputError
sys.path.insert(0, "tests")
from test_geopackage import speckles, write
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    write(Path(sys.argv[1]), speckles(), band=50)
except OutputError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def speckles() -> NDArray[np.uint8]:
    return np.where(np.random.default_rng(0).random((300, 300)) < 0.2, 200, 10).astype(np.uint8)


@pytest.mark.parametrize(("stage", "message"), [("table", "layer"), ("index", "index|rtree")])
def test_a_full_disk_leaves_the_old_output(target: Path, stage: str, message: str) -> None:
    """A limit on file size stands for the disk, which is full in the features or their index."""
    write(target, speckles(), band=50)
    package = target.stat().st_size
    limit = {"table": package // 3, "index": package - 300_000}[stage]
    target.write_bytes(b"an older output")
    command = [sys.executable, "-c", FULL_DISK, str(target), str(limit)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 7, run.stderr
    assert re.search(message, run.stdout)
    assert target.read_bytes() == b"an older output"
    assert [file.name for file in target.parent.iterdir()] == [target.name]
