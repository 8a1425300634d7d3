"""Choice of backend: torch anywhere; OpenVINO on CPUs, where it is several times as fast."""

from __future__ import annotations

import importlib.util
import platform
import sys

from rscd.core.errors import UsageError
from rscd.inference.backends import MOST_CALLS, Backend
from rscd.inference.device import choose_device
from rscd.inference.workers import load_ahead
from rscd.model.registry import Model
from rscd.options.types import BackendName, Precision

LATER = ("scipy.sparse.csgraph", "pyogrio", "scipy.spatial")
"""Libraries of the stages after the network: a fifth of a second, while OpenVINO compiles it."""


def check_backend(name: BackendName, device: str) -> str:
    """Return the device, ``cpu`` or ``cuda:N``; refuse a backend that cannot run there before anything is loaded.

    Args:
        name: Requested backend.
        device: Requested device.

    Raises:
        UsageError: There is no such device, OpenVINO is to use a GPU, or it is not installed.
    """
    found = choose_device(device)
    if name == "openvino" and found != "cpu":
        raise UsageError(f"--backend openvino --device {device}", remedy="use --device cpu, or --backend torch")
    if name == "openvino" and not has_openvino():
        raise UsageError("--backend openvino: it is not installed", remedy="pip install openvino")
    return found


def has_openvino() -> bool:
    """Whether OpenVINO is installed; for some systems it has no wheels."""
    return importlib.util.find_spec("openvino") is not None


def open_backend(
    model: Model,
    name: BackendName,
    device: str,
    precision: Precision,
    shape: tuple[int, int, int, int],
    calls: int = MOST_CALLS,
) -> Backend:
    """The backend that the options request; ``auto`` uses OpenVINO only for rscd's own networks, on the CPU.

    Args:
        model: The model; its network is loaded only if necessary.
        name: ``auto``, ``torch`` or ``openvino``.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        precision: ``auto``, ``fp32`` or ``bf16``.
        shape: Shape of the usual batch of one date, (n, bands, h, w).
        calls: Maximum number of parallel calls on a CPU: one, if there is only one window.

    Raises:
        UsageError: As ``check_backend``; or OpenVINO was requested and cannot convert the network.
        ModelError: The model was refused.
    """
    found, note = check_backend(name, device), ""
    if name == "openvino" or (name == "auto" and found == "cpu" and model.ours):
        try:
            return _openvino(model, precision, shape, calls)
        except _Unavailable as error:
            if name == "openvino":
                raise UsageError(f"--backend openvino: {error}", remedy="use --backend torch") from error
            note = f"{error}; torch is used, which is slower" if str(error) else ""
    from rscd.inference.backends.pytorch import TorchBackend

    return TorchBackend(model.network, model.contract.temperature, found, precision, note=note, calls=calls)


class _Unavailable(Exception):
    """OpenVINO cannot run the network here; without a message if that is expected."""


def _openvino(model: Model, precision: Precision, shape: tuple[int, int, int, int], calls: int) -> Backend:
    """The network in OpenVINO.

    Raises:
        _Unavailable: OpenVINO cannot run the network here.
        ModelError: The model was refused.
    """
    if not has_openvino():
        raise _Unavailable("openvino is not installed" if _has_wheels() else "")
    try:
        from rscd.inference.backends.openvino import ConversionError, OpenVinoBackend
    except (ImportError, OSError) as error:  # a system library that it needs is missing
        raise _Unavailable(f"openvino cannot be loaded ({str(error).splitlines()[0][:200]})") from error
    load_ahead(*LATER)
    try:
        return OpenVinoBackend(model, precision, shape, calls)
    except ConversionError as error:
        raise _Unavailable(str(error)) from error


def _has_wheels() -> bool:
    """Whether rscd depends on OpenVINO on this kind of machine: as in ``pyproject.toml``."""
    return sys.platform != "darwin" and platform.machine() in ("x86_64", "AMD64")
