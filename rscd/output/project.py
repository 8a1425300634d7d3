"""The QGIS project: inputs and outputs of a run in one file that opens ready for review.

It is XML in a zip, written without QGIS. Layers have the same styles as the files that they show. Paths are
relative to the project, so that it still opens if its folder is moved or sent as a whole.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5
from xml.etree import ElementTree as ET

import numpy as np
import pyproj

from rscd.core.grid import outline_of, place
from rscd.core.publish import Publication, writing
from rscd.core.types import Grid
from rscd.options.detect import DetectConfig
from rscd.output.vector.formats import GEOPACKAGE
from rscd.output.vector.geopackage import bands_of
from rscd.output.vector.style import changes_qml, extent_qml, probability_qml, reviewed_before_qml
from rscd.scene.aligned import DateReader
from rscd.scene.files import gdal_name
from rscd.vectorize.attributes import REVIEW_STATES, Attributes, columns

VERSION = "3.22.0"
"""Version of the QGIS project format; later versions can read it."""
DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
MARGIN = 0.03
"""Margin around the scene in the first view, as a share of its sides."""
ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""Time stamp in the zip, so that the same run gives the same bytes."""
LONLAT = "EPSG:4326"
BEFORE, AFTER = "before", "after"
"""Names of the map themes."""
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Layer:
    """One layer of the project."""

    id: str
    """Id, unique in the project."""
    name: str
    """Name in the list of layers."""
    source: str
    """Data source, paths relative to the project's folder."""
    crs: str
    """CRS in any form that pyproj accepts."""
    style: ET.Element
    """Element whose children are the style, as in a QML file."""
    raster: bool = False
    """Whether it is a raster."""
    visible: bool = True
    """Whether it is visible when the project opens."""
    expanded: bool = False
    """Whether its legend is expanded."""


@dataclass(frozen=True)
class Project:
    """A QGIS project that a run writes."""

    path: Path
    """The .qgz file."""
    config: DetectConfig
    """Paths of inputs and outputs."""
    grid: Grid
    """The common grid: defines the project's CRS and first view."""
    images: tuple[DateReader, DateReader]
    """Both dates: bands and scaling."""
    attributes: Attributes
    """Defines the columns of the changes."""
    dates: tuple[str, str] = ("", "")
    """Acquisition dates of the images; empty if unknown."""

    def write(self, publication: Publication, vector_layers: Sequence[str]) -> None:
        """Write the project next to its target.

        Args:
            publication: Puts it in place.
            vector_layers: Layers of the vector file, besides ``changes`` and ``extent``.

        Raises:
            OutputError: It cannot be written.
        """
        text = DOCTYPE + ET.tostring(self.xml(vector_layers), encoding="unicode")
        with (
            writing(self.path),
            zipfile.ZipFile(publication.beside(self.path), "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            archive.writestr(zipfile.ZipInfo(f"{self.path.stem}.qgs", ZIP_TIME), text, zipfile.ZIP_DEFLATED)

    def xml(self, vector_layers: Sequence[str] = ()) -> ET.Element:
        """The project as XML, which QGIS reads as ``.qgs``."""
        found, images = list(self._found(vector_layers)), list(self._images())
        qgis = ET.Element("qgis", {"version": VERSION, "projectname": self._title})
        ET.SubElement(qgis, "homePath", path="")
        ET.SubElement(qgis, "title").text = self._title
        ET.SubElement(qgis, "projectCrs").append(_crs(self.grid.crs))
        tree = ET.SubElement(qgis, "layer-tree-group")
        tree.append(_group("Result", found))
        tree.append(_group("Images", images, exclusive=True))
        qgis.append(self._canvas())
        listed = ET.SubElement(qgis, "projectlayers")
        for layer in (*found, *images):
            listed.append(_map_layer(layer))
        themes = ET.SubElement(qgis, "visibility-presets")
        for date in (BEFORE, AFTER):
            themes.append(_theme(date, [layer.id for layer in found if layer.visible] + [self._id(date)]))
        qgis.append(_properties())
        qgis.append(self._first_view())
        return qgis

    def _id(self, name: str) -> str:
        """A layer's id: long, because QGIS replaces short ones, and different in each project."""
        return f"{name}_{str(uuid5(NAMESPACE_URL, self.path.absolute().as_uri())).replace('-', '_')}"

    @cached_property
    def _title(self) -> str:
        """The requested title, else the dates, else the files' names."""
        names = tuple(path.stem for path in (self.config.before, self.config.after))
        return _clean(
            self.config.title or "Changes from {} to {}".format(*(self.dates if all(self.dates) else names))
        )

    def _found(self, vector_layers: Sequence[str]) -> Iterator[Layer]:
        """Output layers, topmost first."""
        vector = self.config.output
        packed = vector.suffix.lower() == GEOPACKAGE
        crs = LONLAT if vector.suffix.lower() == ".geojson" else self.grid.crs
        beside = vector if packed else vector.with_name(f"{vector.name}.extent{vector.suffix}")

        def source(file: Path, layer: str) -> str:
            return self._relative(file) + (f"|layername={layer}" if packed else "")

        form = ET.fromstring(changes_qml(columns(bands_of(self.attributes.schema.names)), REVIEW_STATES))
        yield Layer(self._id("changes"), "Changes", source(vector, "changes"), crs, form, expanded=True)
        for name in vector_layers:
            look = ET.fromstring(reviewed_before_qml())
            yield Layer(self._id(name), name.replace("_", " ").capitalize(), source(vector, name), crs, look)
        yield Layer(self._id("extent"), "Extent", source(beside, "extent"), crs, ET.fromstring(extent_qml()))
        if self.config.probability is not None:
            look, file = ET.fromstring(probability_qml()), self._relative(self.config.probability)
            name = "Probability of change"
            yield Layer(self._id("probability"), name, file, self.grid.crs, look, raster=True, visible=False)

    def _images(self) -> Iterator[Layer]:
        """Image layers: the later date, which is drawn on top, and the earlier date."""
        dates = ((AFTER, self.config.after), (BEFORE, self.config.before))
        for (date, path), taken, reader in zip(dates, self.dates[::-1], self.images[::-1], strict=True):
            name, crs = _clean(f"{date.capitalize()} {taken}".strip()), reader.raster.grid.crs
            look = _image_style(reader)
            yield Layer(self._id(date), name, self._relative(path), crs, look, raster=True, visible=date == AFTER)

    def _relative(self, path: Path) -> str:
        """Path of a file relative to the project's folder; an address by its GDAL name."""
        remote = gdal_name(path)
        if remote is not None:
            return _clean(remote)
        try:
            found = Path(os.path.relpath(path.absolute(), self.path.absolute().parent)).as_posix()
        except ValueError:  # another drive of Windows
            return _clean(path.absolute().as_posix())
        home = self.path.absolute().parent
        if found.startswith("../") and Path(os.path.realpath(home)) != home:  # ".." is ambiguous
            return _clean(path.absolute().as_posix())
        return _clean(found if found.startswith("../") else f"./{found}")

    @cached_property
    def _bounds(self) -> dict[str, float]:
        x, y = place(self.grid.transform, *outline_of(self.grid))
        wide, high = MARGIN * float(np.ptp(x)), MARGIN * float(np.ptp(y))
        corners = x.min() - wide, y.min() - high, x.max() + wide, y.max() + high
        return dict(zip(("xmin", "ymin", "xmax", "ymax"), map(float, corners), strict=True))

    def _canvas(self) -> ET.Element:
        """View of the main map when the project opens."""
        canvas = ET.Element("mapcanvas", {"name": "theMapCanvas", "annotationsVisible": "1"})
        ET.SubElement(canvas, "units").text = "degrees" if _system(self.grid.crs).is_geographic else "meters"
        extent = ET.SubElement(canvas, "extent")
        for name, value in self._bounds.items():
            ET.SubElement(extent, name).text = repr(value)
        ET.SubElement(canvas, "rotation").text = "0"
        ET.SubElement(canvas, "destinationsrs").append(_crs(self.grid.crs))
        return canvas

    def _first_view(self) -> ET.Element:
        """Extent of "zoom full", independent of layers that cover larger areas."""
        view = ET.Element("ProjectViewSettings", UseProjectScales="0")
        bounds = {name: repr(value) for name, value in self._bounds.items()}
        ET.SubElement(view, "DefaultViewExtent", bounds).append(_crs(self.grid.crs))
        return view


def _clean(text: str) -> str:
    """Text without characters that are invalid in XML."""
    return _NOT_XML.sub("", text)


def _system(crs: str) -> pyproj.CRS:
    return pyproj.CRS.from_user_input(crs)


def _crs(crs: str) -> ET.Element:
    """A CRS: by its EPSG code if that is sufficient, and as WKT."""
    system, element = _system(crs), ET.Element("spatialrefsys", nativeFormat="Wkt")
    ET.SubElement(element, "wkt").text = system.to_wkt()
    epsg = system.to_epsg(min_confidence=100)
    ET.SubElement(element, "srid").text = str(epsg or 0)
    ET.SubElement(element, "authid").text = f"EPSG:{epsg}" if epsg else ""
    ET.SubElement(element, "description").text = system.name
    ET.SubElement(element, "geographicflag").text = str(system.is_geographic).lower()
    return element


def _group(name: str, layers: Sequence[Layer], *, exclusive: bool = False) -> ET.Element:
    """A group in the list of layers; an exclusive group shows one layer at a time."""
    look = {"name": name, "checked": "Qt::Checked", "expanded": "1"}
    shown = next((k for k, layer in enumerate(layers) if layer.visible), -1)
    more = {"mutually-exclusive": "1", "mutually-exclusive-child": str(shown)} if exclusive else {}
    group = ET.Element("layer-tree-group", look | more)
    for layer in layers:
        about = {"id": layer.id, "name": layer.name, "source": layer.source, "providerKey": _provider(layer)}
        about["checked"] = "Qt::Checked" if layer.visible else "Qt::Unchecked"
        ET.SubElement(group, "layer-tree-layer", about | {"expanded": str(int(layer.expanded))})
    return group


def _provider(layer: Layer) -> str:
    return "gdal" if layer.raster else "ogr"


def _map_layer(layer: Layer) -> ET.Element:
    element = ET.Element("maplayer", type="raster" if layer.raster else "vector")
    if not layer.raster:
        element.set("geometry", "Polygon")
    ET.SubElement(element, "id").text = layer.id
    ET.SubElement(element, "datasource").text = layer.source
    ET.SubElement(element, "layername").text = layer.name
    ET.SubElement(element, "srs").append(_crs(layer.crs))
    ET.SubElement(element, "provider", encoding="UTF-8").text = _provider(layer)
    styles = ET.SubElement(element, "map-layer-style-manager", current="default")
    ET.SubElement(styles, "map-layer-style", name="default")
    for name, value in layer.style.attrib.items():
        if name != "version":
            element.set(name, value)
    element.extend(layer.style)
    return element


def _theme(name: str, layers: Sequence[str]) -> ET.Element:
    theme = ET.Element("visibility-preset", {"name": name, "has-expanded-info": "0", "has-checked-group-info": "0"})
    for layer in layers:
        ET.SubElement(theme, "layer", id=layer, visible="1", style="default")
    return theme


def _properties() -> ET.Element:
    """Relative paths, and areas and lengths in metres on the ellipsoid."""
    properties = ET.Element("properties")
    groups: Mapping[str, Mapping[str, tuple[str, str]]] = {
        "Paths": {"Absolute": ("bool", "false")},
        "SpatialRefSys": {"ProjectionsEnabled": ("int", "1")},  # without it the project has no CRS
        "Measure": {"Ellipsoid": ("QString", "EPSG:7030")},
        "Measurement": {"DistanceUnits": ("QString", "meters"), "AreaUnits": ("QString", "m2")},
    }
    for group, values in groups.items():
        element = ET.SubElement(properties, group)
        for name, (kind, value) in values.items():
            ET.SubElement(element, name, type=kind).text = value
    return properties


def _image_style(reader: DateReader) -> ET.Element:
    """The compared bands, stretched as for the model; 8-bit images unchanged."""
    bands: Any = reader.raster.bands
    style = ET.Element("qgis")
    pipe = ET.SubElement(style, "pipe")
    alpha = {"opacity": "1", "alphaBand": str(reader.raster.alpha or -1)}
    ranges = _ranges(reader)
    if len(bands) < len(_COLOURS):
        look = {"type": "singlebandgray", "grayBand": str(bands[0]), "gradient": "BlackToWhite"}
        _add_stretch(ET.SubElement(pipe, "rasterrenderer", look | alpha), "contrastEnhancement", ranges[0])
        return style
    chosen = dict(zip((f"{colour}Band" for colour in _COLOURS), map(str, bands), strict=False))
    renderer = ET.SubElement(pipe, "rasterrenderer", {"type": "multibandcolor", **chosen, **alpha})
    for colour, limits in zip(_COLOURS, ranges, strict=False):
        _add_stretch(renderer, f"{colour}ContrastEnhancement", limits)
    return style


_COLOURS = "red", "green", "blue"


def _ranges(reader: DateReader) -> list[tuple[float, float] | None]:
    """Values of each band shown as black and white; None: 0 and 255."""
    known = reader.radiometry
    if known is None:
        return [None] * len(reader.raster.bands)
    pairs = zip(known.gain, known.offset, strict=True)
    return [(-offset / gain, (255 - offset) / gain) if gain > 0 else None for gain, offset in pairs]


def _add_stretch(renderer: ET.Element, name: str, limits: tuple[float, float] | None) -> None:
    if limits is None:
        return
    stretch = ET.SubElement(renderer, name)
    ET.SubElement(stretch, "minValue").text = repr(limits[0])
    ET.SubElement(stretch, "maxValue").text = repr(limits[1])
    ET.SubElement(stretch, "algorithm").text = "StretchToMinimumMaximum"
