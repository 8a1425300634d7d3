"""Versions: of rscd, which the build reads here, and of libraries."""

from functools import cache

VERSION = "0.1.0"


@cache
def library_version(name: str) -> str:
    """Version of an installed library; reading it takes 2 ms."""
    from importlib.metadata import version

    return version(name)
