"""Converted networks, kept in the user's cache, so that only the first run converts, and needs torch for it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import openvino
import platformdirs

from rscd.core.version import VERSION
from rscd.model.registry import Model

FORM = 1
"""Of what is kept; raise it when the network's code or its conversion changes."""
KEPT_BYTES = 4_000_000_000
"""Networks are kept, those used last, as long as they do not take more than this."""
MAKING, ABANDONED_S = "making-", 86_400.0
"""Folders of conversions that are under way, and the age from which one is what a killed process left, s."""
XML, BIN, SUMS = "network.xml", "network.bin", "sha256.json"
TRACED_SIDE = 256
"""Side of the windows that a convolutional network is traced on, px; others are traced on their own."""


class ConversionError(Exception):
    """A network that OpenVINO does not take."""


def cache_folder() -> Path:
    """Where converted networks lie: in ``RSCD_CACHE_DIR``, else where this system keeps a user's caches."""
    asked = os.environ.get("RSCD_CACHE_DIR")
    return (Path(asked) if asked else platformdirs.user_cache_path("rscd")) / "converted"


def traced_side(model: Model, window: int) -> int:
    """Side of the windows to trace on, px: a transformer's arithmetic depends on it."""
    return TRACED_SIDE if model.contract.encoder == "lite" else window


def key_of(model: Model, side: int) -> str:
    """Name of a network by weights, contract, side and versions; of someone's own module by the object."""
    if not model.ours:
        return f"of this process {id(model.given)}"
    parts = model.sha256, model.contract.to_json(), side, openvino.__version__, VERSION, FORM
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:40]


def converted(model: Model, side: int) -> tuple[openvino.Model, str]:
    """The converted network, from the cache or made anew, and what a user should know; empty if all is well.

    Args:
        model: The model; its network is loaded only if the cache does not have it. Modules of someone's own are not
            kept, for their arithmetic is not in the key.
        side: Of the windows to trace on, px.

    Raises:
        ConversionError: It cannot be converted.
        ModelError: The checkpoint is not valid.
    """
    note = ""
    if model.ours:
        folder = cache_folder() / key_of(model, side)
        if _is_whole(folder):
            with suppress(OSError):
                os.utime(folder)
            with suppress(RuntimeError):  # of OpenVINO, on a file that it does not like: made anew
                return openvino.Core().read_model(folder / XML), ""
        try:
            return _kept(model, side, folder), ""
        except OSError as error:
            note = f"the converted network could not be kept ({error.strerror or error}: {folder.parent})"
    try:
        with tempfile.TemporaryDirectory() as made:
            return _make(model, side, Path(made, "whole")), note
    except OSError as error:
        raise ConversionError(f"the network cannot be converted for OpenVINO: {error.strerror or error}") from error


def _kept(model: Model, side: int, folder: Path) -> openvino.Model:
    """Convert, and put the result into the cache, unless another process was faster.

    Raises:
        OSError: It cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=MAKING, dir=folder.parent, ignore_cleanup_errors=True) as name:
        made = Path(name, "whole")
        found = _make(model, side, made)
        if not _is_whole(folder):
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # another process has just put its own there
                made.rename(folder)
    _prune(folder)
    return found


def _prune(newest: Path) -> None:
    """Remove the networks that were used longest ago, and what killed processes left; others may do so too."""
    found: list[tuple[float, int, Path]] = []
    for path in newest.parent.iterdir():
        with suppress(OSError):  # gone by now, or no folder
            used = path.stat().st_mtime
            if path.name.startswith(MAKING) and used < time.time() - ABANDONED_S:
                shutil.rmtree(path, ignore_errors=True)
            elif (path / SUMS).is_file():
                found.append((used, sum(file.stat().st_size for file in path.iterdir()), path))
    taken = 0
    for _, size, path in sorted(found, reverse=True):
        taken += size
        if path != newest and taken > KEPT_BYTES:
            shutil.rmtree(path, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    """Whether a kept network is there, byte for byte."""
    try:
        sums = json.loads((folder / SUMS).read_bytes())
        return all(_sha256(folder / name) == sums[name] for name in (XML, BIN))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _make(model: Model, side: int, folder: Path) -> openvino.Model:
    """Convert into a folder, and read it back without leaving a file open.

    Raises:
        OSError: It cannot be written.
        ConversionError: It cannot be converted.
        ModelError: The checkpoint is not valid.
    """
    from rscd.inference.backends.conversion import FP32_LAYERS, convert, keep_in_fp32

    network = model.network  # what is wrong with the checkpoint is not about OpenVINO
    try:
        found = convert(network, model.contract, side)
    except MemoryError:
        raise
    except Exception as error:  # whatever a tracer and a converter make of what they do not know
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConversionError(f"the network cannot be converted for OpenVINO ({why[:200]})") from error
    model.release()
    folder.mkdir()
    try:
        openvino.save_model(found, folder / XML, compress_to_fp16=False)
    except RuntimeError as error:  # its way to say that a file cannot be written
        raise OSError(f"no room, or not writable ({str(error).strip().splitlines()[-1][:100]})") from error
    marked = keep_in_fp32(folder / XML, model.contract.encoder)
    if model.ours and model.contract.encoder in FP32_LAYERS and not marked:
        raise ConversionError("the network as OpenVINO converts it names its layers otherwise than rscd knows")
    sums = {name: _sha256(folder / name) for name in (XML, BIN)}
    (folder / SUMS).write_text(json.dumps(sums), encoding="ascii")
    weights = openvino.Tensor(np.fromfile(folder / BIN, np.uint8))
    return openvino.Core().read_model((folder / XML).read_text(encoding="utf-8"), weights)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
