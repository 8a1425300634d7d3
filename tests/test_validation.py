"""Threshold and temperature that rest on the tiles as they are and as other sensors see them."""

import dataclasses

import numpy as np
import pytest
import torch
from test_loop import config

from rscd.model.catalog import read_contract
from rscd.model.checkpoint import load_checkpoint
from rscd.training.data.augmentation import other_sensor
from rscd.training.data.tiles import find_tiles
from rscd.training.validation import calibrate, judge, validate
from rscd.workflows.train import train

CPU = torch.device("cpu")


def test_another_sensor_shows_the_same_place_otherwise_and_repeatably():
    blocks = np.random.default_rng(0).integers(60, 180, (3, 8, 6), dtype=np.uint8)
    image = blocks.repeat(8, axis=1).repeat(8, axis=2)
    shown = [other_sensor(image, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert shown[0].shape == image.shape and shown[0].dtype == np.uint8
    np.testing.assert_array_equal(shown[0], shown[1])
    assert (shown[0] != shown[2]).any()
    for other in shown:
        assert np.corrcoef(other.ravel(), image.ravel())[0, 1] > 0.7


def test_both_looks_decide_and_the_tensors_stay(tiny_tiles, tmp_path, monkeypatch):
    monkeypatch.setattr("rscd.training.validation.LEAST_TILES", 2)
    monkeypatch.setattr("rscd.training.validation.LEAST_PIXELS", 100)
    path, seen = tmp_path / "m.safetensors", []
    train(config(tiny_tiles, path, epochs=2, crops=24, batch_size=8, rate=3e-3))
    before, tiles = read_contract(path), find_tiles([tiny_tiles])
    told = calibrate(path, tiles, CPU, False, lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 2 * len(tiles)) and seen[-1] == (2 * len(tiles), 2 * len(tiles))
    assert told == read_contract(path)
    assert told.sha256 == before.sha256
    assert {"shifted_f1", "shifted_ece", "validation_f1"} <= told.figures.keys()
    network, _ = load_checkpoint(path)
    clean, shifted = (validate(network, tiles, CPU, False, shifted=s).counts for s in (False, True))
    assert (clean.changed != shifted.changed).any()
    joined = dataclasses.replace(clean, changed=clean.changed + shifted.changed)
    joined = dataclasses.replace(joined, unchanged=clean.unchanged + shifted.unchanged)
    assert (told.threshold, told.temperature) == pytest.approx(
        (judge(joined).threshold, judge(joined).temperature), abs=1e-4
    )


def test_too_few_tiles_change_nothing(tiny_tiles, tmp_path):
    path = tmp_path / "m.safetensors"
    train(config(tiny_tiles, path))
    before = path.read_bytes()
    calibrate(path, find_tiles([tiny_tiles]), CPU, False)
    assert path.read_bytes() == before
