"""Files that are read: whether they are there, said before anything heavy is loaded."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from rscd.errors import DataError

GEOTIFF = "give the path of a GeoTIFF"
"""What to do where an image is missing."""
VECTORS = "give a vector file with polygons, e.g. GeoJSON"
"""What to do where an area is missing."""
MANIFEST = "give a manifest, or --before-dir and --after-dir"
"""What to do where a manifest is missing."""


def is_file(path: Path) -> bool:
    """Whether a path is that of a file; False too where the system takes no such name, e.g. for its length."""
    with suppress(OSError):
        return path.is_file()
    return False


def require_file(path: Path, remedy: str = GEOTIFF) -> None:
    """Refuse a path that is no file's.

    Raises:
        DataError: It is missing, or a folder.
    """
    if not is_file(path):
        folder = False
        with suppress(OSError):
            folder = path.is_dir()
        raise DataError("is a folder" if folder else "no such file", path=path, remedy=remedy)
