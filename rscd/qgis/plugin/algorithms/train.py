"""``rscd train --from-review`` in QGIS."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingParameterFileDestination, QgsProcessingParameterMultipleLayers

from ..layers import vector_file
from ..names import POLYGONS
from ..parameters import Option, advanced, area, file, model, more, number, switch, text, whole
from .base import Algorithm


def reviews() -> Option:
    """Layers whose column ``review`` was filled in."""
    label = "Reviewed layers: changes that rscd found, with answers in the column review"
    definition = QgsProcessingParameterMultipleLayers("REVIEWS", label, POLYGONS)

    def words(algorithm: Any, parameters: dict, context: Any) -> list[str]:  # noqa: ANN401
        layers = algorithm.parameterAsLayerList(parameters, "REVIEWS", context)
        files = dict.fromkeys(vector_file(layer) for layer in layers)
        return [word for path in files for word in ("--from-review", path)]

    return Option(definition, words)


class TrainAlgorithm(Algorithm):
    """Fine-tune a model on reviews."""

    command = "train"
    title = "Train on reviews"
    lasting = "OUTPUT"
    about = (
        "Fine-tunes a model on polygons that you accepted or rejected, and writes a checkpoint that the other "
        "algorithms take as a model. Cancel keeps the state of the run: run it again with the same inputs and "
        "output, and it continues."
    )

    def options(self) -> list[Option]:
        """The options of the command that are needed for reviews."""
        return [
            reviews(),
            *model("--init", "buildings"),
            area(label="Area that was reviewed completely: the rest of it is unchanged"),
            whole("EPOCHS", "Epochs (empty: 12)", "--epochs", 1),
            advanced(whole("CROPS", "Crops per epoch (empty: 960)", "--crops", 1)),
            advanced(whole("CROP", "Side of a crop in px, a multiple of 32", "--crop", 64)),
            advanced(whole("BATCH_SIZE", "Crops per step", "--batch-size", 1)),
            advanced(number("RATE", "Peak learning rate (empty: 0.001)", "--rate")),
            advanced(number("LIMIT", "Stop after this many minutes", "--limit-minutes")),
            advanced(file("DATA", "Labelled tiles or scenes to train on in addition", "", folder=True)),
            advanced(file("VALIDATION", "Labelled tiles or scenes to validate on", "--val", folder=True)),
            advanced(text("NAME", "Name of the model", "--name")),
            advanced(text("DEVICE", "Device: auto, cpu or cuda:N", "--device", "auto")),
            advanced(switch("OVERWRITE", "Replace an existing checkpoint, and start anew", on=["--overwrite"])),
            more(),
        ]

    def destinations(self) -> list[Any]:
        """The checkpoint."""
        kind = "Checkpoint (*.safetensors)"
        return [QgsProcessingParameterFileDestination("OUTPUT", "Checkpoint to write", kind)]

    def processAlgorithm(self, parameters: dict, context: Any, feedback: Any) -> dict[str, Any]:  # noqa: ANN401
        """Run it."""
        output = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        self.run_program([*self.prepared, "-o", output], feedback)
        return {"OUTPUT": output}
