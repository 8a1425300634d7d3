"""The simulated scenes: exact, repeatable, and not to be solved by subtracting the dates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import Affine, array_bounds
from scipy import ndimage

from rscd.core.errors import UsageError
from rscd.core.types import Window
from rscd.simulate.building import Building
from rscd.simulate.scene import Scene
from rscd.simulate.spec import LAYOUTS, Rendered, SceneSpec

FIELDS = ("before", "after", "label", "before_valid", "after_valid", "before_built", "after_built")
SPEC = SceneSpec(seed=5, width=1100, height=900, collar=True)
WHOLE = Window(0, 0, SPEC.height, SPEC.width)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(SPEC)


@pytest.fixture(scope="module")
def rendered(scene: Scene) -> Rendered:
    return scene.render(WHOLE)


def assert_same(one: Rendered, other: Rendered) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def cut(whole: Rendered, w: Window) -> Rendered:
    place = (..., slice(w.row, w.row_stop), slice(w.col, w.col_stop))
    return Rendered(*(getattr(whole, name)[place] for name in FIELDS))


def footprints(scene: Scene, window: Window) -> np.ndarray:
    a, b, c, d, e, f = scene.grid.transform
    transform = Affine(a, b, c + a * window.col, d, e, f + e * window.row)
    shapes = [change.footprint for change in scene.changed_buildings(window)]
    shape = (window.height, window.width)
    if not shapes:
        return np.zeros(shape, np.uint8)
    return rasterize(shapes, shape, transform=transform, all_touched=False, dtype=np.uint8)


def matched(components: np.ndarray, truth: np.ndarray, iou: float = 0.3) -> tuple[int, int]:
    """True buildings that a component meets at an IoU, and the count of components of 40 px and more."""
    sizes, wanted = np.bincount(components.ravel()), np.bincount(truth.ravel())
    inside = (components > 0) & (truth > 0)
    pairs, both = np.unique(truth[inside].astype(np.int64) * sizes.size + components[inside], return_counts=True)
    t, c = np.divmod(pairs, sizes.size)
    good = both / (wanted[t] + sizes[c] - both) >= iou
    return len(set(t[good])), int((sizes[1:] >= 40).sum())


def difference_scores(pair: Rendered, truth: np.ndarray, equalised: bool) -> list[tuple[float, float]]:
    """(recall, precision) of thresholded differences, over thresholds."""
    before, after = (image.astype(np.float32) for image in (pair.before, pair.after))
    if equalised:
        spread = before.std(axis=(1, 2)) / after.std(axis=(1, 2))
        after = (after - after.mean(axis=(1, 2))[:, None, None]) * spread[:, None, None]
        after += before.mean(axis=(1, 2))[:, None, None]
    difference = np.abs(before - after).mean(axis=0)
    scores = []
    for threshold in (5, 10, 15, 20, 25, 30, 40, 50, 60, 80):
        components, _ = ndimage.label(difference > threshold)
        hits, found = matched(components, truth)
        scores.append((hits / truth.max(), hits / max(found, 1)))
    return scores


def test_same_spec_same_bytes(rendered: Rendered) -> None:
    assert_same(Scene(SPEC).render(WHOLE), rendered)


def test_order_of_rendering_does_not_matter(rendered: Rendered) -> None:
    other = Scene(SPEC)
    for window in (Window(600, 700, 120, 333), Window(3, 480, 77, 90), Window(0, 0, 1, 1)):
        assert_same(other.render(window), cut(rendered, window))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_overlapping_windows_agree(scene: Scene, rendered: Rendered, data: st.DataObject) -> None:
    row, col = data.draw(st.integers(0, SPEC.height - 1)), data.draw(st.integers(0, SPEC.width - 1))
    height = data.draw(st.integers(1, SPEC.height - row))
    window = Window(row, col, height, data.draw(st.integers(1, SPEC.width - col)))
    assert_same(scene.render(window), cut(rendered, window))


def test_a_scene_does_not_depend_on_its_size() -> None:
    small, large = (Scene(SceneSpec(seed=8, width=w, height=w)) for w in (300, 40_000))
    window = Window(100, 60, 200, 240)
    assert_same(small.render(window), large.render(window))


def test_far_corner_of_a_large_scene() -> None:
    scene = Scene(SceneSpec(seed=8, width=40_000, height=40_000, layout="new_town"))
    window = Window(39_800, 39_700, 200, 300)
    pair = scene.render(window)
    assert pair.before.shape == (3, 200, 300)
    assert pair.before.std() > 5 and pair.after.std() > 5
    np.testing.assert_array_equal(pair.label, footprints(scene, window))


def test_tiles_leave_no_seam() -> None:
    scene = Scene(SceneSpec(seed=3))
    pair = scene.render(Window(0, 256, 1024, 512))
    step = np.abs(np.diff(pair.before.astype(np.float32), axis=2)).mean(axis=(0, 1))
    assert step[255] < 1.25 * np.median(step)  # between columns 511 and 512 of the scene


def test_different_seeds_differ(rendered: Rendered) -> None:
    other = Scene(SceneSpec(seed=6)).render(Window(0, 0, 200, 200))
    assert (other.before != rendered.before[:, :200, :200]).mean() > 0.5


def test_label_is_the_rasterised_footprints(scene: Scene, rendered: Rendered) -> None:
    assert rendered.label.any()
    np.testing.assert_array_equal(rendered.label, footprints(scene, WHOLE))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_both_kinds_of_building(layout: str) -> None:
    scene = Scene(SceneSpec(seed=11, width=2400, height=2400, layout=layout))
    buildings = scene.buildings()
    changed = [b.before != b.after for b in buildings]
    assert 0.12 < np.mean(changed) < 0.65
    assert all(b.before or b.after for b in buildings)
    kinds = [change.kind for change in scene.changed_buildings()]
    assert kinds.count("new") > 2 * kinds.count("vanished") > 0
    area = sum(change.footprint.area for change in scene.changed_buildings())
    assert 0.002 < area / 1200.0**2 < 0.15
    pair = scene.render(Window(1000, 1000, 256, 256))
    assert pair.before.min() >= 1 and 40 < pair.before.mean() < 190
    assert pair.before_valid.all() and pair.after_valid.all()


def test_villas_have_several_wings_and_apartment_buildings_are_long() -> None:
    def buildings(layout: str) -> list[Building]:
        return Scene(SceneSpec(seed=5, width=2400, height=2400, layout=layout)).buildings()

    def long(found: list[Building]) -> int:
        return sum(len(b.parts) > 1 and b.parts[0].half_a > 15.0 for b in found)

    villas, apartments, suburb = map(buildings, ("villas", "apartments", "suburb"))
    assert np.mean([len(b.parts) > 2 for b in villas]) > 0.4
    assert long(apartments) > 0.08 * len(apartments)
    assert max(len(b.parts) for b in suburb) == 2 and long(suburb) == 0


def test_buildings_do_not_overlap() -> None:
    for layout in LAYOUTS:
        scene = Scene(SceneSpec(seed=2, width=1600, height=1600, layout=layout))
        total = np.zeros((1600, 1600), np.uint8)
        for building in scene.buildings():
            total += rasterize([building.outline()], total.shape, transform=Affine.scale(0.5), dtype=np.uint8)
        assert total.max() == 1


def test_change_share_is_obeyed() -> None:
    shares = []
    for wanted in (0.1, 0.35, 0.7):
        changed = [
            b.before != b.after
            for seed in range(4)
            for b in Scene(SceneSpec(seed=seed, width=2000, height=2000, change_share=wanted)).buildings()
        ]
        shares.append(np.mean(changed))
    np.testing.assert_allclose(shares, (0.1, 0.35, 0.7), atol=0.15)
    assert not Scene(SceneSpec(seed=1, change_share=0.0)).changed_buildings()


def test_the_collar_is_on_the_after_date_only(rendered: Rendered) -> None:
    assert rendered.before_valid.all() and rendered.before.min() >= 1
    hidden = ~rendered.after_valid
    assert 0.02 < hidden.mean() < 0.4
    assert (rendered.after[:, hidden] == 0).all() and (rendered.after[:, ~hidden] >= 1).all()
    assert len(set(hidden.sum(axis=1))) > 10  # slanted
    assert Scene(SceneSpec(seed=5)).render(Window(0, 0, 64, 64)).after_valid.all()


def test_the_grid_is_utm_at_half_a_metre(scene: Scene) -> None:
    grid = scene.grid
    assert grid.shape == (SPEC.height, SPEC.width)
    assert CRS.from_wkt(grid.crs).to_epsg() == 32614
    assert grid.transform[:2] == (0.5, 0.0) and grid.transform[3:5] == (0.0, -0.5)
    left, bottom, right, top = array_bounds(grid.height, grid.width, Affine(*grid.transform))
    for change in scene.changed_buildings():
        x, y = change.footprint.centroid.coords[0]
        assert left - 40 < x < right + 40 and bottom - 40 < y < top + 40


@pytest.mark.parametrize("equalised", [False, True])
def test_subtracting_the_dates_does_not_find_the_buildings(equalised: bool) -> None:
    total = []
    for seed, layout in enumerate(("suburb", "new_town", "demo")):
        scene = Scene(SceneSpec(seed=seed + 21, layout=layout))
        pair = scene.render(Window(0, 0, 1024, 1024))
        truth, count = ndimage.label(pair.label)
        assert count >= 5
        total.append(difference_scores(pair, truth, equalised))
    best = np.array(total)[:, :, 0].max(axis=1)
    assert best.mean() < 0.5
    assert (best < 0.7).all()


def test_specs_that_cannot_be_meant_are_refused(scene: Scene) -> None:
    with pytest.raises(UsageError, match="layout 'moon'"):
        SceneSpec(seed=1, layout="moon")
    for wrong in ({"width": 0}, {"gsd_m": 9.0}, {"change_share": 1.5}, {"seed": -1}):
        with pytest.raises(UsageError):
            SceneSpec(**{"seed": 1, **wrong})
    for window in (Window(0, 0, 0, 5), Window(-1, 0, 5, 5), Window(0, SPEC.width - 4, 5, 5)):
        with pytest.raises(UsageError):
            scene.render(window)
