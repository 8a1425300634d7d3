"""Make the pictures of the QGIS plugin again, over a rendered place.

    python docs/make_qgis_pictures.py

Needs rscd, QGIS and Xvfb (Debian: ``apt-get install qgis python3-qgis xvfb``).
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PICTURES = Path(__file__).parent / "pictures"
RSCD = [sys.executable, "-m", "rscd"]
COLOURS = 200
"""Colours of a picture: small files, and text stays sharp."""
IN_QGIS = """
import os, traceback
from qgis.core import QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QDockWidget
from qgis.utils import iface, plugins
folder, pictures = {folder!r}, {pictures!r}
project, window, plugin = QgsProject.instance(), iface.mainWindow(), plugins["rscd_qgis"]
kept = {{}}

def safely(step, then, wait_ms):
    def run():
        try:
            step()
        except Exception:
            traceback.print_exc()
            os._exit(1)
        QTimer.singleShot(wait_ms, then)
    return run

def load():
    window.resize(1300, 860)
    layers = [QgsRasterLayer(f"{{folder}}/{{name}}.tif", name) for name in ("before", "after")]
    for name in ("extent", "changes"):
        layers.append(QgsVectorLayer(f"{{folder}}/changes.gpkg|layername={{name}}", name))
    for layer in layers:
        project.addMapLayer(layer)
    for dock in window.findChildren(QDockWidget):
        if dock.objectName() not in ("Layers", "RscdReview"):
            dock.hide()
    iface.messageBar().clearWidgets()
    iface.setActiveLayer(layers[-1])
    plugin.show_dock()

def review():
    dock = plugin.dock
    dock.form.order.setCurrentText("probability, lowest first")
    dock.step(1)
    for answer in ("accepted", "rejected", "accepted", "accepted", "unsure", "accepted") * 2:
        dock.answer(answer)
    iface.mapCanvas().zoomByFactor(1.6)
    iface.messageBar().clearWidgets()

def shoot_review():
    window.grab().save(pictures + "/qgis-review.png")
    layers = {{layer.name(): layer.id() for layer in project.mapLayers().values()}}
    values = dict(BEFORE=layers["before"], AFTER=layers["after"], OUTPUT=folder + "/map.gpkg")
    kept["dialog"] = plugin.open_dialog("rscd:detect", values)
    kept["dialog"].resize(1000, 800)

def shoot_detect():
    kept["dialog"].grab().save(pictures + "/qgis-detect.png")
    kept["dialog"].close()
    values = {{"REVIEWS": [plugin.dock.changes.layer.id()]}}
    kept["dialog"] = plugin.open_dialog("rscd:train", values)
    kept["dialog"].resize(1000, 800)

def end():
    kept["dialog"].grab().save(pictures + "/qgis-train.png")
    os._exit(0)  # without the question whether to save the project

last = safely(shoot_detect, end, 1500)
third = safely(shoot_review, last, 2500)
second = safely(review, third, 4000)
QTimer.singleShot(4000, safely(load, second, 3000))
"""


def main() -> None:
    """Make the pictures, if QGIS is there."""
    if shutil.which("qgis") is None or shutil.which("xvfb-run") is None:
        sys.exit("no QGIS, or no Xvfb")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([*RSCD, "demo", "-o", str(folder / "demo"), "--quiet"], check=True)
        profile = folder / "qgis" / "profiles" / "default"
        (profile / "python").mkdir(parents=True)
        (profile / "QGIS").mkdir()
        (profile / "QGIS" / "QGIS3.ini").write_text("[PythonPlugins]\nprocessing=true\nrscd_qgis=true\n")
        subprocess.run([*RSCD, "qgis", "install", "--profile", str(profile)], check=True)
        script = folder / "in_qgis.py"
        script.write_text(IN_QGIS.format(folder=str(folder / "demo"), pictures=str(folder)))
        command = ["xvfb-run", "-a", "-s", "-screen 0 1400x900x24", "qgis", "--nologo", "--noversioncheck"]
        command += ["--profiles-path", str(folder / "qgis"), "--code", str(script)]
        subprocess.run(command, timeout=150, check=True)
        for picture in ("qgis-review", "qgis-detect", "qgis-train"):
            image = Image.open(folder / f"{picture}.png").convert("RGB")
            image.thumbnail((1200, 1200))
            image.quantize(COLOURS).save(PICTURES / f"{picture}.png", optimize=True)
            print(PICTURES / f"{picture}.png")  # noqa: T201


if __name__ == "__main__":
    main()
