"""Entry point for QGIS: the Processing provider, a menu with the detect dialog, and the review panel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsApplication, QgsProcessingProvider, QgsProject
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtGui import QIcon

from .algorithms.batch import BatchAlgorithm
from .algorithms.pair import DetectAlgorithm, InspectAlgorithm, PolygonsAlgorithm
from .algorithms.train import TrainAlgorithm
from .settings import PROGRAM

MENU = "rscd"


class RscdPlugin:
    """The plugin.

    Args:
        iface: QGIS's window, or None in ``qgis_process``.
    """

    def __init__(self, iface: Any) -> None:  # noqa: ANN401
        self.iface = iface
        self.provider: Any = None
        self.dock: Any = None
        self.actions: list[Any] = []

    def initProcessing(self) -> None:
        """Add the algorithms; ``qgis_process`` calls only this."""
        self.provider = RscdProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:
        """Add the algorithms, the menu, and the review panel."""
        from .review.dock import ReviewDock

        self.initProcessing()
        self.dock = ReviewDock(self.iface.mapCanvas(), QgsProject.instance(), self.iface.mainWindow())
        self.dock.train_requested.connect(self.train)
        self.iface.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, self.dock)
        self.dock.hide()
        self.iface.currentLayerChanged.connect(self.dock.take_layer)
        self._add("Detect changes...", lambda: self.open_dialog("rscd:detect"))
        self._add("Is this pair fit?", lambda: self.open_dialog("rscd:inspect"))
        self._add("Review changes", self.show_dock)

    def unload(self) -> None:
        """Remove everything."""
        for action in self.actions:
            self.iface.removePluginRasterMenu(MENU, action)
        self.actions = []
        if self.dock is not None:
            self.iface.currentLayerChanged.disconnect(self.dock.take_layer)
            self.iface.removeDockWidget(self.dock)
            self.dock.close_down()
            self.dock = None
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None

    def open_dialog(self, algorithm: str, values: dict[str, Any] | None = None) -> Any:  # noqa: ANN401
        """Open the dialog of an algorithm with some values filled in, and return it."""
        import processing

        dialog = processing.createAlgorithmDialog(algorithm, values or {})
        if dialog is not None:
            dialog.show()
        return dialog

    def show_dock(self) -> None:
        """Show the review panel, for the active layer if it has changes."""
        self.dock.take_layer(self.iface.activeLayer())
        self.dock.show()
        self.dock.raise_()

    def train(self, layer: Any) -> None:  # noqa: ANN401
        """Open the training dialog with a reviewed layer filled in."""
        self.open_dialog("rscd:train", {"REVIEWS": [layer.id()]})

    def _add(self, text: str, called: Any) -> None:  # noqa: ANN401
        from qgis.PyQt.QtWidgets import QAction

        action = QAction(QIcon(str(ICON)), text, self.iface.mainWindow())
        action.triggered.connect(lambda _checked=False: called())
        self.iface.addPluginToRasterMenu(MENU, action)
        self.actions.append(action)


ICON = Path(__file__).with_name("icon.svg")


class RscdProvider(QgsProcessingProvider):
    """The algorithms of rscd."""

    def id(self) -> str:
        """Prefix of the algorithms."""
        return "rscd"

    def name(self) -> str:
        """Name in the toolbox."""
        return "rscd"

    def longName(self) -> str:
        """Name in the options."""
        return "rscd (change detection)"

    def icon(self) -> QIcon:
        """Icon in the toolbox."""
        return QIcon(str(ICON))

    def load(self) -> bool:
        """Declare the settings, then the algorithms."""
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        words = "Program rscd (empty: search for it)"
        ProcessingConfig.addSetting(Setting(self.name(), PROGRAM, words, "", valuetype=Setting.FILE))
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self) -> None:
        """Remove the settings."""
        ProcessingConfig.removeSetting(PROGRAM)

    def loadAlgorithms(self) -> None:
        """Create the algorithms."""
        for make in (DetectAlgorithm, InspectAlgorithm, PolygonsAlgorithm, BatchAlgorithm, TrainAlgorithm):
            self.addAlgorithm(make())

    def supportedOutputVectorLayerExtensions(self) -> list[str]:
        """Suffixes of vector files that rscd writes."""
        return ["gpkg", "geojson", "fgb", "parquet"]

    def supportedOutputRasterLayerExtensions(self) -> list[str]:
        """Suffixes of rasters that rscd writes."""
        return ["tif"]

    def supportsNonFileBasedOutput(self) -> bool:
        """Whether results can be other than files: no, rscd cannot write into QGIS's memory."""
        return False
