"""One training step: forward pass, loss, gradients in micro-batches, clipping, update, moving average.

An encoder may be adapted by low-rank parts of its linear layers (LoRA, Hu et al. 2022). The library peft offers
this too, and more; it would add two libraries to every training, to save sixty lines.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import compress
from typing import Any

import torch
from torch import Tensor, nn

from rscd.core.errors import DataError, UsageError
from rscd.inference.device import cpu_bf16
from rscd.model.network import ChangeNetwork
from rscd.options.training import TrainConfig
from rscd.training.data.batches import Batch
from rscd.training.losses import CemOptions, make_loss, presence_loss
from rscd.training.parallel import Group

WEIGHT_DECAY = 0.01


def prepare_tuning(network: ChangeNetwork, config: TrainConfig) -> None:
    """Freeze or adapt parts of the network according to ``--tune``, and switch on gradient checkpointing.

    Raises:
        UsageError: Low-rank adaptation or checkpointing for an encoder that does not support it; or ``--tune fine``
            for a network without fine scales.
    """
    encoder = network.encoder
    asked = (
        ("--tune lora", config.tune == "lora", bool(encoder.adaptable)),
        ("--checkpointing", config.checkpointing, encoder.can_checkpoint),
    )
    for option, wanted, possible in asked:
        if wanted and not possible:
            raise UsageError(option, remedy=f"leave it out: the encoder {encoder.name} does not support it")
    if config.checkpointing:
        encoder.checkpointing(on=True)
    if config.tune == "frozen":
        network.encoder.backbone.requires_grad_(False)
    if config.tune == "fine":
        if network.fine is None:
            raise UsageError("--tune fine: the model has no fine scales", remedy="add --fine 24, or leave it out")
        network.requires_grad_(False)
        network.fine.requires_grad_(True)
    if config.tune == "lora":
        add_lora(network, config.lora_rank)


def training_mode(network: ChangeNetwork, config: TrainConfig) -> None:
    """Switch to training mode, except for frozen parts: their batch norm keeps its statistics."""
    network.train()
    if config.tune == "frozen":
        network.encoder.backbone.eval()
    if config.tune == "fine" and network.fine is not None:
        network.eval()
        network.fine.train()


def make_optimiser(network: ChangeNetwork, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW for all trained parameters; each group has its ``peak`` learning rate, which ``set_rates`` scales."""
    groups: dict[float, list[nn.Parameter]] = defaultdict(list)
    heights = network.encoder.heights()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            height = heights.get(id(parameter))
            own = height is None or is_low_rank(name)
            groups[1.0 if own else config.encoder_factor * config.layer_decay ** (height or 0)].append(parameter)
    made: list[dict[str, Any]] = [
        {"params": params, "lr": config.rate * factor, "peak": config.rate * factor}
        for factor, params in groups.items()
    ]
    fused = next(network.parameters()).is_cuda  # one kernel for all parameters
    return torch.optim.AdamW(made, weight_decay=WEIGHT_DECAY, fused=fused)


def set_rates(optimiser: torch.optim.Optimizer, step: int, steps: int) -> None:
    """Set the learning rates of a step."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * rate_factor(step, steps)


def rate_factor(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up over the first twentieth, then half a cosine to 1 %."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


PRESENCE_SHARE = 0.3
"""Weight of the presence loss, relative to the change loss."""
CLIP = 5.0
"""Maximum norm of the gradient."""


class Learner:
    """The network, its moving average and the optimiser.

    Args:
        network: Its weights are changed in place.
        config: The options of the run.
        group: The processes that train together, and this one's rank.
        steps: Steps of the whole run, which the learning rate schedule depends on.
        on_notice: Called with messages for the user.

    Attributes:
        network: The trained network.
        average: The moving average of its weights, which is validated and written. Frozen tensors are shared.
        micro_batch: Crops per forward pass; halved when memory runs out.
        bf16: Whether matrix products use bfloat16.

    Raises:
        UsageError: ``--tune`` or ``--checkpointing`` does not fit the encoder, or a loss is unknown.
    """

    def __init__(
        self,
        network: ChangeNetwork,
        config: TrainConfig,
        group: Group,
        steps: int,
        on_notice: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.config, self.group, self.steps, self.on_notice = config, group, steps, on_notice
        self.loss_of = make_loss(
            config.loss, CemOptions(config.tau, config.floor, config.warmup_steps, config.normalise)
        )
        prepare_tuning(network, config)
        network.to(group.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        group.copy_leader(network.state_dict().values())
        frozen = [parameter for parameter in network.parameters() if not parameter.requires_grad]
        self.network, self.average = network, copy.deepcopy(network, {id(p): p for p in frozen})
        self.optimiser = make_optimiser(network, config)
        share = config.batch_size // group.size
        self.micro_batch = min(config.micro_batch or share, share)
        self.bf16 = group.device.type == "cuda" or bool(cpu_bf16())

    def learn(self, batch: Batch, step: int) -> float:
        """Take step ``step`` (from 0) on this process's share of the batch; returns the mean loss of all processes.

        Raises:
            DataError: The loss is not finite.
            UsageError: Out of memory with a single crop.
        """
        set_rates(self.optimiser, step, self.steps)
        training_mode(self.network, self.config)
        loss = self._gradients(batch, step)
        if not loss.isfinite():
            named = ", ".join(sorted(set(batch.names)))
            remedy = f"lower --rate, or look for invalid values in one of: {named}"
            raise DataError(f"loss is {loss.item()} at step {step}", remedy=remedy)
        learning = [p for p in self.network.parameters() if p.grad is not None]
        statistics = [b for name, b in self.network.named_buffers() if "running_" in name]
        self.group.average([loss, *(p.grad for p in learning if p.grad is not None), *statistics])
        torch.nn.utils.clip_grad_norm_(learning, CLIP)
        self.optimiser.step()
        self._blend_into_average(min(self.config.ema, (step + 1) / (step + 10)))
        return loss.item()

    def _gradients(self, batch: Batch, step: int) -> Tensor:
        """Gradients of the mean loss, in micro-batches that fit into memory; returns that loss."""
        while True:
            self.optimiser.zero_grad(set_to_none=True)
            with suppress(torch.OutOfMemoryError):
                return self._accumulate(batch, step)
            torch.cuda.empty_cache()  # outside the handler, whose traceback kept the tensors
            if self.micro_batch == 1:
                remedy = "lower --crop, or with a SAM encoder add --checkpointing or --tune lora"
                raise UsageError(f"out of memory with one crop of {self.config.crop} px", remedy=remedy)
            self.micro_batch = math.ceil(self.micro_batch / 2)
            self.on_notice(
                f"out of memory: continuing with {self.micro_batch} crop(s) at a time; a step still uses "
                f"{self.config.batch_size}"
            )

    def _accumulate(self, batch: Batch, step: int) -> Tensor:
        device, crops = self.group.device, len(batch.label)
        total = torch.zeros((), device=device)
        for start in range(0, crops, self.micro_batch):
            part = slice(start, start + self.micro_batch)
            before, after, label = (t[part].to(device) for t in (batch.before, batch.after, batch.label))
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                logits = self.network(before, after)
            loss = self.loss_of(logits.change.float(), label, step)
            if logits.presence is not None:
                built = None if batch.built is None else batch.built[part].to(device)
                loss = loss + PRESENCE_SHARE * presence_loss(logits.presence, label, built)
            loss = loss * (len(label) / crops)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    @torch.no_grad()
    def _blend_into_average(self, decay: float) -> None:
        """Move the average towards the network by 1 - decay; also the statistics of batch norm."""
        kept, new = ([tensor for _, tensor in _moving(module)] for module in (self.average, self.network))
        floating = [tensor.is_floating_point() for tensor in kept]
        torch._foreach_lerp_(list(compress(kept, floating)), list(compress(new, floating)), 1 - decay)
        for count, value in zip(kept, new, strict=True):
            if not count.is_floating_point():
                count.copy_(value)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that resuming needs besides the starting model: trained weights, their average, moments."""
        return {name: tensor.detach() for name, tensor in self._stored()}

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore the values that ``tensors`` gave."""
        fused = self.optimiser.defaults["fused"]
        for name, parameter in self._learning():
            if f"moments.{name}.step" in tensors:
                # same memory layout as the optimiser's own
                like = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                count = torch.zeros((), device=parameter.device if fused else "cpu")
                self.optimiser.state[parameter] = {"step": count, "exp_avg": like, "exp_avg_sq": like.clone()}
        for name, own in self._stored():
            own.copy_(tensors[name])

    def _stored(self) -> Iterator[tuple[str, Tensor]]:
        for prefix, module in (("network", self.network), ("average", self.average)):
            for name, tensor in _moving(module):
                yield f"{prefix}.{name}", tensor
        for name, parameter in self._learning():
            for key, tensor in self.optimiser.state.get(parameter, {}).items():
                yield f"moments.{name}.{key}", tensor

    def _learning(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(n, p) for n, p in self.network.named_parameters() if p.requires_grad]


def _moving(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a network that training changes: trained parameters, and statistics."""
    still = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    for name, tensor in network.state_dict().items():
        if name not in still:
            yield name, tensor


class LowRankLinear(nn.Linear):
    """A linear layer with frozen weight W that uses W + up @ down.

    ``up`` starts at zero, so that the output is unchanged before the first step.
    """

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.down = nn.Parameter(torch.empty(rank, linear.in_features))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return nn.functional.linear(x, self.weight + self.up @ self.down, self.bias)

    @torch.no_grad()
    def plain(self) -> nn.Linear:
        """The same function as an ordinary layer."""
        linear = nn.Linear(self.in_features, self.out_features, device="meta")
        linear.weight, linear.bias = nn.Parameter(self.weight + self.up @ self.down), self.bias
        return linear


def add_lora(network: ChangeNetwork, rank: int) -> None:
    """Freeze the encoder's backbone, and add low-rank parts to its adaptable layers."""
    backbone = network.encoder.backbone
    backbone.requires_grad_(False)
    for name in [*network.encoder.adaptable_layers()]:
        linear = backbone.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        backbone.set_submodule(name, LowRankLinear(linear, rank))


def merged(network: ChangeNetwork) -> ChangeNetwork:
    """A copy with ordinary layers: low-rank parts, if any, are added to the weights that they adapt."""
    plain = copy.deepcopy(network)
    for name, module in list(plain.named_modules()):
        if isinstance(module, LowRankLinear):
            plain.set_submodule(name, module.plain())
    return plain


def is_low_rank(name: str) -> bool:
    """Whether a parameter of this name belongs to a low-rank part."""
    return name.endswith((".down", ".up"))
