"""The two dates behind the changes: which layers they are, and which of them is seen."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsRasterLayer

DATES = "before", "after"


def guess(project: Any) -> dict[str, Any]:  # noqa: ANN401 - a QgsProject
    """Date -> raster layer whose name says so; at most one layer each."""
    found: dict[str, Any] = {}
    for layer in project.mapLayers().values():
        for date in DATES:
            if isinstance(layer, QgsRasterLayer) and date in layer.name().lower():
                found.setdefault(date, layer)
    return found


def show(project: Any, shown: Any, hidden: Any) -> None:  # noqa: ANN401 - QgsMapLayer
    """Make one of the two visible, and the other not."""
    root = project.layerTreeRoot()
    for layer, visible in ((shown, True), (hidden, False)):
        node = root.findLayer(layer.id()) if layer is not None else None
        if node is not None and (visible or layer is not shown):
            if visible:
                node.setItemVisibilityCheckedParentRecursive(True)
            else:
                node.setItemVisibilityChecked(False)


def is_seen(project: Any, layer: Any) -> bool:  # noqa: ANN401
    """Whether a layer is visible."""
    node = project.layerTreeRoot().findLayer(layer.id()) if layer is not None else None
    return node is not None and bool(node.isVisible())
