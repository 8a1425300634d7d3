"""Common interface of the encoders: images to maps at strides 4, 8, 16 and 32; and hooks for training."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn


class Encoder(nn.Module):
    """Images (N, 3, H, W), normalised, H and W multiples of 32 -> maps (N, ``channels[i]``, H / s, W / s).

    Attributes:
        name: Name in a contract.
        channels: Channels of the maps at strides s = 4, 8, 16 and 32.
        fine_channels: Channels of a map at stride 2, for ``all_scales``; 0 if there is none.
        adaptable: Last parts of the names of the linear layers of ``backbone`` that low-rank adaptation adapts;
            empty if it is not supported.
        can_checkpoint: Whether ``checkpointing`` is supported.
    """

    name: str
    channels: tuple[int, ...]
    fine_channels: int = 0
    adaptable: tuple[str, ...] = ()
    can_checkpoint: bool = False

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps at strides 4, 8, 16 and 32."""
        raise NotImplementedError

    def all_scales(self, images: Tensor) -> list[Tensor]:
        """Return the maps of ``forward``, preceded by the map at stride 2, if there is one."""
        return self.forward(images)

    @property
    def backbone(self) -> nn.Module:
        """The part with pretrained weights, without the layers that make a pyramid of its output."""
        return self

    def stack(self) -> list[nn.Module]:
        """The blocks of ``backbone``, first to last."""
        raise NotImplementedError

    def checkpointing(self, *, on: bool) -> None:
        """For training: keep only the input of each block, and recompute the rest for the gradients."""
        raise NotImplementedError

    def heights(self) -> dict[int, int]:
        """Depth of each parameter of ``backbone``, counted in blocks from the output; keys are the parameters' ids.

        The last block has 1; layers after it have 0, layers before the first block have one more than that block,
        and layers between two blocks have the number of the block before.
        """
        blocks = self.stack()
        of_block = {id(p): len(blocks) - i for i, block in enumerate(blocks) for p in block.parameters()}
        last = {id(p) for p in blocks[-1].parameters()}
        height, found, passed = len(blocks) + 1, {}, False
        for parameter in self.backbone.parameters():
            key = id(parameter)
            if key in of_block:
                height = of_block[key]
            elif passed:
                height = 0
            found[key] = height
            passed = passed or key in last
        return found

    def adaptable_layers(self) -> Iterator[str]:
        """Names, within ``backbone``, of the linear layers that low-rank adaptation adapts."""
        for name, module in self.backbone.named_modules():
            if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in self.adaptable:
                yield name


def upsampling(width: int) -> tuple[nn.Module, nn.Module]:
    """Layers that upsample tokens at stride 16 to stride 4, with a quarter of their channels, and to 8, with half.

    A plain transformer has one resolution, so its outputs are turned into a pyramid as in ViTDet (Li et al. 2022).
    """
    up4 = nn.Sequential(
        nn.ConvTranspose2d(width, width // 2, 2, 2), nn.GELU(), nn.ConvTranspose2d(width // 2, width // 4, 2, 2)
    )
    return up4, nn.ConvTranspose2d(width, width // 2, 2, 2)
