r"""Map what changed between two large GeoTIFFs of the same place.

The stages, in the order in which a pair passes through them::

    pair -> grid -> windows -> read -> normalise -> forward -> blend -> BandRecord -> probability raster
                                                                          |   \-----> polygons -> GeoPackage
                                                                          \---------> report

``rscd/detection.py`` tells the story; one folder a room: ``scene`` (files to arrays), ``model``, ``inference``
(arrays to band records), ``output`` (band records to files), ``training``, ``archive``, ``simulate``, ``cli``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["DetectConfig", "__version__", "detect", "load_model"]

if TYPE_CHECKING:
    from rscd.config import DetectConfig
    from rscd.detection import detect
    from rscd.model.registry import load_model


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the three public names have three types
    """Import the public names on first use, so that ``rscd --help`` stays free of torch and GDAL."""
    homes = {"DetectConfig": "rscd.config", "detect": "rscd.detection", "load_model": "rscd.model.registry"}
    if name not in homes:
        raise AttributeError(f"module 'rscd' has no attribute {name!r}")
    return getattr(import_module(homes[name]), name)
