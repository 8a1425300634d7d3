"""What a person may give by accident or on purpose: one line, the right exit code, and never a hang."""

import hashlib
import json
import sqlite3
import subprocess
import sys
from contextlib import closing

import geopandas
import numpy as np
import pytest
import shapely
from conftest import Pointwise, write_image
from test_attributes import CONTRACT
from test_cli import rscd
from test_formats import pair

from rscd.core.errors import DataError
from rscd.inference.journal import _unpack
from rscd.options.detect import DetectConfig
from rscd.scene.aoi import read_vectors
from rscd.workflows.detect import detect

VIEW = """
CREATE VIEW endless AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
SELECT i AS fid, 'a' AS id, 'b.tif' AS before, 'a.tif' AS after, X'' AS geometry FROM n;
INSERT INTO gpkg_contents (table_name, data_type, identifier, srs_id)
VALUES ('endless', 'features', 'endless', 32614);
INSERT INTO gpkg_geometry_columns VALUES ('endless', 'geometry', 'POLYGON', 32614, 0, 0);
DELETE FROM gpkg_contents WHERE table_name = 'area';
DELETE FROM gpkg_geometry_columns WHERE table_name = 'area';
"""


@pytest.fixture
def endless(tmp_path):
    """A GeoPackage whose only layer is a view that never ends."""
    path = tmp_path / "endless.gpkg"
    frame = geopandas.GeoDataFrame(geometry=[shapely.box(600_000, 3_349_950, 600_050, 3_350_000)], crs=32614)
    frame.to_file(path, layer="area")
    with closing(sqlite3.connect(path)) as database:
        database.create_function("ST_IsEmpty", 1, lambda blob: 1)
        database.executescript(VIEW)
    return path


@pytest.mark.timeout(60)
def test_a_view_without_end_is_refused(tmp_path, endless):
    before, after = pair(tmp_path / "in")
    done = rscd("detect", before, after, "-o", tmp_path / "c.gpkg", "--aoi", endless)
    assert done.exit_code == 3, done.output
    assert "endless.gpkg: layer endless is a view - write it as a table" in done.stderr
    done = rscd("batch", endless, "-o", tmp_path / "out")
    assert done.exit_code == 3, done.output
    assert "layer endless is a view" in done.stderr


def test_coordinates_that_are_no_numbers_are_refused(tmp_path):
    before, after = pair(tmp_path / "in")
    ring = "[[-98, 30], [1e400, 30], [-97.9, 30.1], [-98, 30]]"
    area = tmp_path / "aoi.geojson"
    area.write_text(
        '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {},'
        f' "geometry": {{"type": "Polygon", "coordinates": [{ring}]}}}}]}}'
    )
    done = rscd("detect", before, after, "-o", tmp_path / "c.gpkg", "--aoi", area)
    assert done.exit_code == 3, done.output
    assert "aoi.geojson: " in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--window", "1000000"], "--window 1000000 - use a multiple of 32 px, e.g. 4096"),
        (["--batch-size", "100000"], "--batch-size 100000 - use auto, or 1 to 4096"),
        (["--simplify", "inf"], "--simplify inf - use 0 or more"),
        (["--fill-holes", "nan"], "--fill-holes nan"),
    ],
)
def test_values_beyond_reason_are_refused(tmp_path, options, words):
    before, after = pair(tmp_path / "in")
    done = rscd("detect", before, after, "-o", tmp_path / "c.gpkg", *options)
    assert done.exit_code == 2, done.output
    assert words in done.stderr


@pytest.mark.parametrize("body", [b"", b"no zstd", b"(\xb5/\xfd broken"])
def test_a_journal_with_a_fitting_checksum_and_a_broken_body_is_as_good_as_missing(tmp_path, body):
    body = b"0000000000000010\n" + body
    path = tmp_path / "0.strip"
    path.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    assert _unpack(path) is None


def test_a_run_goes_on_from_a_journal_with_a_broken_body(tmp_path):
    before, after = pair(tmp_path / "in")
    output = tmp_path / "c.gpkg"
    config = DetectConfig(before, after, output, device="cpu", threshold=0.9, keep_journal=True)
    whole = detect(config, model=(Pointwise(), CONTRACT))
    band = next((tmp_path / "c.gpkg.rscd").glob("*.strip"))
    body = b"0000000000000010\nbroken"
    band.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    output.unlink()
    again = detect(config, model=(Pointwise(), CONTRACT))
    assert again.written.polygons == whole.written.polygons
    assert again.windows > 0


GML = """<?xml version="1.0"?><wfs:FeatureCollection xmlns:wfs="http://www.opengis.net/wfs"
 xmlns:gml="http://www.opengis.net/gml"><gml:featureMember><area><geom><gml:Polygon srsName="EPSG:32614">
<gml:exterior><gml:LinearRing><gml:posList>600000 3349950 600050 3349950 600050 3350000 600000 3349950</gml:posList>
</gml:LinearRing></gml:exterior></gml:Polygon></geom></area></gml:featureMember></wfs:FeatureCollection>"""


def test_gml_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "aoi.gml"
    path.write_text(GML)
    try:
        read_vectors(path, columns=[])
    except DataError as error:
        assert "aoi.gml" in str(error)
    assert [file.name for file in tmp_path.iterdir()] == ["aoi.gml"]


CODE = """
import json, resource, sys
import torch
import rscd.workflows.detect
from rscd.cli.app import app
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]), -1))
sys.argv = ["rscd", *json.loads(sys.argv[2])]
app()
"""


def test_memory_that_does_not_last_is_one_line(tmp_path):
    rng = np.random.default_rng(0)
    files = [
        write_image(tmp_path / f"{n}.tif", rng.integers(1, 255, (3, 1100, 1100), dtype=np.uint8)) for n in "ba"
    ]
    command = ["detect", *map(str, files), "-o", str(tmp_path / "c.gpkg"), "--window", "1088", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(500 << 20), json.dumps(command)], capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 2, done.stderr
    assert "memory" in done.stderr.splitlines()[-1]
    assert "--window" in done.stderr.splitlines()[-1]


def test_threads_that_cannot_be_started_are_one_line():
    code = (
        "from rscd.cli.console import exit_codes\n"
        'with exit_codes():\n    raise RuntimeError("can\'t start new thread")\n'
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "rscd: the system cannot start more threads" in done.stderr
