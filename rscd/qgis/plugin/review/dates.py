"""The two dates behind the changes: which layers they are, and what of them is seen."""

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


def show(project: Any, layer: Any, visible: bool) -> None:  # noqa: ANN401 - a QgsMapLayer or None
    """Make a layer visible, with the groups that it is in, or not."""
    node = project.layerTreeRoot().findLayer(layer.id()) if layer is not None else None
    if node is None:
        return
    if visible:
        node.setItemVisibilityCheckedParentRecursive(True)
    else:
        node.setItemVisibilityChecked(False)


def is_seen(project: Any, layer: Any) -> bool:  # noqa: ANN401
    """Whether a layer is visible."""
    node = project.layerTreeRoot().findLayer(layer.id()) if layer is not None else None
    return node is not None and bool(node.isVisible())
