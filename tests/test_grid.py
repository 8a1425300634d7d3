"""Where a scene lies, how large its pixels are, what is outside, and which model is for it."""

import json
import shutil

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from conftest import Pointwise, write_image
from rasterio.crs import CRS
from test_attributes import CONTRACT
from test_cli import rscd
from test_formats import pair

from rscd.core.errors import DataError
from rscd.core.grid import gsd_m
from rscd.core.types import Grid
from rscd.options.detect import DetectConfig, PolygonsConfig
from rscd.options.pair import InspectConfig
from rscd.scene.metadata import named_sensor, unseen
from rscd.vectorize.attributes import drawn_values
from rscd.workflows.detect import detect
from rscd.workflows.inspect import inspect
from rscd.workflows.polygons import polygons


def noise(seed, bands=3, side=160):
    return np.random.default_rng(seed).integers(40, 200, (bands, side, side), dtype=np.uint8)


def scene(folder, crs, transform, **profile):
    """Two dates of noise, with a bright square in the later one."""
    before = noise(1)
    after = before.copy()
    after[:, 60:90, 60:100] = 250
    place = {"crs": crs, "transform": Affine(*transform)}
    return [
        write_image(folder / f"{name}.tif", pixels, **place, **profile)
        for name, pixels in (("before", before), ("after", after))
    ]


def run(paths, output, **options):
    config = DetectConfig(*paths, output, device="cpu", threshold=0.9, force_gsd=True, overwrite=True, **options)
    return detect(config, model=(Pointwise(), CONTRACT))


@pytest.mark.parametrize("west", [179.9995, 359.0, 539.5])
def test_longitudes_are_within_180_degrees(tmp_path, west):
    paths = scene(tmp_path, CRS.from_epsg(4326), (5e-6, 0, west, 0, -5e-6, 10.0))
    run(paths, tmp_path / "c.gpkg")
    (lon,) = pyogrio.read_dataframe(tmp_path / "c.gpkg", layer="changes").lon
    assert -180 <= lon <= 180
    assert (lon - west - 80 * 5e-6) % 360 == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("epsg", "transform", "side"),
    [
        (27572, (0.5, 0, 600_000, 0, -0.5, 2_200_000), 0.5),  # Lambert zone II, whose base counts in grads
        (4807, (1e-5, 0, 0.0, 0, -1e-5, 52.0), 1.0 * (np.cos(np.radians(52 * 0.9))) ** 0.5),  # grads from Paris
        (2278, (1.64042, 0, 3_100_000, 0, -1.64042, 13_800_000), 0.5),  # feet
    ],
)
def test_pixel_sizes_in_grads_and_feet(epsg, transform, side):
    grid = Grid(CRS.from_epsg(epsg).to_wkt(), transform, 100, 100)
    assert gsd_m(grid) == pytest.approx(side, rel=0.01)


MARS = (
    'PROJCRS["Mars",BASEGEOGCRS["Mars",DATUM["Mars",ELLIPSOID["Mars",3396190,169.894]],CS[ellipsoidal,2],'
    'AXIS["latitude",north],AXIS["longitude",east],ANGLEUNIT["degree",0.0174532925199433]],'
    'CONVERSION["Equidistant Cylindrical",METHOD["Equidistant Cylindrical",ID["EPSG",1028]],'
    'PARAMETER["Latitude of 1st standard parallel",0],PARAMETER["Longitude of natural origin",0],'
    'PARAMETER["False easting",0],PARAMETER["False northing",0]],'
    'CS[Cartesian,2],AXIS["(E)",east],AXIS["(N)",north],LENGTHUNIT["metre",1]]'
)


@pytest.mark.parametrize(
    ("crs", "transform", "words"),
    [
        ("EPSG:4978", (0.5, 0, 600_000, 0, -0.5, 3_350_000), "geocentric"),
        (MARS, (0.5, 0, 600_000, 0, -0.5, 300_000), "of a body of 3,396 km radius, not of the earth"),
        ("EPSG:32614", (0.5, 0.5, 600_000, -0.5, -0.5, 3_350_000), "no area"),
        ("EPSG:32614", (0.5, 0, float("nan"), 0, -0.5, 3_350_000), "no area"),
    ],
)
def test_what_has_no_place_on_earth_is_refused(tmp_path, crs, transform, words):
    wkt = CRS.from_string(crs)
    paths = scene(tmp_path, wkt, transform)
    with pytest.raises(DataError, match=words):
        run(paths, tmp_path / "c.gpkg")
    raster = tmp_path / "p.tif"
    profile = {"count": 1, "dtype": "uint8", "nodata": 255, "crs": wkt, "transform": Affine(*transform)}
    with rasterio.open(raster, "w", driver="GTiff", width=64, height=64, **profile) as dataset:
        dataset.write(np.zeros((1, 64, 64), np.uint8))
        dataset.scales = (1 / 254,)
    with pytest.raises(DataError, match=words):
        polygons(PolygonsConfig(raster, tmp_path / "d.gpkg"))


def test_polygons_refuses_a_raster_without_a_place(tmp_path):
    raster = tmp_path / "p.tif"
    profile = {"count": 1, "dtype": "uint8", "nodata": 255, "crs": "EPSG:32614"}
    with rasterio.open(raster, "w", driver="GTiff", width=64, height=64, **profile) as dataset:
        dataset.write(np.zeros((1, 64, 64), np.uint8))
        dataset.scales = (1 / 254,)
    with pytest.raises(DataError, match="has no geotransform"):
        polygons(PolygonsConfig(raster, tmp_path / "d.gpkg"))


def test_forced_pixel_sizes_are_said_everywhere(tmp_path):
    paths = scene(tmp_path, CRS.from_epsg(32614), (89.0, 0, 600_000, 0, -89.0, 3_350_000))
    output = ["-o", tmp_path / "c.gpkg", "--report", tmp_path / "r.html", "--model", "urban-s2", "--force-gsd"]
    done = rscd("detect", *paths, *output)
    assert done.exit_code == 0, done.output
    said = " ".join(done.stderr.split())
    assert "pair outside what the model takes: pixels of 89 m, and model urban-s2 takes 5 m" in said
    assert said.count("outside what the model takes") == 2, "at the start and in the table at the end"
    page = (tmp_path / "r.html").read_text()
    assert "Pair outside what the model takes" in page
    assert "Pair fit" not in page
    told = pyogrio.read_info(tmp_path / "c.gpkg", layer="changes")["layer_metadata"]
    assert json.loads(told["pair"])["verdict"] == "outside what the model takes"


def test_ground_outside_the_area_of_interest_is_a_state_of_its_own(tmp_path):
    paths = pair(tmp_path / "in")  # one corner of 20 x 20 px is nodata
    left, top = 600_000, 3_350_000
    area = shapely.Polygon(
        [(left + 10, top - 10), (left + 100, top - 10), (left + 100, top - 80), (left + 10, top - 80)]
    )
    area = area.difference(shapely.box(left + 40, top - 40, left + 60, top - 20))
    geopandas.GeoDataFrame(geometry=[area], crs=32614).to_file(tmp_path / "aoi.gpkg")
    written = run(paths, tmp_path / "c.gpkg", aoi=tmp_path / "aoi.gpkg", report=tmp_path / "r.html").written
    nodata = 10 * 10 / 1e6
    assert written.not_observable_km2 == pytest.approx(nodata, rel=2e-3)
    assert written.observed_km2 == pytest.approx(area.area / 1e6 - nodata, rel=2e-3)
    whole = pyogrio.read_dataframe(tmp_path / "c.gpkg", layer="extent").iloc[0]
    with rasterio.open(paths[0]) as dataset:
        grid = dataset.width * dataset.height * 0.25 / 1e6
    assert whole.outside_aoi_km2 == pytest.approx(written.outside_aoi_km2)
    assert 0 < written.outside_aoi_km2 < grid - written.observed_km2
    assert "outside the area of interest" in (tmp_path / "r.html").read_text()
    assert run(paths, tmp_path / "d.gpkg").written.outside_aoi_km2 == 0


def test_the_same_file_twice_is_refused(tmp_path):
    before, _ = pair(tmp_path / "in")
    link = tmp_path / "link.tif"
    link.symlink_to(before)
    found = inspect(InspectConfig(before, link))
    assert found.verdict == "refused"
    assert "is given as both dates" in found.reasons[0]
    done = rscd("detect", before, link, "-o", tmp_path / "c.gpkg")
    assert done.exit_code == 3
    assert "is given as both dates" in done.stderr


def test_copies_of_one_image_are_noticed(tmp_path):
    before, _ = scene(tmp_path, CRS.from_epsg(32614), (0.5, 0, 600_000, 0, -0.5, 3_350_000))
    copy = shutil.copy(before, tmp_path / "copy.tif")
    found = inspect(InspectConfig(before, tmp_path / "copy.tif"))
    assert copy and "both dates show the same pixels: nothing can have changed" in found.notes


def test_a_sensor_that_the_model_has_not_seen_is_named(tmp_path):
    paths = scene(tmp_path, CRS.from_epsg(32614), (10.0, 0, 600_000, 0, -10.0, 3_350_000))
    for path, tags in zip(paths, ({"SATELLITE": "Sentinel-2A"}, {"SPACECRAFT_NAME": "LANDSAT_8"}), strict=True):
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(**tags)
    notes = " ".join(inspect(InspectConfig(*paths)).notes)
    assert "after is of LANDSAT_8 by its tags, which model urban-s2 was not trained on" in notes
    assert "before is of" not in notes


@pytest.mark.parametrize(
    ("tag", "trained_on", "new"),
    [
        ("Sentinel-2A", "OSCD", False),
        ("S2A_MSI", "OSCD", False),
        ("S1A", "OSCD", True),
        ("SAR amplitude", "LEVIR-CD", True),
        ("a picture", "LEVIR-CD", False),
    ],
)
def test_sensors_by_their_tags(tag, trained_on, new):
    assert unseen(named_sensor({"SENSOR": tag}), trained_on) == new


def test_a_drawn_polygon_lies_on_the_meridian_of_greenwich():
    place = shapely.box(600_000, 2_200_000, 600_020, 2_200_020)  # near Bourges, on the meridian of Paris
    found = drawn_values(place, CRS.from_epsg(27572).to_wkt())
    assert found["lon"] == pytest.approx(2.3366, abs=0.001)
    assert found["area_m2"] == pytest.approx(400, rel=2e-3)


def test_sixteen_bits_are_not_said_to_be_read_as_they_are(tmp_path):
    place = {"crs": CRS.from_epsg(32614), "transform": Affine(0.5, 0, 600_000, 0, -0.5, 3_350_000)}
    paths = [write_image(tmp_path / f"{n}.tif", noise(n).astype(np.uint16) * 11, **place) for n in (1, 2)]
    done = rscd("inspect", *paths)
    said = " ".join(done.stdout.split())
    assert "uint16" in said
    assert "scaled from uint16" in said
    assert "as it is" not in said


@pytest.mark.parametrize(("gsd", "model"), [(0.5, "buildings"), (5.0, "urban-s2"), (10.0, "urban-s2")])
def test_without_a_name_the_model_is_taken_whose_pixel_sizes_fit(tmp_path, gsd, model):
    paths = scene(tmp_path, CRS.from_epsg(32614), (gsd, 0, 600_000, 0, -gsd, 3_350_000))
    done = rscd("detect", *paths, "-o", tmp_path / "c.gpkg")
    assert done.exit_code == 0, done.output
    assert f"model {model} " in done.stderr
    told = pyogrio.read_info(tmp_path / "c.gpkg", layer="changes")["layer_metadata"]
    assert json.loads(told["options"])["model"] == model


def test_sentinel_2_under_the_other_model_is_pointed_to_its_own(tmp_path):
    paths = scene(tmp_path, CRS.from_epsg(32614), (10.0, 0, 600_000, 0, -10.0, 3_350_000))
    found = inspect(InspectConfig(*paths, model="buildings"))
    assert found.verdict == "refused"
    assert "--model urban-s2" in found.remedies[0]
