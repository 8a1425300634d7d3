"""Addresses in place of files: ``https://`` and ``s3://``, read through GDAL where the user allows it.

An address travels as a ``Path``, which folds its double slash: ``https:/host/a.tif``.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import RasterioError, RasterioIOError

from rscd.errors import DataError

_ADDRESS = re.compile(r"(https?|s3):/+(.+)", re.IGNORECASE | re.DOTALL)
REMOTE_OPTIONS = {"GDAL_HTTP_MAX_RETRY": 3, "GDAL_HTTP_RETRY_DELAY": 1, "GDAL_HTTP_TIMEOUT": 60}
SAMPLES = 64
"""Blocks whose compressed sizes tell one remote file from another."""


def gdal_name(path: Path) -> str | None:
    """GDAL's name for an address; None for a file."""
    found = _ADDRESS.fullmatch(str(path))
    if found is None or path.exists():
        return None
    scheme, rest = found[1].lower(), found[2]
    return f"/vsis3/{rest}" if scheme == "s3" else f"/vsicurl/{scheme}://{rest}"


def open_remote(path: Path) -> Any:  # noqa: ANN401 - rasterio has no types
    """Open an address as a GeoTIFF.

    Raises:
        DataError: Nothing answers there, or it is not a GeoTIFF.
    """
    try:
        return rasterio.open(gdal_name(path), driver="GTiff")
    except (RasterioIOError, RasterioError) as error:
        problem = f"cannot be opened as a remote GeoTIFF: {error}"
        raise DataError(problem, path=path, remedy="see that the address answers, or fetch the file") from error


def remote_fingerprint(path: Path) -> dict[str, Any]:
    """Address, and sha256 over header and the sizes and places of up to SAMPLES blocks: no pixel is fetched.

    Raises:
        DataError: Nothing answers there, or it is not a GeoTIFF.
    """
    with open_remote(path) as dataset:
        high, wide = dataset.block_shapes[0]
        rows, cols = -(-dataset.height // high), -(-dataset.width // wide)
        total = rows * cols
        picked = sorted({total * i // SAMPLES for i in range(SAMPLES)} | {total - 1})
        blocks = [
            dataset.get_tag_item(f"BLOCK_{fact}_{k % cols}_{k // cols}", "TIFF", bidx=1)
            for k in picked
            for fact in ("SIZE", "OFFSET")
        ]
        told = {**dataset.profile, "crs": str(dataset.crs), "tags": dataset.tags(), "blocks": blocks}
    text = json.dumps(told, sort_keys=True, default=str)
    return {"path": str(path), "sampled_sha256": hashlib.sha256(text.encode()).hexdigest()}
