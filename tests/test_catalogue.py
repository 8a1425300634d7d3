"""The STAC catalogue of an archive: valid, incremental, cut at the antimeridian, a manifest of the same pairs."""

import json
import shutil

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from conftest import Pointwise, utm_grid, write_image, write_pair
from test_attributes import CONTRACT
from test_batch import OPTIONS, rscd
from test_formats import run

from rscd import DetectConfig, detect
from rscd.core.errors import UsageError
from rscd.jobs.catalogue import check_catalogue, write_catalogue
from rscd.jobs.ledger import Entry
from rscd.jobs.manifest import read_manifest, write_manifest
from rscd.jobs.pairs import ManifestPair
from rscd.scene.metadata import outline_and_box

LINES = ("one", 0, 0), ("two", 0, 128), ("three", 128, 0)


def schema_errors(document):
    """What STAC's own schemas, as pystac brings them, say against an item or collection."""
    pytest.importorskip("jsonschema", reason="pystac[validation] is not installed")
    from jsonschema import Draft7Validator
    from pystac.validation.local_validator import get_local_schema_cache
    from referencing import Registry, Resource

    schemas = get_local_schema_cache()
    known = Registry().with_resources([(uri, Resource.from_contents(s)) for uri, s in schemas.items()])
    kind = {"Feature": "item", "Collection": "collection"}[document["type"]]
    (uri,) = (uri for uri in schemas if uri.endswith(f"/{kind}.json") and "json-schema" in uri)
    return [error.message for error in Draft7Validator(schemas[uri], registry=known).iter_errors(document)]


def items(folder):
    """Item id -> its JSON, as a client finds them from the collection on."""
    collection = json.loads((folder / "collection.json").read_text())
    hrefs = [link["href"] for link in collection["links"] if link["rel"] == "item"]
    found = [json.loads((folder / href).read_text()) for href in hrefs]
    assert sorted(p.parent.name for p in folder.glob("*/*.json") if p.name != "provenance.json") == sorted(
        item["id"] for item in found
    )
    return {item["id"]: item for item in found}


@pytest.fixture(scope="module")
def archive(tmp_path_factory, place):
    """Three pairs and one that fails; the first has dates in its tags, the second in the manifest."""
    folder = tmp_path_factory.mktemp("catalogue")
    lines = [write_pair(folder, name, place, row, col) for name, row, col in LINES]
    for date, tag in (("before", "2019:05:01 10:30:00"), ("after", "2021:06:03 11:00:00")):
        with rasterio.open(folder / date / "one.tif", "r+") as dataset:
            dataset.update_tags(TIFFTAG_DATETIME=tag)
    (folder / "area.geojson").write_text(json.dumps(area()))
    more = ",,0.5,,,", ",area.geojson,,,2020-01-01,2022-03-04T05:06:07+01:00", ",,,,,"
    rows = [line + rest for line, rest in zip(lines, more, strict=True)]
    header = "id,before,after,aoi,threshold,model,before_date,after_date"
    bad = "broken,before/one.tif,after/none.tif,,,,,"
    (folder / "m.csv").write_text("\n".join([header, *rows, bad]) + "\n")
    result = rscd(
        folder / "m.csv", "-o", folder / "out", "--stac", folder / "out" / "stac", "--probability", *OPTIONS
    )
    assert result.exit_code == 6, result.output
    assert "collection.json" in result.stderr
    return folder


def area():
    """Most of the second pair's ground, in longitude and latitude."""
    ring = shapely.box(600_070, 3_349_945, 600_120, 3_349_995)
    outline, _ = outline_and_box(ring, "EPSG:32614")
    return {"type": "Feature", "properties": {}, "geometry": json.loads(shapely.to_geojson(outline))}


def test_items_of_the_pairs_that_are_done_are_valid_and_say_when_where_and_how(archive):
    folder = archive / "out" / "stac"
    found = items(folder)
    assert sorted(found) == ["one", "three", "two"], "the one that failed has no item"
    collection = json.loads((folder / "collection.json").read_text())
    for document in (collection, *found.values()):
        assert not schema_errors(document)
    assert schema_errors(found["one"] | {"bbox": [1, 2]}), "the check can fail"
    one, two, three = (found[name]["properties"] for name in ("one", "two", "three"))
    assert (one["datetime"], one["start_datetime"]) == (None, "2019-05-01T10:30:00Z")
    assert (two["start_datetime"], two["end_datetime"]) == ("2020-01-01T00:00:00Z", "2022-03-04T04:06:07Z")
    assert three["datetime"] == three["updated"] and three["rscd:before_datetime"] is None
    assert one["proj:code"] == "EPSG:32614" and one["gsd"] == pytest.approx(0.5, rel=1e-2)
    assert one["rscd:model"].startswith("buildings") and "LEVIR" in one["rscd:model_licence"]
    assert one["processing:software"]["rscd"]
    outline = shapely.geometry.shape(found["three"]["geometry"])
    assert outline.bounds == tuple(found["three"]["bbox"])
    with rasterio.open(archive / "before" / "three.tif") as dataset:
        lon, lat = rasterio.warp.transform(dataset.crs, 4326, *([v] for v in dataset.xy(64, 64)))
    assert outline.centroid.distance(shapely.Point(lon[0], lat[0])) < 1e-5
    assert collection["extent"]["temporal"]["interval"][0][0] == "2019-05-01T10:30:00Z"


def test_hrefs_are_relative_and_lead_to_files(archive, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(archive, moved)
    read = pystac.Collection.from_file(str(moved / "out" / "stac" / "collection.json"))
    for item in read.get_items():
        assert {"vector", "raster", "provenance", "before", "after"} <= item.assets.keys()
        for asset in item.get_assets().values():
            assert not asset.href.startswith("/")
            assert pystac.utils.is_file_path(asset.href)
            assert (moved / "out" / "stac" / item.id / asset.href).is_file()
    known = json.loads((moved / "out" / "stac" / "one" / "provenance.json").read_text())
    assert known["inputs"]["before"]["sampled_sha256"]


def test_it_is_a_manifest_of_the_same_pairs(archive, tmp_path):
    again = read_manifest(archive / "out" / "stac" / "collection.json", allow_remote=True)
    first = {pair.id: pair for pair in read_manifest(archive / "m.csv").pairs if pair.id != "broken"}
    assert {p.id: (p.before, p.after, p.aoi, p.threshold, p.model) for p in again.pairs} == {
        p.id: (p.before, p.after, p.aoi, p.threshold, p.model) for p in first.values()
    }
    dates = {pair.id: pair.dates for pair in again.pairs}
    assert dates["two"] == first["two"].dates and dates["three"] == (None, None)
    write_manifest(tmp_path / "again.csv", again)
    assert read_manifest(tmp_path / "again.csv", allow_remote=True) == again, "as --plan writes it"
    folder = archive / "out"
    result = rscd(folder / "stac" / "collection.json", "-o", folder, "--allow-remote", "--probability", *OPTIONS)
    assert result.exit_code == 0 and "3 pairs, 3 done already" in result.stderr, "nothing is run anew"


def test_a_nightly_run_touches_only_what_changed(archive, tmp_path):
    folder = tmp_path / "nightly"
    shutil.copytree(archive, folder)
    stac = folder / "out" / "stac"
    stamps = {path: path.stat().st_mtime_ns for path in stac.rglob("*.json")}
    lines = (folder / "m.csv").read_text().splitlines()
    run_again = ["-o", folder / "out", "--stac", stac, "--probability", *OPTIONS]
    (folder / "m.csv").write_text("\n".join(lines[:4]) + "\n")
    assert rscd(folder / "m.csv", *run_again).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in stac.rglob("*.json")} == stamps, "nothing changed"
    # The second is not in the manifest any more, the first cannot be read, and the third is as it was.
    (folder / "before" / "one.tif").write_bytes(b"cut off")
    (folder / "night.csv").write_text("\n".join([lines[0], lines[1], lines[3]]) + "\n")
    assert rscd(folder / "night.csv", *run_again).exit_code == 6
    assert sorted(items(stac)) == ["three", "two"]
    for name in ("two", "three"):
        assert (stac / name / f"{name}.json").stat().st_mtime_ns == stamps[stac / name / f"{name}.json"]
    shutil.rmtree(folder / "out" / "two")  # somebody throws that map away
    rscd(folder / "night.csv", *run_again)
    assert sorted(items(stac)) == ["three"]
    assert not [path for path in stac.rglob(".*")] and not (stac / "one").exists()


def test_a_folder_that_is_not_ours_is_refused_before_any_work(archive, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "collection.json").write_text('{"type": "Collection", "id": "of somebody else"}')
    before = (foreign / "collection.json").read_bytes()
    result = rscd(archive / "m.csv", "-o", tmp_path / "out", "--stac", foreign, *OPTIONS)
    assert result.exit_code == 2 and "not a catalogue of rscd" in result.stderr
    assert (foreign / "collection.json").read_bytes() == before and not list(tmp_path.glob("out/*/changes.gpkg"))
    for place in (tmp_path, tmp_path / "one", tmp_path / "one" / "stac"):
        with pytest.raises(UsageError, match="inside it"):
            check_catalogue(place, tmp_path, ["one"])
    check_catalogue(tmp_path / "new", tmp_path, ["one"])


def test_the_catalogue_of_another_archive_is_refused(archive, tmp_path):
    stac = archive / "out" / "stac"
    before = (stac / "collection.json").read_bytes()
    result = rscd(archive / "m.csv", "-o", tmp_path / "other", "--stac", stac, *OPTIONS)
    assert result.exit_code == 2
    assert "is the catalogue of another archive" in result.stderr
    assert (stac / "collection.json").read_bytes() == before
    assert not list(tmp_path.glob("other/*/changes.gpkg"))
    shutil.copytree(archive / "out", tmp_path / "moved")
    check_catalogue(tmp_path / "moved" / "stac", tmp_path / "moved", ["one"])


def test_a_pair_across_the_antimeridian(tmp_path):
    """Geographic, 179.9995 to -179.9995: two parts, and a box whose west is larger than its east."""
    grid = utm_grid(160, 200)
    folder = tmp_path / "archive" / "fiji"
    folder.mkdir(parents=True)
    step = 5e-6
    place = {"crs": "EPSG:4326", "transform": rasterio.Affine(step, 0, 180 - 100 * step, 0, -step, -17.0)}
    run(folder / "changes.gpkg")  # writes in/a.tif and in/b.tif
    paths = []
    for name in "ab":
        with rasterio.open(folder / "in" / f"{name}.tif") as dataset:
            paths.append(write_image(folder / f"{name}.tif", dataset.read(), grid, nodata=0, **place))
    config = DetectConfig(*paths, folder / "changes.gpkg", device="cpu", threshold=0.9, overwrite=True)
    detect(config, model=(Pointwise(), CONTRACT))
    entry = Entry("fiji", "a", "b", "done", "2026-01-02T03:04:05+00:00", 1.0, 2, 1.0, 1.0, 0.0, "", "f")
    (tmp_path / "stac").mkdir()
    collection = write_catalogue(tmp_path / "stac", tmp_path / "archive", [entry], [ManifestPair("fiji", *paths)])
    item = items(tmp_path / "stac")["fiji"]
    west, south, east, north = item["bbox"]
    assert west == pytest.approx(179.9995) and east == pytest.approx(-179.9995) and south < north <= -17
    outline = shapely.geometry.shape(item["geometry"])
    assert outline.geom_type == "MultiPolygon" and len(outline.geoms) == 2
    assert outline.area == pytest.approx(0.001 * (north - south), rel=0.1)
    assert not schema_errors(item)
    assert json.loads(collection.read_text())["extent"]["spatial"]["bbox"][0][::2] == [-180, 180]


@pytest.mark.parametrize(
    ("box", "crs", "expected"),
    [
        ((300_000, 7_900_000, 300_500, 7_900_500), "EPSG:32701", (-178.8998, -18.9828, -178.895, -18.9783)),
        ((180.05, 10, 180.1, 10.1), "EPSG:4326", (-179.95, 10, -179.9, 10.1)),
        ((-1e5, -1e5, 2e5, 2e5), "EPSG:3031", (-180, -90, 180, -87.397)),
        ((499_000, 4_000_000, 501_000, 4_002_000), "EPSG:32660", (176.989, 36.144, 177.011, 36.163)),
    ],
)
def test_boxes_on_the_globe(box, crs, expected):
    outline, found = outline_and_box(shapely.box(*box), crs)
    assert found == pytest.approx(expected, abs=1e-3)
    assert outline.is_valid and outline.bounds == pytest.approx(expected, abs=1e-3)
    if outline.geom_type == "Polygon":
        assert shapely.is_ccw(outline.exterior), "as RFC 7946 wants it"


def test_an_archive_of_nothing_has_a_valid_collection(tmp_path):
    collection = write_catalogue(tmp_path, tmp_path / "archive", [], [])
    assert not schema_errors(json.loads(collection.read_text()))
    assert np.isfinite(json.loads(collection.read_text())["extent"]["spatial"]["bbox"]).all()
