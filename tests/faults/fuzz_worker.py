"""The long-lived process that test_fuzz.py feeds: a line `KIND SEED` in, a line of JSON out.

`echo "tiff 4711" | PYTHONPATH=tests python -m faults.fuzz_worker DIR` shows an input again: its seed makes it.
"""

import json
import random
import resource
import struct
import sys
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
import tifffile
import torch
from conftest import Pointwise, utm_grid, write_image

from rscd import DetectConfig, detect
from rscd.core.contract import Contract
from rscd.core.errors import RscdError
from rscd.core.types import Window
from rscd.model.catalog import KEY
from rscd.model.checkpoint import build_network, save_checkpoint
from rscd.model.encoders import normalisation
from rscd.model.registry import load_model
from rscd.options.pair import PairConfig
from rscd.scene.pair import open_pair
from rscd.scene.prepare import prepare
from rscd.scene.raster import GDAL_OPTIONS
from rscd.scene.window_stream import read_windows
from rscd.scene.windows import WindowPlan

SIDE = 160
LARGE = 1 << 21
"""Grids of more px are opened and sampled, and not read as a whole."""
MORE_MEMORY = 3 << 30
"""Address space beyond what the imports took, bytes: a fuse, above the 2 GB of RSS that the test allows."""
PLAIN = Contract("stand-in", "1", "lite", 8, (110.0,) * 3, (50.0,) * 3, window=96, overlap=32, trained_on="-")
LAYOUTS = (
    {},
    {"compress": "lzw", "predictor": 2},
    {"compress": "zstd", "interleave": "band"},
    {"compress": None},
    {"tiled": False, "blockysize": 16},
    {"tiled": False, "blockysize": 3, "compress": "packbits", "interleave": "pixel"},
    {"interleave": "pixel", "nodata": 7},
    {"compress": "jpeg", "photometric": "ycbcr", "interleave": "pixel"},
    {"bigtiff": "yes", "compress": "lzma"},
    {"photometric": "rgb", "mask": True},
    {"dtype": "uint16", "predictor": 2},
    {"dtype": "float32", "predictor": 3, "nodata": float("nan")},
    {"dtype": "int16", "compress": "lerc", "nodata": -5},
    {"driver": "COG"},
)
ODD = (0, 1, 2, 3, 4, 7, 8, 16, 255, 256, 1000, 32767, 65535, 65536, 10**6, 2**31 - 1, 2**31, 2**32 - 1)


def bases(folder):
    """Sound files of many layouts, as bytes, and the path of the other date."""
    rng = np.random.default_rng(1)
    blocks = np.kron(rng.integers(20, 230, (3, SIDE // 8, SIDE // 8)), np.ones((8, 8), int))
    image = (blocks + rng.integers(-15, 15, blocks.shape)).astype(np.uint8)
    good = write_image(folder / "good.tif", image, blockxsize=64, blockysize=64)
    made = []
    for number, layout in enumerate(LAYOUTS):
        path, layout = folder / f"base{number}.tif", dict(layout)
        pixels = image.astype(layout.pop("dtype", "uint8"))
        if layout.pop("driver", None):
            rasterio.shutil.copy(good, path, driver="COG", blocksize=128, compress="deflate")
        else:
            mask = np.where(image[0] > 60, 255, 0).astype(np.uint8) if layout.pop("mask", False) else None
            sides = {} if layout.get("tiled") is False else {"blockxsize": 64, "blockysize": 64}
            write_image(path, pixels, utm_grid(SIDE, SIDE), mask=mask, **sides, **layout)
        made.append(path.read_bytes())
    return made, good


def entries(raw):
    """Where the entries of the first directory lie, their length, and where in each its value is."""
    big = raw[2] == 43
    start = struct.unpack_from("<Q" if big else "<I", raw, 8 if big else 4)[0]
    count = struct.unpack_from("<Q" if big else "<H", raw, start)[0]
    head, size = (8, 20) if big else (2, 12)
    return [start + head + size * i for i in range(count)], size, 12 if big else 8


def mutated_tiff(rng, made):
    """One to four mutations of a sound file."""
    raw = bytearray(rng.choice(made))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        rng.choice((_tag, _tag, _tag, _entry, _flip_head, _flip_any, _cut, _hole, _splice))(rng, raw)
    return bytes(raw)


def _tag(rng, raw):
    """Another value, count, type or name of a tag."""
    try:
        places, _, value = entries(raw)
        place = rng.choice(places)
        odd = rng.choice((*ODD, rng.randrange(2**32)))
        what = rng.random()
        if what < 0.65:
            form = rng.choice(("<I", "<I", "<H"))
            struct.pack_into(form, raw, place + value, odd % 2 ** (8 * struct.calcsize(form)))
        elif what < 0.8:
            struct.pack_into("<I", raw, place + 4, odd)
        elif what < 0.9:
            struct.pack_into("<H", raw, place + 2, rng.randrange(20))
        else:
            struct.pack_into("<H", raw, place, rng.choice((256, 257, 258, 259, 277, 284, 317, 322, 324, 338, 339)))
    except (struct.error, IndexError):
        _flip_any(rng, raw)


def _entry(rng, raw):
    """One entry copied over another, or taken out."""
    try:
        places, size, _ = entries(raw)
        one, other = rng.choice(places), rng.choice(places)
        raw[one : one + size] = raw[other : other + size] if rng.random() < 0.5 else bytes(size)
    except (struct.error, IndexError):
        _flip_any(rng, raw)


def _flip_head(rng, raw):
    for _ in range(rng.choice((1, 1, 3, 10))):
        raw[rng.randrange(min(len(raw), 1500))] ^= 1 << rng.randrange(8)


def _flip_any(rng, raw):
    for _ in range(rng.choice((1, 1, 3, 50))):
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)


def _cut(rng, raw):
    del raw[rng.randrange(8, len(raw)) :]
    raw += bytes(16)


def _hole(rng, raw):
    start, size = rng.randrange(len(raw)), rng.choice((4, 64, 4096))
    raw[start : start + size] = bytes(len(raw[start : start + size]))


def _splice(rng, raw):
    start, size = rng.randrange(len(raw)), rng.choice((1, 4, 64, 1024))
    raw[start:start] = rng.randbytes(size)


def never_written(path, shape):
    """Pixels of blocks that the file holds no byte of, by another reader's word: (rows, columns), or None."""
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, shape[1])
            down, across = -(-shape[0] // height), -(-shape[1] // width)
            if not len(page.dataoffsets) == len(page.databytecounts) >= down * across:
                return None  # GDAL guesses here
            held = np.minimum(page.dataoffsets, page.databytecounts).astype(np.int64) > 0
            held = held[: len(held) // (down * across) * down * across].reshape(-1, down, across).all(axis=0)
            return np.kron(~held, np.ones((height, width), bool))[: shape[0], : shape[1]]
    except Exception:
        return None


def try_tiff(rng, made, good, path):
    path.write_bytes(mutated_tiff(rng, made))
    pair_of = (path, good) if rng.random() < 0.6 else (good, path)
    config = PairConfig(*pair_of, bad_blocks=rng.choice(("stop", "stop", "mask")))
    try:
        with open_pair(config) as pair:
            prepare(pair, PLAIN, config)
            raster = (pair.before if path == pair_of[0] else pair.after).raster
            shape = raster.grid.shape
            if max(shape[0] * shape[1], pair.crop.height * pair.crop.width) > LARGE:
                return "large"
            for _ in read_windows(pair, WindowPlan.over(*pair.grid.shape, 96, 32)):
                pass
            pixels, valid = raster.read(Window(0, 0, *shape))
            bands = raster.bands
    except RscdError as error:
        return f"refused, exit {error.exit_code}"
    missing = never_written(path, shape)
    assert missing is None or not valid[missing].any(), "silent zeros"
    with rasterio.Env(**GDAL_OPTIONS), rasterio.open(path, driver="GTiff") as dataset:
        for _, window in dataset.block_windows(bands[0]):
            seen = valid[window.toslices()]
            if seen.any():  # so GDAL can decode it
                ours = pixels[:, *window.toslices()][:, seen]
                # what a broken block decodes to may depend on what its handle decoded before: ask a fresh one too
                theirs = (file_read(path, bands, window), dataset.read(bands, window=window))
                assert any(np.array_equal(ours, read[:, seen]) for read in theirs), "not what rasterio reads"
    return "read right"


def file_read(path, bands, window):
    with rasterio.open(path, driver="GTiff") as dataset:
        return dataset.read(bands, window=window)


def try_detect(rng, made, good, path):
    path.write_bytes(mutated_tiff(rng, made))
    folder = path.parent
    outputs = {"output": folder / "c.gpkg", "probability": folder / "p.tif", "report": folder / "r.html"}
    config = DetectConfig(path, good, **outputs, overwrite=True, bad_blocks=rng.choice(("stop", "mask")))
    try:
        with open_pair(config) as pair:
            if pair.grid.height * pair.grid.width > LARGE:
                return "large"
            shape = pair.grid.shape
        detect(config, model=(Pointwise(), PLAIN))
    except RscdError as error:
        assert not any(file.exists() for file in outputs.values()), "refused, and something was written"
        return f"refused, exit {error.exit_code}"
    with rasterio.open(config.probability) as dataset:
        assert dataset.shape == shape
    for file in outputs.values():
        file.unlink()
    return "detected"


ODD_JSON = (None, -1, 0, 1, 2**63, 1e400, float("nan"), "", "x", "\x1b[31m", [], {}, [[]], True, "0" * 64, [0, 0])


def mutated_model(rng, raw):
    """A checkpoint with another header, contract, length or bytes."""
    size = struct.unpack_from("<Q", raw)[0]
    head, body = raw[8 : 8 + size], raw[8 + size :]
    what = rng.random()
    if what < 0.3:
        head = bytearray(head)
        for _ in range(rng.choice((1, 2, 8))):
            head[rng.randrange(len(head))] = rng.randrange(256)
    elif what < 0.55:
        header = json.loads(head)
        name = rng.choice((*list(header)[:3], rng.choice(list(header))))
        _edit(rng, header if rng.random() < 0.3 else header[name])
        head = json.dumps(header).encode()
    elif what < 0.8:
        header = json.loads(head)
        told = json.loads(header["__metadata__"][KEY])
        _edit(rng, told)
        header["__metadata__"][KEY] = json.dumps(told)
        head = json.dumps(header).encode()
    elif what < 0.87:
        body = body[: rng.randrange(len(body))]
    elif what < 0.93:
        body = bytearray(body)
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    else:
        return struct.pack("<Q", rng.choice((*ODD, size + 1, size - 1, 2**63))) + raw[8:]
    return struct.pack("<Q", len(head)) + bytes(head) + bytes(body)


def _edit(rng, table):
    if not table:
        return
    key = rng.choice(list(table))
    if rng.random() < 0.2:
        del table[key]
    elif rng.random() < 0.1:
        table["more"] = table[key]
    elif isinstance(table[key], list) and rng.random() < 0.5 and table[key]:
        table[key][rng.randrange(len(table[key]))] = rng.choice(ODD_JSON)
    else:
        table[key] = rng.choice((*ODD_JSON, 2**40))


def try_model(rng, raw, weights, path):
    path.write_bytes(mutated_model(rng, raw))
    try:
        network, contract = load_model(str(path))
    except RscdError as error:
        assert error.exit_code == 4
        return "refused, exit 4"
    assert isinstance(contract.name, str)
    held = network.state_dict()
    assert all(torch.equal(held[name], tensor) for name, tensor in weights.items()), "other weights"
    return "loaded right"


def main(folder):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    made, good = bases(folder)
    mean, std = normalisation("lite")
    contract = Contract("t", "1", "lite", 8, mean, std, trained_on="a test")
    checkpoint = folder / "base.safetensors"
    save_checkpoint(checkpoint, build_network(contract), contract, half=True)
    weights, raw = load_model(str(checkpoint))[0].state_dict(), checkpoint.read_bytes()
    kinds = {
        "tiff": lambda rng: try_tiff(rng, made, good, folder / "fuzz.tif"),
        "detect": lambda rng: try_detect(rng, made, good, folder / "fuzz.tif"),
        "model": lambda rng: try_model(rng, raw, weights, folder / "fuzz.safetensors"),
    }
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MORE_MEMORY,) * 2)
    say("ready", 0.0)
    for line in sys.stdin:
        kind, seed = line.split()
        start = time.process_time()
        try:
            outcome = kinds[kind](random.Random(int(seed)))
        except BaseException:
            outcome = "wrong: " + traceback.format_exc()
        say(outcome, time.process_time() - start)


def say(outcome, seconds):
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"outcome": outcome, "cpu_s": seconds, "rss_mb": rss}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
