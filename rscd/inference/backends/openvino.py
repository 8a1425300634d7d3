"""OpenVINO: the network on CPUs, two to three times as fast as torch; once it is converted, without torch.

In fp32, probabilities equal torch's except for rounding. In bf16, which ``auto`` uses if the CPU has instructions
for it and the model's contract states that it changes little, the first layers stay in fp32: docs/measurements.md.
Converted networks are cached per user, so that only the first run converts, and needs torch for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino
import platformdirs
from openvino import opset8 as opset

from rscd.core.errors import ModelError, UsageError
from rscd.core.types import ByteArray, FloatArray
from rscd.core.version import VERSION
from rscd.inference.backends import MOST_CALLS, OUT_OF_MEMORY
from rscd.inference.device import cpu_bf16, cpu_threads
from rscd.model.registry import Model
from rscd.options.types import Precision

Shape = tuple[int, ...]
BF16_FIGURE, BF16_MOST = "bf16_p999", 0.03
"""Metric of a contract: difference of p in bf16 (99.9th percentile over all validation pixels, measured by ``python
-m tests.benchmarks precision``); and its maximum up to which ``auto`` uses bf16."""
COMPILED = 3
"""Compiled networks that a process keeps for the next pair."""
_LOCK = threading.Lock()
_HELD: OrderedDict[tuple[object, ...], Any] = OrderedDict()


class OpenVinoBackend:
    """A network on this machine's CPU.

    Args:
        model: The model; its network is loaded only for the first conversion.
        precision: ``auto``: bf16 if the contract states that it changes little and the CPU has it, else fp32.
        shape: Shape of the usual batch of one date, (n, bands, h, w), compiled now; other shapes when needed.
        calls: Maximum number of parallel calls; they share the CPU's threads.

    Raises:
        ConversionError: The network cannot be converted, or cannot be compiled.
        ModelError: The checkpoint is not valid.
    """

    name, device = "openvino", "cpu"

    def __init__(self, model: Model, precision: Precision, shape: Shape, calls: int = MOST_CALLS) -> None:
        self._model, self.note, self.version = model, "", openvino.__version__
        self.threads = cpu_threads()
        self.workers = min(MOST_CALLS, calls, self.threads)
        self.presence = model.contract.presence
        self.fp32_batches = 0
        self._local = threading.local()
        measured = model.contract.figures.get(BF16_FIGURE, 1.0) <= BF16_MOST
        usual: Literal["fp32", "bf16"] = "bf16" if measured and cpu_bf16() else "fp32"
        self.precision = usual if precision == "auto" else precision
        try:
            self._request(shape, self.precision)
        except ConversionError:
            if (precision, self.precision) != ("auto", "bf16"):
                raise
            self.precision, self.note = "fp32", "this CPU cannot run the network in bf16"
            self._request(shape, "fp32")
        if self.precision == "bf16":  # sums are rounded differently
            self.version += f", {cpu_bf16() or 'no bf16'}"

    def __call__(self, before: ByteArray, after: ByteArray) -> FloatArray:
        """Probabilities 0..1 of one batch.

        Raises:
            MemoryError: There is too little memory.
            ModelError: The network gives NaN, also in fp32.
        """
        p = self._infer(before, after, self.precision)
        if self.precision == "bf16" and not np.isfinite(p).all():
            self.fp32_batches += 1
            p = self._infer(before, after, "fp32")
        if not np.isfinite(p).all():
            raise ModelError("gives NaN or Inf instead of probabilities", remedy="use another checkpoint")
        return p if self.presence else p[:, 0]

    def compile(self) -> None:
        """Does nothing: it is compiled already."""

    def _infer(self, before: ByteArray, after: ByteArray, precision: Literal["fp32", "bf16"]) -> FloatArray:
        try:
            request = self._request(before.shape, precision)
            given = [np.ascontiguousarray(date) for date in (before, after)]
            found: FloatArray = request.infer(given, share_inputs=True)[0]
        except ConversionError as error:  # for a batch of another size than usual
            raise UsageError(str(error), remedy="use --backend torch") from error
        except RuntimeError as error:
            if OUT_OF_MEMORY.search(str(error)):
                raise MemoryError(str(error)) from error
            raise
        return found

    def _request(self, shape: Shape, precision: Literal["fp32", "bf16"]) -> Any:  # noqa: ANN401 - untyped
        """This thread's own request object of the compiled network."""
        held = self._local.__dict__.setdefault("requests", {})
        if (shape, precision) not in held:
            compiled, note = _compiled(self._model, shape, precision, self.threads, self.workers)
            self.note = self.note or note
            held[shape, precision] = compiled.create_infer_request()
        return held[shape, precision]


@cache
def _ready() -> None:
    """Call OpenVINO once before threads do.

    Its Python binding initialises itself at the first call. If two threads make that call at once, each may hold a
    lock that the other waits for (one is Python's): the process hangs (one start in five, with 8 threads).
    """
    given = opset.parameter([1], np.uint8)
    least = openvino.Model([opset.convert(given, "f32")], [given])
    request = openvino.Core().compile_model(least, "CPU").create_infer_request()
    request.infer([np.zeros(1, np.uint8)], share_inputs=True)


def _compiled(model: Model, shape: Shape, precision: str, threads: int, streams: int) -> tuple[Any, str]:
    """The network for batches of a shape, compiled once for all pairs of a process, and a note.

    Raises:
        ConversionError: It cannot be converted, or cannot be compiled.
    """
    side = traced_side(model, shape[-1])
    key = key_of(model, side), shape, precision, threads, streams
    with _LOCK:
        _ready()
        if key in _HELD:
            _HELD.move_to_end(key)
            return _HELD[key][0], ""
        network, note = converted(model, side)
        options = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
            "ENABLE_CPU_PINNING": False,  # else other processes of an archive are pinned to the same cores
        }
        try:
            network.reshape({date: [*shape] for date in range(2)})
            # keep the model too: its id is the key, and must not be reused for another module
            _HELD[key] = openvino.Core().compile_model(network, "CPU", options), model.given
        except RuntimeError as error:
            if OUT_OF_MEMORY.search(str(error)):
                raise MemoryError(str(error)) from error
            why = str(error).strip().splitlines()[-1]
            raise ConversionError(f"OpenVINO cannot compile the network in {precision} ({why[:200]})") from error
        while len(_HELD) > COMPILED:
            _HELD.popitem(last=False)
        return _HELD[key][0], note


FORM = 1
"""Version of the cached files; increase it when the network's code or its conversion changes."""
KEPT_BYTES = 4_000_000_000
"""Maximum size of the cache; the most recently used networks are kept."""
MAKING, ABANDONED_S = "making-", 86_400.0
"""Name of folders with conversions in progress, and the age from which they are leftovers of a killed process,
s."""
XML, BIN, SUMS = "network.xml", "network.bin", "sha256.json"
TRACED_SIDE = 256
"""Side of the windows that a convolutional network is traced on, px; other networks use their own."""


class ConversionError(Exception):
    """A network that OpenVINO cannot convert or compile."""


def cache_folder() -> Path:
    """Folder of converted networks: ``RSCD_CACHE_DIR``, else in the user's cache folder of this system."""
    asked = os.environ.get("RSCD_CACHE_DIR")
    return (Path(asked) if asked else platformdirs.user_cache_path("rscd")) / "converted"


def traced_side(model: Model, window: int) -> int:
    """Side of the windows to trace on, px: for a transformer the computation depends on it."""
    return TRACED_SIDE if model.contract.any_window else window


def key_of(model: Model, side: int) -> str:
    """Cache key of a network: weights, contract, side and versions; for a caller's own module the object."""
    if not model.ours:
        return f"of this process {id(model.given)}"
    parts = model.sha256, model.contract.to_json(), side, openvino.__version__, VERSION, FORM
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:40]


def converted(model: Model, side: int) -> tuple[openvino.Model, str]:
    """The converted network, cached or new, and a message for the user; empty if there is none.

    Args:
        model: The model; its network is loaded only if it is not cached. A caller's own modules are not cached,
            because their code is not in the key.
        side: Side of the windows to trace on, px.

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
            with suppress(RuntimeError):  # OpenVINO cannot read the file: convert again
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
    """Convert, and put the result into the cache, unless another process has just done so.

    Raises:
        OSError: It cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=MAKING, dir=folder.parent, ignore_cleanup_errors=True) as name:
        made = Path(name, "whole")
        found = _make(model, side, made)
        if not _is_whole(folder):
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # another process has just stored its own
                made.rename(folder)
    _prune(folder)
    return found


def _prune(newest: Path) -> None:
    """Remove the least recently used networks, and leftovers of killed processes; safe while others do the same."""
    found: list[tuple[float, int, Path]] = []
    for path in newest.parent.iterdir():
        with suppress(OSError):  # already removed, or not a folder
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
    """Whether a cached network is complete and unchanged."""
    try:
        sums = json.loads((folder / SUMS).read_bytes())
        return all(_sha256(folder / name) == sums[name] for name in (XML, BIN))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _make(model: Model, side: int, folder: Path) -> openvino.Model:
    """Convert into a folder, and read the result back without leaving a file open.

    Raises:
        OSError: It cannot be written.
        ConversionError: It cannot be converted.
        ModelError: The checkpoint is not valid.
    """
    from rscd.inference.backends.conversion import FP32_LAYERS, convert, keep_in_fp32

    network = model.network  # outside the try: errors of the checkpoint are not OpenVINO's
    try:
        found = convert(network, model.contract, side)
    except MemoryError:
        raise
    except Exception as error:  # any error of the tracer or the converter
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConversionError(f"the network cannot be converted for OpenVINO ({why[:200]})") from error
    model.release()
    folder.mkdir()
    try:
        openvino.save_model(found, folder / XML, compress_to_fp16=False)
    except RuntimeError as error:  # raised if a file cannot be written
        raise OSError(f"disk full, or not writable ({str(error).strip().splitlines()[-1][:100]})") from error
    marked = keep_in_fp32(folder / XML, model.contract.encoder)
    if model.ours and model.contract.encoder in FP32_LAYERS and not marked:
        raise ConversionError("the converted network has other layer names than rscd expects")
    sums = {name: _sha256(folder / name) for name in (XML, BIN)}
    (folder / SUMS).write_text(json.dumps(sums), encoding="ascii")
    weights = openvino.Tensor(np.fromfile(folder / BIN, np.uint8))
    return openvino.Core().read_model((folder / XML).read_text(encoding="utf-8"), weights)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
