"""``rscd polygons`` in QGIS."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingParameterVectorDestination

from ..names import POLYGONS
from ..parameters import Option, more, raster
from .base import Algorithm
from .detect import discard_reviews, polygon_options


class PolygonsAlgorithm(Algorithm):
    """Make polygons of a kept probability raster."""

    command = "polygons"
    title = "Polygons at another threshold"
    about = (
        "Makes polygons anew of a probability raster that rscd wrote, at another threshold or smallest size; the "
        "network does not run. An output that exists is replaced, and its reviews are carried over."
    )

    def options(self) -> list[Option]:
        """As the command has them."""
        return [
            raster("PROBABILITY", "Probability of change, as rscd wrote it"),
            *polygon_options(),
            discard_reviews(),
            more(),
        ]

    def destinations(self) -> list[Any]:
        """The changes."""
        return [QgsProcessingParameterVectorDestination("OUTPUT", "Changes", POLYGONS)]

    def processAlgorithm(self, parameters: dict, context: Any, feedback: Any) -> dict[str, Any]:  # noqa: ANN401
        """Run it, and load both layers."""
        output = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        self.run_program([*self.prepared, "-o", output, "--overwrite"], feedback)
        self.load_all(output, context)
        return {"OUTPUT": output}
