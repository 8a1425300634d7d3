"""The house itself: what --help imports, what the wheel holds, what the Dockerfile names, the lint borders."""

import re
import subprocess
import sys
import tomllib
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
from conftest import REPOSITORY

from rscd.core.errors import UsageError
from rscd.qgis.package import package

HEAVY = ("torch", "rasterio", "geopandas", "pandas", "scipy", "dask", "distributed", "pystac")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["detect", "--help"], ["batch", "--help"], ["models", "list", "--help"]]
)
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys\nfrom rscd.cli.app import app\n"
        f"try:\n    app({arguments!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"loaded = [m for m in {HEAVY!r} if m in sys.modules]\nassert not loaded, loaded\n"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "Usage" in out


def test_the_wheel_holds_weights_their_licence_and_py_typed(tmp_path):
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(REPOSITORY),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        kept = {n: archive.getinfo(n).file_size for n in names if n.endswith(".safetensors")}
    folder = REPOSITORY / "rscd" / "model" / "weights"
    assert kept == {f"rscd/model/weights/{p.name}": p.stat().st_size for p in folder.glob("*.safetensors")}
    assert {Path(n).stem for n in kept} == {"buildings", "buildings-open", "urban-s2"}
    assert max(kept.values()) < 16e6
    assert {"rscd/py.typed", "rscd/model/weights/LICENSE"} <= set(names)
    assert not [n for n in names if n.startswith(("tests/", "examples/"))]
    plugin = REPOSITORY / "rscd" / "qgis" / "plugin"
    source = {p.relative_to(REPOSITORY).as_posix() for p in plugin.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    assert {f"rscd/qgis/plugin/{name}" for name in ("metadata.txt", "icon.svg", "__init__.py")} <= source
    assert source <= set(names)


def test_the_plugin_has_the_version_of_rscd():
    import rscd

    parser = ConfigParser()
    parser.read(REPOSITORY / "rscd" / "qgis" / "plugin" / "metadata.txt", encoding="utf-8")
    assert parser["general"]["version"] == rscd.__version__


def test_the_zip_holds_one_folder_that_qgis_takes(tmp_path):
    output = tmp_path / "rscd-qgis.zip"
    subprocess.run([sys.executable, "-m", "rscd.qgis.package", "-o", str(output)], check=True)
    with zipfile.ZipFile(output) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert {name.split("/")[0] for name in names} == {"rscd_qgis"}
    assert {"rscd_qgis/metadata.txt", "rscd_qgis/__init__.py", "rscd_qgis/review/dock.py"} <= set(names)
    assert not [name for name in names if "__pycache__" in name]
    with pytest.raises(UsageError, match="exists already"):
        package(output)
    with pytest.raises(UsageError, match=r"ends in .zip"):
        package(tmp_path / "mine.txt")


def test_the_dockerfile_names_what_exists():
    text = (REPOSITORY / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert source.startswith("--") or (REPOSITORY / source).exists(), source
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in re.findall(r"\.\[([a-z,]+)\]", text):
        assert set(extra.split(",")) <= extras.keys()
    assert 'ENTRYPOINT ["rscd"]' in text
    user = re.findall(r"^USER (\S+)$", text, re.MULTILINE)
    assert user
    assert user[-1] not in ("root", "0")


def test_lint_and_types_hold():
    for tool in (["ruff", "check", "."], ["mypy"]):
        done = subprocess.run([sys.executable, "-m", *tool], cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_types_hold_on_other_systems(platform):
    command = [sys.executable, "-m", "mypy", "--platform", platform]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_rooms_form_a_chain_without_a_cycle():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "4 kept, 0 broken" in done.stdout


def test_the_public_names_are_there_and_hide_no_folder():
    import rscd

    for name in rscd.__all__:
        assert getattr(rscd, name) is not None
    folders = {path.name for path in (REPOSITORY / "rscd").iterdir() if path.is_dir()}
    assert not folders & set(rscd.__all__)


def test_nothing_that_windows_lacks_is_imported_at_the_top_of_a_module():
    lacking = re.compile(r"(?m)^(?:import|from) (?:fcntl|resource|pwd|grp|termios)\b")
    for path in (REPOSITORY / "rscd").rglob("*.py"):
        assert not lacking.search(path.read_text(encoding="utf-8")), path


def test_the_import_borders_are_lint_rules():
    bad = "import torch\nimport rich\nimport rasterio\n\nprint(rasterio.open)\n"
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--stdin-filename",
        "rscd/border.py",
        "--output-format",
        "concise",
        "-",
    ]
    told = subprocess.run(command, cwd=REPOSITORY, input=bad, capture_output=True, text=True).stdout
    for rule in ("TID253", "TID251", "T201"):
        assert rule in told
    assert "`rasterio.open` is banned" in told


def test_top_level_holds_what_it_should():
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    allowed = {
        "rscd",
        "tests",
        "examples",
        "pyproject.toml",
        "README.md",
        "Dockerfile",
        "LICENSE",
        ".ci",
        ".github",
        ".gitignore",
        ".pre-commit-config.yaml",
        "CHANGELOG.md",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "docs",
        "mkdocs.yml",
    }
    assert {name.split("/")[0] for name in tracked} <= allowed
