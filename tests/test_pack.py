"""examples/pack.py: what is packed trains a model on the other side."""

import subprocess
import sys
import tarfile

import numpy as np
from conftest import REPOSITORY
from PIL import Image

from rscd.training.data.tiles import CHANGED, find_tiles


def pack(*arguments):
    command = [sys.executable, str(REPOSITORY / "examples" / "pack.py"), *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def unpacked(path):
    with tarfile.open(path) as tar:
        tar.extractall(path.parent / "there", filter="data")
    return path.parent / "there"


def test_tiles_that_fit_keep_their_bytes(tiny_tiles, tmp_path):
    told = pack(tiny_tiles, "--val", tiny_tiles, "-o", tmp_path / "pack.tar")
    assert "bytes kept" in told
    there = unpacked(tmp_path / "pack.tar")
    for part in ("train", "val"):
        for here, packed in zip(find_tiles([tiny_tiles]), find_tiles([there / part]), strict=True):
            for one, other in zip(here.paths, packed.paths, strict=True):
                assert one.read_bytes() == other.read_bytes()


def test_what_does_not_fit_is_cut_around_change_and_stays_below_the_limit(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("A", "B", "label"):
        (tmp_path / "big" / folder).mkdir(parents=True)
    for i in range(3):
        label = np.zeros((640, 640), np.uint8)
        label[300:330, 500:540] = 255
        for folder in ("A", "B"):
            noise = rng.integers(0, 256, (640, 640, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "big" / folder / f"{i}.png")
        Image.fromarray(label).save(tmp_path / "big" / "label" / f"{i}.png")
    told = pack(tmp_path / "big", "-o", tmp_path / "pack.tar", "--mib", 2, "--crop", 160)
    assert "squares of 160 px" in told
    assert 1.5e6 < (tmp_path / "pack.tar").stat().st_size < 2 * 2**20
    crops = [tile.read() for tile in find_tiles([unpacked(tmp_path / "pack.tar") / "train"])]
    assert {crop[2].shape for crop in crops} == {(160, 160)}
    assert np.mean([(crop[2] == CHANGED).any() for crop in crops]) > 0.4
