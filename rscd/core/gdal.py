"""What GDAL raises, and what it says, as our own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from rscd.core.errors import DataError

GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""What rasterio raises where GDAL does not like a file."""


@contextmanager
def gdal_errors(path: Path) -> Iterator[None]:
    """Turn what GDAL says of a file's header into a DataError; rasterio does not wrap all of it.

    Raises:
        DataError: GDAL said something.
    """
    try:
        yield
    except GDAL_ERRORS as error:
        problem = f"its header is broken: {words_of(error)}"
        raise DataError(problem, path=path, remedy="fetch the file again") from error


def words_of(error: BaseException) -> str:
    """What GDAL said: the chain of causes from the last to the first, without repeating."""
    parts: list[str] = []
    link: BaseException | None = error.__cause__ or error
    while link is not None:
        text = " ".join(str(link).split()).rstrip(".")
        if text and not any(text in other for other in parts):
            parts.append(text)
        link = link.__cause__
    return ": ".join(parts) or type(error).__name__
