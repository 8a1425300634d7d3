"""A collar of every kind that one date does not show: no polygon on it, no halo beside it (embedded model)."""

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from conftest import write_image
from rasterio.features import shapes
from scipy.ndimage import distance_transform_edt

from rscd import DetectConfig, detect, load_model
from rscd.core.types import Window
from rscd.simulate.scene import Scene
from rscd.simulate.spec import SceneSpec

HEIGHT, WIDTH = 448, 640


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A rendered pair, the model, and the probabilities where both dates show everything."""
    folder = tmp_path_factory.mktemp("collar")
    scene = Scene(SceneSpec(seed=21, width=WIDTH, height=HEIGHT, layout="suburb"))
    view = scene.render(Window(0, 0, HEIGHT, WIDTH))
    before = np.maximum(view.before, 1)
    after = np.maximum(view.after, 1)
    paths = [write_image(folder / f"{i}.tif", x, scene.grid) for i, x in enumerate((before, after))]
    model = load_model("buildings")
    values, _ = run(*paths, folder, model)
    return paths[0], after, scene.grid, model, values


def run(before, after, folder, model):
    config = DetectConfig(
        before, after, folder / "c.gpkg", probability=folder / "p.tif", align="off", overwrite=True, threshold=0.3
    )
    detect(config, model=model)
    with rasterio.open(config.probability) as dataset:
        return dataset.read(1), pyogrio.read_dataframe(config.output, layer="changes")


def hidden():
    """A slanting collar of the top and the right."""
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    return (rows < 60 + 0.15 * cols) | (cols > WIDTH - 90 + 0.1 * rows)


@pytest.mark.parametrize("kind", ["nodata", "mask", "alpha", "nan"])
def test_no_polygon_on_a_collar_and_no_halo_beside_it(full, tmp_path, kind):
    before, image, grid, model, expected = full
    collar, image = hidden(), image.copy()
    image[:, collar] = 0
    mask = np.where(collar, 0, 255).astype(np.uint8)
    profile = {}
    if kind == "nodata":
        profile = {"nodata": 0}
    elif kind == "mask":
        profile = {"mask": mask}
    elif kind == "alpha":
        image, profile = np.concatenate([image, mask[None]]), {"photometric": "rgb", "alpha": "yes"}
    else:
        image = image.astype(np.float32)
        image[:, collar] = np.nan
    after = write_image(tmp_path / "after.tif", image, grid, **profile)
    values, changes = run(before, after, tmp_path, model)
    np.testing.assert_array_equal(values == 255, collar)
    transform = rasterio.Affine(*grid.transform)
    outline = shapely.union_all(
        [shapely.geometry.shape(s) for s, _ in shapes(collar.astype(np.uint8), mask=collar, transform=transform)]
    )
    assert len(changes) > 0
    assert shapely.area(shapely.intersection(changes.geometry.to_numpy(), outline)).max() < 1e-6
    near = ~collar & (distance_transform_edt(~collar) <= 32)
    off = np.abs(values[near].astype(int) - expected[near]) / 254
    assert np.percentile(off, 95) <= 0.05
