"""Batch sizes: what a search makes of measured times."""

import pytest
import torch

from rscd.inference.backends.pytorch import TorchBackend
from rscd.inference.predictor import Predictor, best_batch, tune
from rscd.scene.windows import WindowPlan


@pytest.mark.parametrize(
    ("seconds", "row", "expected"),
    [
        ({1: 8.0, 2: 4.0, 4: 2.0, 8: 1.0, 16: 0.99}, 100, 8),  # twice as many are no faster
        ({1: 8.0, 2: 4.0, 4: None}, 100, 2),  # 4 do not fit
        ({1: 8.0, 2: 4.0, 4: 2.0, 8: 1.0, 10: 0.5}, 10, 10),  # the whole row
        ({1: 8.0, 2: 4.0, 4: 2.0, 8: 1.0, 9: 1.0}, 9, 5),  # 5 + 4 windows, not 8 + 1 and seven copies
        ({1: None}, 9, 1),
    ],
)
def test_the_batch_grows_while_that_pays_and_cuts_rows_evenly(seconds, row, expected):
    assert best_batch(seconds.__getitem__, row)[0] == expected


def test_on_a_cpu_nothing_is_measured_and_one_window_goes_at_a_time():
    class Counter(torch.nn.Module):
        passes = 0

        def forward(self, before, after):
            Counter.passes += 1
            return before[:, 0].float()

    predictor = Predictor(TorchBackend(Counter()))
    tune(predictor, 64, WindowPlan.over(640, 640, 64, 8))
    assert (predictor.batch_size, Counter.passes) == (1, 0)
