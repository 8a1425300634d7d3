"""OpenVINO: the network on CPUs, two to three times as fast as in torch, without torch once it has been converted.

Probabilities in fp32 are torch's but for rounding. In bf16, which ``auto`` takes where the CPU has instructions for
it and the model's contract says how little it changes, the first layers stay in fp32: docs/measurements.md.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import cache
from typing import Any, Literal

import numpy as np
import openvino
from openvino import opset8 as opset

from rscd.core.errors import ModelError, UsageError
from rscd.core.types import ByteArray, FloatArray
from rscd.inference.backends.converted import ConversionError, converted, key_of, traced_side
from rscd.inference.backends.protocol import OUT_OF_MEMORY
from rscd.inference.device import cpu_bf16, cpu_threads
from rscd.model.registry import Model
from rscd.options.types import Precision

Shape = tuple[int, ...]
MOST_STREAMS = 4
"""Calls side by side, at most: each holds its own layers in memory."""
BF16_FIGURE, BF16_MOST = "bf16_p999", 0.03
"""Figure of a contract: by how much p differs in bf16 (99.9th percentile over all validation pixels, as ``python -m
tests.benchmarks precision`` measures it); and the most of it with which ``auto`` takes bf16."""
COMPILED = 2
"""Compiled networks that a process holds for the next pair."""
_LOCK = threading.Lock()
_HELD: OrderedDict[tuple[object, ...], Any] = OrderedDict()


class OpenVinoBackend:
    """A network on this machine's CPU.

    Args:
        model: The model; its network is loaded only to be converted, the first time.
        precision: ``auto`` is bf16 where the contract says how little that changes and the CPU has it, else fp32.
        shape: Of the usual batch of a date, (n, bands, h, w), which is made ready; others are as they come.

    Raises:
        ConversionError: The network cannot be converted, or not be compiled.
        ModelError: The checkpoint is not valid.
    """

    name, device = "openvino", "cpu"

    def __init__(self, model: Model, precision: Precision, shape: Shape) -> None:
        self._model, self.note, self.version = model, "", openvino.__version__
        self.threads = cpu_threads()
        self.workers = min(MOST_STREAMS, self.threads)
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
            self.precision, self.note = "fp32", "this CPU does not take the network in bf16"
            self._request(shape, "fp32")
        if self.precision == "bf16":  # sums are rounded differently
            self.version += f", {cpu_bf16() or 'no bf16'}"

    def __call__(self, before: ByteArray, after: ByteArray) -> FloatArray:
        """Probabilities 0..1 of one batch.

        Raises:
            MemoryError: There is too little of it.
            ModelError: The network gives NaN, in fp32 too.
        """
        p = self._infer(before, after, self.precision)
        if self.precision == "bf16" and not np.isfinite(p).all():
            self.fp32_batches += 1
            p = self._infer(before, after, "fp32")
        if not np.isfinite(p).all():
            raise ModelError("gives NaN or Inf instead of probabilities", remedy="use another checkpoint")
        return p if self.presence else p[:, 0]

    def compile(self) -> None:
        """It is compiled already."""

    def _infer(self, before: ByteArray, after: ByteArray, precision: Literal["fp32", "bf16"]) -> FloatArray:
        try:
            request = self._request(before.shape, precision)
            given = [np.ascontiguousarray(date) for date in (before, after)]
            found: FloatArray = request.infer(given, share_inputs=True)[0]
        except ConversionError as error:  # of a batch of another size than the usual one
            raise UsageError(str(error), remedy="use --backend torch") from error
        except RuntimeError as error:
            if OUT_OF_MEMORY.search(str(error)):
                raise MemoryError(str(error)) from error
            raise
        return found

    def _request(self, shape: Shape, precision: Literal["fp32", "bf16"]) -> Any:  # noqa: ANN401 - untyped
        """This thread's own place in the compiled network."""
        held = self._local.__dict__.setdefault("requests", {})
        if (shape, precision) not in held:
            compiled, note = _compiled(self._model, shape, precision, self.threads, self.workers)
            self.note = self.note or note
            held[shape, precision] = compiled.create_infer_request()
        return held[shape, precision]


@cache
def _ready() -> None:
    """Call OpenVINO once before threads do.

    Its Python binding prepares itself at the first call. Where two threads make that call at once, each may hold
    what the other waits for, Python's lock among it: the process hangs (one start in five, with 8 threads).
    """
    given = opset.parameter([1], np.uint8)
    least = openvino.Model([opset.convert(given, "f32")], [given])
    request = openvino.Core().compile_model(least, "CPU").create_infer_request()
    request.infer([np.zeros(1, np.uint8)], share_inputs=True)


def _compiled(model: Model, shape: Shape, precision: str, threads: int, streams: int) -> tuple[Any, str]:
    """The network for batches of a shape, compiled once for all pairs of a process, and a note.

    Raises:
        ConversionError: It cannot be converted, or not be compiled.
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
            "ENABLE_CPU_PINNING": False,  # other processes of an archive would be pinned to the same cores
        }
        try:
            network.reshape({date: [*shape] for date in range(2)})
            # the model too: a module's number, which is its key, is not given to another as long as it is there
            _HELD[key] = openvino.Core().compile_model(network, "CPU", options), model.given
        except RuntimeError as error:
            if OUT_OF_MEMORY.search(str(error)):
                raise MemoryError(str(error)) from error
            why = str(error).strip().splitlines()[-1]
            raise ConversionError(f"OpenVINO does not compile the network in {precision} ({why[:200]})") from error
        while len(_HELD) > COMPILED:
            _HELD.popitem(last=False)
        return _HELD[key][0], note
