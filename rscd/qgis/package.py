"""Copies the plugin into a QGIS profile, or packages it for *Install from ZIP*.

Without ``rscd`` on the path: ``python -m rscd.qgis.package -o rscd-qgis.zip``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser, Error
from contextlib import suppress
from pathlib import Path

from rscd.core.errors import OutputError, RscdError, UsageError
from rscd.core.paths import check_target
from rscd.core.publish import REMEDY, publishing, writing

PLUGIN = Path(__file__).parent / "plugin"
"""The plugin's source."""
FOLDER = "rscd_qgis"
"""The plugin's folder in QGIS: not ``rscd``, which is the name of the package."""
INSTALLED_BY = "installed_by.txt"
"""File in it with the path of the program that installed it, so that the plugin finds it without a setting."""
OURS = "rscd"
"""Name in the ``metadata.txt`` of rscd's plugin."""
SIGNS = "QGIS", "python", "qgis.db"
"""A QGIS profile contains one of these."""


def install(profile: Path | None = None) -> Path:
    """Copy the plugin into a profile; an older copy is replaced.

    Args:
        profile: Folder of the profile; default: the default profile of this user.

    Returns:
        The folder of the plugin.

    Raises:
        UsageError: There is no such profile, or another plugin's folder has the same name.
        OutputError: The folder cannot be written.
    """
    target = _profile(profile) / "python" / "plugins" / FOLDER
    if (target.exists() or target.is_symlink()) and not _is_ours(target):
        remedy = "move it away, then run again"
        raise UsageError("exists already, and is not rscd's plugin", path=target, remedy=remedy)
    copy, old = (target.with_name(f".{FOLDER}.{os.getpid()}.{kind}") for kind in ("new", "old"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(PLUGIN, copy, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / INSTALLED_BY).write_text(_program() + "\n", encoding="utf-8")
        _put(copy, target, old)
    except OSError as error:
        raise OutputError(f"could not be written ({error})", path=target, remedy=REMEDY) from error
    finally:
        for left in (copy, old):
            shutil.rmtree(left, ignore_errors=True)
    return target


def _put(copy: Path, target: Path, old: Path) -> None:
    """Put the copy in place; restore the older one if that fails."""
    if not target.exists():
        copy.rename(target)
        return
    target.rename(old)
    try:
        copy.rename(target)
    except OSError:
        old.rename(target)
        raise


def _is_ours(folder: Path) -> bool:
    parser = ConfigParser(interpolation=None)
    with suppress(OSError, Error, UnicodeDecodeError):
        parser.read(folder / "metadata.txt", encoding="utf-8")
        return folder.is_dir() and not folder.is_symlink() and parser.get("general", "name") == OURS
    return False


def _program() -> str:
    """The program ``rscd`` of this Python; empty if it has none."""
    folders = str(Path(sys.executable).parent), sysconfig.get_path("scripts")
    return shutil.which("rscd", path=os.pathsep.join(folders)) or ""


def _profile(given: Path | None) -> Path:
    """The folder of the profile.

    Raises:
        UsageError: There is no such profile.
    """
    if given is not None:
        if not any((given / sign).exists() for sign in SIGNS):
            remedy = "name a folder that QGIS made, see Settings > User Profiles > Open Active Profile Folder"
            raise UsageError("is not a QGIS profile", path=given, remedy=remedy)
        return given
    for profiles in profile_folders():
        found = profiles / _default_name(profiles)
        if found.is_dir():
            return found
    remedy = "start QGIS once to create one, or name its folder with --profile"
    raise UsageError("no profile of QGIS was found", path=next(profile_folders()), remedy=remedy)


def profile_folders() -> Iterator[Path]:
    """Folders in which QGIS keeps profiles on this system."""
    if custom := os.environ.get("QGIS_CUSTOM_CONFIG_PATH"):
        yield Path(custom) / "profiles"
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA", Path.home() / "AppData" / "Roaming"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    yield base / "QGIS" / "QGIS3" / "profiles"


def _default_name(profiles: Path) -> str:
    """Name of the profile that QGIS starts with."""
    parser = ConfigParser(interpolation=None, strict=False)
    with suppress(OSError, Error, UnicodeDecodeError):
        parser.read(profiles / "profiles.ini", encoding="utf-8")
        return parser.get("core", "defaultProfile", fallback="default").strip('"') or "default"
    return "default"


def package(output: Path, *, overwrite: bool = False) -> Path:
    """Write the zip with the plugin's folder.

    Raises:
        UsageError: It exists, or its name does not end in .zip.
        OutputError: It cannot be written.
    """
    if output.suffix.lower() != ".zip":
        raise UsageError("is not the name of a zip", path=output, remedy="give it a name that ends in .zip")
    check_target(output, overwrite=overwrite)
    with publishing(output) as path, writing(output), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(PLUGIN.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                archive.write(file, f"{FOLDER}/{file.relative_to(PLUGIN).as_posix()}")
    return output


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rscd.qgis.package", description=package.__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("rscd-qgis.zip"), help="zip to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing zip")
    options = parser.parse_args()
    try:
        package(options.output, overwrite=options.overwrite)
    except RscdError as error:
        sys.stderr.write(f"rscd: {error.line}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
