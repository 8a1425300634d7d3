"""One scene on many workers: each finishes a stretch of its strips in the shared journal, and one merges them.

The journal is next to the output, where all workers must see it. A strip's bytes depend only on inputs, model,
options, device type, threads and batch size; all these are in the journal's key, and a worker that computes another
key is refused. So the result has the same bytes as one such worker would have produced.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rscd.core.errors import Interrupted, UsageError
from rscd.core.paths import SPLIT_NAME, run_folder
from rscd.core.pixel_area import PixelAreas
from rscd.core.publish import locked, write_durably
from rscd.core.types import Progress
from rscd.inference.journal import Journal, Work, differences, open_journal, plain_key, read_key
from rscd.inference.strips import strip_records
from rscd.inference.workers import prefetched
from rscd.jobs.schedule import WAIT_S, completed, slots, workers
from rscd.model.catalog import DEFAULT
from rscd.model.registry import trained_model, with_model
from rscd.options.declare import declared
from rscd.options.detect import DetectConfig
from rscd.output.outputs import Outputs
from rscd.output.results import Result
from rscd.scene.window_stream import read_windows
from rscd.workflows.setup import Run, Settings, worker_model

if TYPE_CHECKING:
    from distributed import Client


Detect = Callable[..., Result]
"""The function ``rscd.detect``."""

LEAST_STRIPS = 16
"""Shortest stretch, unless a slot would stay idle: each forwards one row of windows of the stretch above again."""
MOST_STRETCHES = 4
"""Stretches per slot at most."""


@dataclass(frozen=True)
class Scene:
    """What a worker needs to know of the scene."""

    config: DetectConfig
    """Inputs, outputs and options; all paths absolute."""
    model_sha256: str
    """Hash of the weights."""


@dataclass(frozen=True)
class Start:
    """What the first worker found."""

    strips: int
    """Strips of the scene."""
    missing: tuple[int, ...]
    """Indices of the unfinished strips."""
    pixels: int
    """Pixels of the common grid."""
    batch_size: int
    """Windows per forward pass: bytes depend on it, so all workers use the same."""
    lines: tuple[str, ...]
    """Messages for the user."""


@dataclass(frozen=True)
class Stretch:
    """A worker's share."""

    scene: Scene
    """The scene to work on."""
    strips: range
    """Strips to finish."""
    token: str
    """Token of this run: if the journal no longer has it, the worker stops."""


def detect_split(
    config: DetectConfig,
    scheduler: str,
    detect: Detect,
    *,
    progress: Progress = lambda done, total: None,
    on_start: Callable[[str], None] = lambda line: None,
) -> Result:
    """Detect on a cluster whose workers see the same files; the same call again continues an interrupted run.

    Args:
        config: Inputs, outputs and options.
        scheduler: Address of a Dask scheduler.
        detect: The function that runs a pair on one machine; a worker calls it once all strips are finished.
        progress: Called after each stretch.
        on_start: Called with messages on device, model and licence before the first window.

    Raises:
        UsageError: An option out of range, an existing output, no worker, or workers that differ.
        DataError: The pair was refused.
        ModelError: The model was refused.
        OutputError: An output could not be written.
        Interrupted: The scheduler was lost.
    """
    config = _absolute(config)
    outputs = Outputs.of(config)
    outputs.check(config.inputs, overwrite=config.overwrite, discard_reviews=config.discard_reviews)
    config = with_model(config)
    path, contract = trained_model(config.model or DEFAULT)
    config = dataclasses.replace(config, model=str(path.absolute()))
    scene = Scene(config, contract.sha256)
    with workers(scheduler, wait_s=WAIT_S, notify=on_start) as client:
        with locked(config.output) as folder:
            start: Start = _one(client, begin, scene)
            scene = dataclasses.replace(scene, config=dataclasses.replace(config, batch_size=start.batch_size))
            for line in start.lines:
                on_start(line)
            with _token(folder) as token:
                _finish(client, start, scene, token, progress)
        result: Result = _one(client, partial(merge, detect), scene)
    return result


def _finish(client: Client, start: Start, scene: Scene, token: str, progress: Progress) -> None:
    """Let the workers finish all missing strips."""
    left = len(start.missing)
    stretches = [Stretch(scene, strips, token) for strips in cut(start.missing, slots(client))]
    with closing(completed(client, finish, stretches, retries=1)) as events:
        for stretch, result in events:
            if isinstance(result, BaseException):
                raise result
            left -= len(stretch.strips)
            progress(start.pixels * (start.strips - left) // start.strips, start.pixels)


def _one(client: Client, function: Callable[[Scene], Any], scene: Scene) -> Any:  # noqa: ANN401
    """Call a function on some worker."""
    with closing(completed(client, function, [scene], retries=0)) as events:
        _, result = next(events)
    if isinstance(result, BaseException):
        raise result
    return result


@contextmanager
def _token(folder: Path) -> Iterator[str]:
    """Keep a token in the run folder as long as this run wants its workers to go on."""
    path, token = folder / SPLIT_NAME, str(uuid.uuid4())
    write_durably(path, json.dumps(token).encode())
    try:
        yield token
    finally:
        path.unlink(missing_ok=True)


def cut(missing: tuple[int, ...], places: int) -> list[range]:
    """Cut strips into stretches of neighbours: one per place, or more if the stretches stay long enough.

    Args:
        missing: Strips, ascending.
        places: Workers that can work at the same time.
    """
    shares = max(1, places) * max(1, min(MOST_STRETCHES, len(missing) // (max(1, places) * LEAST_STRIPS)))
    longest = max(1, -(-len(missing) // shares))
    stretches: list[range] = []
    for strip in missing:
        last = stretches[-1] if stretches else range(0)
        if len(last) in (0, longest) or last.stop != strip:
            stretches.append(range(strip, strip + 1))
        else:
            stretches[-1] = range(last.start, strip + 1)
    return stretches


def begin(scene: Scene) -> Start:
    """On a worker: open the pair and the journal, and report what is missing.

    Raises:
        RscdError: As ``detect``.
    """
    with _open(scene) as run:
        notes: list[str] = []
        journal = open_journal(
            run_folder(scene.config.output), run.plan, run.key, resume=scene.config.resume, notify=notes.append
        )
        missing = tuple(k for k in range(run.plan.rows.count) if k not in journal)
        height, width = run.pair.grid.shape
        return Start(
            strips=run.plan.rows.count,
            missing=missing,
            pixels=height * width,
            batch_size=run.predictor.batch_size,
            lines=(*run.lines, *notes),
        )


def finish(stretch: Stretch) -> int:
    """On a worker: put the missing strips of a stretch into the journal; return their number.

    Raises:
        Interrupted: The run that wants them has ended.
        UsageError: This worker would produce other bytes than the first worker.
        RscdError: As ``detect``.
    """
    folder = run_folder(stretch.scene.config.output)

    def interrupt() -> None:
        with suppress(OSError, ValueError):
            if json.loads((folder / SPLIT_NAME).read_bytes()) == stretch.token:
                return
        raise Interrupted("the run that wanted these strips has ended")

    with _open(stretch.scene) as run:
        _agree(run, folder)
        interrupt()
        plan = run.plan
        journal = Journal(folder, plan, stretch.strips)
        missing = [k for k in stretch.strips if k not in journal]
        # Rows above are forwarded again, because another worker may remove their tails at any time.
        forwarded = plan.rows.completing(missing)
        with closing(prefetched(read_windows(run.pair, plan, sorted(forwarded)))) as rows:
            records = strip_records(
                rows,
                plan,
                run.forward.interruptible(interrupt),
                threshold=run.threshold,
                areas=PixelAreas(run.pair.grid),
                work=Work(stretch.strips, forwarded, tuple(sorted(forwarded)), journal),
            )
            for _ in records:
                interrupt()
        return len(missing)


def merge(detect: Detect, scene: Scene) -> Result:
    """On a worker: run detect with all strips in the journal.

    Raises:
        RscdError: As ``detect``.
    """
    config = dataclasses.replace(scene.config, resume=True)
    with _open(scene) as run:
        _agree(run, run_folder(config.output))
    return detect(config, model=worker_model(str(config.model), scene.model_sha256))


def _open(scene: Scene) -> AbstractContextManager[Run]:
    return Settings(scene.config, worker_model(str(scene.config.model), scene.model_sha256)).open()


def _agree(run: Run, folder: Path) -> None:
    """Check that this worker would produce the same bytes as the first worker."""
    key, own = read_key(folder), plain_key(run.key)
    if key is None:
        raise Interrupted("the journal is gone", path=folder)
    if key != own:
        why = ", ".join(differences(key, own))
        remedy = "use workers with the same device, threads and versions; or set --backend and --precision"
        raise UsageError(f"a worker differs from the first one: {why}", remedy=remedy)


def _absolute(config: DetectConfig) -> DetectConfig:
    """The options with absolute paths: workers run in other folders."""
    files = {each.name: getattr(config, each.name) for each in declared(DetectConfig) if each.is_file}
    return dataclasses.replace(config, **{name: path and path.absolute() for name, path in files.items()})
