"""Our SAM encoder against the official one: rows 7 (CPU) and 10 to 12 (CUDA) of the speed table.

Weights are random: speed does not depend on them.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch.nn.functional import scaled_dot_product_attention

from rscd.model.encoders import sam
from rscd.model.encoders.sam import SHAPES, SamEncoder
from tests.benchmarks.pairs import turns

GFLOP_448 = {"vit_b": 147, "vit_l": 500, "vit_h": 1026}
PEAK_TFLOPS = 989
"""Of an H100 SXM in dense bf16."""


def _official(encoder: SamEncoder, images: torch.Tensor) -> torch.Tensor:
    """The official blocks, as ``ImageEncoderViT.forward`` runs them, at any size."""
    vit = encoder.vit
    x = vit.patch_embed(images)
    x = x + encoder._positions(x.shape[1], x.shape[2])
    for block in vit.blocks:
        x = block(x)
    return vit.neck(x.permute(0, 3, 1, 2))


def against_official_on_cpu(pairs: int) -> dict[str, float]:
    """Row 7: seconds per Mpx, ViT-B, fp32."""
    encoder = SamEncoder("vit_b").eval()
    figures = {}
    with torch.inference_mode():
        for ours, theirs, goal in ((448, 512, 0.85), (256, 256, 0.80)):
            a, b = torch.rand(1, 3, ours, ours), torch.rand(1, 3, theirs, theirs)
            least = turns(lambda a=a: encoder.taps(a), lambda b=b: _official(encoder, b), times=pairs)
            here, there = (s / side**2 * 1e6 for s, side in zip(least, (ours, theirs), strict=True))
            figures[f"7 vit_b at {ours}, s/Mpx"] = here
            figures[f"7 official vit_b at {theirs}, s/Mpx"] = there
            figures[f"7 ratio {ours} to {theirs} (goal <= {goal:.2f})"] = here / there
    return figures


def _rate(forward, batch: int, *, half: bool) -> float:
    """Images a second on CUDA, after warming up."""
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16) if half else nullcontext():
        best = 0.0
        for turn in range(8):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in "ab")
            start.record()
            forward()
            end.record()
            torch.cuda.synchronize()
            if turn > 2:
                best = max(best, batch / (start.elapsed_time(end) / 1e3))
    return best


def on_cuda(device: str, batch: int = 16) -> dict[str, float]:
    """Rows 10 and 11: img/s at 448 px, and what share of the chip's arithmetic that is."""
    figures = {}
    for name, goal in (("vit_b", 0.25), ("vit_h", 0.38)):
        encoder = SamEncoder(name).eval().to(device)
        images = torch.rand(batch, 3, 448, 448, device=device)
        official = _rate(lambda e=encoder, x=images: _official(e, x), batch, half=False)
        compiled = torch.compile(encoder.taps, dynamic=False)
        eager = _rate(lambda e=encoder, x=images: e.taps(x), batch, half=True)
        ours = _rate(lambda c=compiled, x=images: c(x), batch, half=True)
        figures[f"10 {name} official fp32 eager, img/s"] = official
        figures[f"10 {name} ours bf16 eager, img/s"] = eager
        figures[f"10 {name} ours bf16 compiled, img/s"] = ours
        figures[f"10 {name} ratio (goal >= 5)"] = ours / official
        figures[f"11 {name} share of {PEAK_TFLOPS} TFLOP/s (goal >= {goal})"] = (
            ours * GFLOP_448[name] / 1e3 / PEAK_TFLOPS
        )
    return figures


def positions_on_cuda(device: str, batch: int = 16) -> dict[str, float]:
    """Row 12: attention with relative position through without, ViT-B's global and window shapes, bf16."""
    figures = {}
    heads, width = SHAPES["vit_b"].heads, 64
    for name, side, n in (("global", 28, batch), ("window", 14, 4 * batch)):
        q, k, v = torch.rand(3, n, heads, side * side, width, device=device, dtype=torch.bfloat16)
        tables = [torch.rand(side, side, width, device=device)] * 2

        def positioned(q=q, k=k, v=v, tables=tables, side=side, form=sam._folded):
            return form(q, k, v, sam._positions(q, (side, side), tables), width**-0.5)

        plain = _rate(lambda q=q, k=k, v=v: scaled_dot_product_attention(q, k, v), n, half=True)
        folded = _rate(positioned, n, half=True)
        biased = _rate(lambda f=positioned: f(form=sam._biased), n, half=True)
        figures[f"12 {name} folded / plain (goal <= 1.15)"] = plain / folded
        figures[f"12 {name} as a bias / plain"] = plain / biased
    return figures
