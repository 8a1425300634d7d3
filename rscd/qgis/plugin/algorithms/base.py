"""Common base of the algorithms: options to a command line, the run, its progress, and its results."""

from __future__ import annotations

import shlex
from typing import Any

from qgis.core import QgsProcessing, QgsProcessingAlgorithm, QgsProcessingContext, QgsProcessingException

from .. import program, settings
from ..layers import LayerError, Styled, vector_layers
from ..parameters import Option

RAN = "What was finished is kept: run it again with the same inputs and output files, and it continues."


class Algorithm(QgsProcessingAlgorithm):
    """A command of rscd."""

    command = ""
    """Name of the command."""
    title = ""
    """Title in the toolbox."""
    about = ""
    """Description in a few sentences."""
    lasting = ""
    """Name of an output that must not be temporary, because QGIS removes temporary files when it closes."""
    accepted: tuple[int, ...] = (0,)
    """Exit codes with results."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Option] = []

    def options(self) -> list[Option]:
        """Its parameters in order, newly created each time."""
        raise NotImplementedError

    def destinations(self) -> list[Any]:
        """Definitions of its outputs, newly created each time."""
        return []

    def name(self) -> str:
        """Name after the provider's."""
        return self.command

    def displayName(self) -> str:
        """Title in the toolbox."""
        return self.title

    def shortHelpString(self) -> str:
        """Help text next to the dialog."""
        return self.about

    def createInstance(self) -> Algorithm:
        """Create a new instance."""
        return type(self)()

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: ANN401 - QGIS's
        """Declare parameters and outputs."""
        self.made = self.options()
        for option in self.made:
            self.addParameter(option.definition)
        for definition in self.destinations():
            self.addParameter(definition)

    def canExecute(self) -> tuple[bool, str]:
        """Whether the program exists, checked before a dialog is opened."""
        try:
            settings.program()
        except program.ProgramError as error:
            return False, str(error)
        return True, ""

    def checkParameterValues(self, parameters: dict, context: Any) -> tuple[bool, str]:  # noqa: ANN401 - QGIS's
        """Refuse layers that rscd cannot read, before anything runs."""
        good, why = super().checkParameterValues(parameters, context)
        if not good:
            return good, why
        if self.lasting and parameters.get(self.lasting) in (None, "", QgsProcessing.TEMPORARY_OUTPUT):
            label = self.parameterDefinition(self.lasting).description()
            return False, f"{label}: a temporary file would be removed when QGIS closes - choose a file"
        try:
            self.words(parameters, context)
        except (LayerError, ValueError) as error:
            return False, str(error)
        return True, ""

    def words(self, parameters: dict, context: Any) -> list[str]:  # noqa: ANN401
        """The inputs and options as words of a command line.

        Raises:
            LayerError: A layer is not a local file.
        """
        return [word for option in self.made for word in option.words(self, parameters, context)]

    def prepareAlgorithm(self, parameters: dict, context: Any, feedback: Any) -> bool:  # noqa: ANN401 - QGIS's
        """Read the layers, which belong to the main thread."""
        try:
            self.prepared = self.words(parameters, context)
        except LayerError as error:
            raise QgsProcessingException(str(error)) from error
        return True

    def run_program(self, words: list[str], feedback: Any, *, progress: bool = True) -> program.Ended:  # noqa: ANN401
        """Run the command to its end; updates the algorithm's progress bar.

        Raises:
            QgsProcessingException: In one line: the program is missing or of another version, was interrupted, or
                ended with an error.
        """
        try:
            path = settings.program()
            program.check_version(path)
            arguments = [path, self.command, *words, *(["--progress", "json"] if progress else [])]
            feedback.pushCommandInfo(shlex.join(arguments))
            ended = program.run(arguments, lambda event: self.show(event, feedback), feedback.isCanceled)
        except program.ProgramError as error:
            raise QgsProcessingException(str(error)) from error
        if ended.code == program.RESUMABLE or (feedback.isCanceled() and ended.code):
            raise QgsProcessingException(f"rscd was interrupted{f' ({ended.error})' if ended.error else ''}. {RAN}")
        if ended.code not in self.accepted or (ended.code and not ended.output.strip()):
            raise QgsProcessingException(ended.error or f"rscd ended with exit code {ended.code}")
        return ended

    def show(self, event: program.Event, feedback: Any) -> None:  # noqa: ANN401
        """Show an event of the run in QGIS's log and bar."""
        if event["event"] == "message":
            feedback.pushInfo(str(event.get("text", "")))
        elif event["event"] == "progress":
            done, total = float(event["done"]), float(event["total"])
            if event.get("stage") == self.command and total > 0:
                feedback.setProgress(100 * done / total)
            note = f", {event['note']}" if event.get("note") else ""
            feedback.setProgressText(f"{event['stage']}: {done:,.10g} of {total:,.10g} {event['unit']}{note}")

    def load_styled(self, path: str, context: Any) -> None:  # noqa: ANN401
        """Load the style next to a raster output, if it is to be loaded."""
        pending = dict(context.layersToLoadOnCompletion())
        if path in pending:
            pending[path].setPostProcessor(Styled())
            context.setLayersToLoadOnCompletion(pending)

    def load_all(self, path: str, context: Any, layers: list[tuple[str, str]] | None = None) -> None:  # noqa: ANN401
        """Load all layers of a vector output with their styles; QGIS would load only the first.

        Args:
            path: The output.
            context: Tells whether it is to be loaded, and into which project.
            layers: (name, source) of the layers to load, topmost first; default: those of a change map.
        """
        pending = dict(context.layersToLoadOnCompletion())
        asked = pending.pop(path, None)
        if asked is None:
            return
        above: list[str] = []
        for rank, (name, source) in enumerate(vector_layers(path) if layers is None else layers):
            details = QgsProcessingContext.LayerDetails(name, asked.project, asked.outputName)
            details.forceName = True
            details.setPostProcessor(Styled(list(above)))
            if hasattr(details, "layerSortKey"):
                details.layerSortKey = -rank
            above.append(source)
            pending[source] = details
        context.setLayersToLoadOnCompletion(pending)
