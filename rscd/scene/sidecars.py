"""Sidecars: the CRS, transform or mask that some programs keep beside a GeoTIFF. Read only when asked for."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

from rscd.errors import DataError
from rscd.files import is_file

MOST_BYTES = 4 << 20
"""An ``.aux.xml`` or ``.tfw`` larger than this is refused."""
REFERENCES = (b"<SourceFilename", b"<SourceDataset", b"<!ENTITY", b"<!DOCTYPE", b"/vsi", b"<xi:include")
"""What a harmless ``.aux.xml`` never holds: names of further files or addresses."""
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def sidecars_of(path: Path) -> list[Path]:
    """Sidecar files that lie beside a GeoTIFF."""
    beside = [path.with_name(path.stem + ".tfw")]
    beside += [path.with_name(path.name + end) for end in (".aux.xml", ".msk", ".ovr")]
    return [file for file in beside if is_file(file)]


def told_beside(path: Path) -> str:
    """Words for a message where sidecars lie beside a file; empty where none do."""
    found = sidecars_of(path)
    return f" ({', '.join(file.name for file in found)} beside it: read with --sidecars)" if found else ""


def check_sidecars(path: Path, *, wanted: bool) -> None:
    """Check what GDAL would read beside a file, where it is wanted.

    Raises:
        DataError: A sidecar cannot be read, is too large, names other files, or is not what its name says: GDAL
            would go on without it, and without a word.
    """
    for file in sidecars_of(path) if wanted else []:
        try:
            with file.open("rb") as stream:
                start = stream.read(MOST_BYTES + 1)
            wrong = _wrong(file, start)
        except OSError as error:
            wrong = f"cannot be read: {error.strerror}"
        if wrong:
            raise DataError(wrong, path=file, remedy="delete it, or leave --sidecars out")


def _wrong(file: Path, start: bytes) -> str:
    """What is wrong with a sidecar that begins so; empty if nothing is."""
    if file.suffix in (".msk", ".ovr"):
        return "" if start[:4] in TIFF_MAGIC else "is no TIFF"
    if len(start) > MOST_BYTES:
        return f"is larger than {MOST_BYTES} bytes"
    if named := [mark for mark in REFERENCES if mark in start]:
        return f"names other files ({named[0].decode()})"
    try:
        if file.suffix == ".tfw":
            numbers = [float(word) for word in start.split()]
            return "" if len(numbers) == 6 and all(map(math.isfinite, numbers)) else "does not hold six numbers"
        ElementTree.fromstring(start)  # entities were looked for above
    except ValueError:
        return "does not hold six numbers"
    except ElementTree.ParseError as error:
        return f"is no XML ({error})"
    return ""
