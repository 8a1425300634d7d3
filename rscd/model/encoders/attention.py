"""Attention of SAM's image encoder by PyTorch's fused kernel, equal to the official code.

The official code writes the attention matrix out, adds the decomposed relative position (Li et al. 2021, MViTv2)
to it, and reads it again for the softmax. Here ``scaled_dot_product_attention`` (SDPA) does it in one go, in either
of two forms that are the same arithmetic. With rows r and columns c of query and key, and Rh, Rw the tables:

    logit = scale q.k + q.Rh[r, r'] + q.Rw[c, c']                   as a bias, or folded into longer vectors:
          = [scale q | q.Rh[r, :] | q.Rw[c, :]] . [k | onehot(r') | onehot(c')]

Where an image is no multiple of the attention window (14 tokens, 224 px), the official code fills windows up with
tokens of zeros, whose key and value are the layer's bias, and which take their share of the softmax. All of them
have one key and one value, and differ in position alone; so they are one token here, whose logit has the
logarithm of the sum over their positions added. Nothing is computed for them but that::

    +---------+--+       h x w tokens of the image, in a window of H x W; the rest R is rows below, any column,
    |  h x w  |  |       and the rows above, columns at the right. The sum over a rectangle is a product:
    +---------+  |
    |     R      |       sum_R exp(a[r'] + b[c']) = sum_{r'>=h} exp a  sum_{c'} exp b
    +------------+                                 + sum_{r'<h} exp a  sum_{c'>=w} exp b
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

FOLDED_ON = ("cuda",)
"""Devices where positions are folded into the vectors; elsewhere they are a bias.

On a CPU the bias was faster or as fast at every shape (ViT-B, 16 to 32 tokens a side, by 0 to 12 %; only filled-up
windows by up to 6 % slower). On CUDA flash kernels take no bias; that they pay there is assumed, not yet measured.
"""


class Positions(NamedTuple):
    """Relative position as it enters the logits, for queries (n, heads, h * w)."""

    rows: Tensor
    """By the key's row, (n, heads, h * w, h)."""
    cols: Tensor
    """By the key's column, (n, heads, h * w, w)."""
    rest: Tensor | None
    """Of all tokens together that only fill the window up, (n, heads, h * w, 1); None where it is full."""


def transform(block: Any, x: Tensor, get_rel_pos: Any) -> Tensor:  # noqa: ANN401 - the package has no types
    """What the official ``Block`` makes of tokens (N, rows, cols, width).

    Args:
        block: The official block, whose weights are used.
        x: Tokens.
        get_rel_pos: The official function that cuts the table of relative positions.
    """
    x = x + block.attn.proj(_attend(block.attn, block.norm1(x), block.window_size, get_rel_pos))
    out: Tensor = x + block.mlp(block.norm2(x))
    return out


def _attend(attn: Any, x: Tensor, window: int, get_rel_pos: Any) -> Tensor:  # noqa: ANN401
    """Attention in windows of so many tokens a side, 0 for all at once; (N, rows, cols, width)."""
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
    """Cut an axis of tokens where whole windows end: which part, and how many of its tokens are in a window."""
    if window == 0 or size % window == 0:
        return [(slice(0, size), window or size)]
    whole = size - size % window
    rest = [(slice(whole, size), size - whole)]
    return [(slice(0, whole), window), *rest] if whole else rest


def _part(qkv: Tensor, shape: tuple[int, int], tables: list[Tensor], filler: Tensor, scale: float) -> Tensor:
    """Attend within windows that have ``shape`` tokens of the image.

    Args:
        qkv: (N, a * h, b * w, 3, heads, d).
        shape: h and w.
        tables: Relative positions of rows and of columns, (side, side, d) each.
        filler: Key and value of a token that fills up, (2, heads, d).
        scale: Of query times key.

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
    # logsumexp over nothing is -inf, which adds nothing
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
    fill = -longer.shape[-1] % 8  # flash kernels take vectors of multiples of 8, queries, keys and values alike
    keys = torch.cat([k, hot.expand(*k.shape[:2], *hot.shape)], dim=-1)
    values = pad(v, (0, longer.shape[-1] + fill - d))
    found = scaled_dot_product_attention(pad(longer, (0, fill)), pad(keys, (0, fill)), values, scale=1.0)
    return found[..., :d]
