"""The QGIS plugin of rscd. It is self-contained: QGIS's Python imports it, and it needs neither rscd nor torch."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:  # noqa: ANN401 - QGIS calls it so
    """Make the plugin.

    Args:
        iface: QGIS's window, or None in ``qgis_process``.
    """
    from .plugin import RscdPlugin

    return RscdPlugin(iface)
