import numpy as np
import pytest
from conftest import Pointwise, pointwise_probability

from rscd.core.contract import Contract
from rscd.core.errors import DataError, UsageError
from rscd.inference.backends.pytorch import TorchBackend
from rscd.inference.predictor import Predictor, Windows
from rscd.options.training import EvaluateConfig
from rscd.training.evaluation.maps import Mapper
from rscd.workflows.evaluate import evaluate

CONTRACT = Contract("stand-in", "1", "lite", 8, (0.0,) * 3, (1.0,) * 3, window=96, overlap=32, threshold=0.6)
STAND_IN = Pointwise(), CONTRACT


@pytest.mark.parametrize(("height", "width"), [(130, 200), (96, 96), (40, 70)])
def test_a_tile_is_mapped_as_a_whole_would_be(height, width):
    before, after = np.random.default_rng(4).integers(0, 255, (2, 3, height, width), dtype=np.uint8)
    mapper = Mapper(Predictor(TorchBackend(Pointwise()), batch_size=3), CONTRACT, Windows(96, 32), 150)
    values = mapper.of_tile(before, after, 0.5).values
    assert values.shape == (height, width)
    assert np.abs(values - pointwise_probability(before, after) * 254).max() <= 1
    assert mapper.predictor.batch_size == 3


def test_the_minimum_mapping_unit_is_in_pixels_of_the_scene():
    large = Contract(**{**vars(CONTRACT), "minimum_mapping_m2": 40.0})
    mapper = Mapper(Predictor(TorchBackend(Pointwise())), large, Windows(96, 32), 150)
    assert (mapper.least_px(0.5), mapper.least_px(1.0), mapper.least_px(10.0)) == (160, 40, 4)


def test_the_pixel_size_of_tiles_decides_how_the_model_sees_them(tiny_tiles):
    config = EvaluateConfig((tiny_tiles,), gsd_m=0.2)
    assert evaluate(config, model=STAND_IN).total.f1 > 0.9  # resampled to 0.3 m
    with pytest.raises(DataError, match=r"--gsd: ground sample distance is 10 m"):
        evaluate(EvaluateConfig((tiny_tiles,), gsd_m=10.0), model=STAND_IN)
    with pytest.raises(UsageError, match="--gsd -1"):
        evaluate(EvaluateConfig((tiny_tiles,), gsd_m=-1.0), model=STAND_IN)
