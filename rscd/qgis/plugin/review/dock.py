"""The review panel: go from change to change, review with a key, compare the dates."""

from __future__ import annotations

from functools import partial
from typing import Any

from qgis.core import QgsGeometry, QgsProject, QgsRectangle
from qgis.gui import QgsDockWidget, QgsMapCanvas, QgsMapLayerComboBox, QgsRubberBand
from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtGui import QColor, QKeySequence
from qgis.PyQt.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QShortcut,
    QVBoxLayout,
    QWidget,
)

from ..names import POLYGON, RASTER_LAYERS
from .changes import ANSWERS, DATES, ORDERS, Changes, dates_of, is_reviewable, is_seen, show_layer

AROUND = 4.0
"""Size of the map relative to the size of a change."""
KEYS = {"A": "accepted", "R": "rejected", "U": "unsure", "0": ""}
"""Key -> value of ``review``."""


class ReviewDock(QgsDockWidget):
    """The panel.

    Args:
        canvas: The map.
        project: The project whose layers are compared.
        parent: QGIS's window.
    """

    train_requested = pyqtSignal(object)
    """Signal: train on the reviews of this layer."""

    def __init__(self, canvas: QgsMapCanvas, project: QgsProject, parent: Any = None) -> None:  # noqa: ANN401
        super().__init__("Review changes", parent)
        self.setObjectName("RscdReview")
        self.canvas, self.project = canvas, project
        self.changes: Changes | None = None
        self.form = Form()
        self.setWidget(self.form)
        self.band = QgsRubberBand(canvas, POLYGON)
        self.band.setStrokeColor(QColor(0, 170, 255))
        self.band.setFillColor(QColor(0, 0, 0, 0))
        self.band.setWidth(3)
        self._connect()
        self._show()

    def _connect(self) -> None:
        form = self.form
        form.next.clicked.connect(lambda: self.step(1))
        form.previous.clicked.connect(lambda: self.step(-1))
        for value, button in form.answers.items():
            button.clicked.connect(lambda _checked=False, value=value: self.answer(value))
        form.order.currentTextChanged.connect(self.sort)
        form.toggle.clicked.connect(self.toggle)
        form.polygons.toggled.connect(self.show_polygons)
        form.train.clicked.connect(self._train)
        self.visibilityChanged.connect(self._shown_or_hidden)
        self.project.layersWillBeRemoved.connect(self._removed)
        keys: dict[str, Any] = {
            "N": partial(self.step, 1),
            "P": partial(self.step, -1),
            "B": self.toggle,
            "H": self.form.polygons.click,
        }
        keys.update({key: partial(self.answer, value) for key, value in KEYS.items()})
        homes = self, self.canvas
        self.shortcuts = [self._shortcut(key, called, home) for key, called in keys.items() for home in homes]

    def _shortcut(self, key: str, called: Any, home: Any) -> QShortcut:  # noqa: ANN401
        """A key shortcut that works while the panel, or the map, has the focus."""
        shortcut = QShortcut(QKeySequence(key), home)
        shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        shortcut.activated.connect(called)
        return shortcut

    def close_down(self) -> None:
        """Restore the map."""
        self._let_go()
        for shortcut in self.shortcuts:
            shortcut.setParent(None)
            shortcut.deleteLater()
        self.shortcuts = []
        self.canvas.scene().removeItem(self.band)
        self.project.layersWillBeRemoved.disconnect(self._removed)

    def take_layer(self, layer: Any) -> None:  # noqa: ANN401 - a QgsMapLayer or None
        """Review a layer if it contains changes; else keep the current one."""
        if not is_reviewable(layer) or (self.changes is not None and self.changes.layer == layer):
            return
        self._let_go()
        self.changes = Changes(layer)
        self.changes.sort(self.form.order.currentText())
        layer.attributeValueChanged.connect(self._noted)
        layer.afterCommitChanges.connect(self._read_again)
        layer.afterRollBack.connect(self._read_again)
        for date, found in dates_of(self.project).items():
            self.form.dates[date].setLayer(found)
        self._show()

    def step(self, by: int) -> bool:
        """Go to the next change, or with -1 to the previous one; returns whether there is one."""
        if self.changes is None:
            return False
        fid = self.changes.step(by, unanswered=self.form.unanswered.isChecked())
        if fid is None:
            self._show("There is no further change in this direction.")
            return False
        self._show("" if self._zoom(fid) else "This change was deleted in the edits of the layer.")
        return True

    def answer(self, value: str) -> bool:
        """Write a review of the current change, and go to the next; returns whether it was written."""
        if self.changes is None or self.changes.fid is None:
            return False
        if not self.changes.answer(value):
            self._show(f"The review could not be written: {self.changes.layer.name()} is read-only or locked.")
            return False
        self._show()
        if value in ANSWERS and self.form.go_on.isChecked():
            self.step(1)
        return True

    def sort(self, order: str) -> None:
        """Use another order of the changes."""
        if self.changes is not None and order in ORDERS:
            self.changes.sort(order)
            self._show()

    def toggle(self) -> None:
        """Show the other date."""
        before, after = (self.form.dates[date].currentLayer() for date in DATES)
        if before is None or after is None or before == after:
            self._show("Choose the layers of both dates first.")
            return
        shown, hidden = (after, before) if is_seen(self.project, before) else (before, after)
        show_layer(self.project, shown, True)
        show_layer(self.project, hidden, False)
        self.form.seen.setText(f"The map shows {shown.name()}.")

    def show_polygons(self, visible: bool) -> None:
        """Show or hide the polygons; the outline of the current one stays."""
        if self.changes is not None:
            show_layer(self.project, self.changes.layer, visible)

    def _zoom(self, fid: int) -> bool:
        """Centre the map on a change; returns whether it has an outline."""
        assert self.changes is not None
        layer = self.changes.layer
        geometry = QgsGeometry(layer.getFeature(fid).geometry())
        self.band.setToGeometry(geometry, layer)
        if geometry.isNull():
            return False
        box = self.canvas.mapSettings().layerExtentToOutputExtent(layer, geometry.boundingBox())
        self.canvas.setExtent(_around(box))
        self.canvas.refresh()
        return True

    def _show(self, problem: str = "") -> None:
        changes = self.changes
        change = changes.changes[changes.fid] if changes is not None and changes.fid is not None else None
        self.form.describe(
            "" if changes is None else changes.layer.name(),
            None if change is None else change.values,
            "" if changes is None or changes.fid is None else changes.answers[changes.fid],
            (0, 0) if changes is None else (changes.reviewed, len(changes.order)),
            problem,
        )

    def _noted(self, fid: int, column: int, value: Any) -> None:  # noqa: ANN401
        if self.changes is not None:
            self.changes.note(fid, column, value)
            self._show()

    def _read_again(self) -> None:
        if self.changes is not None:
            self.changes.read()
            self._show()

    def _removed(self, ids: list[str]) -> None:
        if self.changes is not None and self.changes.layer.id() in ids:
            self._let_go()
            self._show()

    def _let_go(self) -> None:
        if self.changes is not None:
            layer = self.changes.layer
            layer.attributeValueChanged.disconnect(self._noted)
            layer.afterCommitChanges.disconnect(self._read_again)
            layer.afterRollBack.disconnect(self._read_again)
        self.changes = None
        self.band.reset(POLYGON)

    def _shown_or_hidden(self, visible: bool) -> None:
        self.band.setVisible(visible)
        for shortcut in self.shortcuts:
            shortcut.setEnabled(visible)

    def _train(self) -> None:
        if self.changes is not None:
            self.train_requested.emit(self.changes.layer)


def _around(box: QgsRectangle) -> QgsRectangle:
    """A box around a change, including its surroundings."""
    side = max(box.width(), box.height()) or 1.0
    centre = box.center()
    half = AROUND * side / 2
    return QgsRectangle(centre.x() - half, centre.y() - half, centre.x() + half, centre.y() + half)


NOTHING = "Select a layer of changes in the layer panel."
COLOURS = {"accepted": "#006e3c", "rejected": "#6e6e6e", "unsure": "#1e50c8"}
"""Value of ``review`` -> colour, as on the map."""


class Form(QWidget):
    """Widgets of the panel: the change, its review, the order, the dates."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.text, self.count, self.seen = QLabel(NOTHING), QLabel(), QLabel(), QLabel()
        for label in (self.layer, self.text, self.seen):
            label.setWordWrap(True)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(8)
        self.previous, self.next = QPushButton("Previous (P)"), QPushButton("Next (N)")
        words = {"accepted": "Accept (A)", "rejected": "Reject (R)", "unsure": "Unsure (U)", "": "Clear (0)"}
        self.answers = {value: QPushButton(label) for value, label in words.items()}
        for value, colour in COLOURS.items():
            self.answers[value].setStyleSheet(f"QPushButton {{ color: {colour}; font-weight: bold; }}")
        self.order = QComboBox()
        self.order.addItems(list(ORDERS))
        self.unanswered, self.go_on = QCheckBox("Only without a review"), QCheckBox("Go on after an answer")
        self.go_on.setChecked(True)
        self.dates = {date: QgsMapLayerComboBox() for date in ("before", "after")}
        for box in self.dates.values():
            box.setFilters(RASTER_LAYERS)
            box.setAllowEmptyLayer(True)
        self.toggle = QPushButton("Show the other date (B)")
        self.polygons = QCheckBox("Show the polygons (H)")
        self.polygons.setChecked(True)
        self.train = QPushButton("Train on these reviews...")
        self._arrange()

    def _arrange(self) -> None:
        column = QVBoxLayout(self)
        for label in (self.layer, self.count, self.bar, self.text):
            column.addWidget(label)
        for buttons in (
            (self.previous, self.next),
            (self.answers["accepted"], self.answers["rejected"]),
            (self.answers["unsure"], self.answers[""]),
        ):
            row = QHBoxLayout()
            for button in buttons:
                row.addWidget(button)
            column.addLayout(row)
        form = QFormLayout()
        form.addRow("Order", self.order)
        column.addLayout(form)
        column.addWidget(self.unanswered)
        column.addWidget(self.go_on)
        form = QFormLayout()
        for date, box in self.dates.items():
            form.addRow(date.capitalize(), box)
        column.addLayout(form)
        for widget in (self.toggle, self.seen, self.polygons, self.train):
            column.addWidget(widget)
        column.addStretch()

    def describe(
        self, layer: str, values: dict[str, Any] | None, answer: str, reviewed: tuple[int, int], problem: str
    ) -> None:
        """Show the state of the review.

        Args:
            layer: Name of the layer; empty without one.
            values: Columns of the current change.
            answer: Its review.
            reviewed: Number of changes with a review, and of all.
            problem: What went wrong, if anything.
        """
        self.layer.setText(f"Layer <b>{layer}</b>" if layer else NOTHING)
        self.count.setText(f"{reviewed[0]:,} of {reviewed[1]:,} reviewed" if layer else "")
        self.bar.setMaximum(max(reviewed[1], 1))
        self.bar.setValue(reviewed[0])
        self.text.setText(problem or (words(values, answer) if values is not None else ""))
        for button in (*self.answers.values(),):
            button.setEnabled(values is not None)
        for button in (self.next, self.previous, self.train):
            button.setEnabled(bool(layer))


def words(values: dict[str, Any], answer: str) -> str:
    """One or two lines on a change."""
    number = values.get("id")
    parts = [f"<b>Change {number}</b>" if number is not None else "<b>Drawn by hand</b>"]
    if values.get("direction"):
        parts.append(str(values["direction"]))
    if values.get("mean_probability") is not None:
        parts.append(f"p = {float(values['mean_probability']):.2f}")
    if values.get("area_m2") is not None:
        parts.append(f"{float(values['area_m2']):,.0f} m2")
    colour = COLOURS.get(answer, "#a05000")
    return ", ".join(parts) + f"<br><span style='color:{colour}'>{answer or 'not reviewed'}</span>"
