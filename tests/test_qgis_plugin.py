"""The QGIS plugin in real QGIS, installed into a scratch profile; skipped where QGIS is not installed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyogrio
import pytest
from affine import Affine
from conftest import write_image
from test_qgis import END, PYTHON, environment, pytestmark  # noqa: F401 - the mark skips all of this file

START = """
import json, os, sys
from qgis.core import *
app = QgsApplication([], True)
app.initQgis()
folder = sys.argv[1]
sys.path += [os.path.join(QgsApplication.pkgDataPath(), "python", "plugins"), sys.argv[2]]
from processing.core.Processing import Processing
from processing.core.ProcessingConfig import ProcessingConfig
Processing.initialize()
import processing
from rscd_qgis.plugin import RscdProvider
provider = RscdProvider()
QgsApplication.processingRegistry().addProvider(provider)

def answer(value):
    print("ANSWER" + json.dumps(value), flush=True)

class Log(QgsProcessingFeedback):
    def __init__(self):
        super().__init__()
        self.lines, self.errors, self.bar = [], [], []
        self.progressChanged.connect(self.bar.append)
    def pushInfo(self, text):
        self.lines.append(text)
    def reportError(self, text, fatalError=False):
        self.errors.append(text)

def refusal(name, log=None, **parameters):
    try:
        processing.run(name, parameters, feedback=log or Log())
    except QgsProcessingException as error:
        return str(error)
"""


def desk(profile: Path) -> dict[str, str]:
    """The environment of a person with this profile, and nothing else."""
    home = profile.parents[1]
    own = {"HOME": str(home), "QGIS_CUSTOM_CONFIG_PATH": str(home), "QT_QPA_PLATFORM": "offscreen"}
    return environment() | own | {"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(home)}


def in_qgis(profile: Path, folder: Path, code: str, *arguments: str):
    """Run code in QGIS's Python with the plugin's algorithms; returns what it answers."""
    command = [PYTHON, "-c", START + code + END, str(folder), str(profile / "python" / "plugins"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=desk(profile))
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER")]
    assert lines, done.stderr
    return json.loads(lines[-1].removeprefix("ANSWER"))


def qgis_process(profile: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("qgis_process.bin") or "qgis_process"  # Debian's wrapper adds an option it does not know
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=200, env=desk(profile))


def rscd(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "rscd", *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def profile(tmp_path_factory) -> Path:
    """A profile with the plugin."""
    folder = tmp_path_factory.mktemp("desk") / "profiles" / "default"
    (folder / "python").mkdir(parents=True)
    done = rscd("qgis", "install", "--profile", folder)
    assert done.returncode == 0, done.stderr
    done = qgis_process(folder, "plugins", "enable", "rscd_qgis")
    assert "Enabled rscd_qgis" in done.stdout, done.stderr
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory, place) -> Path:
    """A folder with the dates of a rendered place, and a third image that lies elsewhere."""
    folder = tmp_path_factory.mktemp("pair")
    for date in ("before", "after"):
        write_image(folder / f"{date}.tif", getattr(place, date)[:, :320, :320])
    elsewhere = Affine(0.5, 0, 700_000, 0, -0.5, 3_350_000)
    write_image(folder / "elsewhere.tif", place.after[:, :128, :128], transform=elsewhere)
    return folder


@pytest.fixture(scope="module")
def mapped(profile, pair) -> Path:
    """What ``qgis_process run rscd:detect`` writes."""
    output = pair / "mapped.gpkg"
    values = {"BEFORE": pair / "before.tif", "AFTER": pair / "after.tif", "OUTPUT": output}
    values |= {"PROBABILITY": pair / "p.tif", "MIN_AREA": 20, "MODEL": "buildings"}
    done = qgis_process(profile, "run", "rscd:detect", "--", *(f"{key}={value}" for key, value in values.items()))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100 - done" in done.stdout, "QGIS's own bar"
    assert "written: " in done.stdout
    return output


def test_detect_from_the_command_line_of_qgis(mapped):
    frame = pyogrio.read_dataframe(mapped, layer="changes")
    assert len(frame) > 3
    assert frame.area_m2.min() >= 20
    assert (mapped.parent / "p.tif").exists()


def test_an_error_of_rscd_is_one_line_with_its_remedy(profile, pair):
    values = f"BEFORE={pair / 'before.tif'}", f"AFTER={pair / 'elsewhere.tif'}", f"OUTPUT={pair / 'x.gpkg'}"
    done = qgis_process(profile, "run", "rscd:detect", "--", *values)
    assert done.returncode != 0
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "does not overlap" in line]
    assert lines
    assert all(" - " in line for line in lines), "the remedy is behind the dash"
    assert "Traceback" not in done.stdout + done.stderr
    assert not (pair / "x.gpkg").exists()


def test_a_wrong_further_option_is_named(profile, pair):
    values = (
        f"BEFORE={pair / 'before.tif'}",
        f"AFTER={pair / 'after.tif'}",
        f"OUTPUT={pair / 'x.gpkg'}",
        "MORE=--bogus",
    )
    done = qgis_process(profile, "run", "rscd:detect", "--", *values)
    assert done.returncode != 0
    wrong = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("ERROR")]
    assert any("No such option: --bogus" in line for line in wrong), done.stdout + done.stderr


def test_cancel_leaves_nothing_half_written_and_the_same_run_continues(profile, pair):
    code = """
values = dict(BEFORE=folder + "/before.tif", AFTER=folder + "/after.tif", OUTPUT=folder + "/cancelled.gpkg")
values.update(WINDOW=64, OVERLAP=32)
log = Log()
log.progressChanged.connect(lambda percent: log.cancel() if percent > 0 else None)
error = refusal("rscd:detect", log, **values)
left = sorted(name for name in os.listdir(folder) if "cancelled" in name)
log = Log()
done = processing.run("rscd:detect", values, feedback=log)
after = sorted(name for name in os.listdir(folder) if "cancelled" in name)
resumed = [line for line in log.lines if line.startswith("resumed")]
answer([error, left, done["OUTPUT"], resumed, after, log.bar[-1]])
"""
    error, left, output, resumed, after, bar = in_qgis(profile, pair, code)
    assert "interrupted" in error and "it continues" in error
    assert "\\n" not in error
    assert left == ["cancelled.gpkg.rscd"], "finished strips, and no output"
    assert output == str(pair / "cancelled.gpkg")
    assert resumed, "strips of the first run were taken"
    assert (after, bar) == (["cancelled.gpkg"], 100)


def test_what_cannot_run_is_refused_in_one_line(profile, pair, mapped, tmp_path):
    other = tmp_path / "rscd"
    other.write_text("#!/bin/sh\necho 9.9.0\n")
    other.chmod(0o755)
    code = """
values = dict(AFTER=folder + "/after.tif", OUTPUT=folder + "/refused.gpkg")
good = dict(values, BEFORE=folder + "/before.tif")
server = "url=http://127.0.0.1:9/"
wms = QgsRasterLayer("crs=EPSG:3857&format=image/png&layers=a&styles=&" + server, "from a server", "wms")
xyz = QgsRasterLayer("type=xyz&zmax=19&zmin=0&" + server + "%7Bz%7D/%7Bx%7D/%7By%7D.png", "tiles", "wms")
area = QgsVectorLayer("Polygon?crs=EPSG:32614", "scratch", "memory")
QgsProject.instance().addMapLayers([wms, xyz, area])
ProcessingConfig.setSettingValue("RSCD_PROGRAM", "")
told = {"wms": refusal("rscd:detect", **dict(values, BEFORE=wms))}
told["xyz"] = refusal("rscd:inspect", BEFORE=xyz, AFTER=values["AFTER"])
told["memory"] = refusal("rscd:detect", AOI=area, **good)
told["second"] = refusal("rscd:detect", AOI=folder + "/mapped.gpkg|layername=extent", **good)
ProcessingConfig.setSettingValue("RSCD_PROGRAM", sys.argv[3])
told["version"] = refusal("rscd:detect", **good)
os.remove(sys.argv[3])
ProcessingConfig.readSettings()
told["missing"] = refusal("rscd:detect", **good)
told["dialog"] = QgsApplication.processingRegistry().createAlgorithmById("rscd:detect").canExecute()[1]
ProcessingConfig.setSettingValue("RSCD_PROGRAM", "")
os.remove(os.path.join(sys.argv[2], "rscd_qgis", "installed_by.txt"))
told["nowhere"] = refusal("rscd:detect", **good)
answer(told)
"""
    noted = profile / "python" / "plugins" / "rscd_qgis" / "installed_by.txt"
    program = noted.read_text()
    try:
        told = in_qgis(profile, pair, code, str(other))
    finally:
        noted.write_text(program)
    for name in ("wms", "xyz"):
        assert "not from a local file - save it as a GeoTIFF first" in told[name]
    assert "scratch" in told["memory"] and "save it as a GeoPackage first" in told["memory"]
    assert "it is not the first layer of" in told["second"]
    assert "is rscd 9.9.0, but this plugin needs 0.1 - install rscd 0.1" in told["version"]
    assert "there is no such program" in told["missing"] and "install rscd 0.1" in told["missing"]
    assert told["dialog"] in told["missing"]
    assert "was not found - install rscd 0.1" in told["nowhere"] and "Providers > rscd" in told["nowhere"]
    assert all("\n" not in line.replace("Unable to execute algorithm\n", "") for line in told.values())
    assert not (pair / "refused.gpkg").exists()


def test_results_are_loaded_with_their_styles_the_extent_below(profile, pair, mapped):
    code = """
project = QgsProject.instance()
context = QgsProcessingContext()
context.setProject(project)
after = QgsRasterLayer(folder + "/after.tif", "after")
project.addMapLayer(after)
dates = dict(BEFORE=folder + "/before.tif", AFTER=folder + "/after.tif")
values = dict(dates, OUTPUT=folder + "/loaded.gpkg", PROBABILITY=folder + "/loaded.tif")
processing.runAndLoadResults("rscd:detect", values, feedback=Log(), context=context)
tree = [node.name() for node in project.layerTreeRoot().findLayers()]
layers = {layer.name(): layer for layer in project.mapLayers().values()}
found = processing.run("rscd:inspect", dates, feedback=Log())
outline = layers["extent"].renderer().symbol().symbolLayer(0).properties()["style"]
ramp = next(layer for name, layer in layers.items() if layer.source().endswith("loaded.tif")).renderer().type()
values = dict(PROBABILITY=folder + "/p.tif", THRESHOLD=0.9, OUTPUT=folder + "/stricter.gpkg")
stricter = processing.run("rscd:polygons", values, feedback=Log())["OUTPUT"]
fewer = QgsVectorLayer(stricter, "stricter").featureCount() <= layers["changes"].featureCount()
answer([tree, layers["changes"].renderer().type(), outline, ramp, fewer, found])
"""
    tree, renderer, extent, ramp, fewer, found = in_qgis(profile, pair, code)
    assert [name for name in tree if name in ("changes", "extent", "after")] == ["changes", "extent", "after"]
    assert ramp == "singlebandpseudocolor", "the style beside the raster"
    assert fewer
    assert renderer == "graduatedSymbol", "the style in the GeoPackage"
    assert extent == "no", "an outline, not a fill"
    assert found["VERDICT"] == "fit"
    assert found["OVERLAP"] == 1


def test_batch_and_training_on_reviews(profile, pair, mapped, tiny_tiles, tmp_path):
    shutil.copytree(pair, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.rscd"))
    (tmp_path / "pairs.csv").write_text("id,before,after\na,before.tif,after.tif\nb,before.tif,elsewhere.tif\n")
    code = """
log = Log()
archive = dict(MANIFEST=folder + "/pairs.csv", OUTPUT=folder + "/archive", REPORT=False)
done = processing.run("rscd:batch", archive, feedback=log)
reviewed = QgsVectorLayer(folder + "/mapped.gpkg|layername=changes", "changes")
column = reviewed.fields().indexOf("review")
ids = [feature.id() for feature in reviewed.getFeatures()]
answers = {fid: {column: "accepted" if number % 2 else "rejected"} for number, fid in enumerate(ids)}
reviewed.dataProvider().changeAttributeValues(answers)
QgsProject.instance().addMapLayer(reviewed)
options = dict(EPOCHS=1, CROPS=4, CROP=64, BATCH_SIZE=2, OUTPUT=folder + "/mine.safetensors")
options.update(REVIEWS=[reviewed.id()], VALIDATION=sys.argv[3])
temporary = refusal("rscd:train", **dict(options, OUTPUT="TEMPORARY_OUTPUT"))
training = Log()
model = processing.run("rscd:train", options, feedback=training)["OUTPUT"]
answer([done, log.errors, model, training.bar[-1], training.lines, temporary])
"""
    done, errors, model, bar, lines, temporary = in_qgis(profile, tmp_path, code, str(tiny_tiles))
    assert done["FAILED"] == 1
    assert pyogrio.read_info(done["SUMMARY"], layer="changes")["features"] > 3
    assert any(line.startswith("b: ") and "does not overlap" in line for line in errors)
    assert Path(model).exists(), lines
    assert "would be removed when QGIS closes - choose a file" in temporary
    assert bar == 100
    assert any(line.startswith("epoch 1: loss") for line in lines)


def test_install_replaces_an_older_copy_and_nothing_else(tmp_path):
    done = rscd("qgis", "install", "--profile", tmp_path)
    assert done.returncode == 2 and "is not a QGIS profile - " in done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "rscd", "qgis", "install"],
        env=os.environ | {"HOME": str(tmp_path), "XDG_DATA_HOME": "", "QGIS_CUSTOM_CONFIG_PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "no profile of QGIS was found - start QGIS once" in done.stderr

    (tmp_path / "python").mkdir()
    folder = tmp_path / "python" / "plugins" / "rscd_qgis"
    assert rscd("qgis", "install", "--profile", tmp_path).returncode == 0
    (folder / "left_over.py").write_text("")
    (folder / "metadata.txt").write_text("[general]\nname=rscd\nversion=0.0.1\n")
    assert rscd("qgis", "install", "--profile", tmp_path).returncode == 0
    assert not (folder / "left_over.py").exists()
    assert "version=0.0.1" not in (folder / "metadata.txt").read_text()
    assert [path.name for path in folder.parent.iterdir()] == ["rscd_qgis"], "no copy is left beside it"

    (folder / "metadata.txt").write_text("[general]\nname=something else\n")
    done = rscd("qgis", "install", "--profile", tmp_path)
    assert done.returncode == 2 and "is not rscd's plugin" in done.stderr
    assert "something else" in (folder / "metadata.txt").read_text()
