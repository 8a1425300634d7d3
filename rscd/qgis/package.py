"""Pack the plugin for QGIS's *Install from ZIP*: ``python -m rscd.qgis.package -o rscd-qgis.zip``."""

from __future__ import annotations

import argparse
import sys
import zipfile
from pathlib import Path

from rscd.core.errors import RscdError
from rscd.core.publish import publishing, writing
from rscd.qgis.install import FOLDER, PLUGIN


def package(output: Path) -> Path:
    """Write the zip: one folder that holds the plugin.

    Raises:
        OutputError: It cannot be written.
    """
    with publishing(output) as path, writing(output), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(PLUGIN.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                archive.write(file, f"{FOLDER}/{file.relative_to(PLUGIN).as_posix()}")
    return output


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rscd.qgis.package", description=package.__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("rscd-qgis.zip"), help="zip to write")
    try:
        package(parser.parse_args().output)
    except RscdError as error:
        sys.stderr.write(f"rscd: {error.line}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
