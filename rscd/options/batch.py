"""Options of ``rscd batch``: an archive of many pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rscd.core.errors import UsageError
from rscd.options.declare import Option, options
from rscd.options.detect import DetectConfig
from rscd.options.types import AtLeast0, AtLeast1, MatchBy, within


@options
class BatchConfig:
    """Archive: its pairs, and the workers that process them."""

    output: Annotated[Path, Option(short="-o")]
    """Folder of the archive: one folder per pair, ledger, summary and index; created if missing."""
    detect: DetectConfig
    """Options shared by all pairs. Each pair replaces the paths by its own; an output that is None is not
    written."""
    manifest: Annotated[Path | None, Option(argument=True)] = None
    """CSV, GeoParquet, GeoJSON or GPKG (id,before,after[,aoi,threshold,model,before_date,after_date]), STAC
    ItemCollection or static catalog."""
    stac: Annotated[Path | None, Option()] = None
    """Folder of a static STAC catalogue of the pairs that are done, written or updated (extra ``stac``)."""
    before_dir: Annotated[Path | None, Option()] = None
    """Folder of the earlier images, instead of a manifest."""
    after_dir: Annotated[Path | None, Option()] = None
    """Folder of the later images."""
    match_by: Annotated[MatchBy, Option()] = "name"
    """How files of the two folders are matched."""
    asset: Annotated[str | None, Option()] = None
    """Key of the STAC asset that is the image."""
    allow_remote: Annotated[bool, Option()] = False
    """Allow paths outside the manifest's folder, and https:// and s3:// addresses."""
    scheduler: Annotated[str | None, Option()] = None
    """Address of a Dask scheduler, e.g. tcp://host:8786; default: this machine."""
    workers: Annotated[int | None, AtLeast1, Option()] = None
    """Worker processes on this machine (extra ``cluster``); default: this process only, or one per GPU if there are
    several."""
    wait_s: Annotated[float, within(lambda v: 0 <= v < float("inf"), "use 0 or more seconds"), Option()] = 300.0
    """Seconds to wait for the first worker of ``--scheduler``."""
    retries: Annotated[int, AtLeast0, Option()] = 1
    """How often a pair is retried after an error that the pair itself did not cause."""
    fail_fast: Annotated[bool, Option()] = False
    """Stop at the first pair that fails."""
    max_pairs: Annotated[int | None, AtLeast1, Option()] = None
    """Run at most this many pairs."""

    def __post_init__(self) -> None:
        if self.scheduler is not None and self.workers is not None:
            raise UsageError("--scheduler and --workers", remedy="give one of them: a cluster has its own workers")
        folders = self.before_dir, self.after_dir
        if (self.manifest is not None) == (None not in folders) or (self.manifest and folders != (None, None)):
            raise UsageError(
                "no pairs given, or given twice", remedy="give a MANIFEST, or both --before-dir and --after-dir"
            )
