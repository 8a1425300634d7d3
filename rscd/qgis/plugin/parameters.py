"""Parameters of algorithms, each with its option of rscd."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

from qgis.core import (
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFile,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorLayer,
)

from .layers import first_layer_file, raster_file
from .names import ADVANCED, DOUBLE, FILE, FOLDER, INTEGER, POLYGONS
from .settings import AUTOMATIC, models

Words = Callable[[Any, dict, Any], "list[str]"]
"""(algorithm, parameters, context) -> words of the command line."""


class Option(NamedTuple):
    """A parameter, and the words on the command line for its value."""

    definition: Any
    """The parameter's definition; newly created for each algorithm, which owns it."""
    words: Words
    """Function that returns the words for its value."""


def advanced(option: Option) -> Option:
    """The option as an advanced one."""
    option.definition.setFlags(option.definition.flags() | ADVANCED)
    return option


def raster(name: str, label: str, flag: str = "", *, optional: bool = False) -> Option:
    """A raster layer that is a local file."""

    def words(algorithm: Any, parameters: dict, context: Any) -> list[str]:  # noqa: ANN401
        layer = algorithm.parameterAsRasterLayer(parameters, name, context)
        return flagged(flag, raster_file(layer)) if layer is not None else []

    return Option(QgsProcessingParameterRasterLayer(name, label, optional=optional), words)


def area(name: str = "AOI", label: str = "Area of interest: nothing outside it is compared") -> Option:
    """A polygon layer that is a local file."""

    def words(algorithm: Any, parameters: dict, context: Any) -> list[str]:  # noqa: ANN401
        layer = algorithm.parameterAsVectorLayer(parameters, name, context)
        return ["--aoi", first_layer_file(layer)] if layer is not None else []

    return Option(QgsProcessingParameterVectorLayer(name, label, [POLYGONS], optional=True), words)


def number(name: str, label: str, flag: str, least: float = 0.0, most: float | None = None) -> Option:
    """A number; empty for rscd's default."""
    definition = QgsProcessingParameterNumber(name, label, DOUBLE, None, optional=True, minValue=least)
    if most is not None:
        definition.setMaximum(most)

    def words(algorithm: Any, parameters: dict, context: Any) -> list[str]:  # noqa: ANN401
        if parameters.get(name) in (None, ""):
            return []
        return [flag, f"{algorithm.parameterAsDouble(parameters, name, context):.10g}"]

    return Option(definition, words)


def whole(name: str, label: str, flag: str, least: int = 0) -> Option:
    """A whole number; empty for rscd's default."""
    definition = QgsProcessingParameterNumber(name, label, INTEGER, None, optional=True, minValue=least)

    def words(algorithm: Any, parameters: dict, context: Any) -> list[str]:  # noqa: ANN401
        if parameters.get(name) in (None, ""):
            return []
        return [flag, str(algorithm.parameterAsInt(parameters, name, context))]

    return Option(definition, words)


def switch(
    name: str, label: str, *, on: Sequence[str] = (), off: Sequence[str] = (), default: bool = False
) -> Option:
    """A check box, and the words for both states."""

    def words(algorithm: Any, parameters: dict, context: Any) -> list[str]:  # noqa: ANN401
        return list(on if algorithm.parameterAsBoolean(parameters, name, context) else off)

    return Option(QgsProcessingParameterBoolean(name, label, default), words)


def text(name: str, label: str, flag: str, default: str | None = None) -> Option:
    """A text; empty for rscd's default."""

    def words(algorithm: Any, parameters: dict, context: Any) -> list[str]:  # noqa: ANN401
        return flagged(flag, algorithm.parameterAsString(parameters, name, context).strip())

    return Option(QgsProcessingParameterString(name, label, default, optional=True), words)


def choice(name: str, label: str, flag: str, values: Sequence[str]) -> Option:
    """One of several words; the first is rscd's default."""
    definition = QgsProcessingParameterEnum(name, label, list(values), False, values[0], usesStaticStrings=True)

    def words(algorithm: Any, parameters: dict, context: Any) -> list[str]:  # noqa: ANN401
        chosen = algorithm.parameterAsEnumString(parameters, name, context)
        return [] if chosen in ("", values[0]) else [flag, chosen]

    return Option(definition, words)


def file(name: str, label: str, flag: str = "", suffix: str = "", *, folder: bool = False) -> Option:
    """An input file or folder."""
    kind = FOLDER if folder else FILE
    definition = QgsProcessingParameterFile(name, label, kind, suffix, None, True)

    def words(algorithm: Any, parameters: dict, context: Any) -> list[str]:  # noqa: ANN401
        return flagged(flag, algorithm.parameterAsFile(parameters, name, context))

    return Option(definition, words)


def model(flag: str = "--model", first: str = AUTOMATIC) -> list[Option]:
    """A model included in rscd; or a checkpoint file, which takes precedence.

    Args:
        flag: The option of rscd.
        first: The default choice.
    """
    names = [AUTOMATIC, *(name for name in models() if name != AUTOMATIC)]
    default = first if first in names else AUTOMATIC
    label = "Model" if flag == "--model" else "Model to start from"
    listed = QgsProcessingParameterEnum("MODEL", label, names, False, default, usesStaticStrings=True)
    own = file("MODEL_FILE", f"{label}: a checkpoint file instead", flag, "safetensors")

    def words(algorithm: Any, parameters: dict, context: Any) -> list[str]:  # noqa: ANN401
        chosen = algorithm.parameterAsEnumString(parameters, "MODEL", context)
        instead = own.words(algorithm, parameters, context)
        return [] if instead or chosen in ("", AUTOMATIC) else [flag, chosen]

    return [Option(listed, words), own]


def more() -> Option:
    """Any other options of the command, as on the command line."""
    option = text("MORE", "Further options of rscd, as on its command line", "")

    def words(algorithm: Any, parameters: dict, context: Any) -> list[str]:  # noqa: ANN401
        return shlex.split(algorithm.parameterAsString(parameters, "MORE", context))

    return advanced(Option(option.definition, words))


def flagged(flag: str, value: str) -> list[str]:
    """A value after its option; without option only the value; empty without a value."""
    if not value:
        return []
    return [flag, value] if flag else [value]
