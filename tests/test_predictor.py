"""What goes wrong on a device: memory that is short, numbers that are none, a device that is gone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import Pointwise

from rscd.core.contract import Contract
from rscd.core.errors import Interrupted, ModelError, UsageError
from rscd.inference.backends.pytorch import TorchBackend
from rscd.inference.predictor import Predictor, Rescaled, Windows

BEFORE, AFTER = np.random.default_rng(0).integers(0, 255, (2, 8, 3, 32, 32), dtype=np.uint8)


class Limited(Pointwise):
    """Memory holds so many windows."""

    def __init__(self, holds: int, error: Exception) -> None:
        super().__init__()
        self.holds, self.error, self.batches = holds, error, []

    def forward(self, before, after):
        self.batches.append(len(before))
        if len(before) > self.holds:
            raise self.error
        return super().forward(before, after)


@pytest.mark.parametrize(
    "error",
    [torch.cuda.OutOfMemoryError("CUDA out of memory"), torch.AcceleratorError("CUDA error: out of memory")],
)
def test_a_batch_that_does_not_fit_is_halved_and_that_is_remembered(error):
    predictor = Predictor(TorchBackend(Limited(3, error)), batch_size=8)
    network = predictor.backend.network  # a copy: folding does not touch what it was given
    expected = Predictor(TorchBackend(Pointwise()), batch_size=8)(BEFORE, AFTER)
    np.testing.assert_array_equal(predictor(BEFORE, AFTER), expected)
    assert network.batches == [8, 4, 2, 2, 2, 2]
    np.testing.assert_array_equal(predictor(BEFORE[:5], AFTER[:5]), expected[:5])
    assert network.batches[6:] == [2, 2, 2]
    assert (predictor.batch_size, predictor.faults.halvings) == (2, 2)


def test_a_window_that_does_not_fit_alone_is_told():
    with pytest.raises(UsageError, match=r"single window does not fit.*--window"):
        Predictor(TorchBackend(Limited(0, torch.cuda.OutOfMemoryError("CUDA out of memory"))))(BEFORE, AFTER)


class Overflowing(Pointwise):
    """Gives what is no number: in bf16, or always, or for one window."""

    def __init__(self, value: float, *, always: bool = False) -> None:
        super().__init__()
        self.value, self.always = value, always

    def forward(self, before, after):
        logits = super().forward(before, after)
        if self.always or torch.is_autocast_enabled("cpu"):
            logits[0, 3, 3] = self.value
        return logits


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_in_bf16_is_forwarded_again_in_fp32(value):
    predictor = Predictor(TorchBackend(Overflowing(value), precision="bf16"), batch_size=4)
    expected = Predictor(TorchBackend(Pointwise()), batch_size=4)(BEFORE, AFTER)
    np.testing.assert_array_equal(predictor(BEFORE, AFTER), expected)
    assert predictor.faults.fp32_batches == 2


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_what_is_no_number_in_fp32_either_is_refused_not_zero(precision):
    with pytest.raises(ModelError, match="NaN or Inf"):
        Predictor(TorchBackend(Overflowing(float("inf"), always=True), precision=precision))(BEFORE, AFTER)


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: unspecified launch failure\nmore"),
        RuntimeError("CUDA error: device-side"),
    ],
)
def test_a_device_that_is_gone_interrupts_the_run(error):
    with pytest.raises(Interrupted, match=r"lost cpu: CUDA error: .*run again") as caught:
        Predictor(TorchBackend(Limited(0, error)))(BEFORE, AFTER)
    assert caught.value.exit_code == 5


def test_other_errors_are_ours():
    with pytest.raises(RuntimeError, match="shapes"):
        Predictor(TorchBackend(Limited(0, RuntimeError("shapes do not match"))))(BEFORE, AFTER)


class Leaning(Pointwise):
    """Sees a pixel and its neighbour to the right: turning a window changes what it says."""

    def forward(self, before, after):
        change = super().forward(before, after)
        return change + torch.roll(change, -1, -1)


def test_tta_is_the_mean_over_all_ways_to_turn_and_flip():
    plain, averaged = (Predictor(TorchBackend(Leaning()), batch_size=4, tta=tta) for tta in (False, True))
    expected = np.zeros((len(BEFORE), *BEFORE.shape[-2:]))
    for flipped in (False, True):
        for turns in range(4):
            seen = [np.rot90(i[..., ::-1] if flipped else i, turns, (-2, -1)).copy() for i in (BEFORE, AFTER)]
            back = np.rot90(plain(*seen), -turns, (-2, -1))
            expected += (back[..., ::-1] if flipped else back) / 8
    found = averaged(BEFORE, AFTER)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found - plain(BEFORE, AFTER)).max() > 0.01
    turned = [np.rot90(i, 1, (-2, -1)).copy() for i in (BEFORE, AFTER)]
    np.testing.assert_allclose(averaged(*turned), np.rot90(found, 1, (-2, -1)), atol=1e-6)


LITE = Contract("stand-in", "1", "lite", 8, (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    ("height", "width", "factor", "side"),
    [
        (512, 512, 1.0, 512),
        (500, 600, 1.0, 640),
        (90, 120, 1.0, 256),
        (1024, 1024, 1.0, 1024),
        (1025, 1024, 1.0, 448),
        (100, 1024, 1.0, 448),  # one window would forward more pixels than three
        (1024, 1024, 2.0, 512),
        (1536, 1536, 1.5, 1024),
    ],
)
def test_a_small_scene_is_one_window(height, width, factor, side):
    windows = Windows.of(LITE).over(height, width, factor)
    assert windows.side == side
    assert windows.side == 448 or windows.on_grid(factor)[0] >= max(height, width)


def test_windows_are_not_fitted_where_others_are_wanted():
    contracts = [LITE, Contract(**{**vars(LITE), "encoder": "vit_t"}), Contract(**{**vars(LITE), "window": 96})]
    asked = [Windows.of(LITE, 448), Windows.of(LITE, overlap=32), *(Windows.of(c) for c in contracts[1:])]
    assert [windows.over(512, 512, 1.0).side for windows in asked] == [448, 448, 448, 96]


@pytest.mark.parametrize("side", [48, 80, 20])
def test_windows_of_another_pixel_size_are_averaged_to_the_networks_and_back(side):
    """As torch's antialiased resampling does it, but for a level of 255 in what the network sees."""
    predictor = Predictor(TorchBackend(Pointwise(), 1.0, "cpu", "fp32"), 1)
    dates = np.random.default_rng(1).integers(0, 256, (2, 1, 3, side, side), dtype=np.uint8)

    def resampled(maps, to):
        return torch.nn.functional.interpolate(maps, (to, to), mode="bilinear", antialias=True)

    seen = (resampled(torch.from_numpy(date).float(), 32).round().byte().numpy() for date in dates)
    expected = resampled(torch.from_numpy(predictor(*seen))[None], side)[0].numpy()
    found = Rescaled(predictor, 32)(*dates)
    assert found.shape == (1, side, side)
    assert np.abs(found - expected).max() < 0.03
