"""The benchmark of training steps: its operations are those of the table that the project reckons with."""

import pytest
from benchmarks.train import forward_flops, option, run


@pytest.mark.parametrize(("crop", "gflop"), [(224, 35), (448, 147)])
def test_operations_of_vit_b_agree_with_the_table(crop, gflop):
    encoder = 2 * gflop * 1e9  # two dates
    assert encoder < forward_flops("vit_b", crop) < 1.35 * encoder  # STFE, MSDF and the pyramid are the rest


def test_a_step_is_measured_against_the_floor():
    figures = run(steps=1, **dict(option(o) for o in ("encoder=vit_t", "crop=64", "batch_size=2", "device=cpu")))
    assert figures["img/s (two images a crop)"] == pytest.approx(4 / figures["s a step"])
    assert 0 < figures["share of the floor (of that product)"] < 1.5
    assert figures["peak memory, MB"] > 50
    with pytest.raises(ValueError, match="no such option"):
        option("depth=3")
