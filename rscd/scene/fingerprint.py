"""What file was this? Size, time, and hashes: of all bytes of a small file, of sampled ones of any.

A large file whose pixels were replaced between the samples, with size and time as they were, is not noticed. Hashes
of what is decoded would notice it only if a resume decoded finished bands again, and it reads nothing of them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from rscd.errors import DataError
from rscd.scene.remote import gdal_name, remote_fingerprint

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
