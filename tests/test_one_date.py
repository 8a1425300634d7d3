"""Images of one date in pairs: what is changed is there on exactly one of them."""

import numpy as np
import pytest
from PIL import Image

from rscd.core.errors import DataError
from rscd.training.data.batches import OneDate
from rscd.training.data.tiles import CHANGED, IGNORED


@pytest.fixture
def folder(tmp_path):
    for part in ("image", "label"):
        (tmp_path / part).mkdir()
    for i, col in enumerate((20, 40, 60)):
        there = np.zeros((128, 128), np.uint8)
        there[30:90, col : col + 40] = 255
        shade = np.where(there > 0, 220, 60 + 30 * i).astype(np.uint8)
        Image.fromarray(shade).convert("RGB").save(tmp_path / "image" / f"{i}.png")
        Image.fromarray(there).save(tmp_path / "label" / f"{i}.png")
    return tmp_path


def test_changed_is_what_exactly_one_date_has(folder):
    pairs, rng, same = OneDate([folder]), np.random.default_rng(0), 0
    for _ in range(30):
        crop, name = pairs.pair(64, (0.8, 1.2), rng)
        assert crop.before.shape == crop.after.shape == (3, 64, 64)
        known = (crop.built != IGNORED).all(0)
        assert ((crop.label == CHANGED) == (crop.built[0] != crop.built[1]))[known].all()
        for image, built in zip((crop.before, crop.after), crop.built, strict=True):
            if (built == 1).any():
                assert (image[0][built == 1] > 180).mean() > 0.9
        alone = " and " not in name
        same += alone
        assert not alone or (np.array_equal(crop.before, crop.after) and not crop.label.any())
    assert 5 < same < 28


def test_an_image_without_a_label_and_one_of_another_size_are_refused_by_name(folder):
    Image.new("L", (64, 64)).save(folder / "label" / "1.png")
    pairs = OneDate([folder])
    with pytest.raises(DataError, match=r"1\.png.*size"):
        for seed in range(20):
            pairs.pair(64, (1, 1), np.random.default_rng(seed))
    (folder / "label" / "2.png").unlink()
    with pytest.raises(DataError, match=r"no label for 2\.png"):
        OneDate([folder])
    with pytest.raises(DataError, match="holds no images of one date"):
        OneDate([folder / "image"])
