"""The Segment Anything image encoder (``ImageEncoderViT`` of the package ``segment-anything``) as an encoder.

``import segment_anything`` imports torchvision, which only its prompt code needs, which many installs lack and
which fails to import beside a CPU-only torch. Only ``segment_anything.modeling`` is wanted here, and Python
cannot import a submodule without running its package's ``__init__``: so a bare package stands in for the time
of the import, and is taken out again.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rscd.model.encoders.attention import transform
from rscd.model.encoders.encoder import Encoder, upsampling

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
PATCH = 16
"""Pixels on a side of one token."""


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
    """Blocks with global attention, which are also those that the pyramid reads."""
    image_size: int = 1024
    """Side in pixels for which the position tables are stored."""


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
    """SAM's image encoder, from taps to a pyramid.

    The four global-attention blocks are tapped; the last tap goes through SAM's neck. They are brought up by 4, up
    by 2, left as they are, and pooled.
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
        """Keep each block's input alone while training."""
        self._checkpointing = on

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps at strides 4, 8, 16, 32 with ``channels`` channels."""
        first, second, third, embedding = self.taps(images)
        return [self.up4(first), self.up2(second), third, nn.functional.max_pool2d(embedding, 2)]

    def taps(self, images: Tensor) -> list[Tensor]:
        """Run the ViT: three taps (N, width, H/16, W/16), then the neck's output (N, 256, H/16, W/16).

        The last equals the official ``ImageEncoderViT.forward`` where H = W = the stored image size; at other
        sizes the absolute position table is interpolated here, the relative ones by the official code.
        Attention is that of ``rscd.model.encoders.attention``.
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
        """Absolute position table (1, rows, cols, width), interpolated bilinearly where sizes differ."""
        table: Tensor = self.vit.pos_embed
        if table.shape[1:3] == (rows, cols):
            return table
        resized = nn.functional.interpolate(
            table.permute(0, 3, 1, 2), size=(rows, cols), mode="bilinear", align_corners=False
        )
        return resized.permute(0, 2, 3, 1)


def variant_of(state: dict[str, Tensor]) -> str | None:
    """Tell which variant an ``image_encoder`` state dict holds, by its widths; None if it is none of them."""
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
