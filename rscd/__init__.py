r"""Map what changed between two large GeoTIFFs of the same place.

One function per command, with its options and its result; ``docs/api.md`` shows them in use::

    from rscd import DetectConfig, detect

    result = detect(DetectConfig("before.tif", "after.tif", output="changes.gpkg"))

The stages, in the order in which a pair passes through them::

    pair -> grid -> windows -> read -> normalise -> forward -> blend -> StripRecord -> probability raster
                                                                          |   \-----> polygons -> GeoPackage
                                                                          \---------> journal, report

One folder per room, each importing only those above it:

* ``core``: types, errors, grids, paths, locks, publishing; imports no other room
* ``options``: the options of all commands, each declared once
* ``scene``: files to comparable arrays
* ``model``: network, contract, checkpoints, embedded weights
* ``inference``: arrays to strip records
* ``vectorize``: strip records to polygons with attributes
* ``output``: rasters, vector files, report, provenance
* ``simulate``: rendered scenes with exact labels
* ``training``: labels, losses, learning, evaluation
* ``jobs``: many pairs: manifest, ledger, schedule, summary
* ``workflows``: one module per command, its stages in order
* ``cli``: parsing and printing
* ``qgis``: the QGIS plugin, which imports no other room, and its installer
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rscd.core.version import VERSION as __version__

if TYPE_CHECKING:
    from rscd.core.errors import RscdError
    from rscd.model.registry import load_model
    from rscd.options.batch import BatchConfig
    from rscd.options.detect import DetectConfig, PolygonsConfig
    from rscd.options.pair import InspectConfig
    from rscd.options.training import EvaluateConfig, TrainConfig
    from rscd.output.results import Result, Written
    from rscd.scene.inspection import Inspection
    from rscd.training.evaluation.scores import Evaluation
    from rscd.workflows.batch import BatchPlan, BatchResult, batch, plan_batch
    from rscd.workflows.detect import detect
    from rscd.workflows.evaluate import evaluate
    from rscd.workflows.inspect import inspect
    from rscd.workflows.polygons import polygons
    from rscd.workflows.train import train

_HOMES = {
    "RscdError": "core.errors",
    "load_model": "model.registry",
    "BatchConfig": "options.batch",
    "InspectConfig": "options.pair",
    **dict.fromkeys(("DetectConfig", "PolygonsConfig"), "options.detect"),
    **dict.fromkeys(("EvaluateConfig", "TrainConfig"), "options.training"),
    **dict.fromkeys(("Result", "Written"), "output.results"),
    "Inspection": "scene.inspection",
    "Evaluation": "training.evaluation.scores",
    **dict.fromkeys(("BatchPlan", "BatchResult", "batch", "plan_batch"), "workflows.batch"),
    **{name: f"workflows.{name}" for name in ("detect", "evaluate", "inspect", "polygons", "train")},
}
"""Public name -> the module that holds it."""

__all__ = [
    "BatchConfig",
    "BatchPlan",
    "BatchResult",
    "DetectConfig",
    "EvaluateConfig",
    "Evaluation",
    "InspectConfig",
    "Inspection",
    "PolygonsConfig",
    "Result",
    "RscdError",
    "TrainConfig",
    "Written",
    "__version__",
    "batch",
    "detect",
    "evaluate",
    "inspect",
    "load_model",
    "plan_batch",
    "polygons",
    "train",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the public names have many types
    """Import public names on first use, so that ``rscd --help`` stays free of torch and GDAL."""
    if name not in _HOMES:
        raise AttributeError(f"module 'rscd' has no attribute {name!r}")
    return getattr(import_module(f"rscd.{_HOMES[name]}"), name)
