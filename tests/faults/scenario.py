"""A small pair, a run on it in a process of its own that stops where it is told, and how results are compared."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
import torch
from conftest import Pointwise, contents_of_raster, utm_grid, write_image

from rscd import DetectConfig, detect
from rscd.core.contract import Contract
from rscd.output.results import Result

TERMS = {"window": 64, "overlap": 16, "threshold": 0.6, "trained_on": "nothing"}
STAND_IN = Pointwise(), Contract("stand-in", "1", "lite", 8, (0.0,) * 3, (1.0,) * 3, **TERMS)
HEIGHT, WIDTH = 400, 260
STRIPS, COLUMNS = 9, 6
"""Bands of the scene, and windows of each."""
MOST_FORWARDED = (STRIPS + 1) * COLUMNS + 2 * (4 + 2) + 4
"""Windows that a run which was ended and the one that goes on may forward together: the scene's, and what is lost.

Lost are a strip that is being labelled and kept, and beyond it three batches that are begun, one that waits and one
that is blended; of six columns, every other batch is of two.
"""
WATCHDOG_S = 300
"""A process that takes longer hangs; a machine under load is slow."""


def make_pair(folder: Path) -> tuple[Path, Path]:
    """Blobs that run over windows and strips, a nodata corner."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(5)
    before = rng.integers(60, 120, (3, HEIGHT, WIDTH), dtype=np.uint8)
    after = before + rng.integers(0, 8, before.shape, dtype=np.uint8)
    for row, col, height, width in [(20, 20, 90, 30), (30, 120, 200, 12), (250, 60, 100, 150), (390, 0, 10, 90)]:
        after[:, row : row + height, col : col + width] += 100
    after[:, :40, 200:] = 0
    grid = utm_grid(HEIGHT, WIDTH)
    return (
        write_image(folder / "before.tif", before, grid),
        write_image(folder / "after.tif", after, grid, nodata=0),
    )


@dataclass
class Case:
    """Inputs and outputs of runs."""

    before: Path
    after: Path
    folder: Path
    options: dict = field(default_factory=dict)

    @property
    def output(self) -> Path:
        return self.folder / "changes.gpkg"

    @property
    def outputs(self) -> tuple[Path, ...]:
        return self.output, self.folder / "p.tif", self.folder / "report.html"

    @property
    def journal(self) -> Path:
        return self.folder / "changes.gpkg.rscd"

    def config(self, **options) -> DetectConfig:
        given = {"probability": self.outputs[1], "report": self.outputs[2], "align": "off", "batch_size": 4}
        return DetectConfig(self.before, self.after, self.output, **(given | self.options | options))

    def run(self, **options) -> Result:
        """In this process."""
        return detect(self.config(**options), model=STAND_IN)

    def start(self, *, hold: str = "", nth: int = 1, fill: Path | None = None, **options) -> Victim:
        """In a process of its own, which announces its points and waits at the nth ``hold``."""
        config = {k: str(v) if isinstance(v, Path) else v for k, v in vars(self.config(**options)).items()}
        return start_stub(config=config, hold=hold, nth=nth, fill=str(fill or ""))

    def words(self, *more: str) -> list[str]:
        """The command line of a run."""
        files = [str(self.before), str(self.after), "-o", str(self.output), "--probability", str(self.outputs[1])]
        return ["detect", *files, "--report", str(self.outputs[2]), "--align", "off", "--batch-size", "4", *more]

    def listing(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def old_outputs(self) -> dict[Path, bytes]:
        """Put something at the outputs that must not be touched."""
        old = {path: f"an older {path.name}".encode() for path in self.outputs}
        for path, data in old.items():
            path.write_bytes(data)
        return old


def start_stub(
    *,
    hold: str = "",
    nth: int = 1,
    config: dict | None = None,
    fill: str = "",
    command: list[str] | None = None,
    terminal: str = "",
) -> Victim:
    """Start the stub on a config, or on the words of a command; it tells on a terminal, if one is named."""
    threads = torch.get_num_threads()  # they are in the journal's key
    told = {"config": config, "hold": hold, "nth": nth, "fill": fill, "command": command, "threads": threads}
    return Victim(told, terminal)


_NURSERY = multiprocessing.get_context("forkserver")  # imports torch and GDAL once, and forks each victim
_NURSERY.set_forkserver_preload(["faults.stub"])


class Victim:
    """A process that tells its points on a pipe, and leads a session of its own."""

    def __init__(self, told: dict, terminal: str = "") -> None:
        self._pipe, theirs = _NURSERY.Pipe()
        self._words = Path(tempfile.mkstemp(prefix="victim")[1])
        target = importlib.import_module("faults.stub").be
        self.process = _NURSERY.Process(target=target, args=(told, theirs, terminal or str(self._words)))
        self.process.start()
        theirs.close()
        self.points: list[str] = []
        self.windows = 0
        self._watchdog = threading.Timer(WATCHDOG_S, self.process.kill)
        self._watchdog.start()

    def read_until(self, word: str) -> bool:
        """Read on until a line that begins with the word; False if the process ended first."""
        with suppress(EOFError, ConnectionError):
            while True:
                name, *rest = self._pipe.recv_bytes().decode().split()
                if name == "windows":
                    self.windows += int(rest[0])
                self.points.append(name)
                if name == word:
                    return True
        return False

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Kill it where it waits; it must be alive, and die of this."""
        assert self.read_until("HOLD"), self.finish()
        assert self.process.is_alive(), "it had ended before it was killed"
        os.kill(self.process.pid, number)
        if number == signal.SIGKILL:
            code, told = self.finish()
            assert code == -number, told

    def go_on(self) -> None:
        """Let it go on from where it waits."""
        self._pipe.send_bytes(b"go")

    def finish(self) -> tuple[int, str]:
        """Wait for its end: exit code, and what it said on standard error."""
        self.read_until("the end")
        self.process.join()
        self._watchdog.cancel()
        told = self._words.read_text()
        self._words.unlink()
        return self.process.exitcode, told


def raster_of(case: Case) -> tuple:
    """All of the case's raster but where its inputs lie."""
    return contents_of_raster(case.outputs[1])


def features_of(case: Case) -> list[tuple]:
    """All features of both layers, geometry as WKB, in order."""
    found = []
    for layer in ("changes", "extent"):
        _, _, geometry, columns = pyogrio.raw.read(case.output, layer=layer)
        found += [(layer, shape, *map(str, rest)) for shape, *rest in zip(geometry, *columns, strict=True)]
    return found


def same_result(one: Case, other: Case) -> None:
    assert raster_of(one) == raster_of(other)
    assert features_of(one) == features_of(other)
    with rasterio.open(one.outputs[1]) as dataset:
        assert (dataset.read(1) == 255).any()
    assert len(features_of(one)) > 3
