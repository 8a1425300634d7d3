"""Detect end to end on real files: a stand-in pointwise network for the plumbing, the embedded model for truth."""

import dataclasses
import json

import numpy as np
import pyogrio
import pytest
import rasterio
import torch
from conftest import Pointwise, pointwise_probability, utm_grid, write_image
from rasterio.features import rasterize, shapes
from typer.testing import CliRunner

from rscd import DetectConfig, detect
from rscd.cli.app import app
from rscd.core.contract import Contract
from rscd.core.errors import DataError, OutputError, UsageError
from rscd.core.types import Grid, Window
from rscd.model.network import Logits
from rscd.simulate.scene import Scene
from rscd.simulate.score import match_objects
from rscd.simulate.spec import SceneSpec

TERMS = {"window": 96, "overlap": 32, "threshold": 0.6, "trained_on": "nothing"}
STAND_IN = Pointwise(), Contract("stand-in", "1", "lite", 8, (0.0,) * 3, (1.0,) * 3, **TERMS)
COLUMNS = [
    "id",
    "direction",
    "area_m2",
    "perimeter_m",
    "mean_probability",
    "max_probability",
    "p90_probability",
    "presence_before",
    "presence_after",
    "valid_fraction",
    "touches_edge",
    "review",
]


def run(tmp_path, before, after, profile=None, **options):
    """Write the pair, detect with the stand-in, return the result, the raster's values and the changes."""
    paths = (
        write_image(tmp_path / "before.tif", before),
        write_image(tmp_path / "after.tif", after, **(profile or {})),
    )
    config = DetectConfig(*paths, tmp_path / "changes.gpkg", probability=tmp_path / "p.tif", **options)
    result = detect(config, model=STAND_IN)
    with rasterio.open(config.probability) as dataset:
        values = dataset.read(1)
    return result, values, pyogrio.read_dataframe(config.output, layer="changes")


def pair(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(1, 255, (2, 3, height, width), dtype=np.uint8)


def flat(height, width, value):
    """One colour but for one blue pixel, which the stand-in does not see: a constant file would be refused."""
    image = np.full((3, height, width), value, np.uint8)
    image[2, 0, 0] += 1
    return image


@pytest.mark.parametrize(("height", "width"), [(300, 410), (97, 96), (50, 700), (1, 33), (500, 3)])
def test_tiled_equals_untiled(tmp_path, height, width):
    before, after = pair(height, width)
    result, values, _ = run(tmp_path, before, after)
    expected = pointwise_probability(before, after) * 254
    assert np.abs(values - expected).max() <= 1
    assert result.windows > 1 or height * width <= 96 * 96


@pytest.mark.parametrize(
    "options", [{"overlap": 0}, {"overlap": 90}, {"window": 64}, {"batch_size": 1}, {"batch_size": 32}]
)
def test_windows_and_batches_do_not_show_in_the_result(tmp_path, options):
    before, after = pair(230, 310, seed=1)
    _, values, _ = run(tmp_path, before, after, **options)
    assert np.abs(values - pointwise_probability(before, after) * 254).max() <= 1


def test_a_constant_scene_stays_constant_across_seams(tmp_path):
    before = flat(300, 310, 100)
    _, values, changes = run(tmp_path, before, before + 20)
    assert len(np.unique(values)) == 1
    assert len(changes) == 1  # p is above the threshold everywhere: one polygon, the scene
    assert changes.geometry[0].bounds == (600_000, 3_349_850, 600_155, 3_350_000)


def test_an_object_across_windows_and_bands_is_one_polygon(tmp_path):
    before = flat(200, 200, 60)
    after = before.copy()
    after[:, 50:150, 50:150] = 200  # the seams of 96 px windows run through it both ways
    result, _, changes = run(tmp_path, before, after)
    assert len(changes) == 1
    assert len(changes.geometry[0].exterior.coords) == 5
    assert changes.area_m2[0] == pytest.approx(2500, rel=2e-3)  # UTM's scale factor is within 0.1 % of one
    assert changes.geometry[0].area == 2500
    assert result.windows == 12  # three columns of windows, and four rows: the first begins before the scene


def test_polygons_are_those_of_the_raster(tmp_path):
    before, after = pair(190, 220, seed=3)
    result, values, changes = run(tmp_path, before, after, min_area_m2=0.0)
    mask = (values >= round(result.threshold * 254)) & (values < 255)
    with rasterio.open(tmp_path / "p.tif") as dataset:
        expected = sum(1 for _ in shapes(mask.astype(np.uint8), mask=mask, connectivity=4))
        burnt = rasterize(changes.geometry, out_shape=mask.shape, transform=dataset.transform)
    assert len(changes) == expected
    np.testing.assert_array_equal(burnt.astype(bool), mask)


def test_what_one_date_does_not_show_is_255_and_in_no_polygon(tmp_path):
    before, after = pair(200, 260, seed=4)
    after[:, :, 200:] = 0
    result, values, changes = run(tmp_path, before, after, {"nodata": 0}, min_area_m2=0.0)
    assert (values[:, 200:] == 255).all()
    assert (values[:, :200] < 255).all()
    assert changes.geometry.bounds.maxx.max() <= 600_000 + 100
    assert result.written.not_observable_km2 == pytest.approx(60 * 200 * 0.25e-6, rel=2e-3)
    assert (changes.valid_fraction < 1).any()
    extent = pyogrio.read_dataframe(tmp_path / "changes.gpkg", layer="extent")
    assert extent.geometry[0].area == pytest.approx(200 * 200 * 0.25)


def test_windows_without_a_valid_pixel_are_not_forwarded(tmp_path):
    before, after = pair(96, 96 + 64 * 5, seed=5)
    before[:, :, 150:] = 0
    paths = write_image(tmp_path / "b.tif", before, nodata=0), write_image(tmp_path / "a.tif", after)
    result = detect(DetectConfig(*paths, tmp_path / "c.gpkg"), model=STAND_IN)
    assert (result.windows, result.windows_skipped) == (3, 4)


def test_an_empty_result_is_a_valid_geopackage(tmp_path):
    before = flat(120, 120, 80)
    result, _, changes = run(tmp_path, before, before, threshold=0.9)
    assert result.written.polygons == len(changes) == 0
    assert [name for name in changes.columns if name in COLUMNS] == COLUMNS


def test_layers_columns_crs_and_provenance(tmp_path):
    before, after = pair(120, 130)
    run(tmp_path, before, after)
    path = tmp_path / "changes.gpkg"
    layers = [name for name, _ in pyogrio.list_layers(path)]
    assert layers[:2] == ["changes", "extent"]
    info = pyogrio.read_info(path, layer="changes")
    assert info["crs"] == "EPSG:32614"
    assert [name for name in info["fields"] if name in COLUMNS] == COLUMNS
    told = info["layer_metadata"]
    assert json.loads(told["inputs"])["after"]["bytes"] == (tmp_path / "after.tif").stat().st_size
    assert json.loads(told["model"])["name"] == "stand-in"
    assert {"options", "versions", "started", "ended"} <= told.keys()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "after.tif",
        "before.tif",
        "changes.gpkg",
        "p.qml",
        "p.tif",
    ]


def test_small_polygons_are_dropped_by_area(tmp_path):
    before = flat(100, 100, 60)
    after = before.copy()
    after[:, 10:12, 10:12] = 255  # 4 px = 1 m2
    after[:, 40, 40] = 255
    assert len(run(tmp_path, before, after)[2]) == 1
    assert len(run(tmp_path, before, after, overwrite=True, min_area_m2=0.2)[2]) == 2
    assert len(run(tmp_path, before, after, overwrite=True, min_area_m2=2.0)[2]) == 0


def test_polygons_anew_from_the_kept_raster(tmp_path):
    before, after = pair(150, 260, seed=6)
    _, values, changes = run(tmp_path, before, after, min_area_m2=0.0, threshold=0.7)
    command = ["polygons", str(tmp_path / "p.tif"), "-o", str(tmp_path / "again.gpkg"), "--min-area", "0"]
    assert CliRunner().invoke(app, [*command, "--threshold", "0.7"]).exit_code == 0
    again = pyogrio.read_dataframe(tmp_path / "again.gpkg", layer="changes")
    ours, theirs = (frame.sort_values(["area_m2", "perimeter_m"]) for frame in (changes, again))
    assert len(ours) == len(theirs) > 100
    np.testing.assert_allclose(ours.area_m2, theirs.area_m2)
    np.testing.assert_allclose(ours.p90_probability, theirs.p90_probability)
    assert ours.union_all().equals(theirs.union_all())
    assert CliRunner().invoke(app, [*command, "--overwrite", "--threshold", "0.95"]).exit_code == 0
    fewer = pyogrio.read_dataframe(tmp_path / "again.gpkg", layer="changes")
    mask = (values >= np.ceil(0.95 * 254)) & (values < 255)
    assert len(fewer) == sum(1 for _ in shapes(mask.astype(np.uint8), mask=mask, connectivity=4))


def test_existing_outputs_need_overwrite_and_survive_a_failure(tmp_path):
    before, after = pair(120, 130)
    run(tmp_path, before, after)
    old = (tmp_path / "changes.gpkg").read_bytes(), (tmp_path / "p.tif").read_bytes()
    with pytest.raises(UsageError, match="overwrite=True"):
        run(tmp_path, before, after)

    class Broken(Pointwise):
        def forward(self, before, after):
            raise RuntimeError("the device is gone")

    config = DetectConfig(
        tmp_path / "before.tif", tmp_path / "after.tif", tmp_path / "changes.gpkg", tmp_path / "p.tif"
    )
    with pytest.raises(RuntimeError, match="device is gone"):
        detect(dataclasses.replace(config, overwrite=True), model=(Broken(), STAND_IN[1]))
    assert old == ((tmp_path / "changes.gpkg").read_bytes(), (tmp_path / "p.tif").read_bytes())
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "after.tif",
        "before.tif",
        "changes.gpkg",
        "p.qml",
        "p.tif",
    ]


def test_an_output_is_never_an_input_or_another_output(tmp_path):
    before, after = (write_image(tmp_path / f"{i}.tif", image) for i, image in enumerate(pair(96, 96)))
    with pytest.raises(UsageError, match="is also an input"):
        detect(DetectConfig(before, after, tmp_path / "c.gpkg", probability=after, overwrite=True), model=STAND_IN)
    with pytest.raises(OutputError, match="mkdir"):
        detect(DetectConfig(before, after, tmp_path / "none" / "c.gpkg"), model=STAND_IN)


def test_pixels_of_another_size_than_the_model_knows_are_refused(tmp_path):
    image = pair(96, 96)[0]
    paths = [write_image(tmp_path / name, image, utm_grid(96, 96, gsd=10.0)) for name in ("a.tif", "b.tif")]
    config = DetectConfig(*paths, tmp_path / "c.gpkg")
    with pytest.raises(DataError, match=r"10 m, and model stand-in takes 0\.3 to 1\.2 m"):
        detect(config, model=STAND_IN)
    assert detect(dataclasses.replace(config, force_gsd=True), model=STAND_IN).windows == 1


def test_the_embedded_model_finds_rendered_buildings_and_ignores_the_season(tmp_path):
    scene = Scene(SceneSpec(seed=11, width=1152, height=1088, layout="suburb"))
    view = scene.render(Window(0, 0, 1088, 1152))
    paths = [write_image(tmp_path / f"{d}.tif", getattr(view, d), scene.grid) for d in ("before", "after")]
    assert detect(DetectConfig(*paths, tmp_path / "c.gpkg")).windows >= 9
    changes = pyogrio.read_dataframe(tmp_path / "c.gpkg", layer="changes")
    built = np.array([b.footprint for b in scene.changed_buildings()], dtype=object)
    score = match_objects(built, changes.geometry.to_numpy())
    assert score.built >= 20
    assert score.recall > 0.6
    assert score.false_share < 0.3


def test_a_small_scene_as_a_single_window_is_found_as_with_several(tmp_path):
    scene = Scene(SceneSpec(seed=11, width=600, height=520, layout="suburb"))
    view = scene.render(Window(0, 0, 520, 600))
    a, b, c, d, e, f = scene.grid.transform
    finer = Grid(scene.grid.crs, (a / 2, b, c, d, e / 2, f), 1200, 1040)  # resampled to the model's pixel size
    for grid, factor in ((scene.grid, 1), (finer, 2)):
        dates = [getattr(view, date).repeat(factor, 1).repeat(factor, 2) for date in ("before", "after")]
        paths = [write_image(tmp_path / f"{i}{factor}.tif", date, grid) for i, date in enumerate(dates)]
        found, counts = {}, {}
        for name, options in (("one", {"batch_size": 8}), ("several", {"window": 448})):
            raster = tmp_path / f"{name}{factor}.tif"
            config = DetectConfig(*paths, raster.with_suffix(".gpkg"), probability=raster, align="off", **options)
            counts[name] = detect(config).windows
            with rasterio.open(raster) as dataset:
                found[name] = dataset.read(1).astype(int)
        assert counts["one"] == 1 < counts["several"]
        assert (found["one"] > 127).mean() > 0.01
        assert ((found["one"] > 127) != (found["several"] > 127)).mean() < 0.005


class Telling(Pointwise):
    """Change where the dates differ; the thing is there where a date is bright."""

    presence = True

    def forward(self, before, after):
        change = (after[:, 0].float() - before[:, 0].float()).abs() / 16 - 2
        there = torch.stack([date.float().mean(1) for date in (before, after)], dim=1) / 255
        return Logits(change, 12 * (torch.nn.functional.avg_pool2d(there, 4) - 0.5))


def three_directions():
    """A square that appears, one that vanishes, and one that turns from bright to brighter; all in grey."""
    before = np.full((3, 200, 300), 60, np.uint8)
    after = before.copy()
    after[:, 40:80, 40:80] = 250
    before[:, 40:80, 120:160] = 250
    before[:, 140:180, 200:240], after[:, 140:180, 200:240] = 170, 255
    return before, after


def test_polygons_say_what_appeared_vanished_and_was_replaced(tmp_path):
    before, after = three_directions()
    paths = write_image(tmp_path / "before.tif", before), write_image(tmp_path / "after.tif", after)
    config = DetectConfig(*paths, tmp_path / "changes.gpkg", keep_journal=True, threshold=0.55)
    model = Telling(), STAND_IN[1]
    result = detect(config, model=model)
    changes = pyogrio.read_dataframe(config.output, layer="changes").set_index("direction")
    assert dict(result.written.directions) == {"appeared": 1, "vanished": 1, "replaced": 1}
    assert result.written.directions_m2 == pytest.approx(changes.area_m2.to_dict())
    assert result.written.directions_m2["vanished"] == pytest.approx(400, rel=1e-2)
    assert changes.presence_after["appeared"] > 0.9 > 0.1 > changes.presence_before["appeared"]
    assert changes.presence_before["vanished"] > 0.9 > 0.1 > changes.presence_after["vanished"]
    assert min(changes.presence_before["replaced"], changes.presence_after["replaced"]) > 0.7
    again = detect(dataclasses.replace(config, overwrite=True, threshold=0.6), model=model)
    assert again.windows == 0, "all comes from the journal, presence too"
    assert again.written.directions == result.written.directions


def test_a_model_that_does_not_tell_leaves_direction_empty(tmp_path):
    before, after = three_directions()
    result, _, changes = run(tmp_path, before, after)
    assert len(changes) and changes.direction.isna().all() and changes.presence_before.isna().all()
    assert not result.written.directions
