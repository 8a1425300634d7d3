"""Pack labelled tiles for a bare GPU machine, which may have no GDAL and take only a small upload.

    python examples/pack.py TRAIN... --val VAL... -o pack.tar

The tar holds ``train/`` and ``val/``, each with ``A/``, ``B/`` and ``label/``. Where whole tiles fit, the bytes of
their files are kept. Where they do not, squares are cut, most of them around changed ground, in turns over all
tiles until the room is used up; images become JPEG, labels PNG. There, with torch, numpy and Pillow at hand:

    tar xf pack.tar && python -m rscd train train --val val -o mine.safetensors

Training reads folders with Pillow alone. ``lite`` starts from ImageNet weights of a package, SAM encoders need the
package segment-anything: take them along (or start with ``--init`` from a checkpoint).
"""

import argparse
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from rscd.training.data.augmentation import Crop, random_crop
from rscd.training.data.tiles import find_tiles

MIB = 1 << 20
OVERHEAD = 2048
"""Bytes that a tar takes for a file beside its contents, at most."""
VALIDATION_SHARE = 0.25
"""Of the room, where both parts have to be cut."""


def main() -> None:
    """Parse the command line, pack, tell what was packed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("train", nargs="+", type=Path)
    parser.add_argument("--val", nargs="*", type=Path, default=[])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--mib", type=float, default=39.0, help="size that the pack stays below")
    parser.add_argument("--crop", type=int, default=384, help="side of the squares in px, where tiles do not fit")
    parser.add_argument("--quality", type=int, default=90, help="of JPEG, where squares are cut")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    room = int(options.mib * MIB)
    parts = {"val": find_tiles(options.val), "train": find_tiles(options.train)}
    with tarfile.open(options.output, "w") as tar:
        for name, tiles in parts.items():
            # validation comes first, and leaves what it does not need to training
            share = room if name == "train" else int(room * VALIDATION_SHARE)
            if sum(_size(tile) for tile in tiles) <= share:
                entries = [(f"{i:05d}", _whole(tile)) for i, tile in enumerate(tiles)]
                used, how = _add(tar, name, iter(entries), share), "whole tiles, bytes kept"
            else:
                used, how = _add(tar, name, _squares(tiles, options), share), f"squares of {options.crop} px"
            room -= used
            print(f"{name}: {used / MIB:.1f} MiB of {how}, from {len(tiles)} tiles")
    print(f"{options.output}: {options.output.stat().st_size / MIB:.1f} MiB")


def _size(tile) -> int:  # noqa: ANN001 - any tile that lies in three files
    return sum(path.stat().st_size + OVERHEAD for path in (tile.before, tile.after, tile.label))


def _whole(tile) -> dict[str, bytes]:  # noqa: ANN001
    """The three files as they are: folder and suffix -> bytes."""
    files = {"A": tile.before, "B": tile.after, "label": tile.label}
    return {f"{folder}/*{path.suffix}": path.read_bytes() for folder, path in files.items()}


def _squares(tiles: list, options: argparse.Namespace) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Squares in turns over the tiles, without an end; tiles that are no larger come whole, once."""
    rng = np.random.default_rng(options.seed)
    number, waiting = 0, list(range(len(tiles)))
    while waiting:
        for i in rng.permutation(waiting):
            tile = tiles[i].read()
            if max(tile[2].shape) <= options.crop:
                waiting.remove(i)
                yield f"{number:05d}", _whole(tiles[i])
                number += 1
                continue
            before, after, label, _ = random_crop(Crop(*tile), min(options.crop, *tile[2].shape), (1.0, 1.0), rng)
            images = {
                f"{d}/*.jpg": _encoded(np.moveaxis(p, 0, 2), options) for d, p in (("A", before), ("B", after))
            }
            yield f"{number:05d}", images | {"label/*.png": _encoded(label, options)}
            number += 1


def _encoded(pixels: np.ndarray, options: argparse.Namespace) -> bytes:
    file = io.BytesIO()
    if pixels.ndim == 2:
        Image.fromarray(pixels).save(file, "PNG", optimize=True)
    else:
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=options.quality, subsampling=0)
    return file.getvalue()


def _add(tar: tarfile.TarFile, part: str, entries: Iterator[tuple[str, dict[str, bytes]]], room: int) -> int:
    """Add entries until the next one does not fit; returns the bytes used."""
    used = 0
    for stem, files in entries:
        size = sum(len(data) + OVERHEAD for data in files.values())
        if used + size > room:
            break
        for pattern, data in files.items():
            info = tarfile.TarInfo(f"{part}/{pattern.replace('*', stem)}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        used += size
    return used


if __name__ == "__main__":
    main()
