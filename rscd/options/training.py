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
    """Vector file of the labelled area: pixels of ``--pair`` or of reviews outside it are ignored."""


@options
class NetworkOptions:
    """Network: its encoder and its heads, and which parts are trained."""

    _: KW_ONLY
    encoder: Annotated[Encoder | None, Option("weights")] = None
    """``lite``, or SAM's image encoder of the given size; default: that of the starting model, else ``lite``."""
    init: Annotated[Path | None, Option("weights", resolved=True, model=True)] = None
    """Checkpoint to start from, or the name of an embedded model."""
    fine: Annotated[int | None, Option("weights")] = None
    """Channels of the fine scales at strides 2 and 1 (``lite`` only), 0 for none; default: as the starting model,
    else 24 for ``lite``. They are added to a starting model without them."""
    presence: Annotated[bool | None, Option("weights")] = None
    """Whether the network also gives, for each date, the probability that the class is present; default: as the
    starting model, else yes if ``--simulated`` or ``--one-date`` provides labels for it."""
    tune: Annotated[Tune, Option("weights")] = "full"
    """What is trained: ``full``: all; ``lora``: low-rank adapters of the encoder (not for ``lite``), and the rest;
    ``frozen``: all but the encoder; ``fine``: the fine scales alone, which sharpens outlines."""
    lora_rank: Annotated[int, AtLeast1, Option("weights")] = 8
    """Rank of the low-rank adapters."""
    checkpointing: Annotated[bool, Option()] = False
    """Gradient checkpointing (transformers): keep only the input of each block and recompute the rest; less
    memory, a third more time."""


@options
class LossOptions:
    """Loss: a sum of losses, and settings of cross-entropy masking (CEM)."""

    _: KW_ONLY
    loss: Annotated[str, Option("weights")] = "cem+dice"
    """Sum of cem, bce, focal, ohem, dice and edge; edge counts pixels within 2 px of label edges once more."""
    tau: Annotated[float, Share, Option("weights")] = 0.2
    """CEM: unchanged pixels with a probability below this are masked, 0..1."""
    floor: Annotated[float, Share, Option("weights")] = 0.1
    """CEM: fraction of the masked pixels that are kept, 0..1."""
    warmup_steps: Annotated[int, AtLeast0, Option("weights")] = 100
    """CEM: number of first steps with plain cross-entropy."""
    normalise: Annotated[Normalise, Option("weights")] = "kept"
    """CEM: divisor of the loss: ``kept`` is the number of kept pixels, ``all`` that of all pixels."""


@options
class CropOptions:
    """Crops: number, size and source."""

    _: KW_ONLY
    epochs: Annotated[int, AtLeast1, Option("weights")] = 12
    """Passes over the training data, each of ``crops`` crops."""
    crops: Annotated[int, AtLeast1, Option("weights")] = 960
    """Crops per epoch."""
    crop: Annotated[
        int,
        within(lambda v: v >= 2 * STRIDE and v % STRIDE == 0, f"use a multiple of {STRIDE}, at least {2 * STRIDE}"),
        Option("weights"),
    ] = 256
    """Side of a crop in px, a multiple of 32."""
    scale: Annotated[tuple[float, float], Option("weights", metavar="LOW HIGH")] = (0.5, 2.0)
    """Range of the random zoom factor."""
    other_sensors: Annotated[float, Share, Option("weights")] = 0.0
    """Share of images that are modified as if by another sensor: blurred or sharpened, brighter or darker,
    compressed as JPEG; 0..1."""
    simulated: Annotated[float, Share, Option("weights")] = 0.0
    """Share of crops from rendered scenes, 0..1."""
    one_date: Annotated[tuple[Path, ...], Option("weights", resolved=True)] = ()
    """Folders of images of one date (image/, label/), with every object of the class labelled; combined into
    pairs."""
    one_date_share: Annotated[float, Option("weights")] = 0.0
    """Share of crops from ``--one-date``, 0..1."""


@options
class StepOptions:
    """Steps: batches, learning rates, averaging."""

    _: KW_ONLY
    batch_size: Annotated[int, AtLeast1, Option("weights")] = 8
    """Crops per step, over all processes."""
    micro_batch: Annotated[int, within(lambda v: v >= 0, "use 1 or more, or 0 for a whole batch"), Option()] = 0
    """Crops per forward pass of a process, with gradient accumulation; 0: the process's share of the batch."""
    rate: Annotated[
        float, within(lambda v: 0 < v < math.inf, "use a positive learning rate, such as 0.001"), Option("weights")
    ] = 1e-3
    """Peak learning rate of STFE and MSDF."""
    encoder_factor: Annotated[float, AtLeast0, Option("weights")] = 0.1
    """Learning rate of the encoder as a fraction of ``rate``."""
    layer_decay: Annotated[
        float, within(lambda v: 0 < v <= 1, "use a factor above 0, up to 1"), Option("weights")
    ] = 1.0
    """Learning rate of an encoder block as a fraction of that of the next deeper block."""
    ema: Annotated[float, within(lambda v: 0 <= v < 1, "use a share from 0, below 1"), Option("weights")] = 0.998
    """Decay per step of the moving average of the weights, which is validated and written; 0: use the last
    weights."""
    seed: Annotated[int, AtLeast0, Option("weights")] = 0
    """Random seed."""


@options
class ContractOptions:
    """Contract: what the checkpoint states about itself."""

    _: KW_ONLY
    name: Annotated[str, Option()] = "custom"
    """Model name in the contract."""
    gsd_m: Annotated[tuple[float, float] | None, Option(metavar="LOW HIGH")] = None
    """Range of pixel sizes in m that the model is declared for; default: that of the GeoTIFFs, widened by half of
    the zoom range, else that of the starting checkpoint."""
    class_name: Annotated[str | None, Option()] = None
    """What a polygon means; default: that of the starting model, else ``change``."""
    minimum_mapping_m2: Annotated[float | None, AtLeast0, Option(flag="--smallest")] = None
    """Area of the smallest object of the class in m2; the minimum is at least 4 px in any case. Default: that of
    the starting model, else 0."""
    licence: Annotated[str | None, Option()] = None
    """Licence of the weights, appended to that of the starting model; default: the latter, else "that of the
    training data"."""
    trained_on: Annotated[str, Option(typed=False)] = ""
    """Description of the training data; default: the folders' names."""


@options
class TrainConfig(LabelledConfig, NetworkOptions, LossOptions, CropOptions, StepOptions, ContractOptions):
    """Run: outputs, validation data, limits."""

    output: Annotated[Path, Option(short="-o")]
    """Checkpoint (.safetensors) to write."""
    _: KW_ONLY
    validation: Annotated[tuple[Path, ...], Option(flag="--val")] = ()
    """Data for choosing epoch, threshold and temperature; default: a tenth of the data is held out."""
    reviews: Annotated[tuple[Path, ...], Option(flag="--from-review")] = ()
    """GeoPackages of ``rscd detect`` whose column ``review`` was filled in."""
    threads: Annotated[int, AtLeast0, Option()] = 0
    """CPU threads; 0: PyTorch's default."""
    device: Annotated[Device, Option(metavar="[auto|cpu|cuda:N]")] = "auto"
    """Device to train on."""
    save_every: Annotated[int, AtLeast1, Option()] = 200
    """Steps between two saved states of the run: at most these are lost if it is killed."""
    limit_minutes: Annotated[float, within(lambda v: v >= 0, "use minutes, or 0 for no limit"), Option()] = 0.0
    """Stop after this many minutes; the best checkpoint is written and the state kept. 0: no limit."""
    overwrite: Annotated[bool, Option()] = False
    """Replace an existing output; start from the beginning if the state of another run is next to it."""

    def __post_init__(self) -> None:
        if self.fine and (self.encoder not in (None, "lite") or not 0 <= self.fine <= 256):
            raise UsageError(f"--fine {self.fine}", remedy="use 0 to 256 channels; 0 with SAM's encoders")
        if not 0 <= self.one_date_share <= 1 - self.simulated:
            remedy = "use a share from 0 to 1 minus that of --simulated"
            raise UsageError(f"--one-date-share {self.one_date_share}", remedy=remedy)
        if bool(self.one_date) != (self.one_date_share > 0):
            remedy = "give --one-date FOLDER and --one-date-share SHARE together"
            raise UsageError("--one-date", remedy=remedy)


@options
class EvaluateConfig(LabelledConfig, ForwardOptions):
    """Evaluation: the model, and the data it is evaluated on."""

    _: KW_ONLY
    model: Annotated[str, Option(model=True)] = "buildings"
    """Name of an embedded model, or a checkpoint file."""
    output: Annotated[Path | None, Option(short="-o")] = None
    """Folder for pictures and the table of scenes."""
    split: Annotated[Split | None, Option()] = None
    """Part of the tile folders; default: all tiles."""
    gsd_m: Annotated[float | None, within(lambda v: 0 < v < math.inf, "give the pixel size in m"), Option()] = None
    """Pixel size in m of tiles that are not GeoTIFFs; default: the middle of the model's range."""
    threshold: Annotated[Probability, Option(metavar="0..1")] = None
    """Calibrated probability from which a pixel counts as changed; default: the model's."""
    force_gsd: Annotated[bool, Option()] = False
    """Continue although a scene's pixel size is outside the model's range."""
    batch_size: Annotated[int, within(lambda v: 1 <= v <= MOST_BATCH, f"use 1 to {MOST_BATCH}"), Option()] = 8
    """Windows per forward pass."""

    def __post_init__(self) -> None:
        check_overlap(self.window, self.overlap)
