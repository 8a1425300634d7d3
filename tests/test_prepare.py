"""What alignment does for detection: a shift put into a rendered pair, with the embedded model."""

import numpy as np
import pytest
import rasterio
from conftest import write_image
from scipy.ndimage import gaussian_filter
from scipy.ndimage import shift as move

from rscd import DetectConfig, detect, load_model
from rscd.core.types import Window
from rscd.options.pair import InspectConfig
from rscd.scene.sample import SampleBlock
from rscd.scene.shift import measure_shift
from rscd.simulate.scene import Scene
from rscd.simulate.spec import SceneSpec
from rscd.workflows.inspect import inspect

SIDE = 800


def f1(before, after, label, folder, model, align):
    config = DetectConfig(
        before, after, folder / "c.gpkg", probability=folder / "p.tif", align=align, overwrite=True
    )
    result = detect(config, model=model)
    with rasterio.open(config.probability) as dataset:
        values = dataset.read(1)
    found = (values >= round(result.threshold * 254)) & (values < 255)
    return 2 * (found & label).sum() / (found.sum() + label.sum())


@pytest.mark.slow
def test_detection_after_alignment_is_that_of_the_unshifted_pair(tmp_path):
    scene = Scene(SceneSpec(seed=5, width=SIDE, height=SIDE, layout="suburb"))
    view = scene.render(Window(0, 0, SIDE, SIDE))
    before = write_image(tmp_path / "before.tif", view.before, scene.grid)
    label, model = np.asarray(view.label) > 0, load_model("buildings")
    plain = write_image(tmp_path / "plain.tif", view.after, scene.grid)
    expected = f1(before, plain, label, tmp_path, model, "auto")
    for shift in ((0.5, -1.5), (3.2, 2.4)):
        bands = [move(band.astype(float), shift, order=3, mode="nearest") for band in view.after]
        pixels = np.clip(np.rint(bands), 0, 255).astype(np.uint8)
        after = write_image(tmp_path / "after.tif", pixels, scene.grid)
        aligned = f1(before, after, label, tmp_path, model, "auto")
        assert aligned >= expected - 0.01
        assert f1(before, after, label, tmp_path, model, "off") < aligned


@pytest.mark.parametrize(("dense", "patches"), [(True, 9), (False, 4)])
def test_a_shift_is_found_on_patches_that_overlap_or_not(dense, patches):
    rng = np.random.default_rng(4)
    blocks = []
    for i in range(3):
        scene = gaussian_filter(rng.random((3, 512, 512)) * 255, (0, 2, 2)).astype(np.float32)
        moved = np.roll(scene, (3, -5), axis=(1, 2))
        seen = np.ones((512, 512), bool)
        blocks.append(SampleBlock(Window(0, 512 * i, 512, 512), scene, moved, seen, seen))
    found = measure_shift(blocks, dense=dense)
    assert (found.rows, found.cols) == (pytest.approx(3, abs=0.05), pytest.approx(-5, abs=0.05))
    assert len(found.patches) == 3 * patches
    assert found.confidence == 1


def test_a_shift_is_corrected_only_where_patches_agree_on_it_or_it_is_long(tmp_path):
    rng = np.random.default_rng(6)
    image = gaussian_filter(rng.random((3, 768, 768)), (0, 2, 2))
    image = 60 + 140 * (image - image.min()) / np.ptp(image)
    before = write_image(tmp_path / "before.tif", image.astype(np.uint8))

    def inspected(shift, relief):
        """A pair shifted by ``shift`` px to the right, and by up to ``relief`` px less at the top, more below."""
        cols = np.arange(768.0)
        moves = shift + relief * np.linspace(-1, 1, 768)
        after = np.array(
            [[np.interp(cols - by, cols, row) for by, row in zip(moves, band, strict=True)] for band in image]
        )
        path = write_image(tmp_path / "after.tif", np.clip(after, 1, 255).astype(np.uint8))
        return inspect(InspectConfig(before, path))

    even, uneven, long = inspected(2.5, 0), inspected(2.5, 1), inspected(5.5, 1)
    assert even.verdict == "fit after alignment" and even.residual.length_px < 0.2
    assert uneven.shift.spread_px > 0.3 and not uneven.aligned
    assert uneven.verdict == "doubtful" and "not everywhere alike" in uneven.reasons[0]
    assert long.shift.spread_px > 0.3 and long.aligned
