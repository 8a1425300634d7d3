"""What file was this? Size, time, and a hash of sampled bytes: cheap for 100 GB, and enough to notice a change."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from rscd.errors import DataError
from rscd.scene.remote import gdal_name, remote_fingerprint

SAMPLES = 32
SAMPLE_BYTES = 1 << 16


def fingerprint(path: Path) -> dict[str, Any]:
    """Name, size in bytes, modification time (ns since 1970) and sha256 over the size and sampled bytes.

    The samples are SAMPLES stretches of SAMPLE_BYTES, evenly spread, the first and the last bytes among them.
    Of an address, see ``remote_fingerprint``.
    """
    if gdal_name(path) is not None:
        return remote_fingerprint(path)
    stat = path.stat()
    digest = hashlib.sha256(str(stat.st_size).encode())
    with path.open("rb") as file:
        for i in range(SAMPLES):
            file.seek(max(0, stat.st_size - SAMPLE_BYTES) * i // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return {
        "path": str(path.absolute()),
        "bytes": stat.st_size,
        "modified_ns": stat.st_mtime_ns,
        "sampled_sha256": digest.hexdigest(),
    }


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
