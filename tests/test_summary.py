"""The summary and the index: several CRSs in one, reviews that stay, text that is escaped."""

import dataclasses
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from conftest import Pointwise, write_image
from rasterio.crs import CRS
from test_detect import Telling, three_directions

from rscd import DetectConfig, detect
from rscd.core.contract import Contract
from rscd.core.errors import DataError, OutputError
from rscd.core.grid import grid_of
from rscd.core.types import Window
from rscd.jobs.index import index_html, write_index
from rscd.jobs.ledger import Entry
from rscd.jobs.summary import write_summary
from rscd.options.training import TrainConfig
from rscd.output.vector.reviews import Carried
from rscd.output.vector.sqlite import blob_of, open_geopackage
from rscd.training.data.labels import open_label
from rscd.training.data.sources import find_sources
from rscd.training.data.tiles import CHANGED, IGNORED

TERMS = {"window": 96, "overlap": 32, "threshold": 0.6, "trained_on": "nothing"}
STAND_IN = Pointwise(), Contract("stand-in", "1", "lite", 8, (0.0,) * 3, (1.0,) * 3, **TERMS)


def entry(name, state="done", **more):
    plain = {"before": "", "after": "", "ended": "2026-01-01", "seconds": 1.0, "polygons": 0, "changed_m2": 0.0}
    plain |= {"observed_km2": 0.0, "not_observable_km2": 0.0, "error": "", "fingerprint": "f"}
    return Entry(id=name, state=state, **(plain | more))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two pairs that are done, in neighbouring UTM zones, each with two bright squares; and one that failed."""
    folder = tmp_path_factory.mktemp("archive")
    rng = np.random.default_rng(3)
    entries = []
    for name, epsg, east in (("west", 32614, 780_000), ("east", 32615, 200_000)):
        (folder / name).mkdir()
        before = rng.integers(40, 60, (3, 96, 96), dtype=np.uint8)
        after = before.copy()
        after[0, 10:30, 10:30] = after[0, 50:80, 50:70] = 250
        paths = [folder / name / f"{date}.tif" for date in ("before", "after")]
        for path, pixels in zip(paths, (before, after), strict=True):
            crs = CRS.from_epsg(epsg)
            write_image(path, pixels, crs=crs, transform=Affine(0.5, 0, east, 0, -0.5, 3_350_000))
        result = detect(DetectConfig(*paths, output=folder / name / "changes.gpkg"), model=STAND_IN)
        entries.append(entry(name, polygons=result.written.polygons))
    before = str(folder / "west" / "before.tif")
    entries.append(entry("broken", "failed", before=before, error="<b>it</b> & more"))
    return folder, entries


def test_pairs_of_one_crs_keep_it_and_of_several_come_to_wgs84(made, tmp_path):
    folder, entries = made
    write_summary(tmp_path / "one.gpkg", folder, [entries[0], entries[2]])
    write_summary(tmp_path / "both.gpkg", folder, entries)
    one, both = (pyogrio.read_dataframe(tmp_path / f"{n}.gpkg", layer="changes") for n in ("one", "both"))
    assert one.crs.to_epsg() == 32614
    assert both.crs.to_epsg() == 4326
    assert list(both.pair_id) == ["west", "west", "east", "east"]
    assert list(both.id) == [1, 2, 1, 2]
    source = pyogrio.read_dataframe(folder / "east" / "changes.gpkg", layer="changes").to_crs(4326)
    assert shapely.equals_exact(both.geometry[2:].to_numpy(), source.geometry.to_numpy(), 1e-9).all()
    pairs = pyogrio.read_dataframe(tmp_path / "both.gpkg", layer="pairs")
    assert list(pairs.status) == ["done", "done", "failed"]
    apart = shapely.symmetric_difference(pairs.geometry[2], pairs.geometry[0])  # the failed one's before image
    assert apart.area < 0.01 * pairs.geometry[0].area
    with closing(sqlite3.connect(tmp_path / "both.gpkg")) as database:
        assert database.execute("SELECT f_table_name FROM layer_styles").fetchall() == [("changes",), ("pairs",)]


def test_a_pair_with_near_infrared_keeps_its_columns_beside_one_without(made, tmp_path):
    folder, entries = made
    shutil.copytree(folder / "west", tmp_path / "west")
    dates = []
    for date in ("before", "after"):
        with rasterio.open(folder / "west" / f"{date}.tif") as source:
            pixels, transform = source.read(), source.transform
        path = tmp_path / f"{date}.tif"
        pixels = np.concatenate([pixels, 90 + pixels[1:2]])
        dates.append(write_image(path, pixels, transform=transform, photometric="minisblack"))
    (tmp_path / "nir").mkdir()
    result = detect(DetectConfig(*dates, output=tmp_path / "nir" / "changes.gpkg", nir=4), model=STAND_IN)
    both = [entries[0], entry("nir", polygons=result.written.polygons)]
    write_summary(tmp_path / "s.gpkg", tmp_path, both)
    found = pyogrio.read_dataframe(tmp_path / "s.gpkg", layer="changes")
    assert list(found.pair_id) == ["west", "west", "nir", "nir"]
    assert found.before_nir.isna().tolist() == found.ndvi_change.isna().tolist() == [True, True, False, False]
    assert (found.before_nir[2:] > 120).all() and found.before_red.notna().all()


def test_directions_are_counted_pair_by_pair(made, tmp_path):
    """One of each in a pair whose model tells them; none known of the others."""
    folder, entries = made
    shutil.copytree(folder / "west", tmp_path / "west")
    (tmp_path / "told").mkdir()
    dates = (write_image(tmp_path / f"{n}.tif", p) for n, p in zip("ab", three_directions(), strict=True))
    config = DetectConfig(
        *dates, output=tmp_path / "told" / "changes.gpkg", threshold=0.55, report=tmp_path / "r.html"
    )
    result = detect(config, model=(Telling(), STAND_IN[1]))
    report = (tmp_path / "r.html").read_text()
    for words in ("1 appeared (400 m²)", "vanished, 1 place<"):
        assert words in report
    both = [entries[0], entry("told", polygons=result.written.polygons, changed_m2=result.written.changed_m2)]
    write_summary(tmp_path / "s.gpkg", tmp_path, both)
    pairs = pyogrio.read_dataframe(tmp_path / "s.gpkg", layer="pairs").set_index("pair_id")
    assert pairs.loc["told", ["appeared", "vanished", "replaced", "unclear"]].tolist() == [1, 1, 1, 0]
    assert pairs.loc["told", "vanished_m2"] == pytest.approx(400, rel=1e-2)
    assert pairs.loc["west", ["appeared", "appeared_m2"]].isna().all()
    write_index(tmp_path / "index.html", tmp_path, both, tmp_path / "s.gpkg")
    page = (tmp_path / "index.html").read_text()
    assert "vanished, 1 change" in page and "1 appeared (400 m²), 1 vanished (400 m²), 1 replaced" in page


def test_pairs_of_a_version_without_directions_are_summed_up(made, tmp_path):
    folder, entries = shutil.copytree(made[0], tmp_path / "archive"), made[1][:2]
    for name in ("west", "east"):
        with closing(open_geopackage(folder / name / "changes.gpkg")) as database, database:
            database.execute("ALTER TABLE changes DROP COLUMN direction")
    assert not write_summary(tmp_path / "s.gpkg", folder, entries).unreadable
    pairs = pyogrio.read_dataframe(tmp_path / "s.gpkg", layer="pairs")
    assert list(pairs.polygons) == [2, 2] and pairs.appeared.isna().all()
    write_index(tmp_path / "index.html", folder, entries, tmp_path / "s.gpkg")


def test_reviews_in_a_summary_stay_though_the_pair_is_run_anew(made, tmp_path):
    folder, entries = made
    path = tmp_path / "summary.gpkg"
    write_summary(path, folder, entries)
    changes = pyogrio.read_dataframe(path, layer="changes", fid_as_index=True)
    changes.loc[changes.id == 2, "review"] = "accepted"
    pyogrio.write_dataframe(changes, path, layer="changes")
    again = [entries[0], dataclasses.replace(entries[1], ended="2026-02-02"), entries[2]]
    assert write_summary(path, folder, again).reviews == Carried(carried=2)
    assert list(pyogrio.read_dataframe(path, layer="changes").review) == ["", "accepted", "", "accepted"]


def test_a_summary_of_nothing_is_valid(made, tmp_path):
    folder, entries = made
    write_summary(tmp_path / "s.gpkg", folder, entries[2:])
    assert pyogrio.read_info(tmp_path / "s.gpkg", layer="changes")["features"] == 0
    assert pyogrio.read_info(tmp_path / "s.gpkg", layer="pairs")["features"] == 1


def test_the_tables_of_metadata_are_whole(made, tmp_path):
    """With one of the two alone, QGIS reports an error for each layer that it opens."""
    folder, entries = made
    write_summary(tmp_path / "s.gpkg", folder, entries)
    both = {"gpkg_metadata", "gpkg_metadata_reference"}
    with closing(sqlite3.connect(tmp_path / "s.gpkg")) as database:
        assert both <= {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        query = "SELECT table_name FROM gpkg_extensions WHERE extension_name = 'gpkg_metadata'"
        assert {name for (name,) in database.execute(query)} == both
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_pair_whose_file_cannot_be_read_fails_by_name_and_the_others_are_summed_up(made, tmp_path):
    _, entries = made
    folder, path = shutil.copytree(made[0], tmp_path / "archive"), tmp_path / "summary.gpkg"
    damaged = folder / "east" / "changes.gpkg"
    with closing(sqlite3.connect(damaged)) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'changes'").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    with damaged.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    made_now = write_summary(path, folder, [*entries, entry("gone")])
    assert sorted(made_now.unreadable) == ["east", "gone"]
    assert "cannot be read" in made_now.unreadable["east"]
    assert set(pyogrio.read_dataframe(path, layer="changes").pair_id) == {"west"}
    assert list(pyogrio.read_dataframe(path, layer="pairs").status) == ["done", "failed", "failed", "failed"]


def test_a_polygon_deleted_by_hand_stays_deleted(made, tmp_path):
    _, entries = made
    folder, path = shutil.copytree(made[0], tmp_path / "archive"), tmp_path / "summary.gpkg"
    with closing(open_geopackage(folder / "east" / "changes.gpkg")) as database, database:
        database.execute("DELETE FROM changes WHERE id = 1")
    assert not write_summary(path, folder, entries).unreadable
    frame = pyogrio.read_dataframe(path, layer="changes")
    assert list(zip(frame.pair_id, frame.id, strict=True)) == [("west", 1), ("west", 2), ("east", 2)]


def test_a_summary_that_is_open_elsewhere_is_not_replaced(made, tmp_path):
    folder, entries = made
    path = tmp_path / "summary.gpkg"
    write_summary(path, folder, entries)
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OutputError, match=r"summary\.gpkg: another program has it open"):
            write_summary(path, folder, entries)


def test_the_index_escapes_and_links_what_is_there(made):
    folder, entries = made
    page = index_html(folder, [*entries, entry("x'1", "pending")])
    assert "&lt;b&gt;it&lt;/b&gt; &amp; more" in page
    assert "<b>it" not in page
    assert 'href="east/changes.gpkg"' in page
    assert "report.html" not in page
    assert "not run yet" in page
    assert "4 changes in 2 pairs" in page


def _reviews(path):
    return find_sources(TrainConfig((), output=path.with_suffix(".safetensors"), reviews=(path,)), [path]).pairs


def test_training_takes_a_reviewed_summary_pair_by_pair(made, tmp_path):
    folder = shutil.copytree(made[0], tmp_path / "archive")
    path = folder / "summary.gpkg"
    write_summary(path, folder, made[1])
    with pytest.raises(DataError, match="no polygon of it is reviewed"):
        _reviews(path)
    with closing(open_geopackage(path)) as database, database:
        database.execute("UPDATE changes SET review = 'rejected' WHERE pair_id = 'east' AND id = 1")
    (east,) = _reviews(path)
    assert "east" in east.name
    with rasterio.open(folder / "east" / "before.tif") as source:
        grid = grid_of(source)
    label = open_label(east, grid).read(Window(0, 0, 96, 96))
    assert (label[15:25, 15:25] == 0).all() or (label[55:75, 55:65] == 0).all()
    assert (label[85:, 80:] == IGNORED).all()
    with rasterio.open(folder / "west" / "before.tif") as source:
        x, y = source.xy(90, 90)
        centre = pyproj.Transformer.from_crs(source.crs, 4326, always_xy=True).transform(x, y)
    with closing(open_geopackage(path)) as database, database:
        drawn = blob_of(shapely.Point(centre).buffer(2e-5), 4326)
        database.execute("INSERT INTO changes (geometry) VALUES (?)", (drawn,))
    west = next(source for source in _reviews(path) if "west" in source.name)
    with rasterio.open(folder / "west" / "before.tif") as source:
        grid = grid_of(source)
    assert (open_label(west, grid).read(Window(89, 89, 2, 2)) == CHANGED).all()


def test_a_polygon_drawn_on_the_ground_of_two_pairs_is_asked_about(made, tmp_path):
    folder = tmp_path / "archive"
    for name in ("west", "again"):
        shutil.copytree(made[0] / "west", folder / name)
    path = folder / "summary.gpkg"
    write_summary(path, folder, [made[1][0], entry("again", polygons=2)])
    ground = pyogrio.read_dataframe(path, layer="pairs")
    with closing(open_geopackage(path)) as database, database:
        srs = database.execute("SELECT srs_id FROM gpkg_geometry_columns").fetchone()[0]
        drawn = blob_of(ground.geometry[0].centroid.buffer(3), srs)
        database.execute("INSERT INTO changes (geometry) VALUES (?)", (drawn,))
    with pytest.raises(DataError, match=r"lies on the ground of west, again.*pair_id"):
        _reviews(path)
    with closing(open_geopackage(path)) as database, database:
        database.execute("UPDATE changes SET pair_id = 'again' WHERE pair_id IS NULL")
    assert [source.name.split()[-1] for source in _reviews(path)] == ["again"]
