"""One forward pass: device, precision, batch; pixels in, calibrated probabilities out, at any pixel size."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import interpolate

from rscd.core.contract import STRIDE, Contract
from rscd.core.errors import Interrupted, ModelError, UsageError
from rscd.core.types import ByteArray, FloatArray
from rscd.inference.device import choose_device
from rscd.inference.workers import workers_on
from rscd.model.fold import folded
from rscd.model.network import Logits, resize
from rscd.options.detect import DetectConfig
from rscd.options.training import EvaluateConfig
from rscd.options.types import Precision

Forward = Callable[[ByteArray, ByteArray], FloatArray]
"""(n, bands, h, w) of both dates -> probabilities (n, h, w), or (n, 3, h, w) with presence, e.g. a Predictor."""


@dataclass
class Faults:
    """What went wrong on the device and was mended; each may move a probability by 1/254."""

    halvings: int = 0
    """Times that the batch was halved, for it did not fit in the device's memory."""
    fp32_batches: int = 0
    """Batches that gave NaN or Inf in bf16 and were forwarded again in fp32."""


class View(NamedTuple):
    """A way to turn and flip the last two axes of a tensor."""

    turns: int
    """Quarter turns, against the clock."""
    flipped: bool
    """Whether columns are mirrored first."""

    def of(self, images: torch.Tensor) -> torch.Tensor:
        """The images so seen."""
        return torch.rot90(images.flip(-1) if self.flipped else images, self.turns, (-2, -1))

    def back(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps of images so seen, as of the images themselves."""
        turned = torch.rot90(maps, -self.turns, (-2, -1))
        return turned.flip(-1) if self.flipped else turned


VIEWS = tuple(View(turns, flipped) for flipped in (False, True) for turns in range(4))
"""All eight, the first of which changes nothing."""
_OUT_OF_MEMORY = re.compile(
    "CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
    "|DefaultCPUAllocator|can't allocate memory|could not create a (?:memory|primitive)|std::bad_alloc"
)


class Predictor:
    """A network on a device: batches of window pairs in, probabilities out.

    Args:
        network: In evaluation mode; gives ``Logits``, or those of change alone.
        temperature: Divides the logits before the sigmoid.
        device: Where to run.
        precision: ``auto`` is bf16 on CUDA, fp32 elsewhere.
        tta: Test-time augmentation: the mean over the eight ways to turn and flip a square window, each forwarded.
        batch_size: Windows a forward pass; short batches are padded to it, so shapes never change and a
            window's result does not depend on how many came with it. None is one, until ``tune`` finds better.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        temperature: float = 1.0,
        device: torch.device | None = None,
        precision: Precision = "auto",
        batch_size: int | None = None,
        *,
        tta: bool = False,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.network = folded(network).to(self.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.temperature = temperature
        self.precision: Precision = precision
        if precision == "auto":
            self.precision = "bf16" if self.device.type == "cuda" else "fp32"
        self.batch_size, self.batch_chosen = batch_size or 1, batch_size is not None
        self.workers = workers_on(self.device)
        self.views = VIEWS if tta else VIEWS[:1]
        self.presence = getattr(network, "presence", None) is not None
        """Whether the network has a presence head."""
        self.faults = Faults()

    @classmethod
    def of(cls, network: torch.nn.Module, contract: Contract, config: DetectConfig | EvaluateConfig) -> Predictor:
        """A model on the device, and in the way, that the options ask for.

        Raises:
            UsageError: No such device on this machine.
        """
        device = choose_device(config.device)
        return cls(network, contract.temperature, device, config.precision, config.batch_size, tta=config.tta)

    def __call__(self, before: ByteArray, after: ByteArray) -> FloatArray:
        """Probabilities 0..1 of window pairs (n, 3, H, W) on the 0..255 scale.

        Returns:
            Those of change (n, H, W); of a network with a presence head, (n, 3, H, W): change, and presence before
            and after.

        Raises:
            UsageError: The device's memory does not hold a single window.
            ModelError: The network gives NaN or Inf, in fp32 too.
            Interrupted: The device is gone.
        """
        found: list[FloatArray] = []
        while (done := sum(map(len, found))) < len(before):
            part = slice(done, done + self.batch_size)
            p = self.attempt(before[part], after[part])
            if p is None:
                self._halve()
            else:
                found.append(p)
        return np.concatenate(found)

    def attempt(self, before: ByteArray, after: ByteArray) -> FloatArray | None:
        """One forward pass; None if the device's memory does not hold it."""
        try:
            return self._forward(before, after)
        except (RuntimeError, MemoryError) as error:
            short = isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError))
            if short or _OUT_OF_MEMORY.search(str(error)):
                return None  # leaving here lets go of what the failed pass held
            if isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error):
                raise Interrupted(
                    f"lost {self.device}: {str(error).splitlines()[0]}", remedy="run again to go on where it was"
                ) from error
            raise

    def _halve(self) -> None:
        """Take smaller batches from now on."""
        if self.batch_size == 1:
            raise UsageError(
                f"a single window does not fit in the memory of {self.device}",
                remedy="free its memory, or use a smaller --window"
                + (", or --device cpu" if self.device.type == "cuda" else ""),
            )
        self.batch_size //= 2
        self.faults.halvings += 1
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _forward(self, before: ByteArray, after: ByteArray) -> FloatArray:
        pair = [self._to_device(images) for images in (before, after)]
        p = self._probabilities(*pair)
        if len(self.views) > 1:
            for view in self.views[1:]:
                p = p + view.back(self._probabilities(*(view.of(images).contiguous() for images in pair)))
            p = p / len(self.views)
        found: FloatArray = p.cpu().numpy()
        return found[: len(before)]

    def _probabilities(self, *pair: torch.Tensor) -> torch.Tensor:
        logits = self._logits(pair, self.precision)
        if self.precision == "bf16" and not _finite(logits):
            self.faults.fp32_batches += 1
            logits = self._logits(pair, "fp32")
        if not _finite(logits):
            raise ModelError("gives NaN or Inf instead of probabilities", remedy="use another checkpoint")
        p = (logits.change / self.temperature).sigmoid()
        if logits.presence is not None:
            p = torch.cat([p[:, None], resize(logits.presence.sigmoid(), p.shape[-2:])], dim=1)
        return p

    def _logits(self, pair: tuple[torch.Tensor, ...], precision: Precision) -> Logits:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16"):
            found: Logits | torch.Tensor = self.network(*pair)
        change, presence = found if isinstance(found, Logits) else (found, None)
        return Logits(change.float(), None if presence is None else presence.float())

    def _to_device(self, images: ByteArray) -> torch.Tensor:
        """Pad the batch with copies of its first window and move it as it is (normalising is the network's)."""
        short = self.batch_size - len(images)
        if short:
            images = np.concatenate([images, np.repeat(images[:1], short, axis=0)])
        pixels = torch.from_numpy(np.ascontiguousarray(images))
        if self.device.type == "cuda":  # from locked memory the copy does not wait for what the device is at
            return pixels.pin_memory().to(self.device, non_blocking=True)
        return pixels


def _finite(logits: Logits) -> bool:
    return all(bool(part.isfinite().all()) for part in logits if part is not None)


def choose_window(window: int | None, overlap: int | None, contract: Contract) -> tuple[int, int]:
    """Window and overlap in px: as asked, else the contract's; a smaller window gets a smaller overlap.

    Raises:
        UsageError: The overlap is not below the window.
    """
    window = contract.window if window is None else window
    overlap = min(contract.overlap, window // 4) if overlap is None else overlap
    if not 0 <= overlap < window:
        raise UsageError(f"--overlap {overlap}", remedy=f"use 0 to {window - 1} px")
    return window, overlap


def window_on_grid(window: int, overlap: int, factor: float) -> tuple[int, int]:
    """Window and overlap in px of the scene for those in px of the model.

    Args:
        window: Side of the model's window, px.
        overlap: Its overlap, px.
        factor: Model pixel size divided by scene pixel size: above 1 the scene is finer.
    """
    side = max(STRIDE, round(window * factor))
    return side, min(round(overlap * factor), side - 1)


def fit_to(predictor: Predictor, window: int, factor: float) -> Forward:
    """The predictor for windows of the scene: itself, or wrapped where the scene has another pixel size."""
    return predictor if factor == 1 else Rescaled(predictor, window)


class Rescaled:
    """A predictor that is shown windows of another size: resampled to its own, and its answer back.

    Args:
        predictor: The network.
        window: Side of the network's window, px.
    """

    def __init__(self, predictor: Predictor, window: int) -> None:
        self._predictor, self._window = predictor, window

    def __call__(self, before: ByteArray, after: ByteArray) -> FloatArray:
        """What the predictor says of window pairs (n, 3, H, W), all in px of the scene."""
        side = before.shape[-1]
        p = self._predictor(self._shrink(before), self._shrink(after))
        maps = torch.from_numpy(p.reshape(len(p), -1, *p.shape[-2:]))
        back = interpolate(maps, size=(side, side), mode="bilinear", align_corners=False)
        found: FloatArray = back.numpy().reshape(*p.shape[:-2], side, side)
        return found

    def _shrink(self, images: ByteArray) -> ByteArray:
        """Resample to the network's window; finer pixels are averaged (antialiased)."""
        pixels = interpolate(
            torch.from_numpy(images).float(),
            size=(self._window, self._window),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        done: ByteArray = pixels.round_().clamp_(0, 255).byte().numpy()
        return done
