"""The Segment Anything image encoder (``ImageEncoderViT`` of the package ``segment-anything``) as an encoder.

``import segment_anything`` imports torchvision, which only its prompt code needs, which many installations lack and
which fails to import with a CPU-only torch. Only ``segment_anything.modeling`` is needed here, and Python cannot
import a submodule without running its package's ``__init__``: so an empty package replaces it during the import,
and is removed again.

Attention uses PyTorch's fused kernel, with the result of the official code. The official code writes the attention
matrix out, adds the decomposed relative position (Li et al. 2021, MViTv2) to it, and reads it again for the
softmax. Here ``scaled_dot_product_attention`` (SDPA) does this in one step, in one of two equivalent forms. With
rows r and columns c of query and key, and tables Rh, Rw:

    logit = scale q.k + q.Rh[r, r'] + q.Rw[c, c']                   as a bias, or folded into longer vectors:
          = [scale q | q.Rh[r, :] | q.Rw[c, :]] . [k | onehot(r') | onehot(c')]

If an image is not a multiple of the attention window (14 tokens, 224 px), the official code fills windows up with
zero tokens, whose key and value are the layer's bias, and which take part in the softmax. They all have the same
key and value, and differ only in position; so here they are one token, with the logarithm of the sum over their
positions added to its logit. Nothing else is computed for them::

    +---------+--+       h x w tokens of the image, in a window of H x W; the rest R is rows below, any column,
    |  h x w  |  |       and the rows above, columns at the right. The sum over a rectangle is a product:
    +---------+  |
    |     R      |       sum_R exp(a[r'] + b[c']) = sum_{r'>=h} exp a  sum_{c'} exp b
    +------------+                                 + sum_{r'<h} exp a  sum_{c'>=w} exp b
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from rscd.model.encoders.encoder import Encoder, upsampling

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
PATCH = 16
"""Side of a token, px."""


@dataclass(frozen=True)
class VitShape:
    """Size of one variant of the encoder."""

    width: int
    """Embedding dimension."""
    depth: int
    """Blocks."""
    heads: int
    """Attention heads."""
    taps: tuple[int, int, int, int]
    """Blocks with global attention; the pyramid reads their outputs."""
    image_size: int = 1024
    """Side of the images for which the position tables are stored, px."""


#: b, l and h are SAM's own (its ``build_sam.py``); t is ours, for tests and small models.
SHAPES = {
    "vit_t": VitShape(192, 12, 3, (2, 5, 8, 11), image_size=448),
    "vit_b": VitShape(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": VitShape(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": VitShape(1280, 32, 16, (7, 15, 23, 31)),
}


def sam_modeling() -> ModuleType:
    """Import ``segment_anything.modeling`` without running ``segment_anything/__init__.py``."""
    name = "segment_anything"
    if f"{name}.modeling" in sys.modules:
        return sys.modules[f"{name}.modeling"]
    if name in sys.modules:
        return importlib.import_module(f"{name}.modeling")
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("the package segment-anything is not installed", name=name)
    bare = ModuleType(name)
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules[name] = bare
    try:
        return importlib.import_module(f"{name}.modeling")
    finally:
        del sys.modules[name]


def image_encoder(shape: VitShape) -> Any:  # noqa: ANN401 - the package has no types
    """Build the official ``ImageEncoderViT`` with the hyper-parameters of SAM's ``build_sam.py``."""
    return sam_modeling().ImageEncoderViT(
        img_size=shape.image_size,
        patch_size=PATCH,
        embed_dim=shape.width,
        depth=shape.depth,
        num_heads=shape.heads,
        mlp_ratio=4,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=shape.taps,
        window_size=14,
        out_chans=256,
    )


class SamEncoder(Encoder):
    """SAM's image encoder; its outputs are turned into a pyramid.

    The outputs of the four global-attention blocks are used; the last one goes through SAM's neck. They are
    upsampled by 4 and by 2, unchanged, and pooled.
    """

    adaptable = ("qkv",)
    can_checkpoint = True

    def __init__(self, variant: str) -> None:
        super().__init__()
        shape = SHAPES[variant]
        self.name, self.shape = variant, shape
        self._checkpointing = False
        self.vit = image_encoder(shape)
        w = shape.width
        self.channels = (w // 4, w // 2, w, 256)
        self.up4, self.up2 = upsampling(w)

    @property
    def backbone(self) -> nn.Module:
        """The official encoder."""
        return cast(nn.Module, self.vit)

    def stack(self) -> list[nn.Module]:
        """Its transformer blocks."""
        return [*self.vit.blocks]

    def checkpointing(self, *, on: bool) -> None:
        """Keep only the input of each block during training."""
        self._checkpointing = on

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps at strides 4, 8, 16, 32 with ``channels`` channels."""
        first, second, third, embedding = self.taps(images)
        return [self.up4(first), self.up2(second), third, nn.functional.max_pool2d(embedding, 2)]

    def taps(self, images: Tensor) -> list[Tensor]:
        """Run the ViT: three taps (N, width, H/16, W/16), then the neck's output (N, 256, H/16, W/16).

        The last equals the official ``ImageEncoderViT.forward`` if H = W = the stored image size; at other
        sizes the absolute position table is interpolated here, the relative ones by the official code.
        Attention is that of ``transform``.
        """
        x = self.vit.patch_embed(images)
        x = x + self._positions(x.shape[1], x.shape[2])
        get_rel_pos = sam_modeling().image_encoder.get_rel_pos
        found = []
        for i, block in enumerate(self.vit.blocks):
            if self._checkpointing and self.training:
                x = checkpoint(transform, block, x, get_rel_pos, use_reentrant=False)
            else:
                x = transform(block, x, get_rel_pos)
            if i in self.shape.taps:
                found.append(x.permute(0, 3, 1, 2))
        return [*found[:-1], self.vit.neck(found[-1])]

    def _positions(self, rows: int, cols: int) -> Tensor:
        """Absolute position table (1, rows, cols, width), interpolated bilinearly if sizes differ."""
        table: Tensor = self.vit.pos_embed
        if table.shape[1:3] == (rows, cols):
            return table
        resized = nn.functional.interpolate(
            table.permute(0, 3, 1, 2), size=(rows, cols), mode="bilinear", align_corners=False
        )
        return resized.permute(0, 2, 3, 1)


def variant_of(state: dict[str, Tensor]) -> str | None:
    """The variant of an ``image_encoder`` state dict, by its widths; None if it is not one of them."""
    try:
        width = state["patch_embed.proj.weight"].shape[0]
        depth = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks."))
    except (KeyError, ValueError):
        return None
    return next((n for n, s in SHAPES.items() if (s.width, s.depth) == (width, depth)), None)


def official_state(checkpoint: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keep the image encoder's tensors of an official ``sam_vit_*.pth`` state dict, without their prefix."""
    prefix = "image_encoder."
    return {k[len(prefix) :]: v.to(torch.float32) for k, v in checkpoint.items() if k.startswith(prefix)}


FOLDED_ON = ("cuda",)
"""Devices on which positions are folded into the vectors; on others they are a bias.

On a CPU the bias was faster or as fast for every shape (ViT-B, 16 to 32 tokens per side, by 0 to 12 %; only for
filled-up windows by up to 6 % slower). On CUDA flash kernels accept no bias; their benefit there is assumed, not
yet measured.
"""


class Positions(NamedTuple):
    """Relative position terms of the logits, for queries (n, heads, h * w)."""

    rows: Tensor
    """By the key's row, (n, heads, h * w, h)."""
    cols: Tensor
    """By the key's column, (n, heads, h * w, w)."""
    rest: Tensor | None
    """For all filler tokens of the window together, (n, heads, h * w, 1); None if the window is full."""


def transform(block: Any, x: Tensor, get_rel_pos: Any) -> Tensor:  # noqa: ANN401 - the package has no types
    """Same output as the official ``Block`` for tokens (N, rows, cols, width).

    Args:
        block: The official block, whose weights are used.
        x: Tokens.
        get_rel_pos: The official function that cuts the table of relative positions.
    """
    x = x + block.attn.proj(_attend(block.attn, block.norm1(x), block.window_size, get_rel_pos))
    out: Tensor = x + block.mlp(block.norm2(x))
    return out


def _attend(attn: Any, x: Tensor, window: int, get_rel_pos: Any) -> Tensor:  # noqa: ANN401
    """Attention in windows of this many tokens per side, 0 for one window; (N, rows, cols, width)."""
    rows, cols = x.shape[1:3]
    qkv = attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1))
    tables = [
        get_rel_pos(window or size, window or size, table)
        for size, table in ((rows, attn.rel_pos_h), (cols, attn.rel_pos_w))
    ]
    filler = attn.qkv.bias.unflatten(0, (3, attn.num_heads, -1))[1:].to(qkv.dtype)

    def part(down: slice, h: int, across: slice, w: int) -> Tensor:
        return _part(qkv[:, down, across], (h, w), tables, filler, attn.scale)

    strips = [
        torch.cat([part(down, h, across, w) for across, w in _spans(cols, window)], dim=2)
        for down, h in _spans(rows, window)
    ]
    return torch.cat(strips, dim=1)


def _spans(size: int, window: int) -> list[tuple[slice, int]]:
    """Split an axis of tokens at the end of the whole windows: parts, and their tokens per window."""
    if window == 0 or size % window == 0:
        return [(slice(0, size), window or size)]
    whole = size - size % window
    rest = [(slice(whole, size), size - whole)]
    return [(slice(0, whole), window), *rest] if whole else rest


def _part(qkv: Tensor, shape: tuple[int, int], tables: list[Tensor], filler: Tensor, scale: float) -> Tensor:
    """Attention within windows with ``shape`` tokens of the image.

    Args:
        qkv: (N, a * h, b * w, 3, heads, d).
        shape: h and w.
        tables: Relative positions of rows and of columns, (side, side, d) each.
        filler: Key and value of a filler token, (2, heads, d).
        scale: Scale of query times key.

    Returns:
        (N, a * h, b * w, heads * d).
    """
    h, w = shape
    n, rows, cols, _, heads, d = qkv.shape
    a, b = rows // h, cols // w
    q, k, v = (
        qkv.view(n, a, h, b, w, 3, heads, d)
        .permute(5, 0, 1, 3, 6, 2, 4, 7)
        .reshape(3, n * a * b, heads, h * w, d)
        .unbind(0)
    )
    places = _positions(q, shape, tables)
    if places.rest is not None:
        one = filler[:, None, :, None].expand(2, n * a * b, heads, 1, d)
        k, v = torch.cat([k, one[0]], dim=2), torch.cat([v, one[1]], dim=2)
    form = _folded if q.device.type in FOLDED_ON else _biased
    found = form(q, k, v, places, scale).view(n, a, b, heads, h, w, d)
    return found.permute(0, 1, 4, 2, 5, 3, 6).reshape(n, a * h, b * w, heads * d)


def _positions(q: Tensor, shape: tuple[int, int], tables: list[Tensor]) -> Positions:
    """Relative position of queries (n, heads, h * w, d) to the keys of their windows."""
    h, w = shape
    by_row, by_col = tables[0][:h].to(q.dtype), tables[1][:w].to(q.dtype)
    grid = q.view(*q.shape[:2], h, w, -1)
    rows = torch.einsum("nahwd,hkd->nahwk", grid, by_row).flatten(2, 3)
    cols = torch.einsum("nahwd,wkd->nahwk", grid, by_col).flatten(2, 3)
    below, beside = rows[..., h:].float(), cols[..., w:].float()
    if below.shape[-1] == beside.shape[-1] == 0:
        return Positions(rows, cols, None)
    # logsumexp of nothing is -inf, which adds nothing
    under = below.logsumexp(-1, keepdim=True) + cols.float().logsumexp(-1, keepdim=True)
    right = rows[..., :h].float().logsumexp(-1, keepdim=True) + beside.logsumexp(-1, keepdim=True)
    return Positions(rows[..., :h], cols[..., :w], torch.logaddexp(under, right).to(q.dtype))


def _biased(q: Tensor, k: Tensor, v: Tensor, places: Positions, scale: float) -> Tensor:
    """SDPA with positions as a bias."""
    bias = (places.rows[..., :, None] + places.cols[..., None, :]).flatten(-2)
    if places.rest is not None:
        bias = torch.cat([bias, places.rest], dim=-1)
    return scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)


def _folded(q: Tensor, k: Tensor, v: Tensor, places: Positions, scale: float) -> Tensor:
    """SDPA with positions folded into queries and keys."""
    d, h, w = q.shape[-1], places.rows.shape[-1], places.cols.shape[-1]
    given = [q * scale, places.rows, places.cols] + ([] if places.rest is None else [places.rest])
    hot = torch.cat(
        [
            torch.eye(h, dtype=k.dtype, device=k.device).repeat_interleave(w, 0),
            torch.eye(w, dtype=k.dtype, device=k.device).repeat(h, 1),
        ],
        dim=1,
    )
    if places.rest is not None:
        hot = pad(hot, (0, 1, 0, 1))
        hot[-1, -1] = 1
    longer = torch.cat(given, dim=-1)
    fill = -longer.shape[-1] % 8  # flash kernels need vector lengths that are equal and multiples of 8
    keys = torch.cat([k, hot.expand(*k.shape[:2], *hot.shape)], dim=-1)
    values = pad(v, (0, longer.shape[-1] + fill - d))
    found = scaled_dot_product_attention(pad(longer, (0, fill)), pad(keys, (0, fill)), values, scale=1.0)
    return found[..., :d]
