"""Options of labelled data: training and evaluation."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from pathlib import Path
from typing import Annotated

from rscd.core.contract import STRIDE
from rscd.core.errors import UsageError
from rscd.options.declare import Option, options
from rscd.options.detect import ForwardOptions
from rscd.options.pair import ReadOptions
from rscd.options.types import (
    MOST_BATCH,
    AtLeast0,
    AtLeast1,
    Device,
    Encoder,
    Normalise,
    Probability,
    Share,
    Split,
    Tune,
    check_overlap,
    within,
)


@options
class LabelledConfig(ReadOptions):
    """Labelled data: folders, lists, or one pair."""

    data: Annotated[tuple[Path, ...], Option(argument=True)]
    """Folders of tiles (A/, B/, label/), folders of scenes (before, after, labels), lists of scenes (.csv)."""
    _: KW_ONLY
    pair: Annotated[tuple[Path, Path, Path] | None, Option(metavar="BEFORE AFTER LABELS")] = None
    """GeoTIFFs of both dates, and labels: polygons of change, or a raster on the pair's grid."""
    aoi: Annotated[Path | None, Option()] = None
    """Vector file: outside it the labels of ``--pair``, or of reviews, say nothing."""


@options
class NetworkOptions:
    """Network: its encoder and its heads, and what of them learns."""

    _: KW_ONLY
    encoder: Annotated[Encoder | None, Option("weights")] = None
    """``lite``, or SAM's image encoder by its size; default: the starting model's, else ``lite``."""
    init: Annotated[Path | None, Option("weights", resolved=True, model=True)] = None
    """Checkpoint to start from, or the name of an embedded model."""
    fine: Annotated[int | None, Option("weights")] = None
    """Channels of the fine scales at strides 2 and 1 (``lite`` alone), 0 for none; default: as the starting model,
    else 24 for ``lite``. A starting model without them gets them."""
    presence: Annotated[bool | None, Option("weights")] = None
    """Whether the network gives for each date the probability that the class is there; default: as the starting
    model, else if ``--simulated`` or ``--one-date`` teach it."""
    tune: Annotated[Tune, Option("weights")] = "full"
    """What of the encoder learns: ``full``, ``lora`` (low-rank parts; not of ``lite``), ``frozen``."""
    lora_rank: Annotated[int, AtLeast1, Option("weights")] = 8
    """Rank of the low-rank parts."""
    checkpointing: Annotated[bool, Option()] = False
    """Transformers: keep each block's input alone and compute the rest again: less memory, a third more time."""


@options
class LossOptions:
    """Loss: a sum of losses, and what cross-entropy masking (CEM) keeps."""

    _: KW_ONLY
    loss: Annotated[str, Option("weights")] = "cem+dice"
    """A sum of cem, bce, focal, ohem, dice, and edge: the pixels within 2 px of labels' edges once more."""
    tau: Annotated[float, Share, Option("weights")] = 0.2
    """CEM: unchanged pixels with p below this are masked, 0..1."""
    floor: Annotated[float, Share, Option("weights")] = 0.1
    """CEM: fraction of the masked pixels that is kept, 0..1."""
    warmup_steps: Annotated[int, AtLeast0, Option("weights")] = 100
    """CEM: steps of plain cross-entropy first."""
    normalise: Annotated[Normalise, Option("weights")] = "kept"
    """CEM: ``kept`` divides by the pixels that are kept, ``all`` by all of them."""


@options
class CropOptions:
    """Crops: how many, how large, and from what."""

    _: KW_ONLY
    epochs: Annotated[int, AtLeast1, Option("weights")] = 12
    """Epochs."""
    crops: Annotated[int, AtLeast1, Option("weights")] = 960
    """Crops an epoch."""
    crop: Annotated[
        int,
        within(lambda v: v >= 2 * STRIDE and v % STRIDE == 0, f"use a multiple of {STRIDE}, at least {2 * STRIDE}"),
        Option("weights"),
    ] = 256
    """Side of a crop in px, a multiple of 32."""
    scale: Annotated[tuple[float, float], Option("weights", metavar="LOW HIGH")] = (0.5, 2.0)
    """Range of random zoom."""
    simulated: Annotated[float, Share, Option("weights")] = 0.0
    """Share of crops from rendered scenes, 0..1."""
    one_date: Annotated[tuple[Path, ...], Option("weights", resolved=True)] = ()
    """Folders image/ and label/ of one date, with all things of the class outlined: drawn in pairs."""
    one_date_share: Annotated[float, Option("weights")] = 0.0
    """Share of crops from ``--one-date``, 0..1."""


@options
class StepOptions:
    """Steps: batches, learning rates, averaging."""

    _: KW_ONLY
    batch_size: Annotated[int, AtLeast1, Option("weights")] = 8
    """Crops a step, over all processes."""
    micro_batch: Annotated[int, within(lambda v: v >= 0, "use 1 or more, or 0 for a whole batch"), Option()] = 0
    """Crops that a process forwards at once, their gradients accumulated; 0 takes its share of the batch."""
    rate: Annotated[
        float, within(lambda v: 0 < v < math.inf, "use a positive rate, such as 0.001"), Option("weights")
    ] = 1e-3
    """Peak learning rate of STFE and MSDF."""
    encoder_factor: Annotated[float, AtLeast0, Option("weights")] = 0.1
    """The encoder's learning rate as a share of it."""
    layer_decay: Annotated[
        float, within(lambda v: 0 < v <= 1, "use a factor above 0, up to 1"), Option("weights")
    ] = 1.0
    """The rate of a block of the encoder is this times that of the block above it."""
    ema: Annotated[float, within(lambda v: 0 <= v < 1, "use a share from 0, below 1"), Option("weights")] = 0.998
    """Decay a step of the moving average of weights, which is what is validated and written; 0 takes the last."""
    seed: Annotated[int, AtLeast0, Option("weights")] = 0
    """Seed of everything random."""


@options
class ContractOptions:
    """Contract: what the checkpoint says of itself."""

    _: KW_ONLY
    name: Annotated[str, Option()] = "custom"
    """Name in the contract."""
    gsd_m: Annotated[tuple[float, float] | None, Option(metavar="LOW HIGH")] = None
    """Pixel sizes in m to promise; default: those of the GeoTIFFs and half of the zoom beyond, else those of the
    checkpoint that training started from."""
    class_name: Annotated[str | None, Option()] = None
    """What a polygon means; default: as the starting model's, else ``change``."""
    minimum_mapping_m2: Annotated[float | None, AtLeast0, Option(flag="--smallest")] = None
    """Smallest thing that the class may be, m2; at least 4 px are asked in any case. Default: as the starting
    model's, else 0."""
    licence: Annotated[str | None, Option()] = None
    """Terms of the weights, joined to those of the starting model; default: those, else those of the training
    data."""
    trained_on: Annotated[str, Option(typed=False)] = ""
    """Words on the data; default: the folders' names."""


@options
class TrainConfig(LabelledConfig, NetworkOptions, LossOptions, CropOptions, StepOptions, ContractOptions):
    """Run: what is written, validated on, and when it stops."""

    output: Annotated[Path, Option(short="-o")]
    """Checkpoint (.safetensors) to write."""
    _: KW_ONLY
    validation: Annotated[tuple[Path, ...], Option(flag="--val")] = ()
    """Data to choose epoch, threshold and temperature on; without any, a tenth of the data is held out."""
    reviews: Annotated[tuple[Path, ...], Option(flag="--from-review")] = ()
    """GeoPackages of ``rscd detect`` whose column ``review`` was filled in."""
    threads: Annotated[int, AtLeast0, Option()] = 0
    """CPU threads; 0 leaves torch's choice."""
    device: Annotated[Device, Option(metavar="[auto|cpu|cuda:N]")] = "auto"
    """Where the network learns."""
    save_every: Annotated[int, AtLeast1, Option()] = 200
    """Steps after which the state of the run is saved: what is lost at most when it is killed."""
    limit_minutes: Annotated[float, within(lambda v: v >= 0, "use minutes, or 0 for no limit"), Option()] = 0.0
    """Stop after so many minutes, best checkpoint written and state kept; 0 is no limit."""
    overwrite: Annotated[bool, Option()] = False
    """Replace an existing output, and begin anew where the state of another run lies beside it."""

    def __post_init__(self) -> None:
        if self.fine and (self.encoder not in (None, "lite") or not 0 <= self.fine <= 256):
            raise UsageError(f"--fine {self.fine}", remedy="use 0 to 256 channels; none with SAM's encoders")
        if not 0 <= self.one_date_share <= 1 - self.simulated:
            remedy = "use a share from 0, at most what --simulated leaves"
            raise UsageError(f"--one-date-share {self.one_date_share}", remedy=remedy)
        if bool(self.one_date) != (self.one_date_share > 0):
            remedy = "give --one-date FOLDER and --one-date-share SHARE together"
            raise UsageError("--one-date", remedy=remedy)


@options
class EvaluateConfig(LabelledConfig, ForwardOptions):
    """Evaluation: the model, and what of the data it is measured on."""

    _: KW_ONLY
    model: Annotated[str, Option(model=True)] = "buildings"
    """Name of an embedded model, or a checkpoint file."""
    output: Annotated[Path | None, Option(short="-o")] = None
    """Folder for pictures and the table of scenes."""
    split: Annotated[Split | None, Option()] = None
    """Part of the folders; default: all that is there."""
    gsd_m: Annotated[float | None, within(lambda v: 0 < v < math.inf, "give a pixel's side in m"), Option()] = None
    """Pixel side, in m, of tiles that are no GeoTIFFs; default: the middle of the model's range."""
    threshold: Annotated[Probability, Option(metavar="0..1")] = None
    """Calibrated probability from which a pixel counts as changed; default: the model's."""
    force_gsd: Annotated[bool, Option()] = False
    """Go on although a scene's pixel size is outside the model's range."""
    batch_size: Annotated[int, within(lambda v: 1 <= v <= MOST_BATCH, f"use 1 to {MOST_BATCH}"), Option()] = 8
    """Windows a forward pass."""

    def __post_init__(self) -> None:
        check_overlap(self.window, self.overlap)
