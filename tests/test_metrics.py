"""Metrics of pixels and objects."""

import numpy as np
import pytest

from rscd.training.evaluation.metrics import (
    ObjectCounts,
    PixelCounts,
    calibrated,
    fit_temperature,
    logit_bins,
    logit_centres,
    match_objects,
    near_edges,
)


def test_scores_count_pixels_and_leave_out_what_was_not_observed():
    counts = PixelCounts.of_values()
    values = np.array([[254, 200, 10, 255, 255]], np.uint8)
    counts.add_values(values, np.array([[True, False, True, True, False]]))
    s = counts.at(0.5)
    assert (s.precision, s.recall, s.f1, s.iou) == (0.5, 0.5, 0.5, 1 / 3)
    assert counts.at(0.9).precision == 1


def test_a_threshold_equal_to_a_value_includes_it():
    counts = PixelCounts.of_values()
    counts.add_values(np.array([[127]], np.uint8), np.array([[True]]))
    assert counts.at(127 / 254).recall == 1
    assert counts.at(127.5 / 254).recall == 0


def test_best_threshold_separates():
    counts = PixelCounts.of_values()
    counts.add_values(np.array([10, 60, 180, 220], np.uint8), np.array([False, False, True, True]))
    assert counts.at(counts.best_threshold()).f1 == 1
    assert 60 / 254 < counts.best_threshold() <= 180 / 254


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 2.5])
def test_temperature_is_found_and_calibrates(true_temperature):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 400_000)
    truth = rng.random(logits.shape) < 1 / (1 + np.exp(-logits / true_temperature))
    counts = PixelCounts.of_bins(logit_centres())
    counts.add(logit_bins(logits.astype(np.float32)), truth)
    fitted = fit_temperature(counts)
    assert fitted == pytest.approx(true_temperature, rel=0.05)
    assert calibrated(counts, fitted).calibration_error() < 0.01
    if true_temperature != 1:
        assert calibrated(counts, 1.0).calibration_error() > 0.02


def test_figures_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    truth = rng.random(20_000) < 0.1
    values = np.clip(rng.normal(np.where(truth, 150, 60), 60), 0, 254).astype(np.uint8)
    hidden = rng.random(20_000) < 0.05
    counts = PixelCounts.of_values()
    counts.add_values(np.where(hidden, 255, values).astype(np.uint8), truth)
    seen, p, cut = truth[~hidden], values[~hidden] / 254, 100 / 254
    called = p >= cut
    found = counts.confusion(cut)
    assert metrics.confusion_matrix(seen, called).tolist() == [[found.tn, found.fp], [found.fn, found.tp]]
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(seen, called, average="binary")
    assert (found.scores.precision, found.scores.recall) == pytest.approx((precision, recall))
    assert found.scores.f1 == pytest.approx(f1)
    assert found.scores.iou == pytest.approx(metrics.jaccard_score(seen, called))
    assert found.accuracy == pytest.approx(metrics.accuracy_score(seen, called))
    assert counts.average_precision() == pytest.approx(metrics.average_precision_score(seen, p))
    edges = np.minimum((p * 15).astype(int), 14)
    gaps = [abs(seen[edges == b].mean() - p[edges == b].mean()) * (edges == b).mean() for b in set(edges)]
    assert counts.calibration_error() == pytest.approx(sum(gaps))


def test_counts_of_two_scenes_merge():
    one, other = PixelCounts.of_values(), PixelCounts.of_values()
    one.add_values(np.array([200], np.uint8), np.array([True]))
    other.add_values(np.array([200, 10], np.uint8), np.array([False, False]))
    one.merge(other)
    found = one.confusion(0.5)
    assert (found.tp, found.fp, found.fn, found.tn) == (1, 1, 0, 1)


def mask(*boxes):
    m = np.zeros((40, 40), bool)
    for row, col, height, width in boxes:
        m[row : row + height, col : col + width] = True
    return m


def test_objects_match_at_an_iou_of_a_half():
    there = mask((0, 0, 10, 10), (20, 20, 10, 10))
    found = mask((0, 0, 10, 5), (20, 20, 10, 4), (0, 30, 3, 3))  # IoU 0.5, 0.4, none
    counts = match_objects(there, found)
    assert counts == ObjectCounts(there=2, found=3, matched=1)
    assert (counts.scores.recall, counts.scores.precision) == (1 / 2, pytest.approx(1 / 3))


def test_one_object_is_matched_once_and_by_the_better_one():
    there = mask((0, 0, 10, 10))
    assert match_objects(there, mask((0, 0, 4, 10), (5, 0, 5, 10))) == ObjectCounts(1, 2, 1)


def test_a_touch_in_a_corner_joins_nothing():
    assert match_objects(mask((0, 0, 4, 4), (4, 4, 4, 4)), mask()).there == 2


def test_what_is_below_the_minimum_mapping_unit_is_left_out_on_both_sides():
    there, found = mask((0, 0, 2, 2), (10, 10, 3, 3)), mask((0, 0, 2, 2), (10, 10, 3, 3), (30, 30, 1, 4))
    assert match_objects(there, found, least_px=5) == ObjectCounts(1, 1, 1)
    assert match_objects(there, found, least_px=4) == ObjectCounts(2, 3, 2)


def test_counts_add_up_and_nothing_is_no_error():
    assert match_objects(mask(), mask()) + ObjectCounts(1, 2, 1) == ObjectCounts(1, 2, 1)
    assert ObjectCounts().scores.f1 == 0


def test_pixels_near_edges_are_those_within_the_distance_on_both_sides():
    changed = np.zeros((20, 20), bool)
    changed[5:15, 5:15] = True
    near = near_edges(changed, 2)
    assert near[5:15, 4].all() and near[5:15, 3].all() and not near[5:15, 2].any()
    assert near[5:15, 5:7].all() and not near[8:12, 8:12].any()
    assert near[4, 4] and not near[3, 3]  # 1.41 and 2.83 px from the corner's pixel
    for none in (np.zeros((4, 4), bool), np.ones((4, 4), bool)):
        assert not near_edges(none, 2).any()
