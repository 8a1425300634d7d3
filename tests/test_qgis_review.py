"""The review panel of the QGIS plugin in real QGIS; skipped where QGIS is not installed."""

import sqlite3
from contextlib import closing

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from test_qgis import pytestmark  # noqa: F401 - the mark skips all of this file
from test_qgis_plugin import in_qgis, mapped, pair, profile  # noqa: F401 - fixtures

from rscd.output.vector.style import REVIEWED

MANY = 10_000
DOCK = """
import time
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtCore import QEventLoop, QTimer, Qt
from qgis.PyQt.QtTest import QTest
from rscd_qgis.review.dock import ReviewDock
project, canvas = QgsProject.instance(), QgsMapCanvas()
canvas.resize(900, 700)
canvas.show()

def opened(path, *below):
    layer = QgsVectorLayer(path + "|layername=changes", "changes")
    project.addMapLayers([*below, layer])
    canvas.setLayers([layer, *below])
    canvas.setDestinationCrs(layer.crs())
    dock = ReviewDock(canvas, project)
    dock.show()
    dock.take_layer(layer)
    return dock, layer
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """10,000 polygons as detect writes them, in a random order of probability."""
    rng = np.random.default_rng(3)
    col, row = np.meshgrid(np.arange(100), np.arange(100))
    boxes = shapely.box(600_000 + 20 * col, 3_350_000 + 20 * row, 600_010 + 20 * col, 3_350_012 + 20 * row).ravel()
    columns = {
        "id": np.arange(1, MANY + 1),
        "review": np.full(MANY, None, dtype=object),
        "direction": "appeared",
        "area_m2": rng.uniform(20, 900, MANY),
        "mean_probability": rng.uniform(0.5, 1, MANY),
    }
    path = tmp_path_factory.mktemp("many") / "many.gpkg"
    geopandas.GeoDataFrame(columns, geometry=boxes, crs="EPSG:32614").to_file(path, layer="changes")
    return path


def test_next_takes_under_a_fifth_of_a_second_with_10_000_polygons(profile, many):  # noqa: F811
    code = """
began = time.perf_counter()
dock, layer = opened(folder)
read = time.perf_counter() - began
dock.form.order.setCurrentText("probability, lowest first")
dock.form.unanswered.setChecked(True)
steps, seen, drawn = [], [], []
for number in range(100):
    began = time.perf_counter()
    assert dock.step(1)
    steps.append(time.perf_counter() - began)
    seen.append(dock.changes.changes[dock.changes.fid].values["mean_probability"])
for number in range(10):
    loop = QEventLoop()
    canvas.mapCanvasRefreshed.connect(loop.quit)
    QTimer.singleShot(5000, loop.quit)
    began = time.perf_counter()
    dock.step(1)
    loop.exec()
    drawn.append(time.perf_counter() - began)
place = canvas.extent()
box = layer.getFeature(dock.changes.fid).geometry().boundingBox()
answers = []
for number in range(20):
    began = time.perf_counter()
    assert dock.answer("accepted")
    answers.append(time.perf_counter() - began)
found = dict(read=read, next=max(steps), drawn=max(drawn), answered=max(answers), ascending=seen == sorted(seen))
answer(dict(found, visible=place.contains(box), width=place.width(), count=dock.form.count.text()))
"""
    found = in_qgis(profile, many, DOCK + code)
    print({name: found[name] for name in ("read", "next", "drawn", "answered")}, "s")
    assert found["next"] < 0.2
    assert found["answered"] < 0.4, "written to disk, and gone on"
    assert found["drawn"] < 2
    assert found["ascending"] and found["visible"]
    assert found["width"] < 200, "the map is at the change"
    assert found["count"] == "20 of 10,000 reviewed"


def test_answers_are_on_disk_at_once_and_keys_give_them(profile, mapped):  # noqa: F811
    code = """
here = os.path.dirname(folder)
before, after = (QgsRasterLayer(os.path.join(here, name + ".tif"), name) for name in ("before", "after"))
dock, layer = opened(folder, before, after)
def stored():
    other = QgsVectorLayer(folder + "|layername=changes", "again")
    return {feature["id"]: feature["review"] or "" for feature in other.getFeatures()}
told = {}
table = QgsVectorLayerCache(layer, 1000)
table.setFullCache(True)
dock.step(1)
dock.activateWindow()
QTest.keyClick(dock.form, Qt.Key.Key_A)
told["by key"] = stored()[1]
told["gone on to"] = dock.changes.changes[dock.changes.fid].values["id"]
dock.answer("rejected")
dock.answer("unsure")
told["on disk"] = [stored()[number] for number in (1, 2, 3)]
dock.form.unanswered.setChecked(True)
dock.step(-1)
rows = table.getFeatures(QgsFeatureRequest())
told["in an open table"] = [row["review"] or "" for row in rows if row["id"] <= 3]
told["no earlier one without a review"] = dock.form.text.text()
dock.form.unanswered.setChecked(False)
dock.changes.fid = None
dock.step(1)
dock.answer("")
told["taken back"] = stored()[1]
layer.startEditing()
dock.answer("unsure")
told["in the edits"] = [stored()[1], layer.getFeature(dock.changes.order[0])["review"]]
layer.rollBack()
told["rolled back"] = [dock.changes.answers[dock.changes.order[0]], dock.form.count.text()]
layer.startEditing()
layer.changeAttributeValue(dock.changes.order[-1], layer.fields().indexOf("review"), "accepted")
layer.commitChanges()
told["by the table"] = dock.changes.answers[dock.changes.order[-1]]
told["dates"] = [dock.form.dates[date].currentLayer().name() for date in ("before", "after")]
seen = lambda: [project.layerTreeRoot().findLayer(layer.id()).isVisible() for layer in (before, after)]
dock.toggle()
told["toggled"] = [seen()]
dock.toggle()
told["toggled"].append(seen())
layer.startEditing()
layer.deleteFeature(dock.changes.order[1])
dock.changes.fid = dock.changes.order[0]
dock.step(1)
told["deleted"] = dock.form.text.text()
layer.rollBack()
polygons = lambda: project.layerTreeRoot().findLayer(layer.id()).isVisible()
QTest.keyClick(dock.form, Qt.Key.Key_H)
told["hidden, and shown again"] = [polygons()]
QTest.keyClick(dock.form, Qt.Key.Key_H)
told["hidden, and shown again"].append(polygons())
asked = []
dock.train_requested.connect(asked.append)
dock.form.train.click()
told["to train on"] = asked[0].id() == layer.id()
project.removeMapLayer(layer.id())
told["without a layer"] = [dock.changes is None, dock.step(1), dock.form.next.isEnabled()]
answer(told)
"""
    told = in_qgis(profile, mapped, DOCK + code)
    assert told["by key"] == "accepted"
    assert told["gone on to"] == 2
    assert told["on disk"] == ["accepted", "rejected", "unsure"]
    assert set(told["on disk"]) == set(REVIEWED), "the words of the style, and of train --from-review"
    assert told["in an open table"] == sorted(told["on disk"])
    assert "no further change" in told["no earlier one without a review"]
    assert told["taken back"] == ""
    assert told["in the edits"] == ["", "unsure"]
    count = pyogrio.read_info(mapped, layer="changes")["features"]
    assert told["rolled back"] == ["", f"2 of {count} reviewed"]
    assert told["by the table"] == "accepted"
    assert told["dates"] == ["before", "after"]
    assert told["toggled"] == [[False, True], [True, False]]
    assert "was deleted" in told["deleted"]
    assert told["hidden, and shown again"] == [False, True]
    assert told["to train on"] is True
    assert told["without a layer"] == [True, False, False]
    with closing(sqlite3.connect(mapped)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_file_that_cannot_be_written_is_said(profile, many, tmp_path):  # noqa: F811
    locked = tmp_path / "locked.gpkg"
    locked.write_bytes(many.read_bytes())
    code = """
import sqlite3
dock, layer = opened(folder)
dock.step(1)
layer.setReadOnly(True)
assert not dock.answer("accepted"), "QGIS holds it read-only"
layer.setReadOnly(False)
other = sqlite3.connect(folder)
other.execute("BEGIN EXCLUSIVE")
written = dock.answer("accepted")
answer([written, dock.form.text.text(), dock.changes.reviewed, dock.changes.place])
"""
    written, text, reviewed, place = in_qgis(profile, locked, DOCK + code)
    assert (written, reviewed, place) == (False, 0, 0), "nothing is counted, and the change stays"
    assert "could not be written" in text
