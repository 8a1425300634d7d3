"""The QGIS project, opened in real QGIS: layers, order, themes, styles, first view; and the rules for outputs."""

import json
import zipfile
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pyogrio
import pytest
from affine import Affine
from conftest import Pointwise, utm_grid, write_image
from rasterio.crs import CRS
from test_attributes import CONTRACT, SCALED
from test_files import Ranges
from test_formats import pair
from test_qgis import _has_qgis, in_qgis
from test_reviews import edit, run
from typer.testing import CliRunner

from rscd.cli.app import app
from rscd.core.errors import DataError, UsageError
from rscd.options.detect import DetectConfig
from rscd.workflows.detect import detect

needs_qgis = pytest.mark.skipif(not _has_qgis(), reason="QGIS is not installed")
DATES = "May 2019", "June 2021"
OPEN = """
from qgis.core import QgsLayerTreeModel, QgsProject
from qgis.gui import QgsMapCanvas
messages = []
QgsApplication.messageLog().messageReceived.connect(
    lambda *said: messages.append(said[1] + ": " + said[0]) if len(said) == 3 and said[2] else None
)
project = QgsProject.instance()
canvas = QgsMapCanvas()
canvas.setObjectName("theMapCanvas")
was_read = project.read(path)
root = project.layerTreeRoot()
nodes = root.findLayers()

def box(extent):
    return [extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()]

def drawn():
    return [l.name() for l in root.layerOrder() if root.findLayer(l).isVisible()]
"""
DESCRIBE = (
    OPEN
    + """
answer({
    "read": was_read,
    "messages": messages,
    "layers": [[n.parent().name(), n.name(), n.layer() is not None and n.layer().isValid()] for n in nodes],
    "crs": [n.layer().crs().authid() or n.layer().crs().toProj() for n in nodes],
    "drawn": drawn(),
    "project crs": project.crs().authid() or project.crs().toProj(),
    "title": project.title(),
    "relative": project.readBoolEntry("Paths", "/Absolute", True)[0] is False,
    "sources": [n.layer().source() for n in nodes],
    "extent": box(project.viewSettings().defaultViewExtent()),
    "canvas": box(canvas.extent()),
    "scene": box(nodes[-1].layer().extent()),
    "renderers": [n.layer().renderer().type() for n in nodes],
    "form": nodes[0].layer().editFormConfig().tabs()[0].name(),
    "editable": [f.name() for i, f in enumerate(nodes[0].layer().fields())
                 if not nodes[0].layer().editFormConfig().readOnly(i)],
})
"""
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with all outputs, in folders that were moved since."""
    folder = tmp_path_factory.mktemp("project") / "made"
    (folder / "maps").mkdir(parents=True)
    options = {"probability": folder / "p.tif", "project": folder / "maps" / "out.qgz", "dates": DATES}
    written = run(folder / "c.gpkg", report=folder / "r.html", **options)
    assert written.project == options["project"]
    return folder.rename(folder.with_name("moved"))


@needs_qgis
def test_it_opens_ready_after_its_folder_was_moved(made):
    found = in_qgis(made / "maps" / "out.qgz", DESCRIBE)
    assert found["read"] and not found["messages"], "nothing is missing, and QGIS asks nothing"
    assert found["layers"] == [
        ["Result", "Changes", True],
        ["Result", "Extent", True],
        ["Result", "Probability of change", True],
        ["Images", "After June 2021", True],
        ["Images", "Before May 2019", True],
    ]
    assert found["drawn"] == ["Changes", "Extent", "After June 2021"], "from the top; all else is switched off"
    assert set(found["crs"]) == {found["project crs"]} == {"EPSG:32614"}
    assert found["title"] == "Changes from May 2019 to June 2021"
    assert found["relative"]
    assert all(Path(source.split("|")[0]).is_relative_to(made) for source in found["sources"])
    left, bottom, right, top = found["scene"]
    for view in ("extent", "canvas"):
        west, south, east, north = found[view]
        assert west < left and south < bottom and right < east and top < north
        assert (north - south) < 1.1 * (top - bottom), "the scene fills the map"


@needs_qgis
def test_layers_have_the_styles_and_the_form_of_the_files(made):
    found = in_qgis(made / "maps" / "out.qgz", DESCRIBE)
    code = 'layers = [layer(n) for n in ("changes", "extent")]\nanswer([l.renderer().type() for l in layers])'
    dropped = in_qgis(made / "c.gpkg", code)
    assert found["renderers"] == [*dropped, "singlebandpseudocolor", "multibandcolor", "multibandcolor"]
    assert found["form"] == "review" and found["editable"] == ["review"]


@needs_qgis
def test_the_themes_switch_the_image_under_the_changes(made):
    code = (
        OPEN
        + """
themes, seen = project.mapThemeCollection(), {}
for name in ("before", "after", "before"):
    themes.applyTheme(name, root, QgsLayerTreeModel(root))
    seen[name] = drawn()
answer([sorted(themes.mapThemes()), seen, drawn()])
"""
    )
    names, seen, last = in_qgis(made / "maps" / "out.qgz", code)
    assert names == ["after", "before"]
    assert seen["before"] == ["Changes", "Extent", "Before May 2019"] == last
    assert seen["after"] == ["Changes", "Extent", "After June 2021"]


@needs_qgis
@pytest.mark.parametrize("suffix", [".fgb", ".geojson"])
def test_other_formats_open_too_and_layers_are_those_that_were_written(tmp_path, suffix):
    run(tmp_path / f"c{suffix}", project=tmp_path / "out.qgz")
    found = in_qgis(tmp_path / "out.qgz", DESCRIBE)
    assert not found["messages"]
    assert [name for _, name, valid in found["layers"] if valid] == ["Changes", "Extent", "After", "Before"]
    assert found["crs"][:2] == (2 * ["EPSG:4326"] if suffix == ".geojson" else 2 * ["EPSG:32614"])
    assert found["title"] == "Changes from a to b"


@needs_qgis
def test_reviews_without_a_polygon_are_a_layer_of_it(tmp_path):
    output, project = tmp_path / "c.gpkg", tmp_path / "out.qgz"
    run(output, project=project)
    edit(output, "UPDATE changes SET review = 'rejected' WHERE id = 1")
    edit(output, "UPDATE changes SET review = 'accepted' WHERE id = 2")
    assert run(output, min_area_m2=250.0, project=project).reviews.kept == 1
    found = in_qgis(project, DESCRIBE)
    assert ["Result", "Reviewed before", True] in found["layers"]


@needs_qgis
def test_16_bit_images_are_stretched_and_crs_without_a_code_are_known(tmp_path):
    """The later date in a CRS of its own without an EPSG code, both with values far above 255."""
    rng = np.random.default_rng(4)
    before = rng.integers(1000, 3000, (3, 96, 96), dtype=np.uint16)
    after = before.copy()
    after[:, 20:50, 20:50] = 9000
    here = CRS.from_proj4("+proj=laea +lat_0=30 +lon_0=-98 +datum=WGS84 +units=m")
    paths = [tmp_path / "a.tif", tmp_path / "b.tif"]
    for path, pixels in zip(paths, (before, after), strict=True):
        write_image(path, pixels, crs=here, transform=Affine(0.5, 0, 1000, 0, -0.5, 2000))

    project = tmp_path / "out.qgz"
    config = DetectConfig(*paths, tmp_path / "c.gpkg", device="cpu", threshold=0.9, project=project)
    detect(config, model=(Pointwise(), SCALED))
    code = DESCRIBE.replace(
        "answer({",
        """limits = nodes[-1].layer().renderer().redContrastEnhancement()
answer({"limits": [limits.minimumValue(), limits.maximumValue()],""",
    )
    found = in_qgis(project, code)
    assert not found["messages"] and all(valid for *_, valid in found["layers"])
    assert all("laea" in crs for crs in (*found["crs"], found["project crs"]))
    low, high = found["limits"]
    assert low < 1200 and 2800 < high < 9000, "the images' own range, not 0 to 255 or 65535"


def test_the_project_names_no_folder_and_is_the_same_again(made, tmp_path):
    """Without QGIS at hand: only relative paths, one .qgs within, and equal bytes of equal runs."""
    with zipfile.ZipFile(made / "maps" / "out.qgz") as archive:
        assert archive.namelist() == ["out.qgs"]
        text = archive.read("out.qgs").decode()
    assert str(made.parent) not in text
    assert 'source="../c.gpkg|layername=changes"' in text and 'source="../in/b.tif"' in text
    first, second = [run(tmp_path / "c.gpkg", project=tmp_path / "out.qgz").project.read_bytes() for _ in range(2)]
    assert first == second


def test_it_obeys_the_rules_for_outputs(tmp_path):
    output, project = tmp_path / "c.gpkg", tmp_path / "out.qgz"
    before, after = (tmp_path / "in" / f"{n}.tif" for n in "ab")
    run(output, project=project)
    output.unlink()
    command = ["detect", str(before), str(after), "-o", str(output)]
    for name, words, code in (
        ("out.qgz", "exists already", 2),
        ("out.qgs", "ends in .qgz", 2),
        ("gone/out.qgz", "no folder", 7),
    ):
        result = CliRunner().invoke(app, [*command, "--project", str(tmp_path / name)])
        assert result.exit_code == code and words in " ".join(result.stderr.split()), result.stderr
    with pytest.raises(UsageError, match="parquet"):
        DetectConfig(before, after, tmp_path / "c.parquet", project=project)
    with pytest.raises(UsageError, match="is also an input or another output"):
        run(tmp_path / "d.gpkg", report=project, project=project)
    assert project.is_file() and not output.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_run_that_fails_leaves_the_old_project(tmp_path):
    output, project = tmp_path / "c.gpkg", tmp_path / "out.qgz"
    run(output, project=project)
    project.write_bytes(b"old")

    far = write_image(tmp_path / "far.tif", np.zeros((3, 32, 32), np.uint8), utm_grid(32, 32, gsd=40.0))
    with pytest.raises(DataError):
        detect(DetectConfig(tmp_path / "in" / "a.tif", far, output, project=project, overwrite=True))
    assert project.read_bytes() == b"old"


def test_it_is_listed_with_the_other_outputs(tmp_path):

    output, project = tmp_path / "c.gpkg", tmp_path / "out.qgz"
    assert run(output, project=project).project == project
    known = pyogrio.read_info(output, layer="changes")["layer_metadata"]
    assert json.loads(known["options"])["project"] == "out.qgz"


def test_an_address_is_given_as_gdal_names_it(tmp_path):
    """Images that were read over the network stay where they are."""

    pair(tmp_path / "in")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=tmp_path / "in"))
    server.asked = 0
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        root = f"http://127.0.0.1:{server.server_port}"
        dates = [Path(f"{root}/{name}.tif") for name in "ab"]
        project = tmp_path / "out.qgz"
        options = {"device": "cpu", "threshold": 0.9, "remote": True, "project": project}
        detect(DetectConfig(*dates, tmp_path / "c.gpkg", **options), model=(Pointwise(), CONTRACT))
        with zipfile.ZipFile(project) as archive:
            text = archive.read("out.qgs").decode()
        assert f"<datasource>/vsicurl/{root}/a.tif</datasource>" in text
        if _has_qgis():
            found = in_qgis(project, DESCRIBE)
            assert all(valid for *_, valid in found["layers"]) and not found["messages"]
    finally:
        server.shutdown()
        server.server_close()


def test_a_folder_behind_a_link_gets_whole_paths(tmp_path):
    """What lies above a link depends on who follows it."""
    pair(tmp_path / "in")
    (tmp_path / "deep" / "a").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "a")
    project = tmp_path / "link" / "out.qgz"
    dates = [tmp_path / "in" / f"{name}.tif" for name in "ab"]
    options = {"device": "cpu", "threshold": 0.9, "project": project}
    detect(DetectConfig(*dates, tmp_path / "link" / "c.gpkg", **options), model=(Pointwise(), CONTRACT))
    with zipfile.ZipFile(project) as archive:
        text = archive.read("out.qgs").decode()
    assert f"<datasource>{dates[0]}</datasource>" in text
    assert "<datasource>./c.gpkg|layername=changes</datasource>" in text


@needs_qgis
def test_names_that_need_care(tmp_path):
    """Letters beyond ASCII, spaces and signs that mean something in XML and in addresses."""
    folder = tmp_path / "Größe & 100% #1 <é>"
    folder.mkdir()
    run(folder / "ä b#c.gpkg", probability=folder / "p&q.tif", project=folder / "ß.qgz", title="A < B & Ü {}")
    found = in_qgis(folder / "ß.qgz", DESCRIBE)
    assert not found["messages"] and [valid for *_, valid in found["layers"]] == 5 * [True]
    assert found["title"] == "A < B & Ü {}"
