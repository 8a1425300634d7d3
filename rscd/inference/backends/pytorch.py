"""Torch: on CUDA; on CPUs the reference."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from rscd.core.errors import Interrupted, ModelError
from rscd.core.types import ByteArray, FloatArray
from rscd.inference.backends import MOST_CALLS, OUT_OF_MEMORY
from rscd.model.network import Logits, folded
from rscd.options.types import Precision


class TorchBackend:
    """A network on a torch device.

    Args:
        network: Network in evaluation mode; returns ``Logits``, or only the logits of change.
        temperature: Divisor of the logits before the sigmoid.
        device: ``cpu`` or ``cuda:N``.
        precision: ``auto``: bf16 on CUDA, else fp32.
        note: Message for the user on the choice of backend.
        calls: Maximum number of parallel calls on a CPU; they share its threads.
    """

    name = "torch"

    def __init__(
        self,
        network: torch.nn.Module,
        temperature: float = 1.0,
        device: str = "cpu",
        precision: Precision = "auto",
        *,
        note: str = "",
        calls: int = MOST_CALLS,
    ) -> None:
        self.version: str = torch.__version__
        self.device, self.note, self.fp32_batches = device, note, 0
        self._device = torch.device(device)
        self.network = folded(network).to(self._device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._temperature = temperature
        usual: Literal["fp32", "bf16"] = "bf16" if self._device.type == "cuda" else "fp32"
        self.precision: Literal["fp32", "bf16"] = usual if precision == "auto" else precision
        self.presence = getattr(network, "presence", None) is not None
        self.threads = torch.get_num_threads()
        self.workers = min(MOST_CALLS, calls, self.threads) if device == "cpu" else 1

    def __call__(self, before: ByteArray, after: ByteArray) -> FloatArray:
        """Probabilities 0..1 of one batch.

        Raises:
            MemoryError: The batch does not fit in the device's memory.
            ModelError: The network gives NaN or Inf, also in fp32.
            Interrupted: The device was lost.
        """
        try:
            return self._probabilities(before, after)
        except RuntimeError as error:
            if isinstance(error, torch.cuda.OutOfMemoryError) or OUT_OF_MEMORY.search(str(error)):
                short = str(error)
            elif isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error):
                raise Interrupted(
                    f"lost {self.device}: {str(error).splitlines()[0]}", remedy="run again to continue"
                ) from error
            else:
                raise
        if self._device.type == "cuda":  # the error is released by now, with the memory of the failed pass
            torch.cuda.empty_cache()
        raise MemoryError(short)

    def compile(self) -> None:
        """Compile the network, which takes a minute or more."""
        self.network = torch.compile(self.network, dynamic=False)  # type: ignore[assignment]

    @torch.inference_mode()
    def _probabilities(self, before: ByteArray, after: ByteArray) -> FloatArray:
        pair = self._to_device(before), self._to_device(after)
        logits = self._logits(pair, self.precision)
        if self.precision == "bf16" and not _finite(logits):
            self.fp32_batches += 1
            logits = self._logits(pair, "fp32")
        if not _finite(logits):
            raise ModelError("gives NaN or Inf instead of probabilities", remedy="use another checkpoint")
        p = logits.probabilities(self._temperature)
        found: FloatArray = (p if logits.presence is not None else p[:, 0]).cpu().numpy()
        return found

    def _logits(self, pair: tuple[torch.Tensor, ...], precision: Precision) -> Logits:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=precision == "bf16"):
            found: Logits | torch.Tensor = self.network(*pair)
        return Logits.of(found)

    def _to_device(self, images: ByteArray) -> torch.Tensor:
        """Copy a batch to the device as uint8: the network normalises it."""
        pixels = torch.from_numpy(np.ascontiguousarray(images))
        if self._device.type == "cuda":  # from pinned memory the copy does not wait for the device
            return pixels.pin_memory().to(self._device, non_blocking=True)
        return pixels


def _finite(logits: Logits) -> bool:
    return all(bool(part.isfinite().all()) for part in logits if part is not None)
