"""Encoders of the library ``transformers`` (the extra ``encoders``): DINOv3, DINOv2, SAM 2, ConvNeXt V2, Swin V2.

The library's own classes compute the features, from a configuration in the checkpoint's contract. Importing it
takes seconds, so that is done only when a network is built. A further family is one more row in ``FAMILIES``, if
the library has a backbone class for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from rscd.core.errors import ModelError
from rscd.model.encoders.encoder import Encoder, upsampling

TOKEN = 16
"""Side of a token of a plain transformer, px; images are resized for models with smaller patches."""
LEAST_PATCH = 12
"""Smallest patch for which images are resized, px: with smaller ones too much detail would be lost."""
MOST_DEPTH, MOST_WIDTH, MOST_NUMBER = 200, 10_000, 100_000
"""Limits of a configuration (blocks, widths, other numbers); beyond them it is refused before building anything."""
DEPTHS = ("num_hidden_layers", "depths", "blocks_per_stage")
"""Settings that give a number of blocks."""


@dataclass(frozen=True)
class Family:
    """Facts about an architecture of the library that rscd needs."""

    block: str
    """Class of its blocks."""
    adaptable: tuple[str, ...]
    """Last parts of the names of the linear layers that low-rank adaptation adapts."""
    plain: bool = False
    """Whether it is a plain transformer, with a single resolution."""


_QKV = ("q_proj", "k_proj", "v_proj")

FAMILIES = {
    "dinov3_vit": Family("DINOv3ViTLayer", _QKV, plain=True),
    "dinov2": Family("Dinov2Layer", _QKV, plain=True),
    "dinov2_with_registers": Family("Dinov2WithRegistersLayer", _QKV, plain=True),
    "dinov3_convnext": Family("DINOv3ConvNextLayer", ("pointwise_conv1", "pointwise_conv2")),
    "convnextv2": Family("ConvNextV2Layer", ("pwconv1", "pwconv2")),
    "swinv2": Family("Swinv2Layer", ("query", "key", "value")),
    "sam2": Family("Sam2MultiScaleBlock", ("qkv",)),
}
"""``model_type`` in the library -> its facts. SAM 2's image encoder is its Hiera, without the neck."""
SAM2 = "sam2"
BANDS = ("red", "green", "blue")
NOT_KEPT = (
    *("architectures", "auto_map", "dtype", "torch_dtype", "id2label", "label2id", "problem_type", "return_dict"),
    *("model_type", "out_features", "out_indices", "stage_names", "output_attentions", "output_hidden_states"),
    "transformers_version",
)
"""Settings of a configuration that do not affect the features."""
INSTALL = "in rscd's folder: pip install '.[encoders]'"


class PretrainedEncoder(Encoder):
    """A backbone of the library; its feature maps are turned into a pyramid.

    A hierarchical backbone has four stages at strides 4, 8, 16 and 32. From a plain transformer the outputs of four
    blocks are used, a quarter of the depth apart, normalised as in the library's backbone, and upsampled by 4 and
    by 2, unchanged, and pooled. If its patches are not 16 px, images are resized so that a token still covers 16
    px of the image.

    Args:
        family: A key of ``FAMILIES``.
        settings: The library's configuration, JSON-ready.

    Raises:
        ModelError: The library is not installed, or it or rscd does not support the configuration.
    """

    def __init__(self, family: str, settings: dict[str, Any]) -> None:
        super().__init__()
        known = FAMILIES[family]
        self.name = family
        self.adaptable, self._block, self.plain = known.adaptable, known.block, known.plain
        config = configuration(family, settings)
        self.model = backbone_class(family, config)(config)
        self.model.loss_type = "ForSegmentation"  # not used here; without it the library warns
        self.can_checkpoint = bool(self.model.supports_gradient_checkpointing)
        if not known.plain:
            self.channels = tuple(config.embed_dim_per_stage if family == SAM2 else self.model.channels)
            return
        self.patch = int(config.patch_size)
        width = int(config.hidden_size)
        self.channels = (width // 4, width // 2, width, width)
        self.up4, self.up2 = upsampling(width)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps at strides 4, 8, 16 and 32."""
        maps = self.taps(images)
        if not self.plain:
            return maps
        first, second, third, last = maps
        return [self.up4(first), self.up2(second), third, nn.functional.max_pool2d(last, 2)]

    def taps(self, images: Tensor) -> list[Tensor]:
        """Feature maps of the library: of four stages, or of four blocks at stride 16."""
        if self.plain and self.patch != TOKEN:
            size = [side // TOKEN * self.patch for side in images.shape[-2:]]
            images = nn.functional.interpolate(images, size=size, mode="bilinear", align_corners=False)
        found = self.model(images.contiguous())
        if not hasattr(found, "feature_maps"):
            return [stage.permute(0, 3, 1, 2) for stage in found.intermediate_hidden_states]
        return list(found.feature_maps)

    @property
    def backbone(self) -> nn.Module:
        """The library's model."""
        return cast(nn.Module, self.model)

    def stack(self) -> list[nn.Module]:
        """The blocks of the library's model."""
        return [module for module in self.model.modules() if type(module).__name__ == self._block]

    def checkpointing(self, *, on: bool) -> None:
        """Keep only the input of each block during training."""
        if on:
            self.model.activation_checkpointing_enable({"use_reentrant": False})


def taps(depth: int) -> list[int]:
    """Numbers of a plain transformer's blocks after which its features are read, four of them."""
    return [depth * quarter // 4 for quarter in (1, 2, 3, 4)]


def library() -> Any:  # noqa: ANN401 - its names are looked up at run time
    """Import the library and return it.

    Raises:
        ModelError: It is not installed.
    """
    try:
        import transformers
    except ImportError as error:  # its own dependencies may be missing, or of other versions
        why = "" if isinstance(error, ModuleNotFoundError) else f", which does not load here ({first_line(error)})"
        raise ModelError(f"this encoder needs the library transformers{why}", remedy=INSTALL) from error
    return transformers


def configuration(family: str, settings: dict[str, Any]) -> Any:  # noqa: ANN401 - a class of the library's
    """The library's configuration object of a family, as rscd uses it.

    Raises:
        ModelError: The library is not installed, or it or rscd does not support the settings.
    """
    known, transformers = FAMILIES[family], library()
    kept = {name: value for name, value in settings.items() if name not in NOT_KEPT and not name.startswith("_")}
    try:
        _check_numbers(kept)  # before the library makes a list with one name per block
        if family == SAM2:
            config = transformers.Sam2HieraDetConfig(**kept)
        else:
            config = transformers.AutoConfig.for_model(family, **kept)
            config.out_indices = taps(config.num_hidden_layers) if known.plain else [1, 2, 3, 4]
        depth = _total(config, DEPTHS)
        wide = _total(config, ("hidden_size", "hidden_sizes", "embed_dim", "embed_dim_per_stage"))
        stages = [len(getattr(config, name)) for name in ("depths", "blocks_per_stage") if hasattr(config, name)]
        limits = 4 <= depth <= MOST_DEPTH and 0 < wide <= MOST_WIDTH and stages in ([], [4])
        if not limits or config.num_channels != len(BANDS):
            raise ValueError("rscd supports 3 bands, 4 stages if any, 4 to 200 blocks, and widths up to 10,000")
        if known.plain and not LEAST_PATCH <= config.patch_size <= TOKEN:
            raise ValueError(f"patches of {config.patch_size} px, and rscd supports {LEAST_PATCH} to {TOKEN} px")
    except Exception as error:  # any error of a configuration class on unknown values
        problem = f"not a configuration of {family} that rscd supports: {first_line(error)}"
        raise ModelError(problem, remedy="use another model, or fetch or save this one again") from error
    return config


def first_line(error: Exception) -> str:
    """The first line of an error of another library."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return " ".join(lines[:2])[:200] if lines else type(error).__name__


def _check_numbers(value: Any, name: str = "") -> None:  # noqa: ANN401 - of JSON
    """Raise ValueError for a number that is too large for any network of this size."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_numbers(inner, key)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_numbers(inner, name)
    elif isinstance(value, int) and value > (MOST_DEPTH if name in DEPTHS else MOST_NUMBER):
        raise ValueError(f"{name} is {value}")


def _total(config: Any, names: tuple[str, ...]) -> int:  # noqa: ANN401
    """Sum of the first of these settings that exists."""
    found = next(value for name in names if (value := getattr(config, name, None)) is not None)
    return int(sum(found) if isinstance(found, list | tuple) else found)


def backbone_class(family: str, config: Any) -> Any:  # noqa: ANN401
    """The library's class that computes a family's features."""
    transformers = library()
    if family == SAM2:
        return transformers.Sam2HieraDetModel
    return transformers.AutoBackbone._model_mapping[type(config)]
