"""Pack the plugin for QGIS's *Install from ZIP*: ``python -m rscd.qgis.package -o rscd-qgis.zip``."""

from __future__ import annotations

import argparse
import sys
import zipfile
from pathlib import Path

from rscd.core.errors import RscdError, UsageError
from rscd.core.paths import check_target
from rscd.core.publish import publishing, writing
from rscd.qgis.install import FOLDER, PLUGIN


def package(output: Path, *, overwrite: bool = False) -> Path:
    """Write the zip: one folder that holds the plugin.

    Raises:
        UsageError: It exists, or is not named as a zip is.
        OutputError: It cannot be written.
    """
    if output.suffix.lower() != ".zip":
        raise UsageError("is no name of a zip", path=output, remedy="give it a name that ends in .zip")
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
