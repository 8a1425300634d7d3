"""Text from files, names and contracts: it is shown, and does nothing, wherever it ends up."""

import dataclasses
import json
import os
import re
from html.parser import HTMLParser

import numpy as np
import pyogrio
import pytest
import rasterio
from conftest import Pointwise, write_image
from typer.testing import CliRunner

from rscd import DetectConfig, detect
from rscd.cli.app import app
from rscd.core.contract import Contract
from rscd.model.checkpoint import build_network, save_checkpoint
from rscd.model.encoders import normalisation

EVIL = """</script><script>alert(1)</script><img src=x onerror=alert(2)>"'&amp;]]>--> ünïcödé \u202e {{css}}"""
TERMS = "\x1b]0;owned\x07\x1b[31mfree\n for all"
CONTRACT = Contract(
    EVIL,
    "</dd>",
    "lite",
    8,
    (110.0,) * 3,
    (50.0,) * 3,
    window=96,
    overlap=32,
    trained_on=EVIL,
    licence=EVIL + TERMS,
)


class Page(HTMLParser):
    """Collects elements, and attributes that run or fetch."""

    def __init__(self):
        super().__init__()
        self.scripts, self.images, self.handlers, self.links = 0, [], [], []

    def handle_starttag(self, tag, attributes):
        self.scripts += tag == "script"
        for name, value in attributes:
            if name.startswith("on"):
                self.handlers.append(name)
            if name in ("src", "href") and value and not value.startswith(("data:", "#")):
                self.links.append(value)


def test_a_report_and_a_geopackage_show_hostile_text_and_no_more(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(1, 250, (3, 120, 130), dtype=np.uint8)
    name = EVIL.replace("/", "\N{FRACTION SLASH}").replace("{{css}}", "{{data}}") + ".tif"
    before = write_image(tmp_path / name, image)
    after = write_image(tmp_path / "after'; DROP TABLE changes; --.tif", 255 - image)
    with rasterio.open(before, "r+") as dataset:
        dataset.descriptions = (EVIL, "'; DROP TABLE changes; --", TERMS)
        dataset.update_tags(IMAGEDESCRIPTION=EVIL)
    outputs = {"output": tmp_path / "c.gpkg", "report": tmp_path / "r.html"}
    detect(DetectConfig(before, after, **outputs, align="off"), model=(Pointwise(), CONTRACT))
    text = outputs["report"].read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    own = len(re.findall(r"<script", open_template()))
    assert (page.scripts, page.handlers, page.links) == (own, [], [])
    assert "&lt;script&gt;alert(1)" in text
    assert "default-src 'none'" in text
    told = pyogrio.read_info(outputs["output"], layer="changes")["layer_metadata"]
    assert json.loads(told["model"])["name"] == EVIL
    assert json.loads(told["inputs"])["before"]["path"] == before.name
    assert json.loads(told["inputs"])["after"]["path"] == after.name
    assert len(pyogrio.read_dataframe(outputs["output"], layer="changes")) > 0


def open_template():
    from importlib.resources import files

    return (files("rscd.output.report") / "page" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("suffix", ["fgb", "geojson", "parquet"])
def test_other_formats_hold_hostile_text_as_data(tmp_path, suffix):
    image = np.random.default_rng(0).integers(1, 250, (3, 100, 100), dtype=np.uint8)
    before = write_image(tmp_path / "quote\"and'tick\n.tif", image)
    after = write_image(tmp_path / "b.tif", 255 - image)
    output = tmp_path / f"c.{suffix}"
    detect(DetectConfig(before, after, output, align="off"), model=(Pointwise(), CONTRACT))
    told = json.loads(output.with_name(f"{output.name}.json").read_text(encoding="utf-8"))
    assert told["model"]["licence"] == CONTRACT.licence
    assert told["inputs"]["before"]["path"] == before.name


def test_a_contract_and_a_file_name_do_not_steer_the_terminal(tmp_path):
    mean, std = normalisation("lite")
    terms = dataclasses.replace(CONTRACT, mean=mean, std=std, window=32, overlap=0, licence=TERMS)
    model = tmp_path / "m.safetensors"
    save_checkpoint(model, build_network(terms), terms, half=True)
    image = np.random.default_rng(0).integers(1, 250, (3, 64, 64), dtype=np.uint8)
    files = [write_image(tmp_path / f"{i}\x1b[2J.tif", image if i else image[:, ::-1].copy()) for i in (0, 1)]
    arguments = ["detect", *files, "-o", tmp_path / "c\x1b[2J.gpkg", "--model", model]
    for command in (arguments, arguments, ["models", "show", model], ["inspect", *files, "--model", model]):
        said = CliRunner().invoke(app, [str(a) for a in command])
        assert said.exit_code in (0, 2, 3), said.output
        assert "\x1b" not in said.stderr + said.stdout
        assert "\x07" not in said.stderr + said.stdout


def test_names_that_are_no_text_are_refused(tmp_path):
    image = np.random.default_rng(0).integers(1, 250, (3, 64, 64), dtype=np.uint8)
    plain = write_image(tmp_path / "a.tif", image)
    odd = tmp_path / os.fsdecode(b"caf\xe9.tif")
    try:
        odd.write_bytes(plain.read_bytes())
    except OSError:
        pytest.skip("this file system takes only text")
    run = CliRunner().invoke
    said = run(app, ["detect", str(odd), str(plain), "-o", str(tmp_path / "c.gpkg")])
    assert said.exit_code == 3, said.output
    assert "cannot be opened" in said.stderr
    said = run(app, ["detect", str(plain), str(plain), "-o", str(tmp_path / os.fsdecode(b"caf\xe9.gpkg"))])
    assert said.exit_code == 7, said.output
    said = run(app, ["inspect", str(plain), str(odd), "--json"])
    assert said.exit_code == 3
    assert json.loads(said.stdout)["verdict"] == "refused"
