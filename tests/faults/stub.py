"""The program that the fault tests kill: detect with a stand-in network, its points announced on a pipe.

Points are calls of rscd's own functions, wrapped here; at the one asked for, the thread that is there says HOLD and
waits to be killed, or fills a file system until nothing more goes in.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

import torch

import rscd.core.publish as publish
import rscd.inference.journal as journal
import rscd.inference.strips as strips
import rscd.output.probability as probability
import rscd.output.vector.geopackage as geopackage
import rscd.vectorize.tracer as polygons
import rscd.workflows.setup
from faults.scenario import STAND_IN
from rscd import DetectConfig, detect
from rscd.core.errors import RscdError
from rscd.inference.predictor import Predictor
from rscd.output.report.page import Report

TOLD: dict = {}
PIPE: list[Connection] = []
REACHED: Counter[str] = Counter()
LOCK = threading.Lock()


def tell(line: str) -> None:
    with LOCK:
        PIPE[0].send_bytes(line.encode())


def point(name: str) -> None:
    REACHED[name] += 1
    tell(name)
    if name == TOLD["hold"] and REACHED[name] == TOLD["nth"]:
        if TOLD["fill"]:
            fill(Path(TOLD["fill"]))
        else:
            tell("HOLD")
            PIPE[0].recv_bytes()  # until told to go on, or killed


def fill(folder: Path) -> None:
    """Leave no byte."""
    with (folder / "filler").open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1 << 8, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue


def around(owner: object, name: str, before: str = "", after: str = "") -> None:
    """Announce a function's calls."""
    function = getattr(owner, name)

    def announced(*args, **kwargs):
        if before:
            point(before)
        result = function(*args, **kwargs)
        if after:
            point(after)
        return result

    setattr(owner, name, announced)


def count_windows(call):
    def counted(self, before, after):
        point("forward")
        found = call(self, before, after)
        tell(f"windows {len(before)}")
        return found

    return counted


def wrap() -> None:
    Predictor.__call__ = count_windows(Predictor.__call__)
    around(strips._Strip, "record", before="blended")
    around(journal, "write_durably", before="tail-written")
    around(journal.Journal, "keep", before="keep", after="kept")
    around(journal.Journal, "close", before="placed", after="journal-removed")
    around(probability.ProbabilityRaster, "add", after="cog-rows")
    around(probability.ProbabilityRaster, "finish", before="cog")
    around(probability.rasterio.shutil, "copy", before="cog-copy", after="cog-copied")
    around(probability, "verify", after="cog-verified")
    around(polygons.PolygonTracer, "add", after="traced")
    around(geopackage, "_complete", before="gpkg", after="gpkg-layers")
    around(geopackage, "add_styles", after="gpkg-style")
    around(geopackage, "_describe", after="gpkg-described")
    around(geopackage, "_check", after="gpkg-checked")
    around(Report, "write", before="report")
    around(publish.Publication, "publish", before="publish")
    around(publish, "write_durably", after="recorded")
    replace = Path.replace

    def announced(self: Path, target: Path):
        name = "replace-strip" if target.suffix in (".strip", ".json") else "replace"
        point(name)
        done = replace(self, target)
        point(name + "d")
        return done

    Path.replace = announced


def command_line(words: list[str]) -> int:
    """Run the real command line, with the stand-in for a model."""
    from rscd.cli.app import app

    rscd.workflows.setup.Model.named = lambda name: rscd.workflows.setup.Model.of(STAND_IN)
    sys.argv = ["rscd", *words]
    app()
    return 0


def be(told: dict, pipe: Connection, errors: str) -> None:
    """What a victim does with its life."""
    os.setsid()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background jobs ignore it, and we heed that
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.dup2(os.open(errors, os.O_RDWR), 2)  # a terminal becomes the session's
    TOLD.update(told)
    PIPE.append(pipe)
    torch.set_num_threads(told["threads"])
    wrap()
    sys.exit(command_line(told["command"]) if told["command"] else run(told["config"]))


def run(config: dict) -> int:
    """Run detect."""
    kinds = {f.name: f.type for f in dataclasses.fields(DetectConfig)}
    options = {k: Path(v) if v is not None and "Path" in str(kinds[k]) else v for k, v in config.items()}
    try:
        detect(DetectConfig(**options), model=STAND_IN)
    except RscdError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0
