"""Run an archive: manifest, ledger, workers, summary. The stages in order."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from rscd.core.errors import Interrupted, ModelError, OutputError, UsageError, several
from rscd.core.paths import check_target
from rscd.inference.predictor import Windows
from rscd.jobs.catalogue import check_catalogue, write_catalogue
from rscd.jobs.index import write_index
from rscd.jobs.job import PairJob, PairOutcome, failed, is_current, job_of
from rscd.jobs.ledger import Entry, Ledger
from rscd.jobs.manifest import folder_pairs, read_manifest, write_manifest
from rscd.jobs.pairs import Manifest
from rscd.jobs.schedule import completed, visible_gpus, workers
from rscd.jobs.summary import write_summary
from rscd.model.registry import trained_model
from rscd.options.batch import BatchConfig
from rscd.output.vector.reviews import NONE, Carried, check_reviews
from rscd.workflows.pair import PairEstimate, estimate_pairs, run_pair, seconds_per_mpx

SUMMARY, INDEX, RESOLVED = "summary.gpkg", "index.html", "manifest.csv"
CHECKERS = 8
"""Pairs whose fingerprints are computed at once."""
PAIR = 1000
"""Progress steps per pair."""
OnPair = Callable[[PairOutcome, int, int], None]
"""Called with each outcome, the number of outcomes so far, and their total number."""


@dataclass(frozen=True)
class Calls:
    """Callbacks of an archive's run."""

    on_pair: OnPair = lambda outcome, number, total: None
    """Called with each outcome."""
    notify: Callable[[str], None] = lambda line: None
    """Called with messages on what comes next."""
    progress: Callable[[int, int], None] = lambda done, total: None
    """Called with steps done and in total, ``PAIR`` per pair."""


@dataclass(frozen=True)
class BatchResult:
    """Result of an archive's run."""

    pairs: int
    """Pairs in the manifest."""
    ran: int
    """Pairs that this run worked on."""
    done: int
    """Pairs whose outputs exist, from this run or an earlier one."""
    failed: tuple[Entry, ...]
    """Pairs that failed."""
    left: int
    """Pairs not run yet."""
    summary: Path
    """GeoPackage of all changes and all pairs."""
    index: Path
    """Page that lists the reports."""
    seconds: float
    """Wall time, s."""
    entries: tuple[Entry, ...] = ()
    """All pairs, with verdict, model and quality."""
    reviews: Carried = NONE
    """What became of the reviews in the summary that was replaced."""
    catalogue: Path | None = None
    """Collection of the STAC catalogue, if one was asked for."""


@dataclass(frozen=True)
class BatchPlan:
    """What a run would do."""

    pairs: tuple[PairEstimate, ...]
    """Estimates of all pairs, in the manifest's order."""
    windows: int
    """Windows of all pairs."""
    megapixels: float
    """Total size of the common grids, Mpx."""
    forwarded_mpx: float
    """Total size of these windows at the models' pixel sizes, Mpx."""
    seconds_per_mpx: float
    """Time per Mpx of windows, measured on this machine, s."""
    device: str
    """Device on which it was measured."""
    resolved: Path
    """The resolved manifest, already written: CSV with absolute paths."""
    notes: tuple[str, ...]
    """Entries that the manifest left out."""

    @property
    def seconds(self) -> float:
        """Estimated time on one worker with this device, s."""
        return self.forwarded_mpx * self.seconds_per_mpx


def batch(
    config: BatchConfig,
    *,
    on_pair: OnPair = lambda outcome, number, total: None,
    notify: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BatchResult:
    """Run the missing pairs of an archive, and write its summary.

    Pairs are independent: the failure of one is recorded in the ledger, and the others go on. Pairs done earlier
    with the same inputs, model and options are not run again.

    Args:
        config: Manifest, folder, options.
        on_pair: Called with each outcome.
        notify: Called with messages on what comes next.
        progress: Called with steps done and in total, ``PAIR`` per pair.

    Raises:
        DataError: The manifest was refused.
        UsageError: An option is out of range, or no worker is available.
        ModelError: The model was refused.
        OutputError: The folder, ledger or summary cannot be written.
        Interrupted: The user interrupted the run, or the scheduler was lost.
    """
    started, calls = perf_counter(), Calls(on_pair, notify, progress)
    manifest, jobs = _jobs(config)
    _say(manifest, notify)
    summary, index = config.output / SUMMARY, config.output / INDEX
    for target in (summary, index):
        check_target(target, overwrite=True)
    if config.stac is not None:
        check_catalogue(config.stac, config.output, [job.id for job in jobs])
    check_reviews(summary, discard=config.detect.discard_reviews)
    with Ledger(config.output) as ledger:
        cut = ledger.expect(jobs)
        todo = sorted(_todo(ledger, jobs), key=lambda job: job.id in cut)  # last: those that ended the last run
        notify(f"{several(len(jobs), 'pair')}, {len(jobs) - len(todo)} done already")
        chosen = todo[: config.max_pairs]
        try:
            if chosen:
                _run(config, ledger, chosen, calls)
        except KeyboardInterrupt as error:
            done = sum(entry.state == "done" for entry in ledger.entries())
            raise Interrupted(f"interrupted; {done} of {len(jobs)} pairs are done and are kept") from error
        made = write_summary(
            summary, config.output, ledger.entries(), discard_reviews=config.detect.discard_reviews
        )
        for name, why in made.unreadable.items():
            ledger.fail(name, why)
        entries = ledger.entries()
        write_index(index, config.output, entries, summary)
        catalogue = (
            write_catalogue(config.stac, config.output, entries, manifest.pairs)
            if config.stac is not None
            else None
        )
    wrong = tuple(entry for entry in entries if entry.state == "failed")
    done = sum(entry.state == "done" for entry in entries)
    left = len(entries) - done - len(wrong)
    taken = perf_counter() - started
    return BatchResult(
        len(entries), len(chosen), done, wrong, left, summary, index, taken, tuple(entries), made.reviews, catalogue
    )


def plan_batch(config: BatchConfig) -> BatchPlan:
    """Resolve the manifest, write it, and estimate how long a run would take.

    Raises:
        DataError: The manifest was refused.
        UsageError: An option is out of range.
        ModelError: The model was refused.
        OutputError: The folder cannot be written.
    """
    manifest, jobs = _jobs(config)
    pairs = tuple(estimate_pairs(jobs))
    speed, device = seconds_per_mpx(config.detect)
    resolved = config.output / RESOLVED
    write_manifest(resolved, manifest)
    return BatchPlan(
        pairs=pairs,
        windows=sum(pair.windows for pair in pairs),
        megapixels=sum(pair.megapixels for pair in pairs),
        forwarded_mpx=sum(pair.forwarded_mpx for pair in pairs),
        seconds_per_mpx=speed,
        device=device,
        resolved=resolved,
        notes=manifest.notes,
    )


def _jobs(config: BatchConfig) -> tuple[Manifest, list[PairJob]]:
    """Check everything that can be checked before a run."""
    shared = trained_model(config.detect.model) if config.detect.model is not None else None
    if shared is not None:
        Windows.of(shared[1], config.detect.window, config.detect.overlap)
    manifest = _manifest(config)
    try:
        config.output.mkdir(exist_ok=True)
    except OSError as error:
        remedy = "name a folder whose parent exists and is writable"
        raise OutputError(f"cannot be created: {error}", path=config.output, remedy=remedy) from error
    with ThreadPoolExecutor(CHECKERS) as pool:
        jobs = list(pool.map(lambda pair: job_of(pair, config, shared), manifest.pairs))
    return manifest, jobs


def _manifest(config: BatchConfig) -> Manifest:
    if config.manifest is not None:
        return read_manifest(config.manifest, allow_remote=config.allow_remote, asset=config.asset)
    assert config.before_dir is not None and config.after_dir is not None, "checked by the config"
    return folder_pairs(config.before_dir, config.after_dir, config.match_by)


def _todo(ledger: Ledger, jobs: list[PairJob]) -> list[PairJob]:
    """Pairs to run: all that are not done with exactly these inputs, model and options."""
    known = {entry.id: entry.fingerprint for entry in ledger.entries() if entry.state == "done"}
    done = [job for job in jobs if job.id in known]
    with ThreadPoolExecutor(CHECKERS) as pool:
        current = list(pool.map(lambda job: is_current(job, known[job.id]), done))
    skipped = {job.id for job, same in zip(done, current, strict=True) if same}
    ledger.forget([job.id for job in done if job.id not in skipped])
    return [job for job in jobs if job.id not in skipped]


def _run(config: BatchConfig, ledger: Ledger, jobs: list[PairJob], calls: Calls) -> None:
    with closing(_results(config, ledger, jobs, calls)) as events:
        for number, (job, result) in enumerate(events, start=1):
            outcome = failed(job, result) if isinstance(result, BaseException) else result
            if outcome.for_all:
                raise (UsageError if outcome.exit_code == UsageError.exit_code else ModelError)(outcome.error)
            ledger.record(outcome)
            calls.on_pair(outcome, number, len(jobs))
            calls.progress(number * PAIR, len(jobs) * PAIR)
            if config.fail_fast and outcome.state == "failed":
                return


def _results(
    config: BatchConfig, ledger: Ledger, jobs: list[PairJob], calls: Calls
) -> Generator[tuple[PairJob, Any]]:
    """Each pair with its outcome, or the exception; from this process, or from the workers of a cluster."""
    if config.scheduler is None and config.workers is None and len(visible_gpus(config.detect.device)) < 2:
        yield from one_by_one(jobs, retries=config.retries, on_start=ledger.start, calls=calls)
        return
    with workers(config.scheduler, config.detect.device, config.workers, config.wait_s, calls.notify) as client:
        yield from completed(client, run_pair, jobs, retries=config.retries, on_start=ledger.start)


def one_by_one(
    jobs: Sequence[PairJob], *, retries: int, on_start: Callable[[PairJob], None], calls: Calls
) -> Generator[tuple[PairJob, Any]]:
    """Run pairs in this process, one after the other."""
    for k, job in enumerate(jobs):
        on_start(job)

        def within(done: int, total: int, k: int = k) -> None:
            calls.progress(k * PAIR + PAIR * done // max(total, 1), len(jobs) * PAIR)

        result: Any = None
        for _ in range(1 + retries):
            try:
                result = run_pair(job, within)
                break
            except Interrupted:
                raise
            except Exception as error:
                result = error
        yield job, result


def _say(manifest: Manifest, notify: Callable[[str], None]) -> None:
    for note in manifest.notes:
        notify(note)
