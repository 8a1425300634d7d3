"""A review is never lost: it goes to the new polygons, or is kept, and no program's open file is replaced."""

import json
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing

import numpy as np
import pandas
import pyogrio
import pytest
import rasterio
import shapely
import shapely.affinity
from affine import Affine
from conftest import Pointwise, utm_grid, write_image
from test_attributes import CONTRACT
from test_formats import pair

from rscd.core.errors import OutputError, UsageError
from rscd.core.types import Window
from rscd.options.detect import DetectConfig, PolygonsConfig
from rscd.options.training import TrainConfig
from rscd.output.vector.reviews import Carried
from rscd.output.vector.sqlite import blob_of, note_outlines, open_geopackage, shape_of
from rscd.training.data.labels import open_label
from rscd.training.data.sources import find_sources
from rscd.training.data.tiles import CHANGED
from rscd.workflows.detect import detect
from rscd.workflows.polygons import polygons

GSD = 0.5


def run(output, threshold=0.9, overwrite=True, **options):
    before, after = pair(output.parent / "in")
    config = DetectConfig(before, after, output, device="cpu", threshold=threshold, overwrite=overwrite, **options)
    return detect(config, model=(Pointwise(), CONTRACT)).written


def read(path, layer="changes"):
    return pyogrio.read_dataframe(path, layer=layer)


def edit(path, sql, *values):
    with closing(open_geopackage(path)) as database, database:
        database.execute(sql, values)


def draw(path, shape, **values):
    """Draw a polygon as a reviewer does in QGIS: all attributes but those given are NULL."""
    with closing(open_geopackage(path)) as database, database:
        (srs,) = database.execute(
            "SELECT srs_id FROM gpkg_geometry_columns WHERE table_name = 'changes'"
        ).fetchone()
        names = "".join(f', "{name}"' for name in values)
        marks = ", ?" * len(values)
        database.execute(
            f"INSERT INTO changes (geometry{names}) VALUES (?{marks})", (blob_of(shape, srs), *values.values())
        )


def square(col, row, side=12):
    """A square of the pair's grid, in px."""
    a, _, x, _, e, y = utm_grid(160, 200).transform
    return shapely.box(x + a * col, y + e * (row + side), x + a * (col + side), y + e * row)


@pytest.mark.parametrize("again", ["detect", "polygons"])
def test_reviews_go_to_the_new_polygons(tmp_path, again):
    output, raster = tmp_path / "c.gpkg", tmp_path / "p.tif"
    run(output, probability=raster)
    edit(output, "ALTER TABLE changes ADD COLUMN note TEXT")
    edit(output, "UPDATE changes SET review = 'accepted', note = 'seen on site' WHERE id = 2")
    if again == "detect":
        written = run(output, threshold=0.99)
    else:
        written = polygons(PolygonsConfig(raster, output, threshold=0.99, overwrite=True))
    assert written.reviews == Carried(carried=1)
    frame = read(output).sort_values("id")
    assert list(frame.review) == ["", "accepted"]
    assert list(frame.note.fillna("")) == ["", "seen on site"]
    assert "reviewed_before" not in pyogrio.list_layers(output)[:, 0]


def test_reviews_without_a_polygon_are_kept_and_find_it_again(tmp_path):
    output = tmp_path / "c.gpkg"
    run(output)
    edit(output, "UPDATE changes SET review = 'rejected' WHERE id = 1")
    edit(output, "UPDATE changes SET review = 'accepted' WHERE id = 2")
    written = run(output, min_area_m2=250.0)  # the smaller of the two is dropped
    assert written.polygons == 1
    assert written.reviews == Carried(carried=1, kept=1)
    before = read(output, "reviewed_before")
    assert list(before.review) == ["accepted"]
    assert before.crs.to_epsg() == 32614
    written = run(output)
    assert written.polygons == 2
    assert sorted(read(output).review) == ["accepted", "rejected"]
    assert "reviewed_before" not in pyogrio.list_layers(output)[:, 0]


def test_the_place_counts_not_the_number(tmp_path):
    """A polygon half covered by a larger one takes its review; one that merely touches does not."""
    output = tmp_path / "c.gpkg"
    run(output)
    draw(output, square(115, 96, 10), id=90, mean_probability=0.6, review="accepted")  # half in the square
    draw(output, square(92, 105, 12), id=91, mean_probability=0.6, review="rejected")  # a third in it
    note_outlines(output)  # as if we had drawn them
    written = run(output)
    assert written.reviews == Carried(carried=1, kept=1)
    frame = read(output)
    assert list(frame.review[shapely.intersects(frame.geometry.to_numpy(), square(110, 105, 5))]) == ["accepted"]
    assert list(read(output, "reviewed_before").id) == [91]


def test_what_people_draw_gets_a_number_and_its_area(tmp_path):
    output = tmp_path / "c.gpkg"
    run(output)
    draw(output, square(150, 10, 20))
    written = run(output, threshold=0.95)
    assert written.reviews == Carried(drawn=1)
    frame = read(output)
    drawn = frame[frame.mean_probability.isna()].iloc[0]
    assert (drawn.id, drawn.review) == (3, "accepted")
    assert drawn.area_m2 == pytest.approx(100, rel=2e-3)
    assert drawn.perimeter_m == pytest.approx(40, rel=2e-3)
    assert -100 < drawn.lon < -97
    assert run(output).reviews == Carried(drawn=1)
    assert len(read(output)) == 3


def test_train_takes_drawn_polygons_as_they_are(tmp_path):
    output = tmp_path / "c.gpkg"
    run(output)
    edit(output, "UPDATE changes SET review = 'rejected' WHERE id = 1")
    draw(output, square(150, 10, 20))
    (source,) = find_sources(TrainConfig((), output=tmp_path / "m", reviews=(output,)), [output]).pairs
    label = open_label(source, utm_grid(160, 200))
    assert (label.read(Window(15, 155, 5, 5)) == CHANGED).all(), "a drawn polygon is a change"


def test_discard_reviews_drops_them(tmp_path):
    output = tmp_path / "c.gpkg"
    run(output)
    edit(output, "UPDATE changes SET review = 'accepted'")
    written = run(output, discard_reviews=True)
    assert not written.reviews
    assert set(read(output).review) == {""}


def test_layers_that_people_added_are_not_dropped_silently(tmp_path):
    output = tmp_path / "c.gpkg"
    run(output)
    pyogrio.write_dataframe(read(output), output, layer="my sites", append=False)
    with pytest.raises(UsageError, match=r"c\.gpkg: contains 1 layer that rscd did not make: my sites"):
        run(output)
    run(output, discard_reviews=True)


def test_styles_that_people_saved_stay_the_default(tmp_path):
    output = tmp_path / "c.gpkg"
    run(output)
    edit(output, "UPDATE layer_styles SET useAsDefault = 0")
    edit(
        output,
        "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName,"
        " styleQML, useAsDefault) VALUES ('', '', 'changes', 'geometry', 'mine', '<qgis/>', 1)",
    )
    run(output)
    with closing(sqlite3.connect(output)) as database:
        found = database.execute("SELECT styleName, useAsDefault FROM layer_styles WHERE f_table_name = 'changes'")
        assert dict(found.fetchall()) == {"changes": 0, "mine": 1}


def test_reviews_in_other_formats_are_not_dropped_silently(tmp_path):
    output = tmp_path / "c.geojson"
    run(output)
    output.write_text(output.read_text().replace('"review": ""', '"review": "accepted"', 1))
    with pytest.raises(UsageError, match=r"contains 1 review, which can only be carried over in a GeoPackage"):
        run(output)
    run(output, discard_reviews=True)


HOLD = """
import sys
from rscd.output.vector.sqlite import open_geopackage
database = open_geopackage(sys.argv[1])
database.isolation_level = None
for line in sys.argv[2].split(";"):
    database.execute(line).fetchall()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    "how",
    [
        "PRAGMA journal_mode = WAL;SELECT count(*) FROM changes",
        "PRAGMA journal_mode = WAL;UPDATE extent SET observed_km2 = 1",
        "BEGIN IMMEDIATE;UPDATE extent SET observed_km2 = 1",
        "BEGIN EXCLUSIVE",
    ],
)
def test_a_file_that_another_program_has_open_is_neither_replaced_nor_read(tmp_path, how):
    output = tmp_path / "c.gpkg"
    run(output)
    identity = output.stat().st_ino
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(output), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match=r"QGIS") as caught:
            run(output)
        assert caught.value.exit_code == 7
    finally:
        holder.stdin.close()
        holder.wait()
    assert output.stat().st_ino == identity
    assert run(output).polygons == 2


def test_changes_of_a_program_that_died_are_not_replayed_into_the_new_file(tmp_path):
    output = tmp_path / "c.gpkg"
    run(output)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLD,
            str(output),
            "PRAGMA journal_mode = WAL;UPDATE changes SET review = 'accepted'",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    assert (tmp_path / "c.gpkg-wal").stat().st_size
    with pytest.raises(OutputError, match=r"c\.gpkg-wal is next to it"):
        run(output)
    assert set(read(output).review) == {"accepted"}, "the person's edits are still there to be read"


def test_it_is_looked_at_again_before_it_is_replaced(tmp_path):
    output = tmp_path / "c.gpkg"
    run(output)
    before, after = pair(tmp_path / "in")
    holders = []

    def open_it(done, total):
        if done == total:
            holders.append(sqlite3.connect(output, isolation_level=None))
            holders[-1].execute("BEGIN EXCLUSIVE")

    config = DetectConfig(before, after, output, device="cpu", threshold=0.9, overwrite=True)
    with pytest.raises(OutputError, match="another program has it open"):
        detect(config, model=(Pointwise(), CONTRACT), progress=open_it)
    holders[-1].close()
    assert len(read(output)) == 2
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_file_that_appears_during_the_run_is_kept(tmp_path):
    output = tmp_path / "c.gpkg"
    before, after = pair(tmp_path / "in")

    def appear(done, total):
        if done == total:
            output.write_text("somebody's")

    config = DetectConfig(before, after, output, device="cpu", threshold=0.9)
    with pytest.raises(OutputError, match=r"c\.gpkg: appeared during this run"):
        detect(config, model=(Pointwise(), CONTRACT), progress=appear)
    assert output.read_text() == "somebody's"


def test_a_symbolic_link_is_written_through(tmp_path):
    (tmp_path / "disk").mkdir()
    real, link = tmp_path / "disk" / "real.gpkg", tmp_path / "c.gpkg"
    link.symlink_to(real)
    run(link, overwrite=False)
    assert link.is_symlink()
    assert len(read(real)) == 2
    run(link)
    assert link.is_symlink()
    assert not real.is_symlink()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))])
def test_devices_and_pipes_are_refused(tmp_path, make):
    try:
        make(tmp_path / "r.html")
    except PermissionError:
        pytest.skip("only root makes devices")
    with pytest.raises(UsageError, match=r"r\.html: is a device, pipe or socket"):
        run(tmp_path / "c.gpkg", report=tmp_path / "r.html")
    assert not stat.S_ISREG((tmp_path / "r.html").stat().st_mode)


def test_a_run_folder_that_is_not_ours_is_not_touched(tmp_path):
    folder = tmp_path / "c.gpkg.rscd"
    folder.mkdir()
    (folder / "thesis.strip").write_text("mine")
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"c\.gpkg\.rscd: contains thesis\.txt, which is not from rscd"):
        run(tmp_path / "c.gpkg")
    assert sorted(path.name for path in folder.iterdir()) == ["thesis.strip", "thesis.txt"]


@pytest.mark.parametrize("name", ["two\nlines.gpkg", "tab\t.gpkg", "\x1b[2J.gpkg"])
def test_control_characters_in_names_are_refused_before_the_work(tmp_path, name):
    with pytest.raises(UsageError, match="control character"):
        run(tmp_path / name)


def test_a_file_that_is_mounted_is_refused_before_the_work(tmp_path):
    output, source = tmp_path / "c.gpkg", tmp_path / "source"
    output.touch()
    source.touch()
    if subprocess.run(["mount", "--bind", source, output], capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        with pytest.raises(OutputError, match="is mounted as a single file"):
            run(output)
    finally:
        subprocess.run(["umount", output], check=True)


def test_the_same_crs_is_not_needed(tmp_path):
    """The common grid may be another one by now: outlines are brought to it."""
    output = tmp_path / "c.gpkg"
    run(output)
    edit(output, "UPDATE changes SET review = 'accepted' WHERE id = 2")
    rng = np.random.default_rng(0)
    before = rng.integers(80, 90, (3, 160, 200), dtype=np.uint8)
    after = before.copy()
    after[:, 100:120, 100:140] = 250
    grid = utm_grid(160, 200)
    paths = [write_image(tmp_path / f"{n}.tif", p, grid) for n, p in (("b2", before), ("a2", after))]
    config = DetectConfig(*paths, output, device="cpu", threshold=0.9, overwrite=True)
    assert detect(config, model=(Pointwise(), CONTRACT)).written.reviews == Carried(carried=1)


def test_polygons_keep_what_the_run_of_the_raster_knew(tmp_path):
    raster = tmp_path / "p.tif"
    first = run(tmp_path / "c.gpkg", threshold=0.8, min_area_m2=250.0, probability=raster)
    again = polygons(PolygonsConfig(raster, tmp_path / "again.gpkg"))
    assert (again.polygons, again.min_area_m2) == (first.polygons, 250.0)
    told = pyogrio.read_info(tmp_path / "again.gpkg", layer="changes")["layer_metadata"]
    assert json.loads(told["threshold"]) == 0.8
    assert json.loads(told["model"])["licence"] == CONTRACT.licence
    other = polygons(PolygonsConfig(raster, tmp_path / "other.gpkg", threshold=0.7, min_area_m2=1.0))
    assert (other.polygons, other.min_area_m2) == (2, 1.0)


def test_polygons_tell_what_the_images_show_and_training_learns_from_their_reviews(tmp_path):
    (tmp_path / "maps").mkdir()
    raster, again = tmp_path / "p.tif", tmp_path / "maps" / "again.gpkg"
    run(tmp_path / "c.gpkg", threshold=0.6, probability=raster)
    polygons(PolygonsConfig(raster, again, threshold=0.6))
    ours, theirs = read(again), read(tmp_path / "c.gpkg")
    assert list(ours.columns) == list(theirs.columns)
    assert ours.before_red.notna().all()
    ours, theirs = (frame.sort_values(["area_m2", "lon"], ignore_index=True) for frame in (ours, theirs))
    same = [name for name in theirs.columns if name not in ("id", "geometry")]
    pandas.testing.assert_frame_equal(ours[same], theirs[same])
    edit(again, "UPDATE changes SET review = 'accepted'")
    (source,) = find_sources(TrainConfig((), output=tmp_path / "m", reviews=(again,)), [again]).pairs
    assert source.config.before.resolve() == (tmp_path / "in" / "a.tif").resolve()
    assert (open_label(source, utm_grid(160, 200)).read(Window(0, 0, 160, 200)) == CHANGED).any()


@pytest.mark.parametrize("gone", [True, False])
def test_polygons_without_their_images_say_so_and_come_all_the_same(tmp_path, gone):
    raster, said = tmp_path / "p.tif", []
    first = run(tmp_path / "c.gpkg", probability=raster)
    before = tmp_path / "in" / "a.tif"
    if gone:
        before.unlink()
    else:
        write_image(before, np.full((3, 160, 200), 9, np.uint8), utm_grid(160, 200))
    again = polygons(PolygonsConfig(raster, tmp_path / "again.gpkg"), on_start=said.append)
    assert again.polygons == first.polygons
    assert "before_red" not in read(tmp_path / "again.gpkg").columns
    assert ("is not there" if gone else "is not the file that it was made from") in said[0]
    assert "get no attributes from the images" in said[0]


def test_polygons_of_a_raster_that_was_moved_off_the_grid_of_its_images_come_without_them(tmp_path):
    raster, said = tmp_path / "p.tif", []
    first = run(tmp_path / "c.gpkg", probability=raster)
    with rasterio.open(raster, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.transform = Affine.translation(0.2, 0) @ dataset.transform
    again = polygons(PolygonsConfig(raster, tmp_path / "again.gpkg"), on_start=said.append)
    assert again.polygons == first.polygons
    assert "before_red" not in read(tmp_path / "again.gpkg").columns
    assert "the raster does not lie on the grid of its images" in said[0]


def test_a_raster_may_move_with_its_images(tmp_path):
    folder, moved = tmp_path / "here", tmp_path / "there"
    folder.mkdir()
    run(folder / "c.gpkg", probability=folder / "p.tif")
    folder.rename(moved)
    polygons(PolygonsConfig(moved / "p.tif", moved / "again.gpkg"))
    assert read(moved / "again.gpkg").after_red.notna().all()


def reshape(path, change, where="id = 2"):
    """Draw an outline anew as a reviewer does in QGIS: the attributes stay; the new outline."""
    with closing(open_geopackage(path)) as database, database:
        number, blob = database.execute(f"SELECT fid, geometry FROM changes WHERE {where}").fetchone()
        (srs,) = database.execute(
            "SELECT srs_id FROM gpkg_geometry_columns WHERE table_name = 'changes'"
        ).fetchone()
        shape = change(shape_of(blob))
        database.execute("UPDATE changes SET geometry = ? WHERE fid = ?", (blob_of(shape, srs), number))
    return shape


def test_a_reshaped_polygon_without_an_answer_is_an_answer(tmp_path):
    output = tmp_path / "c.gpkg"
    run(output)
    shape = reshape(output, lambda old: old.buffer(1.0, join_style="mitre"))
    written = run(output, threshold=0.99)
    assert written.reviews == Carried(carried=1)
    changes = read(output)
    same = changes[changes.intersects(shape.buffer(-1.5))]
    assert list(same.review) == ["accepted"]
    for _ in range(2):  # and again, when the file is written anew once more
        assert read(output, "reviewed_before").geometry[0].equals(shape), "the outline that a person drew is kept"
        run(output, threshold=0.99)


def test_a_reshaped_polygon_where_nothing_is_found_now_stays_as_it_was_drawn(tmp_path):
    output = tmp_path / "c.gpkg"
    run(output)
    shape = reshape(output, lambda old: shapely.affinity.translate(old, 25, -40))
    assert run(output).reviews == Carried(drawn=1)
    changes = read(output)
    (row,) = np.flatnonzero(changes.geometry.geom_equals(shape))
    assert (changes.review[row], np.isnan(changes.mean_probability[row])) == ("accepted", True)
    assert changes.area_m2[row] == pytest.approx(shape.area, rel=2e-3)


def test_a_reshaped_polygon_that_was_rejected_stays_rejected(tmp_path):
    output = tmp_path / "c.gpkg"
    run(output)
    shape = reshape(output, lambda old: old.buffer(1.0, join_style="mitre"))
    edit(output, "UPDATE changes SET review = 'rejected' WHERE id = 2")
    assert run(output).reviews == Carried(carried=1)
    changes = read(output)
    assert list(changes[changes.intersects(shape)].review) == ["rejected"]
    assert "reviewed_before" not in {name for name, _ in pyogrio.list_layers(output)}


def test_an_outline_that_was_only_saved_anew_is_not_a_review(tmp_path):
    output = tmp_path / "c.gpkg"
    run(output)
    reshape(output, lambda old: old)  # without the envelope that GDAL wrote
    assert run(output).reviews == Carried()


def test_polygons_that_people_deleted_are_told(tmp_path):
    output = tmp_path / "c.gpkg"
    count = run(output).polygons
    edit(output, "DELETE FROM changes WHERE id < 3")
    written = run(output)
    assert written.reviews == Carried(deleted=2)
    assert "2 polygons that people deleted or merged may be back: reject instead" in str(written.reviews)
    assert written.polygons == count
    assert not run(output).reviews


def test_a_file_of_an_earlier_version_has_no_note_of_its_outlines(tmp_path):
    output = tmp_path / "c.gpkg"
    run(output)
    reshape(output, lambda old: old.buffer(1.0))
    edit(output, "DELETE FROM gpkg_metadata WHERE md_standard_uri = 'rscd:outlines'")
    assert run(output).reviews == Carried()


def test_what_came_of_splitting_or_copying_a_polygon_is_kept(tmp_path):
    output = tmp_path / "c.gpkg"
    run(output)
    with closing(open_geopackage(output)) as database, database:
        names = [row[1] for row in database.execute("PRAGMA table_info(changes)")]
        listed = ", ".join(name for name in names if name not in ("fid", "geometry"))
        database.execute(
            f"INSERT INTO changes (geometry, {listed}) SELECT geometry, {listed} FROM changes WHERE id = 2"
        )
    moved = reshape(
        output, lambda old: shapely.affinity.translate(old, 25, -40), "fid = (SELECT max(fid) FROM changes)"
    )
    assert run(output).reviews == Carried(drawn=1)
    assert read(output).geometry.geom_equals(moved).any()


def test_the_key_column_may_have_been_renamed(tmp_path):
    output = tmp_path / "c.gpkg"
    run(output)
    edit(output, "ALTER TABLE changes RENAME COLUMN fid TO ogc_fid")
    assert run(output).reviews == Carried()
