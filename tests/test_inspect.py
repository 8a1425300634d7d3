"""Inspect, and what detect makes of a pair: verdicts, shift, radiometry, refusals, area of interest."""

import dataclasses
import json

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from conftest import Pointwise, utm_grid, write_image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC
from scipy.ndimage import gaussian_filter
from scipy.ndimage import shift as move
from typer.testing import CliRunner

from rscd import DetectConfig, detect
from rscd.cli.app import app
from rscd.core.contract import Contract
from rscd.core.types import Window
from rscd.options.pair import InspectConfig, PairConfig
from rscd.scene.aligned import WarpReader
from rscd.scene.pair import open_pair
from rscd.scene.prepare import prepare
from rscd.workflows.inspect import inspect

CONTRACT = Contract("stand-in", "1", "lite", 8, (110.0,) * 3, (50.0,) * 3, window=96, overlap=32, trained_on="-")
STAND_IN = Pointwise(), CONTRACT


def ground(height=700, width=800, seed=0):
    """Ground with edges: blurred noise and sharp squares; float (3, h, w) of 20 to 235."""
    rng = np.random.default_rng(seed)
    image = gaussian_filter(rng.normal(size=(3, height, width)), (0, 6, 6))
    image = 110 + 25 * image / image.std()
    for _ in range(height * width // 2500):
        row, col = rng.integers(0, height), rng.integers(0, width)
        image[:, row : row + rng.integers(6, 30), col : col + rng.integers(6, 30)] += rng.uniform(-70, 70)
    return np.clip(gaussian_filter(image, (0, 0.7, 0.7)), 20, 235)


def as_bytes(image):
    return np.clip(np.rint(image), 1, 255).astype(np.uint8)


def prepared(before, after, **options):
    """What prepare makes of two files, and both dates' pixels on the common grid."""
    config = PairConfig(before, after, **options)
    with open_pair(config) as pair:
        found = prepare(pair, CONTRACT, config)
        frame = Window(0, 0, *found.pair.full.shape)
        return found, found.pair.before.read(frame), found.pair.after.read(frame)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A scene written as the before image, and its pixels."""
    folder = tmp_path_factory.mktemp("scene")
    image = ground()
    return write_image(folder / "before.tif", as_bytes(image)), image


@pytest.mark.parametrize("shift", [(0.5, -1.5), (3.2, 2.4), (0.0, 0.0), (-8.0, 8.0)])
@pytest.mark.parametrize("grid", ["before", "after"])
def test_a_shift_is_measured_corrected_and_measured_again(scene, tmp_path, shift, grid):
    before, image = scene
    rng = np.random.default_rng(1)
    moved = np.stack([move(band, shift, order=3, mode="nearest") for band in image])
    after = write_image(tmp_path / "after.tif", as_bytes(0.8 * moved + 20 + rng.normal(0, 3, moved.shape)))
    found, (first, first_valid), (second, second_valid) = prepared(before, after, grid=grid)
    said = found.inspection
    assert said.shift.rows_px == pytest.approx(shift[0], abs=0.15)
    assert said.shift.cols_px == pytest.approx(shift[1], abs=0.15)
    assert said.search_radius_px >= 8
    assert said.verdict == ("fit" if shift == (0, 0) else "fit after alignment")
    assert said.aligned == (shift != (0, 0))
    if said.aligned:
        assert said.residual.length_px < 0.15
        assert isinstance(found.pair.before if grid == "after" else found.pair.after, WarpReader)
    valid = first_valid & second_valid
    valid[:12], valid[-12:], valid[:, :12], valid[:, -12:] = False, False, False, False
    off = (second - (0.8 * first + 20))[:, valid]
    assert np.abs(off).mean() < 5


def test_off_measures_and_leaves_alone(scene, tmp_path):
    before, image = scene
    moved = np.stack([move(band, (2, 0), order=3, mode="nearest") for band in image])
    after = write_image(tmp_path / "after.tif", as_bytes(moved))
    found, _, (pixels, _) = prepared(before, after, align="off")
    assert found.inspection.verdict == "doubtful"
    assert found.inspection.reasons[0].startswith(("the dates lie 2.0", "the dates lie 1.9"))
    assert "--align auto" in found.inspection.remedies[0]
    np.testing.assert_array_equal(pixels, as_bytes(moved))


def test_what_has_nothing_in_common_is_not_moved(tmp_path):
    files = [write_image(tmp_path / f"{i}.tif", as_bytes(ground(seed=i))) for i in (5, 6)]
    found, _, _ = prepared(*files)
    assert not found.inspection.aligned
    assert found.inspection.verdict == "doubtful"
    assert "uncertain" in found.inspection.reasons[0]


def test_one_saturated_pixel_moves_nothing(scene, tmp_path):
    before, image = scene
    values = np.rint(image * 37 + 1500).astype(np.uint16)
    plain = write_image(tmp_path / "plain.tif", values)
    values[:, 100, 100] = 65535
    saturated = write_image(tmp_path / "saturated.tif", values)
    one, other = prepared(before, plain), prepared(before, saturated)
    assert one[0].pair.after.radiometry.gain == pytest.approx(other[0].pair.after.radiometry.gain, rel=1e-3)
    assert one[0].inspection.shift == other[0].inspection.shift
    off = np.abs(other[2][0] - one[1][0])  # against the 8-bit original
    assert off.mean() < 1
    assert np.percentile(off, 99.9) < 2


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float64"])
def test_other_dtypes_come_to_the_range_of_the_8_bit_date(scene, tmp_path, dtype):
    before, image = scene
    factor, offset = {"uint16": (40, 300), "int16": (30, -2000)}.get(dtype, (1 / 255, 0.1))
    after = write_image(tmp_path / "after.tif", (image * factor + offset).astype(dtype))
    found, first, second = prepared(before, after)
    assert found.inspection.verdict == "fit"
    assert f"after scaled from {dtype}" in found.inspection.notes
    assert found.pair.before.radiometry is None
    assert np.abs(second[0] - first[0]).mean() < 1


def test_two_dates_that_are_not_8_bit_come_to_the_model_s_range(scene, tmp_path):
    _, image = scene
    files = [write_image(tmp_path / f"{gain}.tif", np.rint(image * gain).astype(np.uint16)) for gain in (9, 30)]
    _, first, second = prepared(*files)
    assert np.abs(second[0] - first[0]).mean() < 1
    assert np.percentile(first[0], [2, 98]) == pytest.approx([10, 210], abs=3)


def test_match_brings_the_unchanged_to_the_other_s_light(scene, tmp_path):
    before, image = scene
    after = image * 0.6 + 70
    after[:, 100:300, 100:400] = 240
    after = write_image(tmp_path / "after.tif", as_bytes(after))
    plain = prepared(before, after)[0].inspection.difference
    found, first, second = prepared(before, after, match="on")
    assert max(map(abs, plain.offset)) > 15
    assert max(map(abs, found.inspection.difference.offset)) < 3
    assert np.abs(first[0] - second[0])[:, 350:].mean() < 2


def test_bands_are_found_by_their_colour(tmp_path):
    image = as_bytes(ground(300, 300))
    before = write_image(tmp_path / "rgb.tif", image, photometric="rgb")
    four = np.concatenate([image[::-1], image[:1]])
    after = write_image(tmp_path / "bgrn.tif", four)
    with rasterio.open(after, "r+") as dataset:
        colours = ("blue", "green", "red", "undefined")
        dataset.colorinterp = [rasterio.enums.ColorInterp[c] for c in colours]
    found, first, second = prepared(before, after)
    assert found.pair.after.raster.bands == (3, 2, 1)
    np.testing.assert_array_equal(first[0], second[0])
    assert prepared(before, after, bands=(2, 2, 3))[0].pair.after.raster.bands == (2, 2, 3)


GRID = utm_grid(200, 220)
PLACING = {"driver": "GTiff", "count": 3, "height": 200, "width": 220, "dtype": "uint8"}


def nothing_says_where(path, image):
    with rasterio.open(write_image(path, image), "r+") as dataset:
        dataset.transform = rasterio.Affine.identity()


def placed_by_points(path, image):
    points = [GroundControlPoint(r, c, 6e5 + c, 3.35e6 - r) for r in (0, 200) for c in (0, 200)]
    with rasterio.open(path, "w", **PLACING, gcps=points, crs=CRS.from_epsg(32614)) as dataset:
        dataset.write(image)


def placed_by_rpcs(path, image):
    rpcs = RPC(0, 0, 30, 1, [1.0] * 20, [1.0] * 20, 32, 32, -97, 1, [1.0] * 20, [1.0] * 20, 32, 32)
    with rasterio.open(path, "w", **PLACING, rpcs=rpcs) as dataset:
        dataset.write(image)


def elsewhere(**changes):
    return dataclasses.replace(GRID, **changes)


LOCAL = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]').to_wkt()
LEFT = np.arange(220) < 20
BAD = {
    "no overlap": (
        lambda p, x: write_image(p, x, elsewhere(transform=(0.5, 0, 700_000, 0, -0.5, 3_350_000))),
        "does not overlap",
    ),
    "no crs": (lambda p, x: write_image(p, x, elsewhere(crs="")), "has no CRS"),
    "local crs": (lambda p, x: write_image(p, x, elsewhere(crs=LOCAL)), "not tied to the earth"),
    "complex": (lambda p, x: write_image(p, x.astype(np.complex64)), "pixels are complex (complex64)"),
    "one band": (lambda p, x: write_image(p, x[:1]), "has 1 band, but the model needs 3"),
    "constant": (lambda p, x: write_image(p, x * 0 + 77), "is constant: every valid pixel is 77, 77, 77"),
    "all nodata": (lambda p, x: write_image(p, x * 0, nodata=0), "has no valid pixel"),
    "nothing together": (lambda p, x: write_image(p, x * LEFT, nodata=0), "no pixel is valid in both dates"),
    "much coarser": (lambda p, x: write_image(p, x, utm_grid(200, 220, 6.0)), "differ by more than 10"),
    "no place": (nothing_says_where, "has no geotransform"),
    "points": (placed_by_points, "gdalwarp -t_srs EPSG:32614 -order 1"),
    "rpcs": (placed_by_rpcs, "gdalwarp -rpc"),
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_compared_is_refused_by_name_and_exit_3(tmp_path, kind):
    image = as_bytes(ground(200, 220))
    good = image.copy()
    if kind == "nothing together":
        good[:, :, :30] = 0
    before = write_image(tmp_path / "good.tif", good, nodata=0)
    after, (make, words) = tmp_path / "bad.tif", BAD[kind]
    make(after, image)
    said = CliRunner().invoke(app, ["detect", str(before), str(after), "-o", str(tmp_path / "c.gpkg")])
    assert said.exit_code == 3, said.stderr
    assert words in said.stderr
    assert not (tmp_path / "c.gpkg").exists()
    told = CliRunner().invoke(app, ["inspect", str(before), str(after), "--json"])
    assert told.exit_code == 3
    assert json.loads(told.stdout)["verdict"] == "refused"
    assert words in " ".join((*json.loads(told.stdout)["reasons"], *json.loads(told.stdout)["remedies"]))


def test_assume_same_crs_goes_on(tmp_path):
    image = as_bytes(ground(300, 300))
    before = write_image(tmp_path / "a.tif", image)
    after = write_image(tmp_path / "b.tif", image, dataclasses.replace(utm_grid(300, 300), crs=""))
    found, first, second = prepared(before, after, assume_same_crs=True)
    assert found.inspection.verdict == "fit"
    np.testing.assert_array_equal(first[0], second[0])


def test_nodata_beyond_the_sample_is_no_refusal(tmp_path):
    """A large scene that shows something in one corner alone."""
    image = np.zeros((3, 5200, 5200), np.uint8)
    image[:, :400, -400:] = as_bytes(ground(400, 400))
    paths = [write_image(tmp_path / f"{i}.tif", image, nodata=0, blockxsize=256, blockysize=256) for i in "ab"]
    found, _, _ = prepared(*paths)
    assert found.inspection.verdict == "doubtful" or found.inspection.verdict == "fit"
    assert found.inspection.shift.patches > 0


def test_pixel_sizes_beyond_the_model_s_are_resampled_or_refused(tmp_path):
    image = as_bytes(ground(500, 520))
    files = {}
    for gsd in (0.2, 2.4, 4.0):
        files[gsd] = [write_image(tmp_path / f"{gsd}{i}.tif", image, utm_grid(500, 520, gsd)) for i in "ab"]
    assert prepared(*files[0.2])[0].inspection.model_gsd_m == 0.3
    assert prepared(*files[2.4])[0].inspection.model_gsd_m == 1.2
    assert prepared(*files[4.0])[0].inspection.verdict == "refused"
    found = prepared(*files[4.0], force_gsd=True)[0]
    assert found.inspection.verdict == "outside what the model takes"
    assert found.model_gsd_m is None


@pytest.mark.parametrize(("gsd", "factor"), [(0.2, 1.5), (2.4, 0.5)])
def test_a_resampled_scene_keeps_its_grid(tmp_path, gsd, factor):
    before = np.full((3, 300, 320), 60, np.uint8)
    before[2, 0, 0] = 61
    after = before.copy()
    after[0, 100:180, 120:210] = 250
    grid = utm_grid(300, 320, gsd)
    paths = [write_image(tmp_path / f"{i}.tif", x, grid) for i, x in enumerate((before, after))]
    config = DetectConfig(*paths, tmp_path / "c.gpkg", probability=tmp_path / "p.tif", threshold=0.9)
    told = []
    result = detect(config, model=STAND_IN, on_start=told.append)
    assert any(f"resampled to {gsd * factor:g} m" in line for line in told)
    with rasterio.open(config.probability) as dataset:
        assert (dataset.shape, dataset.transform.a) == ((300, 320), gsd)
        values = dataset.read(1)
    assert (values[105:175, 125:205] > 250).all()
    assert (values[:95] == 127).all()
    changes = pyogrio.read_dataframe(config.output, layer="changes")
    assert len(changes) == 1
    assert changes.area_m2[0] == pytest.approx(80 * 90 * gsd**2, rel=0.05)
    assert result.written.polygons == 1


@pytest.mark.parametrize("crs", [32614, 4326])
def test_an_area_of_interest_limits_reading_forwarding_and_output(tmp_path, crs):
    before, after = as_bytes(ground(900, 1000)), None
    after = before.copy()
    after[0, ::10] = 255
    paths = [write_image(tmp_path / f"{i}.tif", x) for i, x in enumerate((before, after))]
    circle = shapely.Point(600_200, 3_350_000 - 150).buffer(60)
    import geopandas

    frame = geopandas.GeoDataFrame(geometry=[circle], crs=32614).to_crs(crs)
    frame.to_file(tmp_path / "aoi.gpkg")
    options = {"align": "off"}
    whole = DetectConfig(*paths, tmp_path / "w.gpkg", probability=tmp_path / "w.tif", **options)
    part = DetectConfig(
        *paths, tmp_path / "c.gpkg", probability=tmp_path / "p.tif", aoi=tmp_path / "aoi.gpkg", **options
    )
    everything, some = detect(whole, model=STAND_IN), detect(part, model=STAND_IN)
    assert some.windows < everything.windows / 3
    with rasterio.open(whole.probability) as one, rasterio.open(part.probability) as other:
        values = other.read(1)
        assert max(values.shape) <= 370  # 240 px and 64 px around
        row = round((one.transform.f - other.transform.f) / 0.5)
        col = round((other.transform.c - one.transform.c) / 0.5)
        expected = one.read(1)[row : row + values.shape[0], col : col + values.shape[1]]
    inside = rasterio.features.geometry_mask([circle], values.shape, other.transform, invert=True)
    assert (values[~inside] == 255).mean() > 0.999
    both = inside & (values != 255)
    assert both.sum() > 0.999 * inside.sum()
    np.testing.assert_array_equal(values[both], expected[both])
    changes = pyogrio.read_dataframe(part.output, layer="changes")
    assert changes.within(circle.buffer(0.8)).all()


def test_an_area_of_interest_that_is_none_is_refused(tmp_path):
    image = as_bytes(ground(200, 200))
    paths = [str(write_image(tmp_path / f"{i}.tif", image)) for i in "ab"]
    (tmp_path / "no.geojson").write_text("{}")
    far = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
    (tmp_path / "far.geojson").write_text(json.dumps(far))
    for name, words in (("gone.geojson", "no such file"), ("no.geojson", "vector"), ("far.geojson", "outside")):
        said = CliRunner().invoke(
            app, ["detect", *paths, "-o", str(tmp_path / "c.gpkg"), "--aoi", str(tmp_path / name)]
        )
        assert said.exit_code == 3, said.stderr
        assert words in said.stderr


def test_sidecars_are_told_of_and_read_when_asked(tmp_path):
    image = as_bytes(ground(300, 300))
    before = write_image(tmp_path / "a.tif", image)
    after = write_image(tmp_path / "b.tif", image, dataclasses.replace(utm_grid(300, 300), crs=""))
    sidecar = tmp_path / "b.tif.aux.xml"
    told = CRS.from_epsg(32614).to_wkt().replace('"', "&quot;")
    sidecar.write_text(f"<PAMDataset><SRS>{told}</SRS></PAMDataset>")
    found = inspect(InspectConfig(before, after))
    assert found.verdict == "refused"
    assert "b.tif.aux.xml next to it" in found.reasons[0]
    assert prepared(before, after, sidecars=True)[0].inspection.verdict == "fit"
    sidecar.write_text("<PAMDataset><SourceFilename>/vsicurl/http://x</SourceFilename></PAMDataset>")
    assert "refers to other files" in inspect(InspectConfig(before, after, sidecars=True)).reasons[0]
    sidecar.write_text("<PAMDataset><SRS>")  # GDAL would go on without it, and without a word
    assert "b.tif.aux.xml: is not XML" in inspect(InspectConfig(before, after, sidecars=True)).reasons[0]
    sidecar.unlink()
    for text in ("1\n2\n3\n", "0.5 0 0 -0.5 east 3", "nan 0 0 -0.5 7 3"):
        (tmp_path / "b.tfw").write_text(text)
        assert "does not contain six numbers" in inspect(InspectConfig(before, after, sidecars=True)).reasons[0]


def test_one_screen_and_json(scene, tmp_path):
    before, image = scene
    moved = np.stack([move(band, (1.2, 0), order=3, mode="nearest") for band in image])
    after = write_image(tmp_path / "after.tif", as_bytes(moved))
    said = CliRunner().invoke(app, ["inspect", str(before), str(after)])
    assert said.exit_code == 0, said.stderr
    assert "fit after alignment" in said.stdout
    assert len(said.stdout.splitlines()) < 45
    told = json.loads(CliRunner().invoke(app, ["inspect", str(before), str(after), "--json"]).stdout)
    assert told["verdict"] == "fit after alignment"
    assert told["shift"]["rows_px"] == pytest.approx(1.2, abs=0.1)
    assert CliRunner().invoke(app, ["inspect", str(before), str(after), "--grid", "left"]).exit_code == 2


def test_grids_a_metre_apart_are_said_to_be(shared_data):
    folder = shared_data / "scenes" / "naip_series_5m"
    dates = [folder / f"{day}.tif" for day in (20090818, 20150926, 20200831)]
    offsets = {(0, 1): (0, -2), (0, 2): (-1, -1), (1, 2): (-1, 1)}
    for (i, k), expected in offsets.items():
        said = inspect(InspectConfig(dates[i], dates[k], model="buildings"))
        assert said.origin_offset == expected
        assert said.after.read.startswith("warped")
        assert said.overlap_share > 0.99
        assert "5 m, and model" in said.reasons[0]


def test_sentinel_2_dates_are_aligned_and_reported(shared_data):
    folder = shared_data / "scenes" / "sentinel2_beirut_uint16"
    said = inspect(InspectConfig(folder / "t1.tif", folder / "t2.tif"))
    assert said.verdict == "fit after alignment"
    assert 0.4 < said.shift.length_px < 1.2
    assert said.shift.confidence > 0.9
    assert said.residual.length_px < 0.1


@pytest.mark.parametrize("shift", [(0.5, -1.5), (3.2, 2.4), (0.0, 0.0)])
def test_a_shift_put_into_a_real_pair_is_measured(shared_data, tmp_path, shift):
    folder = shared_data / "scenes" / "vhr_austin_0.5m"
    with rasterio.open(folder / "t2.tif") as dataset:
        pixels, profile = dataset.read(), {"crs": dataset.crs, "transform": dataset.transform}
    moved = [move(band.astype(float), shift, order=3, mode="nearest") for band in pixels]
    after = write_image(tmp_path / "after.tif", as_bytes(np.array(moved)), **profile)
    plain = inspect(InspectConfig(folder / "t1.tif", folder / "t2.tif")).shift
    found = inspect(InspectConfig(folder / "t1.tif", after)).shift
    assert found.rows_px - plain.rows_px == pytest.approx(shift[0], abs=0.15)
    assert found.cols_px - plain.cols_px == pytest.approx(shift[1], abs=0.15)
