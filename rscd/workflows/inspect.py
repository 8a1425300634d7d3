"""Inspect: is this pair fit to compare? The same measurements that ``detect`` starts with, without the network."""

from __future__ import annotations

from rscd.core.errors import DataError
from rscd.model.catalog import find_model, read_contract
from rscd.model.registry import choose_model, embedded_contracts
from rscd.options.pair import InspectConfig
from rscd.scene.inspection import Inspection
from rscd.scene.pair import open_pair, refuse_same_file
from rscd.scene.prepare import prepare


def inspect(config: InspectConfig) -> Inspection:
    """Measure geometry and radiometry of two GeoTIFFs, and judge whether they can be compared.

    An unfit pair is not an error here: the verdict is ``refused``, and the reason is the error that detect would
    raise.

    Raises:
        UsageError: An option is out of range.
        ModelError: The model was refused.
    """
    try:
        grid_date = config.before if config.grid == "before" else config.after
        name = config.model or choose_model(grid_date, remote=config.remote)
        contract = read_contract(find_model(name))
        with open_pair(config, contract.bands) as pair:
            refuse_same_file(config)
            return prepare(pair, contract, config, embedded_contracts()).inspection
    except DataError as error:
        where = f"{error.path}: " if error.path is not None else ""
        return Inspection("refused", (where + error.problem,), (error.remedy,))
