"""The layers of a review: changes in a chosen order, their reviews, and the two dates below them."""

from __future__ import annotations

from typing import Any, NamedTuple

from qgis.core import QgsFeatureRequest, QgsRasterLayer

from ..names import CAN_CHANGE, NO_GEOMETRY, POLYGON

ANSWERS = "accepted", "rejected", "unsure"
"""Values of the column ``review`` after a review."""
ORDERS = {
    "number": ("id", False),
    "probability, lowest first": ("mean_probability", False),
    "probability, highest first": ("mean_probability", True),
    "area, largest first": ("area_m2", True),
}
"""Label of the order -> (column, whether descending)."""
SHOWN = "id", "mean_probability", "area_m2", "direction"
"""Columns that describe a change, if the layer has them."""


class Change(NamedTuple):
    """A change as shown in the panel."""

    fid: int
    values: dict
    """Column -> value, for columns of ``SHOWN``."""


def is_reviewable(layer: Any) -> bool:  # noqa: ANN401
    """Whether a layer contains changes, with a column for reviews."""
    try:
        names = layer.fields().names()
        return layer.isValid() and layer.geometryType() == POLYGON and {"id", "review"} <= set(names)
    except AttributeError:
        return False


class Changes:
    """The changes of a layer, in a chosen order.

    Args:
        layer: A reviewable layer.
    """

    def __init__(self, layer: Any) -> None:  # noqa: ANN401
        self.layer = layer
        self.column = layer.fields().indexOf("review")
        self.changes: dict[int, Change] = {}
        self.answers: dict[int, str] = {}
        self.order: list[int] = []
        self.places: dict[int, int] = {}
        self.fid: int | None = None
        self._sorted_by = next(iter(ORDERS))
        self.read()

    def read(self) -> None:
        """Read all changes from the layer, including unsaved edits."""
        names = [name for name in SHOWN if name in self.layer.fields().names()]
        request = QgsFeatureRequest().setFlags(NO_GEOMETRY)
        request.setSubsetOfAttributes([*names, "review"], self.layer.fields())
        self.changes, self.answers = {}, {}
        for feature in self.layer.getFeatures(request):
            values = {name: _plain(feature[name]) for name in names}
            self.changes[feature.id()] = Change(feature.id(), values)
            self.answers[feature.id()] = _plain(feature["review"]) or ""
        self.sort(self._sorted_by)

    def sort(self, order: str) -> None:
        """Sort the changes by one of ``ORDERS``; those without a value come last."""
        self._sorted_by = order
        column, descending = ORDERS[order]
        sign = -1 if descending else 1

        def key(fid: int) -> tuple[bool, float, int]:
            value = self.changes[fid].values.get(column)
            return value is None, sign * float(value or 0), fid

        self.order = sorted(self.changes, key=key)
        self.places = {fid: place for place, fid in enumerate(self.order)}
        if self.fid not in self.places:
            self.fid = None

    @property
    def reviewed(self) -> int:
        """Number of changes with a review."""
        return sum(answer != "" for answer in self.answers.values())

    @property
    def place(self) -> int | None:
        """Place of the current change in the order, from 0."""
        return None if self.fid is None else self.places.get(self.fid)

    def step(self, by: int, *, unanswered: bool = False) -> int | None:
        """Go to the next change, or with -1 to the previous one.

        Args:
            by: 1 or -1.
            unanswered: Skip changes with a review.

        Returns:
            Its feature id; None if there is none: the current one is kept.
        """
        place = self.place
        start = (0 if by > 0 else len(self.order) - 1) if place is None else place + by
        end = len(self.order) if by > 0 else -1
        for at in range(start, end, by):
            fid = self.order[at]
            if not (unanswered and self.answers[fid]):
                self.fid = fid
                return fid
        return None

    def answer(self, value: str) -> bool:
        """Write a review of the current change: at once, or into the edits of a layer in edit mode.

        Args:
            value: One of ``ANSWERS``, or empty to remove the review.

        Returns:
            Whether it was written.
        """
        if self.fid is None:
            return False
        stored = value or None
        if self.layer.readOnly():
            return False
        if self.layer.isEditable():
            written = self.layer.changeAttributeValue(self.fid, self.column, stored)
        else:
            provider = self.layer.dataProvider()
            able = bool(provider.capabilities() & CAN_CHANGE)
            written = able and provider.changeAttributeValues({self.fid: {self.column: stored}})
            if written:
                self.layer.attributeValueChanged.emit(self.fid, self.column, stored)  # an open table shows it
            self.layer.triggerRepaint()
        if written:
            self.answers[self.fid] = value
        return bool(written)

    def note(self, fid: int, column: int, value: Any) -> None:  # noqa: ANN401
        """Record a review that was entered elsewhere, e.g. in the attribute table."""
        if column == self.column and fid in self.answers:
            self.answers[fid] = _plain(value) or ""


def _plain(value: Any) -> Any:  # noqa: ANN401
    """The value, with None for SQL NULL, which older versions of QGIS wrap."""
    return None if value is None or (hasattr(value, "isNull") and value.isNull()) else value


DATES = "before", "after"


def dates_of(project: Any) -> dict[str, Any]:  # noqa: ANN401 - a QgsProject
    """Date -> raster layer with that name; at most one layer each."""
    found: dict[str, Any] = {}
    for layer in project.mapLayers().values():
        for date in DATES:
            if isinstance(layer, QgsRasterLayer) and date in layer.name().lower():
                found.setdefault(date, layer)
    return found


def show_layer(project: Any, layer: Any, visible: bool) -> None:  # noqa: ANN401 - a QgsMapLayer or None
    """Make a layer visible, with its groups, or hide it."""
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
