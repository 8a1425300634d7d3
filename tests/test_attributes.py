"""The polygons' columns, against a slow and plain recomputation, polygon by polygon, from the files."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pyarrow as pa
import pytest
import rasterio
from affine import Affine
from conftest import Pointwise, utm_grid, write_image
from numpy.typing import NDArray
from pyproj import CRS
from rasterio.enums import Resampling
from rasterio.features import geometry_mask
from rasterio.warp import reproject

from rscd.core.contract import Contract
from rscd.core.pixel_area import PixelAreas
from rscd.core.types import Grid, Window
from rscd.inference.components import strip_record
from rscd.options.detect import DetectConfig
from rscd.simulate.scene import Scene
from rscd.simulate.spec import SceneSpec
from rscd.vectorize.attributes import REVIEW_STATES, Attributes, band_names, columns, feature_schema
from rscd.vectorize.tracer import PolygonTracer
from rscd.workflows.detect import detect

CONTRACT = Contract(
    name="pointwise", version="1", encoder="lite", width=8, mean=(0,) * 3, std=(1,) * 3, window=128, overlap=32
)

SCALED = replace(CONTRACT, mean=(110.0,) * 3, std=(50.0,) * 3)
"""Other pixels than bytes are scaled to these."""


def assert_recomputes(config: DetectConfig) -> geopandas.GeoDataFrame:
    """Every column of the layer, by a mask a polygon over the whole files."""
    frame = geopandas.read_file(config.output, layer="changes")
    with rasterio.open(config.before) as one, rasterio.open(config.after) as two:
        before, after, transform = one.read(), two.read(), one.transform
        valid = one.dataset_mask() & two.dataset_mask() > 0
    with rasterio.open(config.probability) as dataset:
        values = dataset.read(1)
    geod = CRS(frame.crs).get_geod()
    lonlat = frame.to_crs("EPSG:4326")
    framed = np.pad(valid, 1, constant_values=True)  # what is beyond the grid is not unobservable ground
    for row, there in zip(frame.itertuples(), lonlat.geometry, strict=True):
        mask = geometry_mask([row.geometry], values.shape, transform, invert=True)
        p = values[mask] / 254
        area, perimeter = geod.geometry_area_perimeter(there)[0], geod.geometry_length(there.boundary)
        assert row.area_m2 == pytest.approx(abs(area), rel=1e-6)
        assert row.perimeter_m == pytest.approx(perimeter, rel=1e-6)
        assert row.compactness == pytest.approx(4 * np.pi * abs(area) / perimeter**2, rel=1e-5)
        assert row.mean_probability == pytest.approx(p.mean(), abs=1 / 254)
        assert row.mean_probability == pytest.approx(p.mean(), rel=1e-12)  # and far closer
        assert row.max_probability == p.max()
        assert row.p90_probability == np.percentile(p, 90, method="inverted_cdf")
        big = np.pad(mask, 1)
        steps = [np.roll(big, shift, axis) & ~big for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1))]
        hidden = sum((step & ~framed).sum() for step in steps)
        assert row.valid_fraction == pytest.approx(1 - hidden / sum(step.sum() for step in steps))
        border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        assert row.touches_edge == border.any()
        for band, name in enumerate(("red", "green", "blue")):
            assert getattr(row, f"before_{name}") == pytest.approx(before[band][mask].mean())
            assert getattr(row, f"after_{name}") == pytest.approx(after[band][mask].mean())
        difference = after[:3, mask].astype(float).mean() - before[:3, mask].mean()
        assert row.brightness_change == pytest.approx(difference, abs=1e-9)
        assert (row.lon, row.lat) == pytest.approx((there.centroid.x, there.centroid.y), abs=1e-7)
        assert row.ndvi_change is None or np.isnan(row.ndvi_change)
        assert row.review == ""
    return frame


def test_columns_are_those_of_a_plain_recomputation(tmp_path: Path) -> None:
    scene = Scene(SceneSpec(seed=3, width=420, height=360, layout="demo", collar=True))
    view = scene.render(Window(0, 0, 360, 420))
    before = write_image(tmp_path / "before.tif", view.before, scene.grid, nodata=0)
    after = write_image(tmp_path / "after.tif", view.after, scene.grid, nodata=0)
    config = DetectConfig(
        before, after, tmp_path / "out.gpkg", probability=tmp_path / "p.tif", threshold=0.9, device="cpu"
    )
    detect(config, model=(Pointwise(), CONTRACT))
    frame = assert_recomputes(config)
    assert len(frame) > 100
    assert (frame.valid_fraction < 1).any() and frame.touches_edge.any()


def test_columns_on_a_real_scene_in_degrees(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "scenes" / "vhr_austin_0.5m"
    config = DetectConfig(
        folder / "t1.tif",
        folder / "t2.tif",
        tmp_path / "out.gpkg",
        probability=tmp_path / "p.tif",
        threshold=0.95,
        min_area_m2=20.0,
        align="off",  # so that the file's own pixels are what the columns tell
        device="cpu",
    )
    detect(config, model=(Pointwise(), CONTRACT))
    assert len(assert_recomputes(config)) > 50


def test_ndvi_where_the_bands_are_known() -> None:
    grid = utm_grid(4, 6)
    before = np.full((2, 4, 6), 100, np.uint8)
    after = before.copy()
    before[1, 1:3, 1:4] = 150
    values = np.zeros((4, 6), np.uint8)
    values[1:3, 1:4] = 200
    areas = PixelAreas(grid)
    changed = values >= 128
    colours = before[:, changed], after[:, changed]
    record = strip_record(0, 0, values, threshold=128, areas=areas, colours=colours)
    evidence = Attributes(grid, ("red", "nir"), residual=lambda row, col: row * 10 + col)
    tracer = PolygonTracer(grid, attributes=evidence)
    rows = pa.Table.from_batches([tracer.add(record), tracer.finish()]).to_pylist()
    assert rows[0]["ndvi_change"] == pytest.approx(-0.2)
    assert rows[0]["brightness_change"] == pytest.approx(-25)
    assert rows[0]["registration_residual_px"] == pytest.approx(22.5)  # at the middle of its box


def numbers_file(path: Path, kind: str, seed: int) -> Path:
    """Red, green, blue and near infrared of bright boxes on dark ground, in DN of a dtype, and described so."""
    rng = np.random.default_rng(seed)
    image = rng.integers(900, 1100, (4, 256, 256)).astype(np.float64)
    top = 40 if seed % 2 else 130
    image[:, top : top + 50, 60:110] += np.array([5200, 3000, 2000, 800])[:, None, None]
    image[:, top + 60 : top + 63, 20:200] += np.array([9000, 9000, 9000, 500])[:, None, None]  # beyond the scaling
    image = {"uint16": image, "int16": image - 1500, "float32": image / 10_000, "uint8": image / 50}[kind]
    write_image(path, (image if kind == "float32" else np.rint(image)).astype(kind))
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("red", "green", "blue", "nir")
        dataset.colorinterp = [rasterio.enums.ColorInterp.undefined] * 4
    return path


def assert_numbers(output: Path, before: NDArray, after: NDArray, transform: Affine, *, rel: float) -> None:
    """Columns of colour and NDVI are those of images (4, h, w) in the files' numbers, by a mask a polygon."""
    frame = geopandas.read_file(output, layer="changes")
    assert len(frame) >= 2
    for row in frame.itertuples():
        mask = geometry_mask([row.geometry], before.shape[1:], transform, invert=True)
        means = [date[:, mask].astype(np.float64).mean(axis=1) for date in (before, after)]
        for name, told in (("before", means[0]), ("after", means[1])):
            for band, colour in enumerate(("red", "green", "blue", "nir")):
                assert getattr(row, f"{name}_{colour}") == pytest.approx(told[band], rel=rel)
        assert row.brightness_change == pytest.approx((means[1] - means[0])[:3].mean(), rel=10 * rel)
        ndvi = [(m[3] - m[0]) / (m[3] + m[0]) for m in means]
        assert row.ndvi_change == pytest.approx(ndvi[1] - ndvi[0], abs=10 * rel)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "float32"])
def test_columns_are_in_the_files_own_numbers(tmp_path: Path, kind: str) -> None:
    before, after = (numbers_file(tmp_path / f"{i}.tif", kind, i) for i in (2, 3))
    config = DetectConfig(before, after, tmp_path / "out.gpkg", threshold=0.9, device="cpu", align="off")
    result = detect(config, model=(Pointwise(), SCALED))
    with rasterio.open(before) as one, rasterio.open(after) as two:
        assert_numbers(config.output, one.read(), two.read(), one.transform, rel=1e-6)
    assert result.inspection.before.nir == 4
    assert "before and after: band 4 is near infrared by its name: read for ndvi_change" in result.inspection.notes


@pytest.mark.parametrize(("kind", "rel"), [("uint8", 0.02), ("uint16", 1e-3), ("float32", 1e-4)])
def test_columns_of_a_warped_date_are_of_its_warped_numbers(tmp_path: Path, kind: str, rel: float) -> None:
    before = numbers_file(tmp_path / "2.tif", kind, 2)
    after = numbers_file(tmp_path / "3.tif", kind, 3)
    with rasterio.open(after, "r+") as dataset:
        dataset.transform = dataset.transform @ Affine.translation(-0.4, 0.3)
    config = DetectConfig(before, after, tmp_path / "out.gpkg", threshold=0.9, device="cpu", align="off")
    detect(config, model=(Pointwise(), SCALED))
    with rasterio.open(before) as one, rasterio.open(after) as two:
        warped = np.zeros(one.read().shape, np.float32)
        how = {"src_transform": two.transform, "dst_transform": one.transform}
        pixels = two.read().astype(np.float32)
        reproject(pixels, warped, **how, src_crs=one.crs, dst_crs=one.crs, resampling=Resampling.bilinear)
        assert_numbers(config.output, one.read(), warped, one.transform, rel=rel)


def test_numbers_of_unlike_files_have_no_difference(tmp_path: Path) -> None:
    before, after = numbers_file(tmp_path / "2.tif", "uint8", 2), numbers_file(tmp_path / "3.tif", "uint16", 3)
    page = tmp_path / "report.html"
    config = DetectConfig(
        before, after, tmp_path / "out.gpkg", report=page, threshold=0.9, device="cpu", align="off"
    )
    result = detect(config, model=(Pointwise(), SCALED))
    assert "Before: nir" in page.read_text() and "brightness_change stays empty" in page.read_text()
    frame = geopandas.read_file(config.output, layer="changes")
    assert frame.brightness_change.isna().all() and frame.ndvi_change.notna().all()
    assert frame.after_red.max() > 2000 and frame.before_red.max() < 25
    assert "before uint8 and after uint16: brightness_change stays empty" in result.inspection.notes


def test_near_infrared_changes_no_byte_of_the_map_and_can_be_left_out(tmp_path: Path) -> None:
    before, after = (numbers_file(tmp_path / f"{i}.tif", "float32", i) for i in (2, 3))
    with rasterio.open(after, "r+") as dataset:
        nir = dataset.read(4)
        nir[60, 80] = np.nan  # inside the first box; seen in the other bands
        dataset.write(nir, 4)
    maps = []
    for nir_band in (None, 0):
        config = DetectConfig(
            *(before, after, tmp_path / "out.gpkg"), probability=tmp_path / "p.tif", nir=nir_band, threshold=0.9,
            device="cpu", align="off", overwrite=True, keep_journal=True,
        )  # fmt: skip
        assert detect(config, model=(Pointwise(), SCALED)).bands_resumed == 0  # sums of other bands are not taken
        with rasterio.open(tmp_path / "p.tif") as dataset:
            maps.append(dataset.read(1))
        frame = geopandas.read_file(config.output, layer="changes").sort_values("area_m2")
        if nir_band is None:
            assert frame.ndvi_change.isna().sum() == frame.after_nir.isna().sum() == 1
        else:
            assert frame.ndvi_change.isna().all() and "after_nir" not in frame
    np.testing.assert_array_equal(*maps)
    assert (maps[0] != 255).all()


def test_band_names_are_the_contracts_where_they_fit() -> None:
    assert band_names(("Red", "near infrared"), 2) == ("red", "near_infrared")
    assert band_names(("red", "green", "blue"), 4) == ("band_1", "band_2", "band_3", "band_4")
    assert band_names(("grey", "grey"), 2) == ("band_1", "band_2")


def test_schema_and_description_name_the_same_columns() -> None:
    for bands in ((), ("red", "nir")):
        told = columns(bands)
        assert [*feature_schema(bands).names] == [*[column.name for column in told], "geometry"]
        assert all(column.title and column.meaning for column in told)


def test_the_geopackage_describes_its_columns(tmp_path: Path) -> None:
    pixels = np.full((3, 64, 64), 90, np.uint8)
    pixels[2, 0, 0] += 1  # a constant file would be refused
    before = write_image(tmp_path / "a.tif", pixels)
    pixels[:, 10:30, 10:30] = 250
    after = write_image(tmp_path / "b.tif", pixels)
    config = DetectConfig(before, after, tmp_path / "out.gpkg", device="cpu", window=64, threshold=0.9)
    detect(config, model=(Pointwise(), CONTRACT))
    with closing(sqlite3.connect(config.output)) as database:
        there = [name for _, name, *_ in database.execute("PRAGMA table_info(changes)")]
        told = dict(database.execute("SELECT column_name, description FROM gpkg_data_columns"))
        states = dict(database.execute("SELECT value, description FROM gpkg_data_column_constraints"))
        registered = database.execute(
            "SELECT table_name, definition FROM gpkg_extensions WHERE extension_name = 'gpkg_schema'"
        ).fetchall()
        of_review = database.execute(
            "SELECT constraint_name FROM gpkg_data_columns WHERE column_name = 'review'"
        ).fetchone()
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    assert set(there) - {"fid", "geometry"} == set(told)
    assert told["area_m2"].endswith("[m2]") and told["before_red"] == "Mean of the before image, red [DN]"
    assert states == REVIEW_STATES and of_review == ("rscd_review",)
    url = "http://www.geopackage.org/spec121/#extension_schema"
    assert registered == [("gpkg_data_columns", url), ("gpkg_data_column_constraints", url)]
    assert len(geopandas.read_file(config.output, layer="changes")) == 1


def test_a_rotated_grid_in_feet_has_metres() -> None:
    grid = Grid(CRS.from_epsg(2277).to_wkt(), (2.0, 0.5, 3_100_000.0, 0.5, -2.0, 10_070_000.0), 5, 5)
    values = np.zeros((5, 5), np.uint8)
    values[1:4, 1:3] = 254
    record = strip_record(0, 0, values, threshold=128, areas=PixelAreas(grid))
    tracer = PolygonTracer(grid)
    row = pa.Table.from_batches([tracer.add(record), tracer.finish()]).to_pylist()[0]
    foot = 1200 / 3937
    assert row["area_m2"] == pytest.approx(6 * abs(Affine(*grid.transform).determinant) * foot**2, rel=1e-3)
    assert row["perimeter_m"] == pytest.approx(10 * np.hypot(2, 0.5) * foot, rel=1e-3)
