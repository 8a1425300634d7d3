import numpy as np
import pytest

from rscd.training.evaluation.metrics import PixelCounts, calibrated, fit_temperature, logit_bins, logit_centres


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
