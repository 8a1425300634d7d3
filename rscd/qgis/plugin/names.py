"""Names that QGIS moved from 3.22 to the current version: the current ones, where they are there."""

from __future__ import annotations

from functools import reduce
from typing import Any

import qgis.core


def either(new: str, old: str) -> Any:  # noqa: ANN401 - enumerations and their values
    """What ``new`` names in ``qgis.core``, else what ``old`` names there."""
    for dotted in (new, old):
        try:
            return reduce(getattr, dotted.split("."), qgis.core)
        except AttributeError:
            continue
    raise AttributeError(f"QGIS has neither {new} nor {old}")


ADVANCED = either("Qgis.ProcessingParameterFlag.Advanced", "QgsProcessingParameterDefinition.FlagAdvanced")
"""Flag of a parameter that is folded away."""
DOUBLE = either("Qgis.ProcessingNumberParameterType.Double", "QgsProcessingParameterNumber.Double")
INTEGER = either("Qgis.ProcessingNumberParameterType.Integer", "QgsProcessingParameterNumber.Integer")
FILE = either("Qgis.ProcessingFileParameterBehavior.File", "QgsProcessingParameterFile.File")
FOLDER = either("Qgis.ProcessingFileParameterBehavior.Folder", "QgsProcessingParameterFile.Folder")
POLYGONS = either("Qgis.ProcessingSourceType.VectorPolygon", "QgsProcessing.TypeVectorPolygon")
"""Kind of layers that a parameter takes."""
POLYGON_LAYERS = either("Qgis.LayerFilter.PolygonLayer", "QgsMapLayerProxyModel.PolygonLayer")
RASTER_LAYERS = either("Qgis.LayerFilter.RasterLayer", "QgsMapLayerProxyModel.RasterLayer")
"""What a combo box of layers offers."""
POLYGON = either("Qgis.GeometryType.Polygon", "QgsWkbTypes.PolygonGeometry")
NO_GEOMETRY = either("Qgis.FeatureRequestFlag.NoGeometry", "QgsFeatureRequest.NoGeometry")
CAN_CHANGE = either(
    "Qgis.VectorProviderCapability.ChangeAttributeValues", "QgsVectorDataProvider.ChangeAttributeValues"
)
"""What a provider must be able to do for a review."""
