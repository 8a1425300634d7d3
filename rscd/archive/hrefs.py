"""Where a manifest may point: below its own folder, unless the user lets it out."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from rscd.errors import DataError

REMOTE = re.compile(r"(https?|s3)://[^/]", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_ANYWHERE = "keep files below the manifest's folder, or add --allow-remote"


class Root:
    """The folder that a manifest's files must lie in.

    Args:
        folder: The folder.
        allow_remote: Let absolute paths, paths that lead out, and ``https://`` and ``s3://`` addresses pass.
    """

    def __init__(self, folder: Path, *, allow_remote: bool = False) -> None:
        self.folder, self.allow_remote = Path(os.path.realpath(folder)), allow_remote
        self._real = lru_cache(maxsize=4096)(os.path.realpath)

    def resolve(self, href: str, base: Path | None = None, *, local: bool = False) -> Path:
        """The file, or address, that a reference means; links are followed, so that none leads out.

        Args:
            href: As the manifest has it.
            base: What it is relative to; default: the root.
            local: Refuse addresses in any case.

        Raises:
            DataError: It may not be used.
        """
        if not href.isprintable():
            raise DataError(f"{href!r} holds control characters", remedy="write a plain path")
        if href.lower().startswith("/vsi"):
            raise DataError(f"{href!r} is a name for GDAL, not a path", remedy="use a path, https:// or s3://")
        if _SCHEME.match(href):
            if local or not REMOTE.match(href):
                raise DataError(f"{href!r} is an address of a kind that is not read", remedy="use a path")
            if not self.allow_remote:
                raise DataError(f"{href!r} is an address", remedy=_ANYWHERE)
            return Path(href)
        if Path(href).is_absolute() and not self.allow_remote:
            raise DataError(f"{href!r} is an absolute path", remedy=_ANYWHERE)
        written = (base or self.folder) / href
        real = Path(self._real(written.parent)) / written.name
        if written.name == ".." or real.is_symlink():
            real = Path(os.path.realpath(real))
        if not self.allow_remote and not real.is_relative_to(self.folder):
            raise DataError(f"{href!r} leads out of {self.folder}", remedy=_ANYWHERE)
        return real
