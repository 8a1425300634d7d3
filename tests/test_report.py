"""The report page: what it says, that nothing in a file can speak through it, and how it behaves in a browser."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyogrio
import pytest
import rasterio
import shapely
from conftest import Pointwise, utm_grid
from PIL import Image
from test_attributes import CONTRACT
from test_formats import pair
from test_summary import entry

from rscd.core.errors import OutputError, UsageError
from rscd.core.resources import Telemetry
from rscd.core.types import Window
from rscd.jobs.index import index_html
from rscd.model.catalog import embedded
from rscd.options.detect import DetectConfig
from rscd.output.report import sections
from rscd.output.report.page import report_html
from rscd.output.report.pictures import SIDE, Previews
from rscd.output.report.statistics import AREA_BINS, PolygonStatistics, nice_m2
from rscd.output.results import Facts, PairFacts
from rscd.scene.metadata import date_taken
from rscd.scene.window_stream import WindowInput
from rscd.scene.windows import Axis, WindowPlan
from rscd.training.data.labels import detected_from
from rscd.workflows.detect import detect

WAYS = ["appeared", "vanished", None, "appeared", None, None, "unclear"]
NASTY = "<img src=x onerror=alert(1)>&\"'{{data}}</script>"


def make(folder: Path, kind: str = "squares", **options: Any) -> Path:
    before, after = pair(folder / "in", kind)
    page = folder / "report.html"
    config = DetectConfig(before, after, folder / "c.gpkg", report=page, device="cpu", threshold=0.9, **options)
    detect(config, model=(Pointwise(), CONTRACT))
    return page


class Elements(HTMLParser):
    """Tags with their attributes, the text outside scripts and styles, and the data."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.data = "", ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        inside, attrs = self.tags[-1] if self.tags else ("", {})
        if attrs.get("type") == "application/json" and not self.data:
            self.data = data
        elif inside not in ("script", "style"):
            self.text += data


def test_the_page_tells_the_result_and_needs_no_network(tmp_path: Path) -> None:
    page = make(tmp_path)
    told = Elements(page)
    assert "2 places changed" in told.text and "could not be compared" in told.text
    assert "pointwise" in told.text and "peak memory" in told.text and "forward" in told.text
    data = json.loads(told.data)
    assert data["size"] == [200, 160] and len(data["paths"]) == len(data["rows"]) == 2
    assert data["paths"][0].count("M") == 2  # the ring and its hole
    names = [name for name, *_ in data["columns"]]
    assert data["rows"][0][names.index("Area")] == pytest.approx(1600 * 0.25, rel=2e-3)
    for tag, attrs in told.tags:
        assert not {"srcset", "action", "formaction"} & set(attrs)
        for name in ("src", "href"):
            assert (attrs.get(name) or "data:").startswith("data:"), (tag, attrs)
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text and "@import" not in text
    assert not re.findall(r"url\((?!data:)", text)
    assert {path.name for path in tmp_path.iterdir()} == {"in", "c.gpkg", "report.html"}


@pytest.mark.parametrize(("kind", "headline"), [("none", "No change found"), ("all", "1 place changed, 8,00")])
def test_nothing_and_everything_changed(tmp_path: Path, kind: str, headline: str) -> None:
    told = Elements(make(tmp_path, kind))
    assert headline in told.text
    data = json.loads(told.data)
    assert len(data["paths"]) == (kind == "all")


def facts(**more: Any) -> Facts:
    from rscd.output.results import Written

    written = Written(Path("c.gpkg"), None, 0, 0.0, 1.0, 0.0, 1.0)
    file = {"path": f"/x/{NASTY}", "bytes": 1, "sampled_sha256": NASTY}
    told = {
        "inputs": {"before": file, "after": file},
        "options": {NASTY: NASTY},
        "versions": {"rscd": NASTY},
        "model": {"name": NASTY, "licence": NASTY},
        "device": NASTY,
    }
    return Facts(written, 0.5, Telemetry(1.0, {"read": 0.1}, 0.5, 10.0, None), told, **more)


def filled(grid: Any, seed: int | None = None) -> Previews:
    previews = Previews(grid)
    pixels = np.full((3, grid.height, grid.width), 99, np.uint8)
    if seed is not None:
        pixels = np.random.default_rng(seed).integers(0, 256, pixels.shape, dtype=np.uint8)
    valid = np.ones(grid.shape, bool)
    whole = Window(0, 0, grid.height, grid.width)
    list(previews.watch([WindowInput(0, 0, whole, whole, pixels, pixels, valid, valid)]))
    return previews


def test_what_files_say_is_text(tmp_path: Path) -> None:
    grid = utm_grid(8, 8)
    verdict = PairFacts(NASTY, NASTY, NASTY, shifts=[(1.0, 2.0, 0.5, -0.5)])
    page = tmp_path / "r.html"
    page.write_text(report_html(grid, filled(grid), PolygonStatistics(), facts(pair=verdict)), encoding="utf-8")
    told = Elements(page)
    assert sum(tag == "script" for tag, _ in told.tags) == 2
    assert not any(attrs.get("src") == "x" or "onerror" in attrs for _, attrs in told.tags)
    assert told.text.count(NASTY) >= 8
    assert json.loads(told.data)["shifts"] == [[1.0, 2.0, 0.5, -0.5]]


def test_the_largest_picture_stays_below_8_mb() -> None:
    grid = utm_grid(4096, 4096)
    previews = filled(grid, seed=1)  # noise does not compress
    previews._largest[:] = np.random.default_rng(2).integers(0, 255, previews._largest.shape)
    page = report_html(grid, previews, PolygonStatistics(), facts())
    assert len(page.encode()) < 8_000_000
    assert previews.size == (SIDE, SIDE)


@pytest.mark.parametrize(
    ("height", "width", "band"),
    [(100, 70, 7), (5000, 30, 448), (9000, 41, 1000), (20_000, 9, 448), (30_000, 5, 448)],
)
def test_previews_are_means_however_the_windows_come(height: int, width: int, band: int) -> None:
    grid = utm_grid(height, width)
    pixels = np.random.default_rng(3).integers(0, 256, (3, height, width), dtype=np.uint8)
    valid = np.ones((height, width), bool)
    valid[: height // 3] = False
    previews = Previews(grid)
    plan = WindowPlan(Axis(height, band + 5, 5), Axis(width, 40, 7))
    inputs = []
    for k, j in np.ndindex(plan.rows.count, plan.cols.count):
        place = plan.place(k, j)
        part = np.s_[place.row : place.row_stop, place.col : place.col_stop]
        dates = pixels[:, *part], pixels[:, *part], valid[part], valid[part]
        inputs.append(WindowInput(k, j, place, plan.cell(k, j), *dates))
    assert [*previews.watch(inputs)] == inputs
    k = previews.factor
    picture = np.asarray(previews._dates[0].picture(None)).astype(float)
    assert picture.shape == (-(-height // k), -(-width // k), 3) and max(picture.shape) <= SIDE
    step = max(1, k // 4)
    for row in (height // k // 2, height // k - 1):
        cut = pixels[:, row * k : (row + 1) * k : step, :k:step]
        seen = valid[row * k : (row + 1) * k : step, :k:step]
        np.testing.assert_allclose(picture[row, 0], cut[:, seen].mean(axis=1), atol=0.51)
    assert (picture[0] >= 214).all()  # hatched: not seen


def test_sixteen_bit_pictures_are_stretched_alike() -> None:
    grid = utm_grid(10, 40)
    ramp = np.tile(np.linspace(1000, 3000, 40).astype(np.uint16), (1, 10, 1))
    valid = np.ones((10, 40), bool)
    previews = Previews(grid)
    whole = Window(0, 0, 10, 40)
    list(previews.watch([WindowInput(0, 0, whole, whole, ramp, ramp // 2, valid, valid)]))
    assert all(uri.startswith("data:image/jpeg") for uri in previews.pictures())


@pytest.mark.parametrize("drawn", [True, False])
def test_the_digest_counts_all_and_keeps_the_largest(monkeypatch: pytest.MonkeyPatch, drawn: bool) -> None:
    monkeypatch.setattr("rscd.output.report.statistics.MOST_DRAWN", 5)
    digest = PolygonStatistics(drawn)
    assert digest.largest() is None
    rng = np.random.default_rng(1)
    areas = rng.integers(1, 30, (6, 7)).astype(np.float64)  # many are equal: of those, the first stay
    for k, area in enumerate(areas):
        columns = {"id": 7 * k + np.arange(7), "area_m2": area, "mean_probability": np.full(7, 0.25)}
        digest.add(pa.RecordBatch.from_pydict(columns | {"touches_edge": [True] + [False] * 6, "direction": WAYS}))
    assert (digest.polygons, digest.on_edge, digest.area_m2) == (42, 6, areas.sum())
    assert digest.weighted_p == areas.sum() / 4
    assert digest.areas.sum() == 42
    assert digest.probabilities[10] == 42
    assert digest.directions == {"appeared": 12, "vanished": 6, "unclear": 6}
    for way in digest.directions:
        assert digest.directions_m2[way] == areas[:, [k for k, one in enumerate(WAYS) if one == way]].sum()
    largest = digest.largest()
    if not drawn:
        assert largest is None
    else:
        assert largest is not None
        assert largest["id"].to_pylist() == np.argsort(-areas.ravel(), kind="stable")[:5].tolist()


def test_areas_are_told_with_three_digits() -> None:
    assert nice_m2(0) == "0 m²" and nice_m2(12345) == "1.23 ha" and nice_m2(9.5) == "9.5 m²"
    assert AREA_BINS[0] == 1 and AREA_BINS[-1] == 1e8


def test_an_existing_report_needs_overwrite(tmp_path: Path) -> None:
    page = make(tmp_path)
    (tmp_path / "c.gpkg").unlink()
    page.write_text("mine")
    with pytest.raises(UsageError, match=r"report\.html.*overwrite=True"):
        make(tmp_path)
    assert page.read_text() == "mine"
    make(tmp_path, overwrite=True)
    assert "2 places changed" in page.read_text(encoding="utf-8")


def test_a_report_in_a_missing_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    before, after = pair(tmp_path / "in")
    config = DetectConfig(before, after, tmp_path / "c.gpkg", report=tmp_path / "none" / "r.html", device="cpu")
    with pytest.raises(OutputError, match="mkdir"):
        detect(config, model=(Pointwise(), CONTRACT))
    assert not (tmp_path / "c.gpkg").exists()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium and chromedriver here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1300,1000"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield running
    running.quit()


def opened(browser: Any, page: Path) -> Any:
    browser.get_log("browser")
    browser.get(page.as_uri())
    assert browser.execute_script("return document.documentElement.dataset.ready") == "yes"
    return browser


@pytest.mark.browser
def test_in_a_browser_the_swipe_moves_and_hover_shows_evidence(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    opened(browser, make(tmp_path))
    clip = browser.find_element(By.ID, "after-clip")
    swipe = browser.find_element(By.ID, "swipe")
    assert "50%" in clip.value_of_css_property("clip-path")
    swipe.send_keys(Keys.HOME)
    assert clip.value_of_css_property("clip-path") in ("inset(0px 0px 0px 0%)", "inset(0px)", "inset(0% 0% 0% 0%)")
    swipe.send_keys(Keys.END)
    handle = browser.find_element(By.ID, "divider")
    view = browser.find_element(By.ID, "view")
    ActionChains(browser).drag_and_drop_by_offset(handle, -view.size["width"] // 2, 0).perform()
    assert 40 < float(swipe.get_attribute("value")) < 60
    shapes = browser.find_elements(By.CSS_SELECTOR, "#shapes path")
    assert len(shapes) == 2
    assert "Point at a polygon" in browser.find_element(By.ID, "evidence").text
    ActionChains(browser).move_to_element_with_offset(shapes[1], 0, 0).perform()
    told = browser.find_element(By.ID, "evidence").text
    assert "Area" in told and "200 m²" in told and "Mean probability" in told
    browser.find_element(By.CSS_SELECTOR, "button[data-i='0']").click()
    assert "400 m²" in browser.find_element(By.ID, "evidence").text
    matrix = browser.find_element(By.CSS_SELECTOR, ".world").value_of_css_property("transform")
    zoom = float(matrix.removeprefix("matrix(").split(",")[0])
    line = browser.find_element(By.CSS_SELECTOR, "#shapes path:not(.on)").value_of_css_property("stroke-width")
    assert zoom > 1 and float(line.removesuffix("px")) * zoom == pytest.approx(1.4, abs=0.05)
    assert browser.get_log("browser") == []


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["none", "all"])
def test_in_a_browser_nothing_and_everything_are_fine(browser: Any, tmp_path: Path, kind: str) -> None:
    opened(browser, make(tmp_path, kind))
    image = browser.find_element("id", "before")
    assert browser.execute_script("return [arguments[0].naturalWidth, arguments[0].complete]", image) == [200, True]
    assert browser.get_log("browser") == []


@pytest.mark.browser
def test_in_a_browser_names_from_files_do_not_run(browser: Any, tmp_path: Path) -> None:
    grid = utm_grid(8, 8)
    page = tmp_path / "r.html"
    page.write_text(report_html(grid, filled(grid), PolygonStatistics(), facts()), encoding="utf-8")
    opened(browser, page)
    assert browser.execute_script("return document.querySelectorAll('img[onerror]').length") == 0
    assert browser.get_log("browser") == []


def test_pictures_read_back(tmp_path: Path) -> None:
    import base64
    import io

    uri = filled(utm_grid(64, 48)).pictures()[0]
    image = Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))
    assert image.size == (48, 64)


def test_no_path_of_the_server_is_in_page_or_geopackage_and_training_finds_the_images(tmp_path):
    (tmp_path / "secret" / "out").mkdir(parents=True)
    before, after = pair(tmp_path / "secret" / "in")
    output, page = tmp_path / "secret" / "out" / "c.gpkg", tmp_path / "secret" / "out" / "r.html"
    config = DetectConfig(before, after, output, report=page, device="cpu", threshold=0.9)
    detect(config, model=(Pointwise(), CONTRACT))
    told = pyogrio.read_info(output, layer="changes")["layer_metadata"]
    for text in (page.read_text(), json.dumps(told)):
        assert "secret" not in text
        assert str(tmp_path) not in text
    assert json.loads(told["inputs"])["before"]["path"] == "../in/a.tif"
    moved = (tmp_path / "secret").rename(tmp_path / "elsewhere")
    found = detected_from(moved / "out" / "c.gpkg", None)
    assert found.before.samefile(moved / "in" / "a.tif")
    weights = shutil.copy(embedded()["buildings"], moved / "mine.safetensors")
    own = dataclasses.replace(config, before=moved / "in" / "a.tif", after=moved / "in" / "b.tif", report=None)
    detect(dataclasses.replace(own, output=moved / "out" / "own.gpkg", model=str(weights)))
    told = pyogrio.read_info(moved / "out" / "own.gpkg", layer="changes")["layer_metadata"]
    assert str(tmp_path) not in json.dumps(told)
    full = dataclasses.replace(
        config, before=moved / "in" / "a.tif", after=moved / "in" / "b.tif", output=tmp_path / "f.gpkg", report=None
    )
    detect(dataclasses.replace(full, full_paths=True), model=(Pointwise(), CONTRACT))
    told = pyogrio.read_info(tmp_path / "f.gpkg", layer="changes")["layer_metadata"]
    assert json.loads(told["inputs"])["before"]["path"] == str(moved / "in" / "a.tif")


def test_title_and_dates_are_those_given_else_those_of_the_files_tags(tmp_path: Path) -> None:
    before, after = pair(tmp_path / "in")
    for path, day in ((before, "2019:05:31 10:00:00"), (after, "2024:06:02 09:30:00")):
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(TIFFTAG_DATETIME=day)
    page = tmp_path / "r.html"
    config = DetectConfig(before, after, tmp_path / "c.gpkg", report=page, device="cpu", threshold=0.9)
    detect(config, model=(Pointwise(), CONTRACT))
    told = Elements(page)
    assert "a.tif (2019-05-31) → b.tif (2024-06-02)" in told.text
    assert "before 2019-05-31" in told.text and "after 2024-06-02" in told.text
    named = dataclasses.replace(config, title="Quarry & harbour", dates=("spring", "autumn"), overwrite=True)
    detect(named, model=(Pointwise(), CONTRACT))
    told = Elements(page)
    assert "Quarry & harbour" in told.text and "2 places changed" in told.text
    assert "before spring" in told.text and "2019" not in told.text.split("The run")[0]


@pytest.mark.parametrize(
    ("text", "day"),
    [("2019:05:31 10:00:00", "2019-05-31"), ("2019-05-31T10:00", "2019-05-31"), ("2019:13:41", ""), ("May", "")],
)
def test_a_day_is_read_from_the_tag_or_not_said(text: str, day: str) -> None:
    assert date_taken({"TIFFTAG_DATETIME": text}) == day


def test_messages_in_the_page_name_files_alone() -> None:
    words = "/srv/archive 7/scene a/before.tif: rows 0 to 512, columns 0 to 512: cannot be decoded"
    assert sections._without_folders(words) == "before.tif: rows 0 to 512, columns 0 to 512: cannot be decoded"


@pytest.mark.browser
def test_on_paper_the_dates_lie_side_by_side_with_their_outlines(browser: Any, tmp_path: Path) -> None:
    opened(browser, make(tmp_path))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        rect = "return [...document.querySelectorAll('#sheet img, #sheet svg')].map(e => e.getBoundingClientRect())"
        left, drawn, right, drawn_too = browser.execute_script(rect)
        assert left["top"] == right["top"] and left["right"] < right["left"]
        assert left["width"] == right["width"] > 300
        for image, outlines in ((left, drawn), (right, drawn_too)):
            for side in ("top", "left", "width", "height"):
                assert image[side] == pytest.approx(outlines[side], abs=1)
        assert len(browser.find_elements("css selector", "#sheet path")) == 4
        assert not browser.find_element("id", "view").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert not browser.find_element("id", "sheet").is_displayed()
    assert browser.get_log("browser") == []


@pytest.mark.browser
def test_shifts_are_explained_when_they_are_shown(browser: Any, tmp_path: Path) -> None:
    grid = utm_grid(64, 64)
    told = dataclasses.replace(facts(), pair=PairFacts(shifts=[(32.0, 32.0, 0.3, -0.4)]))
    page = tmp_path / "r.html"
    page.write_text(report_html(grid, filled(grid), PolygonStatistics(), told), encoding="utf-8")
    opened(browser, page)
    words = browser.find_element("id", "shift-words")
    assert not words.is_displayed()
    browser.find_element("id", "show-shifts").click()
    assert "The longest shift is 0.50 px" in words.text
    ends = browser.find_element("css selector", "line.shift")
    assert float(ends.get_attribute("x2")) - float(ends.get_attribute("x1")) == pytest.approx(20 * 0.3)


@pytest.mark.browser
def test_the_index_is_whole_on_a_phone(browser: Any, tmp_path: Path) -> None:
    ids = ["north_quarter_2019_2024_tile_0007", "b"]
    entries = [dataclasses.replace(entry(name), polygons=3, verdict="fit", model="buildings 3") for name in ids]
    places = {ids[0]: shapely.box(10, 50, 10.1, 50.1).union(shapely.box(10.2, 50, 10.3, 50.1))}
    page = tmp_path / "index.html"
    page.write_text(index_html(tmp_path, entries, places), encoding="utf-8")
    browser.get_log("browser")
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 700, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        browser.get(page.as_uri())
        cell = browser.find_element("css selector", ".pairs td")
        assert cell.text == ids[0]
        assert cell.size["height"] < 45, "an id of one line"
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        assert wide <= 360, "the table scrolls, not the page"
        (drawn,) = browser.find_elements("css selector", ".overview path")
        assert drawn.size["width"] > 200
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert browser.get_log("browser") == []
