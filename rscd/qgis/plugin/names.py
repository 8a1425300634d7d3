"""Names that changed between QGIS 3.22 and the current version: the current ones, if they exist."""

from __future__ import annotations

from functools import reduce
from typing import Any

import qgis.core


def either(new: str, old: str) -> Any:  # noqa: ANN401 - enumerations and their values
    """The object ``new`` in ``qgis.core``, else ``old``."""
    for dotted in (new, old):
        try:
            return reduce(getattr, dotted.split("."), qgis.core)
        except AttributeError:
            continue
    raise AttributeError(f"QGIS has neither {new} nor {old}")


ADVANCED = either("Qgis.ProcessingParameterFlag.Advanced", "QgsProcessingParameterDefinition.FlagAdvanced")
"""Flag of an advanced parameter."""
DOUBLE = either("Qgis.ProcessingNumberParameterType.Double", "QgsProcessingParameterNumber.Double")
INTEGER = either("Qgis.ProcessingNumberParameterType.Integer", "QgsProcessingParameterNumber.Integer")
FILE = either("Qgis.ProcessingFileParameterBehavior.File", "QgsProcessingParameterFile.File")
FOLDER = either("Qgis.ProcessingFileParameterBehavior.Folder", "QgsProcessingParameterFile.Folder")
POLYGONS = either("Qgis.ProcessingSourceType.VectorPolygon", "QgsProcessing.TypeVectorPolygon")
"""Types of layers that a parameter accepts."""
POLYGON_LAYERS = either("Qgis.LayerFilter.PolygonLayer", "QgsMapLayerProxyModel.PolygonLayer")
RASTER_LAYERS = either("Qgis.LayerFilter.RasterLayer", "QgsMapLayerProxyModel.RasterLayer")
"""Layers that a combo box offers."""
POLYGON = either("Qgis.GeometryType.Polygon", "QgsWkbTypes.PolygonGeometry")
NO_GEOMETRY = either("Qgis.FeatureRequestFlag.NoGeometry", "QgsFeatureRequest.NoGeometry")
CAN_CHANGE = either(
    "Qgis.VectorProviderCapability.ChangeAttributeValues", "QgsVectorDataProvider.ChangeAttributeValues"
)
"""Capability of a provider that a review needs."""
