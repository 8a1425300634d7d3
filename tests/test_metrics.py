import numpy as np
import pytest

from rscd.training.metrics import PixelCounts, calibrated, fit_temperature, logit_bins, logit_centres


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
