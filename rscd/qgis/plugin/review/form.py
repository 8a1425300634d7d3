"""The widgets of the review panel."""

from __future__ import annotations

from typing import Any

from qgis.gui import QgsMapLayerComboBox
from qgis.PyQt.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ..names import RASTER_LAYERS
from .changes import ORDERS

NOTHING = "Select a layer of changes in the layer panel."
COLOURS = {"accepted": "#006e3c", "rejected": "#6e6e6e", "unsure": "#1e50c8"}
"""Answer -> colour, as on the map."""


class Form(QWidget):
    """What the panel shows: the change, the answers, the order, the dates."""

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
        """Show where the review is.

        Args:
            layer: Name of the layer; empty without one.
            values: Columns of the current change.
            answer: Its answer.
            reviewed: Changes with an answer, and all.
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
    """A change in a line or two."""
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
