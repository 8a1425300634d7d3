"""The documentation builds without a warning, quotes messages that exist, and README stays short."""

import re
import shutil
import subprocess
import sys

import pytest
from conftest import REPOSITORY

DOCS = REPOSITORY / "docs"


def test_the_site_builds_strictly(tmp_path):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
    assert "Map what changed between two GeoTIFFs" in page and "threshold" in page


def test_every_message_that_the_docs_quote_is_in_the_code():
    source = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "rscd").rglob("*.py"))
    rows = [
        line for line in (DOCS / "errors.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `")
    ]
    quoted = [span for row in rows for span in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(quoted) > 15
    assert [span for span in quoted if span not in source] == []


def test_every_option_that_the_docs_name_exists():
    rscd = [sys.executable, "-m", "rscd"]
    commands = ("detect", "inspect", "polygons", "batch", "train", "evaluate", "demo", "qgis install")
    help_text = "".join(
        subprocess.run(
            [*rscd, *command.split(), "--help"], capture_output=True, text=True, env={"COLUMNS": "300"}
        ).stdout
        for command in commands
    )
    known = set(re.findall(r"--[a-z][a-z-]+", help_text)) | {"--install-completion", "--version"}
    elsewhere = {
        "--nproc-per-node",
        "--nthreads",
        "--memory-limit",
        "--resources",
        "--no-dashboard",
        "--val",
        "--strict",
    }
    pages = [REPOSITORY / "README.md", *DOCS.glob("*.md")]
    for page in pages:
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text(encoding="utf-8")))
        assert sorted(named - known - elsewhere - {"--rows", "--train"}) == [], page.name


def test_readme_fits_on_a_few_screens_and_links_to_pages_that_are_there():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (REPOSITORY / target).exists(), target


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not here")
def test_pictures_of_the_docs_are_there():
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert (DOCS / target).is_file(), f"{page.name}: {target}"
