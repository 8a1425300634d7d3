"""QGIS layers as files for rscd, or refused with a remedy; and results with their styles, in order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from qgis.core import QgsProcessingLayerPostProcessorInterface, QgsProviderRegistry, QgsVectorLayer

RASTER_REMEDY = "save it as a GeoTIFF first (right click > Export > Save As)"
VECTOR_REMEDY = "save it as a GeoPackage first (right click > Export > Save Features As)"
LAYERS = "changes", "extent", "reviewed_before"
"""Layers of an output that are shown, topmost first."""


class LayerError(Exception):
    """A layer that rscd cannot read; the message is one line for the user."""


def raster_file(layer: Any) -> str:  # noqa: ANN401 - a QgsRasterLayer
    """The file of a raster layer.

    Raises:
        LayerError: It is not a local file.
    """
    return _local_file(layer, "gdal", RASTER_REMEDY)["path"]


def vector_file(layer: Any) -> str:  # noqa: ANN401 - a QgsVectorLayer
    """The file of a vector layer, if the layer shows all its features.

    Raises:
        LayerError: It is not a local file, or the layer shows other features than the file contains.
    """
    parts = _local_file(layer, "ogr", VECTOR_REMEDY)
    if layer.subsetString():
        raise LayerError(f"{layer.name()}: rscd ignores its filter - remove it, or export the layer")
    if layer.isEditable() and layer.isModified():
        raise LayerError(f"{layer.name()}: its edits are not saved - save them first")
    return str(parts["path"])


def first_layer_file(layer: Any) -> str:  # noqa: ANN401 - a QgsVectorLayer
    """The file of a vector layer that is the first, or the only one, in its file, because rscd reads the first.

    Raises:
        LayerError: It is not the first layer, or as ``vector_file``.
    """
    path = vector_file(layer)
    first = QgsVectorLayer(path, "first", "ogr")
    if named(layer) and first.isValid() and named(layer) != (named(first) or _only_name(first)):
        raise LayerError(f"{layer.name()}: it is not the first layer of {path} - {VECTOR_REMEDY}")
    return path


def named(layer: Any) -> str:  # noqa: ANN401
    """Name of the layer in its file, if its source contains it."""
    return str(QgsProviderRegistry.instance().decodeUri("ogr", layer.source()).get("layerName") or "")


def _only_name(layer: Any) -> str:  # noqa: ANN401
    """Name of the first layer in a file."""
    found = layer.dataProvider().subLayers()
    return str(found[0].split("!!::!!")[1]) if found else ""


def _local_file(layer: Any, provider: str, remedy: str) -> dict[str, Any]:  # noqa: ANN401
    """The parts of a layer's source, including its path.

    Raises:
        LayerError: It comes from a server, a database, memory or an archive.
    """
    key = layer.dataProvider().name() if layer.dataProvider() is not None else layer.providerType()
    if key != provider:
        raise LayerError(f"{layer.name()}: it comes from '{key}', not from a local file - {remedy}")
    parts = dict(QgsProviderRegistry.instance().decodeUri(provider, layer.source()))
    path = str(parts.get("path") or "")
    if parts.get("vsiPrefix") or not Path(path).is_file() or (provider == "gdal" and parts.get("layerName")):
        raise LayerError(f"{layer.name()}: it is not a separate local file - {remedy}")
    return parts


class Styled(QgsProcessingLayerPostProcessorInterface):
    """Gives a newly loaded layer the style of its file, and its place below other layers of its output.

    Args:
        above: Sources of the layers that belong above it.
    """

    kept: ClassVar[list[Styled]] = []
    """All instances: QGIS does not keep them, and the algorithm no longer exists when they are used."""

    def __init__(self, above: Sequence[str] = ()) -> None:
        super().__init__()
        self.above = above
        self.kept.append(self)

    def postProcessLayer(self, layer: Any, context: Any, feedback: Any) -> None:  # noqa: ANN401 - QGIS's
        """Load the style, which Processing does not, and move the layer."""
        layer.loadDefaultStyle()
        project = context.project()
        root = project.layerTreeRoot()
        node = root.findLayer(layer.id())
        ids = [other.id() for other in project.mapLayers().values() if other.source() in self.above]
        others = [other for other in map(root.findLayer, ids) if other is not None]
        parent = node.parent() if node is not None else None
        places = [parent.children().index(other) for other in others if other.parent() == parent]
        if parent is None or not places or parent.children().index(node) > max(places):
            return
        parent.insertChildNode(max(places) + 1, node.clone())
        parent.removeChildNode(node)


def vector_layers(path: str) -> list[tuple[str, str]]:
    """(name, source) of the layers of an output to show, topmost first."""
    if not path.lower().endswith(".gpkg"):
        return [("changes", path)]
    sources = [(name, f"{path}|layername={name}") for name in LAYERS]
    return [(name, source) for name, source in sources if _holds(source)]


def _holds(source: str) -> bool:
    return bool(QgsVectorLayer(source, "layer", "ogr").isValid())
