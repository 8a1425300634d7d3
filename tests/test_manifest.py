"""Manifests: what is read from each format, what is refused, by line, and what never leads out of the folder."""

import json

import geopandas
import pandas as pd
import pytest
import shapely

from rscd.core.errors import DataError
from rscd.jobs.manifest import read_manifest, write_manifest
from rscd.jobs.pairs import ManifestPair, Root, safe_id

HEAD = "id,before,after,aoi,threshold\n"


def manifest(folder, text, name="m.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_every_format_gives_the_same_pairs(tmp_path):
    rows = {
        "id": ["a", "b"],
        "before": ["x/1.tif", "2.tif"],
        "after": ["y/1.tif", "3.tif"],
        "aoi": ["aoi.gpkg", None],
        "threshold": [0.7, None],
    }
    frame = geopandas.GeoDataFrame(pd.DataFrame(rows), geometry=[shapely.Point(0, 0)] * 2, crs="EPSG:4326")
    frame.to_file(tmp_path / "m.gpkg", layer="pairs")
    frame.to_file(tmp_path / "m.geojson")
    frame.to_parquet(tmp_path / "m.parquet")
    pd.DataFrame(rows).to_csv(tmp_path / "m.csv", index=False)
    expected = (
        ManifestPair("a", tmp_path / "x/1.tif", tmp_path / "y/1.tif", tmp_path / "aoi.gpkg", 0.7),
        ManifestPair("b", tmp_path / "2.tif", tmp_path / "3.tif"),
    )
    for suffix in ("gpkg", "geojson", "parquet", "csv"):
        assert read_manifest(tmp_path / f"m.{suffix}").pairs == expected, suffix


def test_the_resolved_manifest_reads_back(tmp_path):
    found = read_manifest(manifest(tmp_path, HEAD + "a,b.tif,https://h/c.tif?x=1,,0.25\n"), allow_remote=True)
    write_manifest(tmp_path / "resolved.csv", found)
    assert "https://h/c.tif?x=1" in (tmp_path / "resolved.csv").read_text()
    assert read_manifest(tmp_path / "resolved.csv", allow_remote=True) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["line 1", "no column id, before, after"]),
        (HEAD, ["contains no pair"]),
        ("id,before\na,b.tif\n", ["line 1", "no column after", "id, before"]),
        ("id;before;after\na;b;c\n", ["no column id", "commas"]),
        ("id,before,after,before\n", ["line 1", "twice"]),
        (HEAD + "a,b.tif,c.tif,,\n\na,d.tif,e.tif,,\n", ["line 4", "'a'", "line 2"]),
        (HEAD + "a,b.tif,c.tif,,\nA,d.tif,e.tif,,\n", ["line 3", "'A'", "line 2"]),
        (HEAD + "a,../b.tif,c.tif,,\n", ["line 2", "../b.tif", "leads out"]),
        (HEAD + "a,b.tif,x/../../c.tif,,\n", ["line 2", "leads out"]),
        (HEAD + "a,/etc/passwd,c.tif,,\n", ["line 2", "absolute", "allow_remote=True"]),
        (HEAD + "a,b.tif,/vsicurl/http://h/c.tif,,\n", ["line 2", "/vsicurl/http://h/c.tif"]),
        (HEAD + "a,b.tif,https://h/c.tif,,\n", ["line 2", "is an address", "allow_remote=True"]),
        (HEAD + "a,b.tif,file:///c.tif,,\n", ["line 2", "address of an unsupported kind"]),
        (HEAD + "a,b.tif,c.tif,https://h/aoi.gpkg,\n", ["line 2", "address"]),
        (HEAD + "a,b.tif,\n", ["line 2", "3 values for 5 columns"]),
        (HEAD + "a,b.tif,,,\n", ["line 2", "no value for after"]),
        (HEAD + "a,b.tif,c.tif,,1.5\n", ["line 2", "threshold '1.5'"]),
        (HEAD + "a,b.tif,c.tif,,nan\n", ["line 2", "threshold 'nan'"]),
        ("id,before,after,after_date\na,b.tif,c.tif,May 2019\n", ["line 2", "date 'May 2019'", "2024-05-31"]),
        (
            "id,before,after,before_date,after_date\na,b.tif,c.tif,2022-01-01,2020-01-01\n",
            ["line 2", "2022-01-01 is later", "swap"],
        ),
        ("id,before,after,treshold\na,b.tif,c.tif,0.9\n", ["line 1", "'treshold' is unknown", "threshold"]),
        (HEAD + "..,b.tif,c.tif,,\n", ["line 2", "'..'", "cannot name a folder"]),
        (HEAD + "a/b,b.tif,c.tif,,\n", ["line 2", "cannot name a folder"]),
        (HEAD + "a,b\x1b.tif,c.tif,,\n", ["line 2", "control"]),
        (HEAD + 'a,"b.tif,c.tif,,\n', ["CSV"]),
        (HEAD + "a,../b.tif,c.tif,,\nb,b.tif,c.tif,,\nc,/b.tif,c.tif,,\n", ["line 2", "1 more: line 4"]),
    ],
)
def test_what_is_wrong_is_told_by_its_line(tmp_path, text, words):
    with pytest.raises(DataError) as refused:
        read_manifest(manifest(tmp_path, text))
    for word in words:
        assert word in str(refused.value)


def test_columns_of_other_names_are_nobodys_business(tmp_path):
    read = read_manifest(
        manifest(tmp_path, "id,before,after,sensor,threshold_old,threshold\na,b.tif,c.tif,x,1,0.9\n")
    )
    assert read.pairs[0].threshold == 0.9


def test_files_that_are_no_manifest(tmp_path):
    (tmp_path / "utf16.csv").write_bytes("id,before,after\n".encode("utf-16"))
    manifest(tmp_path, "{", "broken.json")
    manifest(tmp_path, "[1]", "list.json")
    manifest(tmp_path, json.dumps({"type": "FeatureCollection", "features": []}), "none.geojson")
    manifest(tmp_path, "<OGRVRTDataSource/>", "fake.gpkg")
    manifest(tmp_path, "PAR1", "cut.parquet")
    manifest(tmp_path, "a", "m.txt")
    for name in (
        "utf16.csv",
        "broken.json",
        "list.json",
        "none.geojson",
        "fake.gpkg",
        "cut.parquet",
        "m.txt",
        "no.csv",
    ):
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            read_manifest(tmp_path / name)


def test_a_link_leads_out_only_where_allowed(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "b.tif").touch()
    (inside / "link.tif").symlink_to(outside / "b.tif")
    (inside / "folder").symlink_to(outside)
    (inside / "own.tif").symlink_to(inside / "b.tif")
    for href in ("link.tif", "folder/b.tif"):
        with pytest.raises(DataError, match="leads out"):
            Root(inside).resolve(href)
        assert Root(inside, allow_remote=True).resolve(href) == outside / "b.tif"
    assert Root(inside).resolve("own.tif") == inside / "b.tif"


def test_gdal_names_are_never_read(tmp_path):
    for href in ("/vsicurl/http://h/c.tif", "/VSIMEM/x", "/vsizip//vsicurl/http://h/a.zip"):
        with pytest.raises(DataError, match="name for GDAL"):
            Root(tmp_path, allow_remote=True).resolve(href)


def test_a_hundred_thousand_lines(tmp_path):
    lines = [f"p{i},b/{i}.tif,c/{i}.tif,," for i in range(100_000)]
    assert len(read_manifest(manifest(tmp_path, HEAD + "\n".join(lines))).pairs) == 100_000
    lines[99_998] = "p7,b/1.tif,c/1.tif,,"
    with pytest.raises(DataError, match=r"line 100000: id 'p7' is also that of line 9"):
        read_manifest(manifest(tmp_path, HEAD + "\n".join(lines)))


def test_safe_ids():
    assert safe_id("2024/tile 12 (b)") == "2024_tile_12_b"
    assert safe_id("...") == "pair"
    assert safe_id("../../etc") == "etc"
