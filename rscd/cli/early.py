"""What a command can refuse before torch and GDAL are loaded: files that are missing, or in the way."""

from __future__ import annotations

from pathlib import Path

from rscd.core.paths import GEOTIFF, MANIFEST, VECTORS, Targets, require_file
from rscd.model.catalog import find_model
from rscd.options.batch import BatchConfig
from rscd.options.detect import DetectConfig, PolygonsConfig
from rscd.options.pair import InspectConfig, PairConfig
from rscd.options.training import LabelledConfig
from rscd.output.vector.formats import check_vector_name

Config = DetectConfig | InspectConfig | PolygonsConfig | BatchConfig | LabelledConfig


def refuse_early(config: Config) -> None:
    """Look at what a command reads and writes, without opening it; the command itself looks again.

    Raises:
        UsageError: An output is in the way, or cannot be meant.
        DataError: An input is missing.
        ModelError: There is no such model.
        OutputError: An output cannot be written.
    """
    for path, remedy in _inputs(config):
        require_file(path, remedy)
    model = config.detect.model if isinstance(config, BatchConfig) else getattr(config, "model", None)
    if model is not None:
        find_model(model)
    if isinstance(config, DetectConfig | PolygonsConfig):
        check_vector_name(config.output)
    if isinstance(config, DetectConfig):
        targets = Targets(config.output, config.probability, config.report, config.project)
        targets.check(config.inputs, overwrite=config.overwrite)
    if isinstance(config, PolygonsConfig):
        Targets(config.output).check([config.probability], overwrite=config.overwrite)


def _inputs(config: Config) -> list[tuple[Path, str]]:
    """Files that must be there, and what to do where one is not."""
    if isinstance(config, PolygonsConfig):
        return [(config.probability, GEOTIFF)]
    if isinstance(config, BatchConfig):
        return [(config.manifest, MANIFEST)] if config.manifest is not None else []
    images = config.rasters.values() if isinstance(config, PairConfig) else (config.pair or ())[:2]
    areas = [config.aoi] if config.aoi is not None else []
    return [*((image, GEOTIFF) for image in images), *((area, VECTORS) for area in areas)]
