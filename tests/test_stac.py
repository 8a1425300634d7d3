"""STAC on disk: ItemCollection and catalog, pairs by footprint and date, links that stay below the root."""

import json

import pytest

from rscd.core.errors import DataError
from rscd.jobs.manifest import read_manifest

TIFF = "image/tiff; application=geotiff"


def item(name, date, west=10.0, href=None, **more):
    ring = [[west, 50.0], [west + 0.01, 50.0], [west + 0.01, 50.01], [west, 50.01], [west, 50.0]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, 50.0, west + 0.01, 50.01],
        "properties": {"datetime": date},
        "links": [],
        "assets": {"B": {"href": href or f"./{name}.tif", "type": TIFF}, "thumb": {"href": f"{name}.png"}},
    } | more


def collection(folder, *features):
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
    return path


def test_an_item_collection_is_paired_by_place_and_date(tmp_path):
    path = collection(
        tmp_path,
        item("late", "2022-01-01T00:00:00Z"),
        item("early", "2020-01-01T00:00:00Z"),
        item("middle", "2021-01-01T00:00:00Z"),
        item("elsewhere", "2021-01-01T00:00:00Z", west=12.0),
    )
    found = read_manifest(path)
    assert {(p.id, p.before.name, p.after.name) for p in found.pairs} == {
        ("early__middle", "early.tif", "middle.tif"),
        ("middle__late", "middle.tif", "late.tif"),
    }
    assert found.pairs[0].before.parent == tmp_path
    assert "1 items without a partner, e.g. elsewhere" in found.notes[0]


def catalog(folder):
    for part, date in (("one", "2020-05-01T00:00:00Z"), ("two", "2021-05-01T00:00:00Z")):
        (folder / part).mkdir()
        (folder / part / "item.json").write_text(json.dumps(item(part, date, href=f"../img/{part}.tif")))
    links = [{"rel": "item", "href": f"./{part}/item.json"} for part in ("one", "two")]
    links.append({"rel": "root", "href": "https://elsewhere/catalog.json"})
    path = folder / "catalog.json"
    path.write_text(
        json.dumps({"type": "Catalog", "id": "c", "stac_version": "1.0.0", "description": "", "links": links})
    )
    return path, links


def test_a_static_catalog_is_walked(tmp_path):
    found = read_manifest(catalog(tmp_path)[0])
    assert [(p.before, p.after) for p in found.pairs] == [(tmp_path / "img/one.tif", tmp_path / "img/two.tif")]


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("https://h/child.json", "address"),
        ("../child.json", "leads out"),
        ("./gone.json", "gone.json"),
        ("./catalog.json", "linked twice"),
    ],
)
def test_links_stay_below_the_root_and_make_no_circle(tmp_path, link, words):
    path, links = catalog(tmp_path)
    document = json.loads(path.read_text()) | {"links": [*links, {"rel": "child", "href": link}]}
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=words):
        read_manifest(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"assets": {"a": {"href": "a.png"}, "b": {"href": "b.png"}}}, "a, b.*--asset"),
        ({"assets": {"B": {"href": "../x.tif", "type": TIFF}}}, "item 2, 'y'.*leads out"),
        ({"assets": {"B": {"href": "https://h/x.tif", "type": TIFF}}}, "item 2, 'y'.*address"),
        ({"properties": {}}, "item"),
        ({"geometry": {"type": "Polygon", "coordinates": 3}}, "item"),
        ({"assets": 3}, "not a STAC item"),
    ],
)
def test_an_item_that_cannot_be_used_is_named(tmp_path, change, words):
    path = collection(tmp_path, item("x", "2020-01-01T00:00:00Z"), item("y", "2021-01-01T00:00:00Z", **change))
    with pytest.raises(DataError, match=words):
        read_manifest(path)


def test_the_asset_is_chosen_by_its_key(tmp_path):
    path = collection(tmp_path, item("x", "2020-01-01T00:00:00Z"), item("y", "2021-01-01T00:00:00Z"))
    assert read_manifest(path, asset="thumb").pairs[0].before == tmp_path / "x.png"
    with pytest.raises(DataError, match="no asset 'C'"):
        read_manifest(path, asset="C")


def pair_item(name, **properties):
    made = item(name, "2021-01-01T00:00:00Z")
    made["properties"] |= properties
    return made | {
        "assets": {date: {"href": f"img/{name}_{date}.tif", "type": TIFF} for date in ("before", "after")}
    }


def test_an_item_of_two_images_is_a_pair_beside_others(tmp_path):
    path = collection(
        tmp_path,
        pair_item("two"),
        item("early", "2020-01-01T00:00:00Z", west=12.0),
        item("late", "2022-01-01T00:00:00Z", west=12.0),
    )
    found = read_manifest(path).pairs
    assert [(p.id, p.before.name, p.after.name) for p in found] == [
        ("two", "two_before.tif", "two_after.tif"),
        ("early__late", "early.tif", "late.tif"),
    ]
    with pytest.raises(DataError, match="no two of its 1 items"):
        read_manifest(collection(tmp_path, pair_item("two")), asset="before")


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (pair_item("two"), "the same id"),
        (pair_item("x", **{"rscd:before_datetime": "May 2019"}), "item 2, 'x': cannot be read as a pair"),
        (pair_item("x") | {"assets": {"before": {"href": "../b.tif"}, "after": {"href": "a.tif"}}}, "leads out"),
    ],
)
def test_a_pair_that_cannot_be_used_is_named(tmp_path, second, words):
    with pytest.raises(DataError, match=words):
        read_manifest(collection(tmp_path, pair_item("two"), second))
