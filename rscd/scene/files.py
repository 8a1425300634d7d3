"""Files of images: addresses, sidecar files, fingerprints.

An address, ``https://`` or ``s3://``, is read through GDAL where the user allows it. It travels as a ``Path``,
which folds its double slash: ``https:/host/a.tif``.

A fingerprint holds size, time, and hashes: of all bytes of a small file, of sampled bytes of any. A large file
whose pixels were replaced between the samples, with size and time as they were, is not noticed.
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
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/",  # a worker lives long, and a file may change
}

PROBES = 64
"""Blocks whose compressed sizes identify a remote file."""


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
    """Address, and sha256 over header and the sizes and places of up to PROBES blocks: no pixel is fetched.

    Raises:
        DataError: Nothing answers there, or it is not a GeoTIFF.
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


SAMPLES = 32
SAMPLE_BYTES = 1 << 16
WHOLE_BYTES = 64 << 20
"""Files up to this size are hashed as a whole: about 0.04 s."""


def fingerprint(path: Path) -> dict[str, Any]:
    """Name, size in bytes, modification time (ns since 1970) and sha256 over the size and sampled bytes.

    The samples are SAMPLES stretches of SAMPLE_BYTES, evenly spread, the first and the last bytes among them;
    of a file of at most WHOLE_BYTES also the sha256 of all its bytes. Of an address, see ``remote_fingerprint``.
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
    """The fingerprints of files that are still as they were when these were taken.

    Args:
        seen: Role -> fingerprint.

    Raises:
        DataError: A file is not what it was, or gone.
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
