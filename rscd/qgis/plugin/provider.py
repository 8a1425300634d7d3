"""The Processing provider: the algorithms, and where the program is, under Options > Processing > Providers."""

from __future__ import annotations

from pathlib import Path

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithms.batch import BatchAlgorithm
from .algorithms.detect import DetectAlgorithm
from .algorithms.inspect import InspectAlgorithm
from .algorithms.polygons import PolygonsAlgorithm
from .algorithms.train import TrainAlgorithm
from .settings import PROGRAM

ICON = Path(__file__).with_name("icon.svg")


class RscdProvider(QgsProcessingProvider):
    """The algorithms of rscd."""

    def id(self) -> str:
        """Prefix of the algorithms."""
        return "rscd"

    def name(self) -> str:
        """As the toolbox shows it."""
        return "rscd"

    def longName(self) -> str:
        """As the options show it."""
        return "rscd (change detection)"

    def icon(self) -> QIcon:
        """Icon in the toolbox."""
        return QIcon(str(ICON))

    def load(self) -> bool:
        """Declare the settings, then the algorithms."""
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        words = "Program rscd (empty: look for it)"
        ProcessingConfig.addSetting(Setting(self.name(), PROGRAM, words, "", valuetype=Setting.FILE))
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self) -> None:
        """Take the settings away."""
        ProcessingConfig.removeSetting(PROGRAM)

    def loadAlgorithms(self) -> None:
        """Make the algorithms."""
        for make in (DetectAlgorithm, InspectAlgorithm, PolygonsAlgorithm, BatchAlgorithm, TrainAlgorithm):
            self.addAlgorithm(make())

    def supportedOutputVectorLayerExtensions(self) -> list[str]:
        """Suffixes of vector files that rscd writes."""
        return ["gpkg", "geojson", "fgb", "parquet"]

    def supportedOutputRasterLayerExtensions(self) -> list[str]:
        """Suffixes of rasters that rscd writes."""
        return ["tif"]

    def supportsNonFileBasedOutput(self) -> bool:
        """Results are files: rscd cannot write into QGIS's memory."""
        return False
