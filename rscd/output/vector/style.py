"""QGIS styles of rscd's layers, as QML: maps, legends, forms and attribute tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from rscd.vectorize.attributes import Column


STEPS = (
    (0.0, 0.5, "255,237,160"),
    (0.5, 0.7, "254,178,76"),
    (0.7, 0.85, "252,78,42"),
    (0.85, 1.0, "177,0,38"),
)
"""Classes of ``mean_probability``: lower bound, upper bound, fill colour as red,green,blue (0..255)."""
DRAWN = -1.0, -0.5, "120,60,200"
"""The class of polygons without a probability, drawn by people."""
SHOWN = 'coalesce("mean_probability", -1)'
"""Column of the classes."""
RAMP = (
    (0.0, 255, 255, 204, 0),
    (0.25, 255, 237, 160, 90),
    (0.5, 254, 178, 76, 200),
    (0.75, 240, 59, 32, 230),
    (1.0, 128, 0, 38, 255),
)
"""Colours of the probability raster: p, red, green, blue, alpha (0..255)."""
_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_FILL_ALPHA = 140
_OUTLINE = "90,0,20,255"
REVIEWED = {"accepted": "0,110,60,255", "rejected": "110,110,110,255", "unsure": "30,80,200,255"}
"""Outline colour of each state of ``review`` as red,green,blue,alpha (0..255); ``_OUTLINE`` if empty."""
_CASES = " ".join(f"WHEN \"review\" = '{state}' THEN '{colour}'" for state, colour in REVIEWED.items())
OUTLINE_BY_REVIEW = {
    "outlineColor": f"CASE {_CASES} ELSE '{_OUTLINE}' END",
    "outlineStyle": "if(\"review\" = 'rejected', 'dash', 'solid')",
    "outlineWidth": "if(coalesce(\"review\", '') = '', 0.26, 0.6)",
}
"""Property of an outline in QGIS -> expression."""
HATCHED = {"vanished": "b_diagonal", "replaced": "diagonal_x"}
"""``direction`` -> hatching of a polygon, instead of a fill."""
HATCHED_IN_LEGEND = -9.0
"""Lower bound of classes without polygons: they explain the hatching in the legend."""
STATES = {"done": "60,150,90", "failed": "200,30,50", "pending": "140,140,140"}
"""Colour of each state of an archive's pair as red,green,blue (0..255)."""


def pairs_qml() -> str:
    """QML (QGIS 3) that outlines the footprints of an archive's pairs by ``status``, without hiding the map."""
    qgis = _qgis("Symbology|Labeling|Fields|Forms")
    renderer = ET.SubElement(qgis, "renderer-v2", {"type": "categorizedSymbol", "attr": "status"})
    categories, symbols = ET.SubElement(renderer, "categories"), ET.SubElement(renderer, "symbols")
    for number, (state, colour) in enumerate(STATES.items()):
        name = str(number)
        shown = {"value": state, "symbol": name, "label": state, "render": "true", "type": "string"}
        ET.SubElement(categories, "category", shown)
        symbols.append(_fill_symbol(name, f"{colour},0", f"{colour},255", fill="no"))
    ET.SubElement(qgis, "previewExpression").text = '"pair_id"'
    return _text(qgis)


def extent_qml() -> str:
    """QML (QGIS 3) that draws the observed ground as an outline, without hiding the map."""
    return _outlined("Symbology|Labeling", "40,40,40,255", "dash")


def reviewed_before_qml() -> str:
    """QML (QGIS 3) that draws reviews without a polygon as dotted outlines, coloured by ``review``."""
    return _outlined("Symbology|Labeling", _OUTLINE, "dot", by_review=True)


def changes_qml(columns: Sequence[Column] = (), answers: Mapping[str, str] | None = None) -> str:
    """QML (QGIS 3) of the layer ``changes``: its style, its form and the order of its columns.

    Polygons are filled semi-transparently by ``mean_probability``; drawn polygons have their own class. Vanished
    and replaced objects are hatched, which the legend explains. Features are listed by ``id``; ``review`` comes
    first in the form, and measured values cannot be edited.

    Args:
        columns: Columns of the layer.
        answers: Values of ``review`` and their meaning.
    """
    qgis = _qgis("Symbology|Labeling|Fields|Forms|AttributeTable")
    renderer = ET.SubElement(
        qgis,
        "renderer-v2",
        {"type": "graduatedSymbol", "attr": SHOWN, "graduatedMethod": "GraduatedColor"},
    )
    ranges, symbols = ET.SubElement(renderer, "ranges"), ET.SubElement(renderer, "symbols")
    for number, (lower, upper, colour) in enumerate((*STEPS, DRAWN)):
        name = str(number)
        label = f"p {lower:.2f} - {upper:.2f}" if lower >= 0 else "drawn by hand"
        _add_class(ranges, lower, upper, name, label)
        symbols.append(_fill_symbol(name, f"{colour},{_FILL_ALPHA}", _OUTLINE))
        symbols[-1][0].append(_by_direction_too())
    for number, (way, pattern) in enumerate(HATCHED.items()):
        name, lower = way, HATCHED_IN_LEGEND + number
        _add_class(ranges, lower, lower + 0.5, name, f"hatched: {way}")
        symbols.append(_fill_symbol(name, f"{STEPS[-1][2]},255", _OUTLINE, fill=pattern))
    if columns:
        _add_form(qgis, columns, answers or {})
    return _text(qgis)


def probability_qml() -> str:
    """QML (QGIS 3) of the probability raster: a colour ramp from p = 0 (clear) to p = 1, with p in the legend."""
    qgis = ET.Element("qgis", version="3.22", styleCategories="Symbology")
    pipe = ET.SubElement(qgis, "pipe")
    look = {"type": "singlebandpseudocolor", "band": "1", "opacity": "1", "alphaBand": "-1", "nodataColor": ""}
    look |= {"classificationMin": "0", "classificationMax": "1"}
    shader = ET.SubElement(ET.SubElement(pipe, "rasterrenderer", look), "rastershader")
    ramp = {"colorRampType": "INTERPOLATED", "classificationMode": "1", "clip": "0"}
    ramp |= {"minimumValue": "0", "maximumValue": "1", "labelPrecision": "2"}
    items = ET.SubElement(shader, "colorrampshader", ramp)
    for value, red, green, blue, alpha in RAMP:
        colour = {"color": f"#{red:02x}{green:02x}{blue:02x}", "alpha": str(alpha)}
        ET.SubElement(items, "item", {"value": f"{value:g}", "label": f"p = {value:g}", **colour})
    return _text(qgis)


def _add_class(ranges: ET.Element, lower: float, upper: float, symbol: str, label: str) -> None:
    bounds = {"lower": f"{lower:.6f}", "upper": f"{upper:.6f}"}
    ET.SubElement(ranges, "range", {**bounds, "symbol": symbol, "label": label, "render": "true"})


def _qgis(categories: str) -> ET.Element:
    return ET.Element("qgis", version="3.22", styleCategories=categories, labelsEnabled="0")


def _text(qgis: ET.Element) -> str:
    return _DOCTYPE + ET.tostring(qgis, encoding="unicode")


def _outlined(categories: str, colour: str, line: str, *, by_review: bool = False) -> str:
    qgis = _qgis(categories)
    renderer = ET.SubElement(qgis, "renderer-v2", type="singleSymbol")
    symbol = _fill_symbol("0", "0,0,0,0", colour, fill="no", line=line)
    if by_review:
        symbol[0].append(_by_review())
    ET.SubElement(renderer, "symbols").append(symbol)
    return _text(qgis)


def _add_form(qgis: ET.Element, columns: Sequence[Column], answers: Mapping[str, str]) -> None:
    """Names with units, the drop-down list of ``review``, editable columns, and ``review`` before the evidence."""
    fields, aliases = ET.SubElement(qgis, "fieldConfiguration"), ET.SubElement(qgis, "aliases")
    editable, form = ET.SubElement(qgis, "editable"), ET.SubElement(qgis, "attributeEditorForm")
    ET.SubElement(qgis, "editorlayout").text = "tablayout"
    table = ET.SubElement(ET.SubElement(qgis, "attributetableconfig", actionWidgetStyle="dropDown"), "columns")
    ET.SubElement(qgis, "previewExpression").text = '"id"'
    ET.SubElement(fields, "field", name="fid").append(_widget("Hidden"))
    ET.SubElement(editable, "field", name="fid", editable="0")
    for index, column in enumerate(columns, start=1):
        choice = column.name == "review"
        ET.SubElement(fields, "field", name=column.name).append(
            _widget("ValueMap", answers) if choice else _widget("TextEdit")
        )
        ET.SubElement(aliases, "alias", field=column.name, index=str(index), name=column.alias)
        ET.SubElement(editable, "field", name=column.name, editable=str(int(choice)))
    for column in sorted(columns, key=lambda column: (column.name != "review", column.name != "id")):
        ET.SubElement(form, "attributeEditorField", name=column.name, showLabel="1", index="-1")
        ET.SubElement(table, "column", type="field", name=column.name, hidden="0", width="-1")
    ET.SubElement(table, "column", type="field", name="fid", hidden="1", width="-1")


def _widget(kind: str, values: Mapping[str, str] | None = None) -> ET.Element:
    widget = ET.Element("editWidget", type=kind)
    options = ET.SubElement(ET.SubElement(widget, "config"), "Option", type="Map")
    if values:
        listed = ET.SubElement(options, "Option", name="map", type="List")
        for value, meaning in values.items():
            label = f"{value}: {meaning}" if value else meaning
            ET.SubElement(
                ET.SubElement(listed, "Option", type="Map"), "Option", name=label, value=value, type="QString"
            )
    return widget


def _fill_symbol(name: str, colour: str, outline: str, *, fill: str = "solid", line: str = "solid") -> ET.Element:
    symbol = ET.Element("symbol", {"type": "fill", "name": name, "alpha": "1", "clip_to_extent": "1"})
    layer = ET.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
    look = {
        "color": colour,
        "style": fill,
        "outline_color": outline,
        "outline_style": line,
        "outline_width": "0.26",
        "outline_width_unit": "MM",
        "joinstyle": "miter",
    }
    options = ET.SubElement(layer, "Option", type="Map")
    for key, value in look.items():
        ET.SubElement(options, "Option", {"name": key, "type": "QString", "value": value})
        ET.SubElement(layer, "prop", {"k": key, "v": value})  # read by QGIS before 3.26
    return symbol


def _by_review() -> ET.Element:
    """Data-defined outline: colour by ``review``; dashed if a polygon was rejected."""
    return _data_defined(OUTLINE_BY_REVIEW)


def _by_direction_too() -> ET.Element:
    """Data-defined outline as above, and hatching of vanished and replaced objects."""
    cases = " ".join(f"WHEN \"direction\" = '{way}' THEN '{pattern}'" for way, pattern in HATCHED.items())
    return _data_defined({**OUTLINE_BY_REVIEW, "fillStyle": f"CASE {cases} ELSE 'solid' END"})


def _data_defined(expressions: Mapping[str, str]) -> ET.Element:
    defined = ET.Element("data_defined_properties")
    top = ET.SubElement(defined, "Option", type="Map")
    ET.SubElement(top, "Option", {"name": "name", "value": "", "type": "QString"})
    properties = ET.SubElement(top, "Option", {"name": "properties", "type": "Map"})
    for name, expression in expressions.items():
        one = ET.SubElement(properties, "Option", {"name": name, "type": "Map"})
        ET.SubElement(one, "Option", {"name": "active", "value": "true", "type": "bool"})
        ET.SubElement(one, "Option", {"name": "expression", "value": expression, "type": "QString"})
        ET.SubElement(one, "Option", {"name": "type", "value": "3", "type": "int"})  # 3: an expression
    ET.SubElement(top, "Option", {"name": "type", "value": "collection", "type": "QString"})
    return defined
