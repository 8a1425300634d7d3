"""Which embedded model a scene is for, where none is named: the one whose pixel sizes fit."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from rscd.core.contract import Contract
from rscd.core.grid import check_place, grid_of, gsd_m
from rscd.model.catalog import DEFAULT, embedded
from rscd.model.header import read_contract
from rscd.options.detect import DetectConfig
from rscd.scene.raster import open_raster


def choose_model(date: Path, *, remote: bool = False) -> str:
    """Name of the embedded model for a GeoTIFF's pixel size; the usual one where none fits, which then says so.

    Args:
        date: The date whose grid is the common one.
        remote: It may be an address.

    Raises:
        DataError: It is no GeoTIFF, or has no place on earth.
    """
    with open_raster(date, remote=remote) as dataset:
        if dataset.crs is None:
            return DEFAULT
        check_place(date, dataset.transform, dataset.crs.to_wkt())
        gsd = gsd_m(grid_of(dataset))
    return model_for(gsd)


def embedded_contracts() -> tuple[Contract, ...]:
    """The contracts of all embedded models."""
    return tuple(_embedded().values())


@cache
def _embedded() -> dict[str, Contract]:
    """Name -> contract of the embedded models: they travel with the package, so they are read once."""
    return {name: read_contract(path) for name, path in embedded().items()}


def model_for(gsd: float) -> str:
    """Name of the embedded model that is nearest to a pixel size, m; the usual one of several.

    Args:
        gsd: Ground sample distance, m.
    """
    distances = {}
    for name, contract in _embedded().items():
        low, high = contract.gsd_m
        distances[name] = max(low / gsd, gsd / high, 1.0)
    nearest = min(distances.values(), default=1.0)
    fitting = [name for name, distance in distances.items() if distance <= nearest * 1.001]
    return DEFAULT if DEFAULT in fitting or not fitting else fitting[0]


def with_model(config: DetectConfig) -> DetectConfig:
    """The options with a model named: where none is, the embedded one whose pixel sizes fit.

    Raises:
        DataError: The date whose grid is the common one is no GeoTIFF, or has no place on earth.
    """
    if config.model is not None:
        return config
    date = config.before if config.grid == "before" else config.after
    return replace(config, model=choose_model(date, remote=config.remote))
