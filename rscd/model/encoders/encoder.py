"""What every encoder is: images in, four maps at strides 4, 8, 16 and 32 out; and what training may ask of it."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn


class Encoder(nn.Module):
    """Images (N, 3, H, W), normalised, H and W multiples of 32 -> maps (N, ``channels[i]``, H / s, W / s).

    Attributes:
        name: As in a contract.
        channels: Of the maps at strides s = 4, 8, 16 and 32.
        fine_channels: Of a map at stride 2, for ``all_scales``; 0 where there is none.
        adaptable: Last parts of the names of the linear layers of ``backbone`` that low-rank adaptation adapts;
            empty where it cannot.
        can_checkpoint: Whether ``checkpointing`` is of use.
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
        """Return the maps of ``forward``, and before them that at stride 2, if there is one."""
        return self.forward(images)

    @property
    def backbone(self) -> nn.Module:
        """What comes with weights from elsewhere: without the layers that make a pyramid of it."""
        return self

    def stack(self) -> list[nn.Module]:
        """The blocks of ``backbone``, first to last."""
        raise NotImplementedError

    def checkpointing(self, *, on: bool) -> None:
        """Training: keep each block's input alone, and compute the rest again for the gradients."""
        raise NotImplementedError

    def heights(self) -> dict[int, int]:
        """How high each parameter of ``backbone`` lies, counted in blocks from the top, by the parameter's id.

        1 is the last block; what follows it is 0, what precedes the first block is one more than that block, and
        what lies between two blocks goes with the one before.
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
        """Names within ``backbone`` of the linear layers that low-rank adaptation adapts."""
        for name, module in self.backbone.named_modules():
            if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in self.adaptable:
                yield name


def upsampling(width: int) -> tuple[nn.Module, nn.Module]:
    """Layers that bring tokens at stride 16 to stride 4, with a quarter of their channels, and to 8, with half.

    A plain transformer has one resolution, so its taps become a pyramid as in ViTDet (Li et al. 2022).
    """
    up4 = nn.Sequential(
        nn.ConvTranspose2d(width, width // 2, 2, 2), nn.GELU(), nn.ConvTranspose2d(width // 2, width // 4, 2, 2)
    )
    return up4, nn.ConvTranspose2d(width, width // 2, 2, 2)
