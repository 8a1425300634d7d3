"""The contract: input, output and validity range of a model; the JSON in a checkpoint's metadata."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rscd.core.errors import DataError, ModelError

FORMAT = 1
"""Version of the contract's format."""
MOST_RESAMPLING = 2.5
"""Maximum factor by which a scene may be resampled to reach the contract's pixel sizes."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300  # NaN is not


def _are_numbers(value: object) -> bool:
    return isinstance(value, tuple) and all(map(_is_number, value))


_HOLDS: dict[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "int": lambda value: type(value) is int,
    "bool": lambda value: isinstance(value, bool),
    "float": _is_number,
    "tuple[str, ...]": lambda value: isinstance(value, tuple) and all(isinstance(v, str) for v in value),
    "tuple[float, ...]": _are_numbers,
    "tuple[float, float]": lambda value: _are_numbers(value) and len(value) == 2,
    "dict[str, float]": lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    "dict[str, Any]": lambda value: isinstance(value, dict),
}
"""Annotation of a field -> whether a value from JSON has that type; lists are tuples by then."""


@dataclass(frozen=True)
class Contract:
    """Properties of a model on which ``detect`` relies, and which it enforces."""

    name: str
    """Short name, as in ``--model NAME``."""
    version: str
    """Version of the weights."""
    encoder: str
    """``lite`` or ``vit_t``, ``vit_b``, ``vit_l``, ``vit_h``, or an architecture of the library transformers."""
    width: int
    """Channels of STFE and MSDF."""
    mean: tuple[float, ...]
    """Mean of each input band, subtracted, 0..255 scale."""
    std: tuple[float, ...]
    """Standard deviation of each input band, the divisor, 0..255 scale."""
    encoder_settings: dict[str, Any] = field(default_factory=dict)
    """The library's configuration of the architecture, and the library's version; empty for the others."""
    fine: int = 0
    """Channels of the fine scales at strides 2 and 1; 0 without fine scales."""
    presence: bool = False
    """Whether the network has a presence head: is the class present on each date?"""
    ordered: bool = False
    """Whether the fine scales see the dates in the order of presence."""
    bands: tuple[str, ...] = ("red", "green", "blue")
    """Input bands in order."""
    radiometry: str = "uint8"
    """Handling of pixel values: ``uint8`` uses 8-bit imagery unchanged."""
    gsd_m: tuple[float, float] = (0.3, 1.2)
    """Smallest and largest ground sample distance in m that the weights were trained for."""
    window: int = 448
    """Side of a window in px."""
    overlap: int = 64
    """Overlap of neighbouring windows in px."""
    threshold: float = 0.5
    """Calibrated probability from which a pixel counts as changed, 0..1."""
    minimum_mapping_px: int = 4
    """Components smaller than this many px are dropped by default; see ``minimum_m2``."""
    minimum_mapping_m2: float = 0.0
    """Components smaller than this are dropped by default, m2: the smallest possible object of the class."""
    temperature: float = 1.0
    """Divisor of the logits before the sigmoid."""
    class_name: str = "change"
    """What a polygon means."""
    trained_on: str = ""
    """Data and recipe as text; empty if the change head is not trained."""
    licence: str = ""
    """Licence of the weights."""
    figures: dict[str, float] = field(default_factory=dict)
    """Measured metrics, name -> value."""
    training: dict[str, Any] = field(default_factory=dict)
    """How the weights were made: fingerprints of the data, seed, options, versions of rscd and torch."""
    sha256: str = ""
    """Hash of the tensors: name, dtype, shape and bytes of each, in name order."""

    @property
    def any_window(self) -> bool:
        """Whether a window may have any side: the network consists of convolutions, and was trained on crops."""
        return self.encoder == "lite"

    def minimum_m2(self, gsd_m: float) -> float:
        """Minimum mapping unit in m2 at a ground sample distance in m: the larger of the two above."""
        # slightly below the pixels' area, so that this number of pixels passes in any projection
        return max(self.minimum_mapping_m2, self.minimum_mapping_px * gsd_m**2 * 0.999)

    def takes(self, gsd_m: float) -> bool:
        """Whether ``working_gsd`` accepts a ground sample distance, m."""
        low, high = self.gsd_m
        return low / MOST_RESAMPLING <= gsd_m <= high * MOST_RESAMPLING

    def working_gsd(self, gsd_m: float, path: object) -> float | None:
        """Pixel size to which a scene must be resampled for the model, m; None: not resampled.

        Raises:
            DataError: ``gsd_m`` is more than MOST_RESAMPLING times finer or coarser than the trained range.
        """
        low, high = self.gsd_m
        if 0.99 * low <= gsd_m <= 1.01 * high:
            return None
        nearest = min(max(gsd_m, low), high)
        if self.takes(gsd_m):
            return nearest
        problem = f"ground sample distance is {gsd_m:.3g} m, and model {self.name} takes {self.gsd_words}"
        remedy = "resample both dates, or add --force-gsd to continue anyway"
        raise DataError(problem, path=str(path), remedy=remedy)

    @property
    def gsd_words(self) -> str:
        """The pixel sizes that it accepts, as text."""
        low, high = (f"{size:.3g}" for size in self.gsd_m)
        return f"{low} m" if low == high else f"{low} to {high} m"

    def to_json(self) -> str:
        """Serialise with the format's version."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, *, path: object = None) -> Contract:
        """Parse and check.

        Raises:
            ModelError: Not JSON, another format, an unknown, missing or mistyped field.
        """
        remedy = "use a checkpoint written by rscd train or rscd models import"
        where = str(path) if path is not None else None
        try:
            raw: Any = json.loads(text)
            if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT:
                raise ValueError(f"not a contract of format {FORMAT}")
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
            contract = cls(**fields)
            contract._check_types()
            contract._check()
        except (ValueError, TypeError, RecursionError) as error:
            raise ModelError(f"unreadable contract: {error}", path=where, remedy=remedy) from error
        return contract

    def _check_types(self) -> None:
        """Raise ValueError for the first field with a value of the wrong type."""
        for spec in dataclasses.fields(self):
            if not _HOLDS[str(spec.type)](getattr(self, spec.name)):
                raise ValueError(f"{spec.name} is not {spec.type}")

    def _check(self) -> None:
        """Raise ValueError for the first field that is out of range."""
        from_three = len(self.bands) == len(self.mean) == len(self.std) == 3
        ranges = {
            "bands, mean, std (three each)": from_three,
            "std": all(s > 0 for s in self.std),
            "gsd_m": 0 < self.gsd_m[0] <= self.gsd_m[1],
            "window": 32 <= self.window <= MOST_WINDOW and self.window % 32 == 0,
            "overlap": 0 <= self.overlap < self.window,
            "threshold": 0 < self.threshold <= 1,
            "temperature": 0 < self.temperature < 100,
            "minimum_mapping": self.minimum_mapping_px >= 0 and self.minimum_mapping_m2 >= 0,
            "width": 8 <= self.width <= 1024,
            "fine": 0 <= self.fine <= 256 and (not self.fine or self.encoder == "lite"),
            "ordered": not self.ordered or (self.fine > 0 and self.presence),
            "radiometry": self.radiometry == "uint8",
        }
        for name, right in ranges.items():
            if not right:
                raise ValueError(f"{name} out of range")


MOST_WINDOW = 4096
"""Maximum side of a window, px."""

STRIDE = 32
"""Windows and crops are multiples of this, px: the largest stride of all encoders."""
