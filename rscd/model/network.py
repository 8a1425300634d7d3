"""The network: shared encoder, STFE, MSDF, heads for fine scales and presence; and its copy for inference.

* STFE, spatial-temporal feature enhancement: combines the features of two dates at one scale into change features.
  Ours is a symmetric join, so that swapping the dates changes nothing, and CBAM-like gates (Woo et al. 2018) over
  channels and space.
* MSDF, multi-scale decoder fusion: turns change features at four scales into one logit map. Ours is a top-down
  decoder whose outputs at all four scales are combined at stride 4, weighted per pixel by a softmax over scales.
* Fine scales (sharp outlines) and presence (is the class present on each date?) are computed in addition to the
coarse
  logits.

The names STFE and MSDF are from arXiv 2508.10568. We worked from its abstract alone; all layers are our own choice,
and the last two heads are not in that abstract.
"""

from __future__ import annotations

import copy
from itertools import chain, pairwise
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rscd.model.encoders import make_encoder


def conv_bn_relu(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    """Convolution that preserves the size, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class STFE(nn.Module):
    """Join the two dates' maps (N, channels, H, W) of one scale into one of (N, width, H, W)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.reduce = conv_bn_relu(channels, width, 1)
        self.join = conv_bn_relu(2 * width, width, 3)
        self.channel_gate = nn.Sequential(
            nn.Conv2d(width, width // 4, 1), nn.ReLU(inplace=True), nn.Conv2d(width // 4, width, 1)
        )
        self.space_gate = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, both: Tensor) -> tuple[Tensor, Tensor]:
        """Take (2N, channels, H, W), the before half first.

        Returns:
            The joined map (N, width, H, W), and the features of each date by itself (2N, width, H, W).
        """
        reduced = self.reduce(both)
        a, b = reduced.chunk(2)
        x = self.join(torch.cat([(a - b).abs(), a + b], dim=1))
        x = x * self.channel_gate(x.mean((2, 3), keepdim=True)).sigmoid()
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * self.space_gate(summary).sigmoid(), reduced


def resize(x: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Resize maps (N, C, H, W) bilinearly."""
    return nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


class MSDF(nn.Module):
    """Four maps (N, width, H/s, W/s) at strides s = 4, 8, 16, 32 -> one (N, width, H/4, W/4), and its logits."""

    def __init__(self, width: int, scales: int = 4) -> None:
        super().__init__()
        self.decode = nn.ModuleList(conv_bn_relu(width, width, 3) for _ in range(scales))
        self.weigh = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in range(scales))
        self.head = nn.Sequential(conv_bn_relu(width, width // 2, 3), nn.Conv2d(width // 2, 1, 1))

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Fuse the maps, finest first.

        Returns:
            The fused map (N, width, H/4, W/4), and its logits (N, 1, H/4, W/4).
        """
        size = maps[0].shape[-2:]
        above: Tensor | None = None
        outputs, weights = [], []
        for i in reversed(range(len(maps))):
            joined = maps[i] if above is None else maps[i] + resize(above, maps[i].shape[-2:])
            above = self.decode[i](joined)
            outputs.append(resize(above, size))
            weights.append(resize(self.weigh[i](above), size))
        share = torch.cat(weights, dim=1).softmax(dim=1)
        fused = cast(Tensor, sum(o * share[:, i : i + 1] for i, o in enumerate(outputs)))
        return fused, self.head(fused)


class FineScale(nn.Module):
    """Correct coarse change logits along outlines, at strides 2 and 1.

    The encoder's map at stride 2 contains edges but not the objects they belong to; the fused map at stride 4
    contains the objects. Joined, they give four logits per pixel of stride 2, which are arranged as pixels of
    stride 1. The last layer starts with zeros: a network to which this branch is added starts with unchanged
    output.

    A changed object stands on one date, and only that date shows its outline. With ``ordered``, the branch sees the
    dates in the order of presence instead of their sum; this order stays the same if they are swapped.

    Args:
        channels: Channels of the encoder's map at stride 2.
        width: Channels of the fused map.
        fine: Channels of this branch.
        ordered: Whether it sees the dates in the order of presence.
    """

    def __init__(self, channels: int, width: int, fine: int, *, ordered: bool = False) -> None:
        super().__init__()
        self.join = conv_bn_relu((3 if ordered else 2) * channels, fine, 3)
        self.bring = nn.Conv2d(width, fine, 1)
        self.mix = nn.Sequential(conv_bn_relu(2 * fine, fine, 3), conv_bn_relu(fine, fine, 3))
        self.head = nn.Conv2d(fine, 4, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, both: Tensor, fused: Tensor, presence: Tensor | None) -> Tensor:
        """Change logits (N, 1, H, W).

        Args:
            both: The encoder's map (2N, channels, H/2, W/2), before first.
            fused: (N, width, H/4, W/4).
            presence: Logits (N, 2, H/4, W/4) if ``ordered``, else None.
        """
        a, b = both.chunk(2)
        each = a + b if presence is None else by_presence(both, presence)
        edges = self.join(torch.cat([(a - b).abs(), each], dim=1))
        meaning = resize(self.bring(fused), edges.shape[-2:])
        logits = self.head(self.mix(torch.cat([edges, meaning], dim=1)))
        return nn.functional.pixel_shuffle(logits, 2)


def by_presence(both: Tensor, presence: Tensor) -> Tensor:
    """Maps of both dates in the order of presence: of the date with the object, then of the other one.

    Each is a mean of both dates, weighted by the difference of the presence logits.

    Args:
        both: (2N, C, h, w), before first.
        presence: Logits (N, 2, H, W), before and after.

    Returns:
        (N, 2C, h, w); the same if the dates are swapped. The two halves sum to a + b.
    """
    a, b = both.chunk(2)
    share = resize((presence[:, :1] - presence[:, 1:]).sigmoid(), a.shape[-2:]).to(a.dtype)
    moved = share * (a - b)
    return torch.cat([b + moved, a - moved], dim=1)


class Presence(nn.Module):
    """Probability for each date by itself that the class is present: two maps from one head.

    Args:
        width: Channels of STFE's features of each date.
        scales: Number of scales.
    """

    def __init__(self, width: int, scales: int = 4) -> None:
        super().__init__()
        inner = width // 2
        self.bring = nn.ModuleList(nn.Conv2d(width, inner, 1) for _ in range(scales))
        self.head = nn.Sequential(conv_bn_relu(inner, inner, 3), nn.Conv2d(inner, 1, 1))

    def forward(self, dates: list[Tensor]) -> Tensor:
        """Take maps (2N, width, H/s, W/s), finest first; give logits (2N, 1, H/4, W/4)."""
        size = dates[0].shape[-2:]
        x = self.bring[0](dates[0])
        for bring, date in zip(list(self.bring)[1:], dates[1:], strict=True):
            x = x + resize(bring(date), size)
        logits: Tensor = self.head(x)
        return logits


class Logits(NamedTuple):
    """Output of the network for a batch."""

    change: Tensor
    """(N, H, W); unchanged if the dates are swapped."""
    presence: Tensor | None
    """(N, 2, H/4, W/4), before and after; swapped with the dates. None without a presence head."""

    @classmethod
    def of(cls, found: Logits | Tensor) -> Logits:
        """A network's output in float32: a caller's own module may return only the logits of change."""
        change, presence = found if isinstance(found, Logits) else (found, None)
        return cls(change.float(), None if presence is None else presence.float())

    def probabilities(self, temperature: float) -> Tensor:
        """Probabilities (N, 1, H, W) of change, or (N, 3, H, W): also of presence before and after.

        Args:
            temperature: Divisor of the logits of change.
        """
        p = (self.change / temperature).sigmoid()[:, None]
        if self.presence is None:
            return p
        return torch.cat([p, resize(self.presence.sigmoid(), p.shape[-2:])], dim=1)


class ChangeNetwork(nn.Module):
    """Two image batches to logits; the change logits are symmetric in time.

    Args:
        encoder: One of ``registry.ENCODERS``.
        width: Channels of STFE and MSDF.
        mean: Mean per input band, 0..255 scale.
        std: Standard deviation per input band, 0..255 scale.
        fine: Channels of the fine scales; 0 leaves them out. The encoder must have a map at stride 2.
        presence: Whether there is a presence head.
        ordered: Whether the fine scales see the dates in the order of presence.
        settings: The encoder's configuration, if it needs one.

    Raises:
        ModelError: The encoder cannot be built from its configuration, or its library is missing.
        ValueError: Fine scales for an encoder without a map at stride 2.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: str,
        width: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        fine: int = 0,
        presence: bool = False,
        ordered: bool = False,
        settings: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = make_encoder(encoder, settings or {})
        if fine and not self.encoder.fine_channels:
            raise ValueError(f"fine scales: the encoder {encoder} has no map at stride 2")
        self.stfe = nn.ModuleList(STFE(c, width) for c in self.encoder.channels)
        self.msdf = MSDF(width)
        self.ordered = ordered
        self.fine = FineScale(self.encoder.fine_channels, width, fine, ordered=ordered) if fine else None
        self.presence = Presence(width) if presence else None
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, before: Tensor, after: Tensor) -> Logits:
        """Read two batches (N, 3, H, W) on the 0..255 scale, H and W multiples of 32."""
        both = (torch.cat([before, after]).to(self.mean.dtype) - self.mean) / self.std
        both = both.contiguous(memory_format=torch.channels_last)
        found = self.encoder(both) if self.fine is None else self.encoder.all_scales(both)
        joined, dates = zip(*(stfe(m) for stfe, m in zip(self.stfe, found[-4:], strict=True)), strict=True)
        fused, coarse = self.msdf([*joined])
        change = resize(coarse.float(), before.shape[-2:])
        presence = None
        if self.presence is not None:
            presence = torch.stack(self.presence([*dates]).float()[:, 0].chunk(2), dim=1)
        if self.fine is not None:
            # presence learns from its own loss alone: where only changes are labelled, direction must not suffer
            order = presence.detach() if presence is not None and self.ordered else None
            change = change + self.fine(found[0], fused, order).float()
        return Logits(change[:, 0], presence)

    @torch.no_grad()
    def put_in_order(self) -> None:
        """Let the fine scales see the dates in the order of presence; the output is the same until they learn.

        Their first layer saw the sum of the dates, which is the sum of the ordered ones.
        """
        assert self.fine is not None and not self.ordered
        self.ordered, first = True, self.fine.join[0]
        assert isinstance(first, nn.Conv2d)
        difference, total = first.weight.chunk(2, dim=1)
        first.weight = nn.Parameter(torch.cat([difference, total, total], dim=1))
        first.in_channels = first.weight.shape[1]


def folded(network: nn.Module) -> nn.Module:
    """A copy only for inference with the same output, except for rounding.

    In evaluation mode a batch norm is one factor and one summand per channel, so it can be multiplied into the
    convolution before it: the activations are then written once, not twice. And ``ZeroPad2d`` copies its whole
    input, only because ``nn.Conv2d`` pads all sides equally; zeros in the kernel have the same effect at a lower
    cost::

        pad 0 before, 1 after, kernel [a b c]   =   pad 1 on both sides, kernel [0 a b c]

    Layers that are not folded share their tensors with the original, so large encoders are not held twice.
    """
    tensors = {id(t): t for t in chain(network.parameters(), network.buffers())}
    twin: nn.Module = copy.deepcopy(network, tensors).eval()
    for module in list(twin.modules()):
        if isinstance(module, nn.Sequential):
            _fold(module)
    return twin


def _fold(layers: nn.Sequential) -> None:
    """Fold consecutive layers in place; a folded layer is replaced by an identity with the same name."""
    names = list(layers._modules)
    for name, following in pairwise(names):
        one, two = layers._modules[name], layers._modules[following]
        if isinstance(one, nn.Conv2d) and isinstance(two, nn.BatchNorm2d):
            layers._modules[name], layers._modules[following] = fuse_conv_bn_eval(one, two), nn.Identity()
        elif isinstance(one, nn.ZeroPad2d) and isinstance(two, nn.Conv2d):
            layers._modules[name], layers._modules[following] = nn.Identity(), _padded(one, two)


def _padded(pad: nn.ZeroPad2d, conv: nn.Conv2d) -> nn.Conv2d:
    """A convolution that pads by itself, on all sides by the amount that ``pad`` adds after."""
    before, after = pad.padding[0], pad.padding[1]
    assert pad.padding == (before, after, before, after)
    assert conv.padding == (0, 0)
    assert before <= after
    wider: nn.Conv2d = copy.deepcopy(conv)
    grown = after - before
    wider.weight = nn.Parameter(nn.functional.pad(conv.weight.detach(), (grown, 0, grown, 0)), requires_grad=False)
    rows, cols = conv.kernel_size
    wider.kernel_size, wider.padding = (rows + grown, cols + grown), (after, after)
    return wider
