"""How fast a network learns on the machine at hand, and how far that is from what arithmetic allows.

Steps of a whole batch from memory: forward, loss, gradients, clip, update, moving average. The floor is three times
the forward pass (a backward pass takes two products for each of the forward pass's), at the rate of a large matrix
product measured in the same run. Operations are counted by torch; the ViT encoders' agree with the project's table.
"""

from __future__ import annotations

import dataclasses
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from rscd.inference.device import choose_device, gpu_memory_mb
from rscd.model.encoders import normalisation
from rscd.model.network import ChangeNetwork
from rscd.options.training import TrainConfig
from rscd.training.data.batches import Batch
from rscd.training.learner import Learner
from rscd.training.parallel import Group

WARM_UP, STEPS = 3, 20
H100_TFLOPS = 989.0
"""Dense bf16, as published for the H100 and H200 SXM."""


def run(folder: Path | None = None, steps: int = STEPS, **options: object) -> dict[str, float | int | str]:
    """Figures by name; ``options`` are those of ``TrainConfig``, e.g. ``encoder="vit_b"``, ``crop=448``."""
    config = TrainConfig((), Path("unused"), **options)  # type: ignore[arg-type]
    device = torch.device(choose_device(config.device))
    torch.manual_seed(config.seed)
    network = ChangeNetwork(config.encoder, 64, *normalisation(config.encoder))
    learner = Learner(network, config, Group(device), WARM_UP + steps, on_notice=print)
    batch = _batch(config)
    for step in range(WARM_UP):
        learner.learn(batch, step)
    began = time.perf_counter()
    for step in range(WARM_UP, WARM_UP + steps):
        learner.learn(batch, step)  # ends with the loss on the CPU, and so with an idle GPU
    seconds = (time.perf_counter() - began) / steps
    forward = forward_flops(config.encoder, config.crop) * config.batch_size
    reached, product = 3 * forward / seconds / 1e12, _matmul_tflops(device, bf16=learner.bf16)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    memory = gpu_memory_mb(str(device)) or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    figures: dict[str, float | int | str] = {
        "device": f"{name}, {'bf16' if learner.bf16 else 'fp32'}",
        "options": ", ".join(f"{k}={v}" for k, v in options.items()),
        "crops forwarded at once": learner.micro_batch,
        "s a step": seconds,
        "img/s (two images a crop)": 2 * config.batch_size / seconds,
        "peak memory, MB": memory,
        "forward pass, GFLOP a crop (two images)": forward / config.batch_size / 1e9,
        "reached, TFLOP/s (3 x forward)": reached,
        "large matrix product here, TFLOP/s": product,
        "share of the floor (of that product)": reached / product,
    }
    if name.startswith(("NVIDIA H100", "NVIDIA H200")):
        figures["share of the published peak"] = reached / H100_TFLOPS
    return figures


def forward_flops(encoder: str, crop: int) -> float:
    """Floating point operations of a forward pass of one crop, both dates; nothing is computed for it."""
    with torch.device("meta"):
        network = ChangeNetwork(encoder, 64, *normalisation(encoder)).eval()
        pair = [torch.empty(1, 3, crop, crop) for _ in range(2)]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*pair)
    return float(counter.get_total_flops())


def _batch(config: TrainConfig) -> Batch:
    shape = (config.batch_size, 3, config.crop, config.crop)
    before, after = (torch.randint(0, 256, shape, dtype=torch.uint8) for _ in range(2))
    label = (torch.rand(shape[0], *shape[2:]) < 0.05).to(torch.uint8)
    return Batch(before, after, label, ("noise",) * shape[0])


def _matmul_tflops(device: torch.device, *, bf16: bool) -> float:
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16 if bf16 else None) for _ in range(2))

    def product() -> None:
        (a @ b)[0, 0].item()

    return 2 * side**3 / _fastest(product) / 1e12


def _fastest(action: Callable[[], None], repeats: int = 8) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return min(times)


def option(text: str) -> tuple[str, object]:
    """Parse ``NAME=VALUE`` into an option of TrainConfig of the right type."""
    name, _, value = text.partition("=")
    kinds = {f.name: type(f.default) for f in dataclasses.fields(TrainConfig)} | {"encoder": str}
    if kinds.get(name) not in (str, int, float, bool):
        raise ValueError(f"no such option: {name}")
    return name, value.lower() == "true" if kinds[name] is bool else kinds[name](value)
