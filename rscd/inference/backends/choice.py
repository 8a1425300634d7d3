"""Which backend: torch anywhere, OpenVINO on CPUs, where it is several times as fast."""

from __future__ import annotations

import importlib.util
import platform
import sys

from rscd.core.errors import UsageError
from rscd.inference.backends import Backend
from rscd.inference.device import choose_device
from rscd.model.registry import Model
from rscd.options.types import BackendName, Precision


def check_backend(name: BackendName, device: str) -> str:
    """The device, ``cpu`` or ``cuda:N``; a backend that cannot run there is refused before anything is loaded.

    Args:
        name: As asked for.
        device: As asked for.

    Raises:
        UsageError: No such device, a GPU for OpenVINO, or no OpenVINO.
    """
    found = choose_device(device)
    if name == "openvino" and found != "cpu":
        raise UsageError(f"--backend openvino --device {device}", remedy="use --device cpu, or --backend torch")
    if name == "openvino" and not has_openvino():
        raise UsageError("--backend openvino: it is not installed", remedy="pip install openvino")
    return found


def has_openvino() -> bool:
    """Whether OpenVINO is installed; there are no wheels of it for some systems."""
    return importlib.util.find_spec("openvino") is not None


def open_backend(
    model: Model, name: BackendName, device: str, precision: Precision, shape: tuple[int, int, int, int]
) -> Backend:
    """The backend that the options ask for; OpenVINO by itself only for networks of ours, on the CPU.

    Args:
        model: The model; its network is loaded only if that is needed.
        name: ``auto``, ``torch`` or ``openvino``.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        precision: ``auto``, ``fp32`` or ``bf16``.
        shape: Of the usual batch of a date, (n, bands, h, w).

    Raises:
        UsageError: As ``check_backend``; or the network cannot be converted, and OpenVINO was asked for.
        ModelError: The model was refused.
    """
    found, note = check_backend(name, device), ""
    if name == "openvino" or (name == "auto" and found == "cpu" and model.ours):
        try:
            return _openvino(model, precision, shape)
        except _Unavailable as error:
            if name == "openvino":
                raise UsageError(f"--backend openvino: {error}", remedy="use --backend torch") from error
            note = f"{error}; torch is used, which is slower" if str(error) else ""
    from rscd.inference.backends.pytorch import TorchBackend

    return TorchBackend(model.network, model.contract.temperature, found, precision, note=note)


class _Unavailable(Exception):
    """OpenVINO cannot run the network here; empty where that is as it should be."""


def _openvino(model: Model, precision: Precision, shape: tuple[int, int, int, int]) -> Backend:
    """The network in OpenVINO.

    Raises:
        _Unavailable: As said.
        ModelError: The model was refused.
    """
    if not has_openvino():
        raise _Unavailable("openvino is not installed" if _has_wheels() else "")
    try:
        from rscd.inference.backends.openvino import ConversionError, OpenVinoBackend
    except (ImportError, OSError) as error:  # a library of the system that it needs is not there
        raise _Unavailable(f"openvino cannot be loaded ({str(error).splitlines()[0][:200]})") from error
    try:
        return OpenVinoBackend(model, precision, shape)
    except ConversionError as error:
        raise _Unavailable(str(error)) from error


def _has_wheels() -> bool:
    """Whether rscd asks for OpenVINO on such a machine: as in ``pyproject.toml``."""
    return sys.platform != "darwin" and platform.machine() in ("x86_64", "AMD64")
