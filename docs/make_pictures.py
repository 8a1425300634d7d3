"""Make the pictures of the documentation again, from rendered scenes alone.

    python docs/make_pictures.py

Needs rscd with the extras ``test`` and ``train``; for the screens also Chromium, chromedriver, QGIS and Xvfb
(Debian: ``apt-get install chromium chromium-driver qgis python3-qgis xvfb``). What is missing is skipped, and said.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from rscd.core.types import Window
from rscd.simulate.scene import Scene
from rscd.simulate.spec import SceneSpec

PICTURES = Path(__file__).parent / "pictures"
RSCD = [sys.executable, "-m", "rscd"]
WIDE = 1200
"""Width of the pictures, px."""
IN_QGIS = """
import os
from qgis.core import QgsProject
from qgis.PyQt.QtCore import QTimer
from qgis.utils import iface
picture = {picture!r}
QgsProject.instance().read({project!r})
(changes,) = QgsProject.instance().mapLayersByName("Changes")
iface.setActiveLayer(changes)
place = changes.extent()
place.scale(0.5)
iface.mapCanvas().setExtent(place)
iface.mapCanvas().refresh()
iface.messageBar().clearWidgets()
def shoot():
    iface.mainWindow().resize(1400, 900)
    QTimer.singleShot(4000, grab)
def grab():
    iface.mainWindow().grab().save(picture)
    os._exit(0)  # without the question whether to save the project
QTimer.singleShot(4000, shoot)
"""


def main() -> None:
    """Make all pictures that this machine can make."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        demo = folder / "demo"
        subprocess.run([*RSCD, "demo", "-o", str(demo), "--quiet"], check=True)
        save(Image.open(demo / "quicklook.png"), "demo.jpg")
        report(demo / "report.html")
        qgis(demo, folder)
        curves(folder)


def save(image: Image.Image, name: str) -> None:
    """Write a picture, no wider than WIDE."""
    image = image.convert("RGB")
    image.thumbnail((WIDE, WIDE))
    image.save(PICTURES / name, quality=88, optimize=True)
    print(PICTURES / name)  # noqa: T201


def report(page: Path) -> None:
    """The report page, as Chromium shows it."""
    if shutil.which("chromedriver") is None:
        print("report.png left out: no chromedriver")  # noqa: T201
        return
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "window-size=1300,1100"):
        options.add_argument(f"--{flag}")
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        browser.get(page.as_uri())
        browser.find_element("css selector", "button[data-i='2']").click()
        browser.execute_script("window.scrollTo(0, 0)")
        shot = page.with_name("report.png")
        browser.save_screenshot(str(shot))
    finally:
        browser.quit()
    save(Image.open(shot), "report.png")


def qgis(demo: Path, folder: Path) -> None:
    """QGIS Desktop with the project of the demo."""
    if shutil.which("qgis") is None or shutil.which("xvfb-run") is None:
        print("qgis.png left out: no QGIS, or no Xvfb")  # noqa: T201
        return
    script, shot = folder / "in_qgis.py", folder / "qgis.png"
    script.write_text(IN_QGIS.format(project=str(demo / "demo.qgz"), picture=str(shot)))
    command = ["xvfb-run", "-a", "-s", "-screen 0 1400x900x24", "qgis", "--nologo", "--noversioncheck"]
    command += ["--noplugins", "--profiles-path", str(folder / "profile"), "--code", str(script)]
    subprocess.run(command, timeout=180, capture_output=True)
    save(Image.open(shot), "qgis.jpg")


def curves(folder: Path) -> None:
    """Curves of a short training on rendered tiles."""
    for part, seeds in (("train", range(8)), ("val", range(100, 103))):
        for seed in seeds:
            view = Scene(SceneSpec(seed=seed, width=512, height=512)).render(Window(0, 0, 512, 512))
            images = {
                "A": view.before,
                "B": view.after,
                "label": (view.label > 0)[None].repeat(3, 0) * np.uint8(255),
            }
            for name, pixels in images.items():
                target = folder / "tiles" / part / name / f"{seed}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                picture = Image.fromarray(np.ascontiguousarray(np.moveaxis(pixels, 0, 2)))
                (picture.convert("L") if name == "label" else picture).save(target)
    tiles, model = folder / "tiles", folder / "mine.safetensors"
    options = ["--val", str(tiles / "val"), "-o", str(model), "--epochs", "6", "--crops", "96", "--quiet"]
    subprocess.run([*RSCD, "train", str(tiles / "train"), *options], check=True)
    save(Image.open(folder / "mine.curves.png"), "curves.png")


if __name__ == "__main__":
    main()
