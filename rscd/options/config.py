"""One frozen dataclass a command: defaults and ranges stated once, units in every field's doc.

A value out of its range is refused here, before torch or GDAL is loaded or a file is opened.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from rscd.core.contract import MOST_WINDOW, STRIDE
from rscd.core.errors import UsageError

Whose = Literal["before", "after"]
AutoOff = Literal["auto", "off"]
OnOff = Literal["on", "off"]
BadBlocks = Literal["stop", "mask"]
MatchBy = Literal["name", "footprint"]
Precision = Literal["auto", "fp32", "bf16"]
Encoder = Literal["lite", "vit_t", "vit_b", "vit_l", "vit_h"]
Tune = Literal["full", "lora", "frozen"]
Normalise = Literal["kept", "all"]
Split = Literal["train", "val", "test"]

MOST_BATCH = 4096
"""Most windows, or crops, at once."""


def refuse(rules: Mapping[str, tuple[bool, str]]) -> None:
    """Refuse options out of their range.

    Args:
        rules: Option with its value -> whether it may be, and what would do.

    Raises:
        UsageError: The first that may not be.
    """
    for option, (right, remedy) in rules.items():
        if not right:
            raise UsageError(option, remedy=remedy)


def _one_of(option: str, value: object, allowed: Any) -> dict[str, tuple[bool, str]]:  # noqa: ANN401 - a Literal
    names = get_args(allowed)
    return {f"{option} {value}": (value in names, f"use {', '.join(names[:-1])} or {names[-1]}")}


def _at_least_0(option: str, value: float | None) -> dict[str, tuple[bool, str]]:
    return {f"{option} {value}": (value is None or 0 <= value < math.inf, "use 0 or more")}


def _threshold(value: float | None) -> dict[str, tuple[bool, str]]:
    return {f"--threshold {value}": (value is None or 0 < value <= 1, "use a probability above 0, at most 1")}


def _windows(window: int | None, overlap: int | None) -> dict[str, tuple[bool, str]]:
    near = min(max(STRIDE, round((window or 0) / STRIDE) * STRIDE), MOST_WINDOW)
    most = f"use 0 to {window - 1} px" if window else "use 0 or more px, below the window's side"
    return {
        f"--window {window}": (
            window is None or (STRIDE <= window <= MOST_WINDOW and window % STRIDE == 0),
            f"use a multiple of {STRIDE} px, e.g. {near}",
        ),
        f"--overlap {overlap}": (overlap is None or 0 <= overlap < (window or math.inf), most),
    }


def _device(name: str) -> dict[str, tuple[bool, str]]:
    kind, _, number = name.partition(":")
    right = name in ("auto", "cpu", "cuda") or (kind == "cuda" and number.isdecimal())
    return {f"--device {name!r}": (right, "use auto, cpu or cuda:N")}


@dataclass(frozen=True)
class LabelledConfig:
    """Labelled data, and how pairs of GeoTIFFs among it are read: what train and evaluate share."""

    data: tuple[Path, ...]
    """Folders of tiles, folders of scenes, and lists of scenes (.csv)."""
    _: KW_ONLY
    pair: tuple[Path, Path, Path] | None = None
    """GeoTIFFs of both dates, and labels: polygons of change, or a raster on the pair's grid."""
    aoi: Path | None = None
    """Vector file: outside it the labels of ``pair``, or of reviews, say nothing."""
    bands: tuple[int, ...] | None = None
    """Bands of GeoTIFFs to use, from 1; default: by their colours or descriptions, else 1, 2, 3."""
    after_bands: tuple[int, ...] | None = None
    """Those of the later date, where they differ; default: as ``bands``."""
    grid: Whose = "before"
    """Whose pixel grid is a pair's common grid."""
    align: AutoOff = "auto"
    """``auto`` corrects a consistent shift between the dates of a pair; ``off`` only measures it."""

    def __post_init__(self) -> None:
        refuse(_one_of("--grid", self.grid, Whose) | _one_of("--align", self.align, AutoOff))


@dataclass(frozen=True)
class TrainConfig(LabelledConfig):
    """Options of ``rscd train``."""

    output: Path
    """Checkpoint to write."""
    validation: tuple[Path, ...] = ()
    """Data to choose epoch, threshold and temperature on; without any, a tenth of ``data`` is held out."""
    reviews: tuple[Path, ...] = ()
    """GeoPackages of ``rscd detect`` whose column ``review`` was filled in."""
    name: str = "custom"
    """Name in the contract."""
    encoder: Encoder = "lite"
    """``lite``, ``vit_t``, ``vit_b``, ``vit_l`` or ``vit_h``."""
    init: Path | None = None
    """Checkpoint to start from, or the name of an embedded model."""
    fine: int | None = None
    """Channels of the fine scales at strides 2 and 1 (``lite`` alone), 0 for none; None: as the starting model,
    else 24 for ``lite``. A starting model without them gets them."""
    presence: bool | None = None
    """Whether the network tells for each date what is there; None: as the starting model, else if anything
    (``simulated``, ``one_date``) teaches it."""
    one_date: tuple[Path, ...] = ()
    """Folders ``image/`` and ``label/`` of one date, with all things of the class outlined: drawn in pairs."""
    one_date_share: float = 0.0
    """Share of crops from ``one_date``, 0..1."""
    loss: str = "cem+dice"
    """A sum of cem, bce, focal, ohem and dice."""
    tau: float = 0.2
    """CEM: unchanged pixels with p below this are masked, 0..1."""
    floor: float = 0.1
    """CEM: fraction of the masked pixels that is kept, 0..1."""
    warmup_steps: int = 100
    """CEM: steps of plain cross-entropy first."""
    normalise: Normalise = "kept"
    """CEM: ``kept`` divides by the pixels that are kept, ``all`` by all of them."""
    epochs: int = 12
    """Epochs."""
    crops: int = 960
    """Crops an epoch."""
    crop: int = 256
    """Side of a crop in px, a multiple of 32."""
    batch_size: int = 8
    """Crops a step, over all processes."""
    micro_batch: int = 0
    """Crops that a process forwards at once, their gradients accumulated; 0 takes its share of the batch."""
    tune: Tune = "full"
    """What of the encoder learns: ``full``, ``lora`` (SAM encoders: low-rank parts of attention), ``frozen``."""
    lora_rank: int = 8
    """Rank of the low-rank parts."""
    checkpointing: bool = False
    """SAM encoders: keep each block's input alone and compute the rest again: less memory, a third more time."""
    rate: float = 1e-3
    """Peak learning rate of STFE and MSDF."""
    encoder_factor: float = 0.1
    """The encoder's learning rate as a share of ``rate``."""
    layer_decay: float = 1.0
    """SAM encoders: the rate of a block is this times that of the block above it."""
    ema: float = 0.998
    """Decay a step of the moving average of weights, which is what is validated and written; 0 takes the last."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Range of random zoom."""
    simulated: float = 0.0
    """Share of crops from rendered scenes (``rscd.simulate``), 0..1."""
    gsd_m: tuple[float, float] | None = None
    """Ground sample distances in m to promise in the contract; default: those of the GeoTIFFs and half of the zoom
    beyond, else those of the checkpoint that training started from."""
    class_name: str | None = None
    """What a polygon means, for the contract; None: as the starting model's, else ``change``."""
    minimum_mapping_m2: float | None = None
    """Smallest thing that the class may be, m2, for the contract; at least 4 px are asked in any case. None: as the
    starting model's, else 0."""
    licence: str | None = None
    """Terms of the weights, for the contract, joined to those of the starting model; None: those, else those of the
    training data."""
    trained_on: str = ""
    """Words on the data, for the contract; default: the folders' names."""
    seed: int = 0
    """Seed of everything random."""
    threads: int = 0
    """CPU threads; 0 leaves torch's choice."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda:N``."""
    save_every: int = 200
    """Steps after which the state of the run is saved: what is lost at most when it is killed."""
    limit_minutes: float = 0.0
    """Stop after so many minutes, best checkpoint written and state kept; 0 is no limit."""
    overwrite: bool = False
    """Replace an existing output, and begin anew where the state of another run lies beside it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        c = self
        refuse(
            _one_of("--encoder", c.encoder, Encoder)
            | _one_of("--tune", c.tune, Tune)
            | _one_of("--normalise", c.normalise, Normalise)
            | _device(c.device)
            | {
                f"--crop {c.crop}": (
                    c.crop >= 2 * STRIDE and c.crop % STRIDE == 0,
                    f"use a multiple of {STRIDE}, at least {2 * STRIDE}",
                ),
                f"--batch-size {c.batch_size}": (c.batch_size >= 1, "use 1 or more"),
                f"--micro-batch {c.micro_batch}": (c.micro_batch >= 0, "use 1 or more, or 0 for a whole batch"),
                f"--epochs {c.epochs} --crops {c.crops}": (min(c.epochs, c.crops) >= 1, "use 1 or more"),
                f"--save-every {c.save_every}": (c.save_every >= 1, "use 1 or more"),
                f"--lora-rank {c.lora_rank}": (c.lora_rank >= 1, "use 1 or more"),
                f"--rate {c.rate}": (0 < c.rate < math.inf, "use a positive rate, such as 0.001"),
                f"--layer-decay {c.layer_decay}": (0 < c.layer_decay <= 1, "use a factor above 0, up to 1"),
                f"--ema {c.ema}": (0 <= c.ema < 1, "use a share from 0, below 1"),
                f"--tau {c.tau} --floor {c.floor}": (0 <= c.tau <= 1 and 0 <= c.floor <= 1, "use 0 to 1"),
                f"--warmup-steps {c.warmup_steps}": (c.warmup_steps >= 0, "use 0 or more"),
                f"--simulated {c.simulated}": (0 <= c.simulated <= 1, "use a share between 0 and 1"),
                f"--one-date-share {c.one_date_share}": (
                    0 <= c.one_date_share <= 1 - c.simulated,
                    "use a share from 0, at most what --simulated leaves",
                ),
                "--one-date": (
                    bool(c.one_date) == (c.one_date_share > 0),
                    "give --one-date FOLDER and --one-date-share SHARE together",
                ),
                f"--fine {c.fine}": (
                    0 <= (c.fine or 0) <= 256 and (not c.fine or c.encoder == "lite"),
                    "use 0 to 256 channels; none with SAM's encoders",
                ),
                f"--limit-minutes {c.limit_minutes}": (c.limit_minutes >= 0, "use minutes, or 0 for no limit"),
                f"--seed {c.seed}": (c.seed >= 0, "use 0 or more"),
            }
        )


@dataclass(frozen=True)
class PairConfig:
    """How two files become one comparable pair: the options that inspect and detect share."""

    before: Path
    """GeoTIFF of the earlier date."""
    after: Path
    """GeoTIFF of the later date."""
    _: KW_ONLY
    bands: tuple[int, ...] | None = None
    """Bands to use, from 1, in the contract's order; default: by their colours or descriptions, else 1, 2, 3."""
    after_bands: tuple[int, ...] | None = None
    """Those of the later date, where they differ; default: as ``bands``."""
    nir: int | None = None
    """Near-infrared band, for ``ndvi_change``; 0: none; default: the one that both files name so."""
    after_nir: int | None = None
    """That of the later date, where it differs; default: as ``nir``."""
    before_mask: Path | None = None
    """Raster on any grid: where it is not 0, the earlier date is not observable."""
    after_mask: Path | None = None
    """Likewise of the later date."""
    mask_values: tuple[int, ...] | None = None
    """Values of both masks that are not observable, such as classes of cloud; default: all but 0 and nodata."""
    grid: Whose = "before"
    """Whose pixel grid is the common grid; the other date is warped onto it where they differ."""
    align: AutoOff = "auto"
    """``auto`` corrects a consistent shift between the dates; ``off`` only measures it."""
    match: OnOff = "off"
    """``on`` fits the other date's radiometry to the grid's date on probably unchanged pixels."""
    assume_same_crs: bool = False
    """Where one file has no CRS, take the other's."""
    aoi: Path | None = None
    """Vector file, in any CRS: nothing outside it is forwarded or written."""
    sidecars: bool = False
    """Read ``.aux.xml``, ``.tfw``, ``.msk`` and ``.ovr`` files that lie beside an input."""
    bad_blocks: BadBlocks = "stop"
    """``stop`` ends the run at a block that cannot be decoded; ``mask`` makes it not observable and lists it."""
    force_gsd: bool = False
    """Go on although the scene's ground sample distance is outside the contract's range."""
    remote: bool = False
    """The dates may be ``https://`` or ``s3://`` addresses, read through GDAL."""

    @property
    def rasters(self) -> dict[str, Path]:
        """Role -> file of the dates, and of the masks that there are."""
        files = {"before": self.before, "after": self.after}
        masks = {"before_mask": self.before_mask, "after_mask": self.after_mask}
        return files | {role: path for role, path in masks.items() if path is not None}

    def __post_init__(self) -> None:
        refuse(
            _one_of("--grid", self.grid, Whose)
            | _one_of("--align", self.align, AutoOff)
            | _one_of("--match", self.match, OnOff)
            | _one_of("--bad-blocks", self.bad_blocks, BadBlocks)
            | {
                f"--nir {band}": (band is None or band >= 0, "give the number of a band, from 1, or 0 for none")
                for band in (self.nir, self.after_nir)
            }
            | {
                "after_nir without nir": (
                    self.nir is not None or self.after_nir is None,
                    "name that of both dates",
                ),
                "--mask-values without a mask": (
                    self.mask_values is None or len(self.rasters) > 2,
                    "name one with --before-mask or --after-mask",
                ),
            }
        )


@dataclass(frozen=True)
class InspectConfig(PairConfig):
    """Options of ``rscd inspect``."""

    model: str | None = None
    """Name of an embedded model, or path of a checkpoint, whose bands and pixel sizes the pair must fit; None: the
    embedded one whose pixel sizes fit."""


@dataclass(frozen=True)
class DetectConfig(PairConfig):
    """Options of ``rscd detect``."""

    output: Path
    """Vector file to write: .gpkg, .fgb, .geojson or .parquet."""
    probability: Path | None = None
    """Probability raster (COG) to write."""
    report: Path | None = None
    """Report page (HTML) to write."""
    model: str | None = None
    """Name of an embedded model, or path of a checkpoint; None: the embedded one whose pixel sizes fit."""
    threshold: float | None = None
    """Calibrated p from which a pixel counts as changed, 0..1; default: the contract's."""
    min_area_m2: float | None = None
    """Smallest polygon in m2; default: the contract's minimum mapping unit at the scene's pixel size."""
    simplify_m: float = 0.0
    """Tolerance of outline simplification in m; 0 keeps the pixel outline."""
    fill_holes_m2: float = 0.0
    """Holes of polygons smaller than this in m2 are filled, unless something lies in them."""
    regularize: bool = False
    """Bring outlines to right angles, where that keeps 0.8 of them (extra ``regularize``)."""
    window: int | None = None
    """Side of a window in px, a multiple of 32; default: the contract's."""
    overlap: int | None = None
    """Overlap of windows in px; default: the contract's."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda:N``."""
    precision: Precision = "auto"
    """``auto`` is bf16 on CUDA and fp32 on the CPU."""
    batch_size: int | None = None
    """Windows a forward pass; None: one on a CPU, found by a short search on CUDA."""
    tta: bool = False
    """Test-time augmentation: forward each window in the eight ways to turn and flip it, and take the mean."""
    overwrite: bool = False
    """Replace existing outputs."""
    resume: bool = True
    """Take bands that an interrupted run on this output had finished; False begins anew."""
    keep_journal: bool = False
    """Keep the finished bands beside the output, so that another threshold forwards nothing."""
    discard_reviews: bool = False
    """Drop what people put into the file that is replaced; by default their reviews are carried over."""
    full_paths: bool = False
    """Say in full where files lie; by default from the output's folder. The report says names alone."""
    title: str = ""
    """Title of the report; default: the result in a line."""
    dates: tuple[str, str] | None = None
    """When the images were taken, in any words, for the report; default: the files' tags TIFFTAG_DATETIME."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse(
            _threshold(self.threshold)
            | _at_least_0("--min-area", self.min_area_m2)
            | _at_least_0("--simplify", self.simplify_m)
            | _at_least_0("--fill-holes", self.fill_holes_m2)
            | _windows(self.window, self.overlap)
            | _device(self.device)
            | _one_of("--precision", self.precision, Precision)
            | {
                f"--batch-size {self.batch_size}": (
                    self.batch_size is None or 1 <= self.batch_size <= MOST_BATCH,
                    f"use auto, or 1 to {MOST_BATCH}",
                )
            }
        )

    @property
    def inputs(self) -> tuple[Path, ...]:
        """All files that are read: none may be an output."""
        named = [Path(self.model)] if self.model is not None else []
        return *self.rasters.values(), *named, *([self.aoi] if self.aoi else [])


@dataclass(frozen=True)
class EvaluateConfig(LabelledConfig):
    """Options of ``rscd evaluate``."""

    model: str = "buildings"
    """Name of an embedded model, or path of a checkpoint."""
    output: Path | None = None
    """Folder for pictures and the table of scenes."""
    split: Split | None = None
    """Part of the folders: train, val or test; default: all that is there."""
    gsd_m: float | None = None
    """Ground sample distance of tiles that are no GeoTIFFs, m; default: the middle of the contract's range."""
    threshold: float | None = None
    """Calibrated p from which a pixel counts as changed, 0..1; default: the contract's."""
    force_gsd: bool = False
    """Go on although a scene's ground sample distance is outside the contract's range."""
    window: int | None = None
    """Side of a window in px, a multiple of 32; default: the contract's."""
    overlap: int | None = None
    """Overlap of windows in px; default: the contract's."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda:N``."""
    precision: Precision = "auto"
    """``auto`` is bf16 on CUDA and fp32 on the CPU."""
    batch_size: int = 8
    """Windows a forward pass."""
    tta: bool = False
    """Test-time augmentation: forward each window in the eight ways to turn and flip it, and take the mean."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse(
            _threshold(self.threshold)
            | _windows(self.window, self.overlap)
            | _device(self.device)
            | _one_of("--precision", self.precision, Precision)
            | {
                f"--gsd {self.gsd_m}": (
                    self.gsd_m is None or 0 < self.gsd_m < math.inf,
                    "give a pixel's side in m",
                ),
                f"--split {self.split}": (
                    self.split is None or self.split in get_args(Split),
                    f"use one of {', '.join(get_args(Split))}",
                ),
                f"--batch-size {self.batch_size}": (1 <= self.batch_size <= MOST_BATCH, f"use 1 to {MOST_BATCH}"),
            }
        )


@dataclass(frozen=True)
class PolygonsConfig:
    """Options of ``rscd polygons``."""

    probability: Path
    """Probability raster that ``rscd detect`` wrote."""
    output: Path
    """Vector file to write: .gpkg, .fgb, .geojson or .parquet."""
    threshold: float | None = None
    """Calibrated p from which a pixel counts as changed, 0..1; default: that of the raster's run, else 0.5."""
    min_area_m2: float | None = None
    """Smallest polygon in m2; default: that of the raster's run, else 4 px."""
    simplify_m: float = 0.0
    """Tolerance of outline simplification in m; 0 keeps the pixel outline."""
    fill_holes_m2: float = 0.0
    """Holes of polygons smaller than this in m2 are filled, unless something lies in them."""
    regularize: bool = False
    """Bring outlines to right angles, where that keeps 0.8 of them (extra ``regularize``)."""
    overwrite: bool = False
    """Replace an existing output."""
    discard_reviews: bool = False
    """Drop what people put into the file that is replaced; by default their reviews are carried over."""

    def __post_init__(self) -> None:
        refuse(
            _threshold(self.threshold)
            | _at_least_0("--min-area", self.min_area_m2)
            | _at_least_0("--simplify", self.simplify_m)
            | _at_least_0("--fill-holes", self.fill_holes_m2)
        )


@dataclass(frozen=True)
class BatchConfig:
    """Options of ``rscd batch``."""

    output: Path
    """Folder of the archive: a folder a pair, ledger, summary and index; made if it is not there."""
    detect: DetectConfig
    """Options that all pairs share. Its paths are replaced by each pair's; an output that is None stays out."""
    manifest: Path | None = None
    """Table, STAC ItemCollection or static catalog."""
    before_dir: Path | None = None
    """In place of a manifest: folder of the earlier images."""
    after_dir: Path | None = None
    """Folder of the later images."""
    match_by: MatchBy = "name"
    """How files of the two folders are matched."""
    asset: str | None = None
    """Key of the STAC asset that is the image."""
    allow_remote: bool = False
    """Let the manifest point out of its folder, and at ``https://`` and ``s3://`` addresses."""
    scheduler: str | None = None
    """Address of a Dask scheduler; None: this machine."""
    workers: int | None = None
    """Worker processes on this machine's CPU, through Dask; None: this process alone, or one a GPU where there are
    several."""
    wait_s: float = 300.0
    """How long to wait for the first worker of ``scheduler``, s."""
    retries: int = 1
    """How often a pair is tried again when something other than the pair fails."""
    fail_fast: bool = False
    """Stop at the first pair that fails."""
    max_pairs: int | None = None
    """Run so many pairs at most."""

    def __post_init__(self) -> None:
        refuse(
            _one_of("--match-by", self.match_by, MatchBy)
            | {
                f"--retries {self.retries}": (self.retries >= 0, "use 0 or more"),
                f"--workers {self.workers}": (self.workers is None or self.workers >= 1, "use 1 or more"),
                f"--wait {self.wait_s}": (0 <= self.wait_s < math.inf, "use 0 or more seconds"),
                f"--max-pairs {self.max_pairs}": (self.max_pairs is None or self.max_pairs >= 1, "use 1 or more"),
            }
        )
        if self.scheduler is not None and self.workers is not None:
            raise UsageError("--scheduler and --workers", remedy="give one of them: a cluster has its own workers")
        folders = self.before_dir, self.after_dir
        if (self.manifest is not None) == (None not in folders) or (self.manifest and folders != (None, None)):
            raise UsageError(
                "no pairs named, or twice", remedy="give a MANIFEST, or both --before-dir and --after-dir"
            )
