"""The look of the layer ``changes`` in QGIS, as QML: fill by mean probability, outline by review, no labels."""

from __future__ import annotations

from xml.etree import ElementTree as ET

STEPS = (
    (0.0, 0.5, "255,237,160"),
    (0.5, 0.7, "254,178,76"),
    (0.7, 0.85, "252,78,42"),
    (0.85, 1.0, "177,0,38"),
)
"""Classes of ``mean_probability``: lower bound, upper bound, fill colour as red,green,blue (0..255)."""
_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_FILL_ALPHA = 140
_OUTLINE = "90,0,20,255"
REVIEWED = {"accepted": "0,110,60,255", "rejected": "110,110,110,255", "unsure": "30,80,200,255"}
"""Outline colour of each state of ``review`` as red,green,blue,alpha (0..255); ``_OUTLINE`` where there is none."""
STATES = {"done": "60,150,90", "failed": "200,30,50", "pending": "140,140,140"}
"""Colour of each state of an archive's pair as red,green,blue (0..255)."""


def pairs_qml() -> str:
    """QML (QGIS 3) that fills the footprints of an archive's pairs faintly by ``status``."""
    qgis = ET.Element("qgis", version="3.28", styleCategories="Symbology|Labeling", labelsEnabled="0")
    renderer = ET.SubElement(qgis, "renderer-v2", {"type": "categorizedSymbol", "attr": "status"})
    categories, symbols = ET.SubElement(renderer, "categories"), ET.SubElement(renderer, "symbols")
    for number, (state, colour) in enumerate(STATES.items()):
        name = str(number)
        shown = {"value": state, "symbol": name, "label": state, "render": "true", "type": "string"}
        ET.SubElement(categories, "category", shown)
        symbols.append(_fill_symbol(name, f"{colour},40", f"{colour},255"))
    return _DOCTYPE + ET.tostring(qgis, encoding="unicode")


def changes_qml() -> str:
    """QML (QGIS 3) that fills polygons semi-transparently by ``mean_probability``."""
    qgis = ET.Element("qgis", version="3.28", styleCategories="Symbology|Labeling", labelsEnabled="0")
    renderer = ET.SubElement(
        qgis,
        "renderer-v2",
        {"type": "graduatedSymbol", "attr": "mean_probability", "graduatedMethod": "GraduatedColor"},
    )
    ranges, symbols = ET.SubElement(renderer, "ranges"), ET.SubElement(renderer, "symbols")
    for number, (lower, upper, colour) in enumerate(STEPS):
        name = str(number)
        label = f"{lower:.2f} - {upper:.2f}"
        bounds = {"lower": f"{lower:.6f}", "upper": f"{upper:.6f}"}
        ET.SubElement(ranges, "range", {**bounds, "symbol": name, "label": label, "render": "true"})
        symbols.append(_fill_symbol(name, f"{colour},{_FILL_ALPHA}", _OUTLINE))
        symbols[-1][0].append(_by_review())
    return _DOCTYPE + ET.tostring(qgis, encoding="unicode")


def _fill_symbol(name: str, colour: str, outline: str) -> ET.Element:
    symbol = ET.Element("symbol", {"type": "fill", "name": name, "alpha": "1", "clip_to_extent": "1"})
    layer = ET.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
    look = {
        "color": colour,
        "style": "solid",
        "outline_color": outline,
        "outline_style": "solid",
        "outline_width": "0.26",
        "outline_width_unit": "MM",
        "joinstyle": "miter",
    }
    options = ET.SubElement(layer, "Option", type="Map")
    for key, value in look.items():
        ET.SubElement(options, "Option", {"name": key, "type": "QString", "value": value})
        ET.SubElement(layer, "prop", {"k": key, "v": value})  # what QGIS before 3.26 reads
    return symbol


def _by_review() -> ET.Element:
    """Data-defined outline: colour by ``review``, and dashed where a polygon was rejected."""
    cases = " ".join(f"WHEN \"review\" = '{state}' THEN '{colour}'" for state, colour in REVIEWED.items())
    expressions = {
        "outlineColor": f"CASE {cases} ELSE '{_OUTLINE}' END",
        "outlineStyle": "if(\"review\" = 'rejected', 'dash', 'solid')",
        "outlineWidth": "if(\"review\" = '', 0.26, 0.6)",
    }
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
