"""Image files: remote addresses, sidecar files, fingerprints.

An address, ``https://`` or ``s3://``, is read through GDAL if the user allows it. It is passed on as a ``Path``,
which collapses its double slash: ``https:/host/a.tif``.

A fingerprint contains size, time, and hashes: of all bytes of a small file, of sampled bytes of any file. A change
of pixels between the samples of a large file, with size and time unchanged, is not detected.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import rasterio
from rasterio.errors import RasterioError, RasterioIOError

from rscd.core.errors import DataError
from rscd.core.paths import is_file

_ADDRESS = re.compile(r"(https?|s3):/+(.+)", re.IGNORECASE | re.DOTALL)
REMOTE_OPTIONS = {
    "GDAL_HTTP_MAX_RETRY": 3,
    "GDAL_HTTP_RETRY_DELAY": 1,  # s
    "GDAL_HTTP_TIMEOUT": 60,  # s
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no listing of the store, no sidecars
    "GDAL_PAM_ENABLED": "NO",
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/",  # workers run for a long time, and a file may change
}

PROBES = 64
"""Number of blocks whose compressed sizes identify a remote file."""


def gdal_name(path: Path) -> str | None:
    """GDAL's name for an address; None for a local file."""
    found = _ADDRESS.fullmatch(str(path))
    if found is None or path.exists():
        return None
    scheme, rest = found[1].lower(), found[2]
    return f"/vsis3/{rest}" if scheme == "s3" else f"/vsicurl/{scheme}://{rest}"


def open_remote(path: Path) -> Any:  # noqa: ANN401 - rasterio has no types
    """Open an address as a GeoTIFF.

    Raises:
        DataError: The address does not answer, or is not a GeoTIFF.
    """
    try:
        return rasterio.open(gdal_name(path), driver="GTiff")
    except (RasterioIOError, RasterioError) as error:
        problem = f"cannot be opened as a remote GeoTIFF: {error}"
        raise DataError(problem, path=path, remedy="check the address, or download the file") from error


def remote_fingerprint(path: Path) -> dict[str, Any]:
    """Address, and sha256 of the header and of sizes and offsets of up to PROBES blocks: no pixel is downloaded.

    Raises:
        DataError: The address does not answer, or is not a GeoTIFF.
    """
    with rasterio.Env(**REMOTE_OPTIONS), open_remote(path) as dataset:
        high, wide = dataset.block_shapes[0]
        rows, cols = -(-dataset.height // high), -(-dataset.width // wide)
        total = rows * cols
        picked = sorted({total * i // PROBES for i in range(PROBES)} | {total - 1})
        blocks = [
            dataset.get_tag_item(f"BLOCK_{fact}_{k % cols}_{k // cols}", "TIFF", bidx=1)
            for k in picked
            for fact in ("SIZE", "OFFSET")
        ]
        header = {**dataset.profile, "crs": str(dataset.crs), "tags": dataset.tags(), "blocks": blocks}
    text = json.dumps(header, sort_keys=True, default=str)
    return {"path": str(path), "sampled_sha256": hashlib.sha256(text.encode()).hexdigest()}


MOST_BYTES = 4 << 20
"""Maximum size of an ``.aux.xml`` or ``.tfw``, bytes."""
REFERENCES = (b"<SourceFilename", b"<SourceDataset", b"<!ENTITY", b"<!DOCTYPE", b"/vsi", b"<xi:include")
"""Content that a harmless ``.aux.xml`` never has: names of further files or addresses."""
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def sidecars_of(path: Path) -> list[Path]:
    """Sidecar files next to a GeoTIFF."""
    beside = [path.with_name(path.stem + ".tfw")]
    beside += [path.with_name(path.name + end) for end in (".aux.xml", ".msk", ".ovr")]
    return [file for file in beside if is_file(file)]


def told_beside(path: Path) -> str:
    """Hint for a message if there are sidecars next to a file; else empty."""
    found = sidecars_of(path)
    return f" ({', '.join(file.name for file in found)} next to it: read with --sidecars)" if found else ""


def check_sidecars(path: Path, *, wanted: bool) -> None:
    """Check the sidecars that GDAL would read, if they are to be read.

    Raises:
        DataError: A sidecar cannot be read, is too large, refers to other files, or has another format than its
            name: GDAL would silently ignore it.
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
    """Problem of a sidecar with these first bytes; empty if there is none."""
    if file.suffix in (".msk", ".ovr"):
        return "" if start[:4] in TIFF_MAGIC else "is not a TIFF"
    if len(start) > MOST_BYTES:
        return f"is larger than {MOST_BYTES} bytes"
    if named := [mark for mark in REFERENCES if mark in start]:
        return f"refers to other files ({named[0].decode()})"
    try:
        if file.suffix == ".tfw":
            numbers = [float(word) for word in start.split()]
            return "" if len(numbers) == 6 and all(map(math.isfinite, numbers)) else "does not contain six numbers"
        ElementTree.fromstring(start)  # entities were checked above
    except ValueError:
        return "does not contain six numbers"
    except ElementTree.ParseError as error:
        return f"is not XML ({error})"
    return ""


SAMPLES = 32
SAMPLE_BYTES = 1 << 16
WHOLE_BYTES = 64 << 20
"""Maximum size of files that are hashed completely, bytes: about 0.04 s."""


def fingerprint(path: Path) -> dict[str, Any]:
    """Name, size in bytes, modification time (ns since 1970) and sha256 over the size and sampled bytes.

    The samples are SAMPLES ranges of SAMPLE_BYTES, evenly spread, including the first and the last bytes; for a
    file of at most WHOLE_BYTES also the sha256 of all its bytes. For an address, see ``remote_fingerprint``.
    """
    if gdal_name(path) is not None:
        return remote_fingerprint(path)
    stat = path.stat()
    digest = hashlib.sha256(str(stat.st_size).encode())
    with path.open("rb") as file:
        for i in range(SAMPLES):
            file.seek(max(0, stat.st_size - SAMPLE_BYTES) * i // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
        file.seek(0)
        whole = hashlib.sha256(file.read()).hexdigest() if stat.st_size <= WHOLE_BYTES else None
    found = {
        "path": str(path.absolute()),
        "bytes": stat.st_size,
        "modified_ns": stat.st_mtime_ns,
        "sampled_sha256": digest.hexdigest(),
    }
    return found if whole is None else found | {"sha256": whole}


def unchanged(seen: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The fingerprints of files, after checking that the files are unchanged since.

    Args:
        seen: Role -> fingerprint.

    Raises:
        DataError: A file has changed or is missing.
    """
    for role, before in seen.items():
        path = Path(before["path"])
        try:
            now = fingerprint(path)
        except OSError as error:
            now = {"path": str(path), "gone": str(error)}
        if now != before:
            differing = ", ".join(key for key in before if now.get(key) != before[key])
            problem = f"the {role} file changed while it was read ({differing})"
            raise DataError(problem, path=path, remedy="run again once it is complete; no output was changed")
    return seen
