"""Outputs in real QGIS, loaded as a drop onto the map loads them; skipped where QGIS is not installed."""

import json
import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pyogrio
import pytest
from test_reviews import draw, run, square

from rscd.core.errors import OutputError

PYTHON = "/usr/bin/python3"
START = """
import json, os, sys
os.environ["QT_QPA_PLATFORM"] = "offscreen"
from qgis.core import QgsApplication, QgsGeometry, QgsRasterLayer, QgsVectorLayer, QgsVectorLayerUtils
app = QgsApplication([], True)
app.initQgis()
path = sys.argv[1]

def layer(name):
    return QgsVectorLayer(f"{path}|layername={name}", name, "ogr")

def answer(value):
    print("ANSWER" + json.dumps(value), flush=True)
"""
END = "\nos._exit(0)  # QGIS may crash while it leaves Python\n"


def _has_qgis() -> bool:
    try:
        return not subprocess.run([PYTHON, "-c", "import qgis.core"], capture_output=True).returncode
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not _has_qgis(), reason="QGIS is not installed")


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GDAL", "PROJ"))}


def in_qgis(path: Path, code: str, *arguments: str):
    """Run code in QGIS's Python; returns what it answers."""
    command = [PYTHON, "-c", START + code + END, str(path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment())
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER")]
    assert lines, done.stderr
    return json.loads(lines[-1].removeprefix("ANSWER"))


@pytest.fixture(scope="module")
def dropped(tmp_path_factory):
    output = tmp_path_factory.mktemp("qgis") / "c.gpkg"
    run(output, probability=output.with_name("p.tif"))
    draw(output, square(150, 10, 20))
    return output


def test_extent_hides_nothing_and_drawn_polygons_are_drawn(dropped):
    """Both layers over white: what was found and what a person drew is coloured, and all else is white."""
    code = """
from qgis.core import QgsMapRendererParallelJob, QgsMapSettings
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor
layers = [layer("extent"), layer("changes")]  # the extent on top, where it would hide the most
settings = QgsMapSettings()
settings.setLayers(layers)
settings.setOutputSize(QSize(400, 320))
settings.setBackgroundColor(QColor("white"))
settings.setDestinationCrs(layers[0].crs())
settings.setExtent(layers[0].extent())
job = QgsMapRendererParallelJob(settings)
job.start()
job.waitForFinished()
image = job.renderedImage()
to_pixel = settings.mapToPixel()
places = json.loads(sys.argv[2])
spots = [to_pixel.transform(x, y) for x, y in places]
answer([QColor(image.pixel(int(spot.x()), int(spot.y()))).name() for spot in spots])
"""
    places = [square(col, row, 2).centroid.coords[0] for col, row in ((35, 25), (110, 105), (159, 19), (10, 80))]
    ring, found, drawn, nothing = in_qgis(dropped, code, json.dumps(places))
    assert nothing == "#ffffff", "the extent is an outline"
    assert ring == found != "#ffffff"
    assert drawn not in ("#ffffff", found), "a polygon that a person drew has a class of its own"


def test_the_form_puts_review_first_and_protects_the_evidence(dropped):
    code = """
changes = layer("changes")
form, fields = changes.editFormConfig(), changes.fields()
review = fields.indexOf("review")
choices = changes.editorWidgetSetup(review)
answer({
    "listed by": changes.displayExpression(),
    "first": form.tabs()[0].name(),
    "read only": [f.name() for i, f in enumerate(fields) if form.readOnly(i)],
    "editable": [f.name() for i, f in enumerate(fields) if not form.readOnly(i)],
    "widget": choices.type(),
    "choices": sorted(value for one in choices.config()["map"] for value in one.values()),
    "alias": changes.attributeAlias(fields.indexOf("area_m2")),
    "columns": [c.name for c in changes.attributeTableConfig().columns() if not c.hidden][:3],
})
"""
    found = in_qgis(dropped, code)
    assert found["listed by"] == '"id"'
    assert found["first"] == "review"
    assert found["editable"] == ["review"]
    assert "mean_probability" in found["read only"]
    assert found["widget"] == "ValueMap"
    assert found["choices"] == ["", "accepted", "rejected", "unsure"]
    assert found["alias"] == "Area (m2)"
    assert found["columns"][0] == "review"


def test_the_legend_explains_the_hatching(dropped):
    code = """
changes = layer("changes")
items = changes.renderer().legendSymbolItems()
answer([[item.label(), item.symbol().symbolLayer(0).properties()["style"]] for item in items])
"""
    found = dict(in_qgis(dropped, code))
    assert found["hatched: vanished"] == "b_diagonal" and found["hatched: replaced"] == "diagonal_x"
    assert found["p 0.85 - 1.00"] == "solid"


def test_the_probability_raster_has_a_ramp_and_a_legend_of_p(dropped):
    code = """
raster = QgsRasterLayer(path, "p")
shader = raster.renderer().shader().rasterShaderFunction()
items = shader.colorRampItemList()
answer({
    "renderer": raster.renderer().type(),
    "labels": [item.label for item in items],
    "sure": list(shader.shade(1.0)),
    "unchanged": list(shader.shade(0.0)),
})
"""
    found = in_qgis(dropped.with_name("p.tif"), code)
    assert found["renderer"] == "singlebandpseudocolor"
    assert found["labels"][0] == "p = 0"
    assert found["labels"][-1] == "p = 1"
    assert found["sure"] == [True, 128, 0, 38, 255]
    assert found["unchanged"][-1] == 0, "nothing is drawn where nothing changed"


def test_a_review_made_in_qgis_is_carried_over(tmp_path):
    output = tmp_path / "c.gpkg"
    run(output)
    code = """
changes = layer("changes")
changes.startEditing()
review = changes.fields().indexOf("review")
first = next(changes.getFeatures("id = 2"))
changes.changeAttributeValue(first.id(), review, "unsure")
second = next(changes.getFeatures("id = 1"))
changes.changeGeometry(second.id(), second.geometry().buffer(0.5, 1))
drawn = QgsVectorLayerUtils.createFeature(changes, QgsGeometry.fromWkt(sys.argv[2]))
changes.addFeature(drawn)
answer(changes.commitChanges())
del changes
"""
    command = [PYTHON, "-c", START + code + END, str(output), square(150, 10, 20).wkt]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment())
    assert "ANSWERtrue" in done.stdout, done.stderr
    with closing(sqlite3.connect(output)) as database:  # QGIS was ended, not closed: SQLite takes its changes in
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    written = run(output, threshold=0.95)
    assert (written.reviews.carried, written.reviews.drawn) == (2, 1)
    frame = pyogrio.read_dataframe(output, layer="changes").sort_values("id")
    assert list(frame.review) == ["accepted", "unsure", "accepted"], "the first was reshaped, and not answered"
    kept = pyogrio.read_dataframe(output, layer="reviewed_before")
    assert len(kept) == 1, "the outline that was drawn anew; an answer alone changes no outline"


def test_a_file_that_is_open_in_qgis_is_not_replaced(tmp_path):
    output = tmp_path / "c.gpkg"
    run(output)
    code = """
changes = layer("changes")
changes.startEditing()
first = next(changes.getFeatures("id = 2"))
changes.changeAttributeValue(first.id(), changes.fields().indexOf("review"), "rejected")
print("HELD", flush=True)
sys.stdin.read()
"""
    holder = subprocess.Popen(
        [PYTHON, "-c", START + code + END, str(output)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
    )
    assert holder.stdin is not None and holder.stdout is not None
    try:
        while "HELD" not in holder.stdout.readline():
            assert holder.poll() is None
        with pytest.raises(OutputError, match="QGIS"):
            run(output)
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()
