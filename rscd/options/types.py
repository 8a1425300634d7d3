"""Option types with their ranges, shared by several groups."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from rscd.core.contract import MOST_WINDOW, STRIDE
from rscd.core.errors import UsageError

Whose = Literal["before", "after"]
AutoOff = Literal["auto", "off"]
OnOff = Literal["on", "off"]
BadBlocks = Literal["stop", "mask"]
MatchBy = Literal["name", "footprint"]
Precision = Literal["auto", "fp32", "bf16"]
BackendName = Literal["auto", "torch", "openvino"]
Encoder = Literal["lite", "vit_t", "vit_b", "vit_l", "vit_h"]
Tune = Literal["full", "lora", "frozen", "fine"]
Normalise = Literal["kept", "all"]
Split = Literal["train", "val", "test"]

MOST_BATCH = 4096
"""Maximum number of windows, or crops, per batch."""


@dataclass(frozen=True)
class Check:
    """A check of a value, for pydantic: the function returns the value, or raises ValueError with the remedy."""

    function: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:  # noqa: ANN401 - pydantic's protocol
        """Pydantic's hook that adds the check to a field; imports pydantic here because that is slow."""
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.function, handler(source))


def within(right: Callable[[Any], bool], remedy: str) -> Check:
    """A check of a value; None passes.

    Args:
        right: Whether a value is allowed.
        remedy: What to use instead.
    """

    def check(value: Any) -> Any:  # noqa: ANN401
        if value is not None and not right(value):
            raise ValueError(remedy)
        return value

    return Check(check)


def _window(value: int | None) -> int | None:
    near = min(max(STRIDE, round((value or 0) / STRIDE) * STRIDE), MOST_WINDOW)
    if value is not None and not (STRIDE <= value <= MOST_WINDOW and value % STRIDE == 0):
        raise ValueError(f"use a multiple of {STRIDE} px, e.g. {near}")
    return value


def _is_device(name: str) -> bool:
    kind, _, number = name.partition(":")
    return name in ("auto", "cpu", "cuda") or (kind == "cuda" and number.isdecimal())


AtLeast0 = within(lambda v: 0 <= v < math.inf, "use 0 or more")
"""A finite number, 0 or more."""
AtLeast1 = within(lambda v: v >= 1, "use 1 or more")
Share = within(lambda v: 0 <= v <= 1, "use 0 to 1")
Probability = Annotated[float | None, within(lambda v: 0 < v <= 1, "use a probability above 0, at most 1")]
WindowSide = Annotated[int | None, Check(_window)]
Device = Annotated[str, within(_is_device, "use auto, cpu or cuda:N")]


def check_overlap(window: int | None, overlap: int | None) -> None:
    """Refuse an overlap that is negative, or not smaller than the window's side.

    Raises:
        UsageError: The overlap is out of range.
    """
    if overlap is not None and not 0 <= overlap < (window or math.inf):
        most = f"use 0 to {window - 1} px" if window else "use 0 or more px, below the window's side"
        raise UsageError(f"--overlap {overlap}", remedy=most)


def whole_numbers(flag: str, text: str, example: str, whole: str = "") -> tuple[int, ...]:
    """Parse ``1,2,3``.

    Raises:
        UsageError: Not a list of whole numbers.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{flag} {(whole or text)!r}", remedy=f"give numbers, such as {example}") from error


def both_bands(text: str) -> dict[str, Any]:
    """Parse ``1,2,3`` for both dates, or ``3,2,1/1,2,3`` for each.

    Raises:
        UsageError: Not one or two lists of whole numbers.
    """
    before, slash, after = text.partition("/")
    example = "1,2,3, or 3,2,1/1,2,3 for before and after"
    first = whole_numbers("--bands", before, example, whole=text)
    return {"bands": first, "after_bands": whole_numbers("--bands", after, example, whole=text) if slash else None}


def both_nir(text: str) -> dict[str, Any]:
    """Parse ``4`` for both dates, or ``4/5`` for each.

    Raises:
        UsageError: Not one or two whole numbers.
    """
    before, slash, after = text.partition("/")
    try:
        return {"nir": int(before), "after_nir": int(after if slash else before)}
    except ValueError as error:
        raise UsageError(f"--nir {text!r}", remedy="give the number of a band, such as 4, or 4/5") from error


def parse_mask_values(text: str) -> tuple[int, ...]:
    """Parse ``3,8,9``.

    Raises:
        UsageError: Not a list of whole numbers.
    """
    return whole_numbers("--mask-values", text, "3,8,9,10,11")


def auto_or_number(text: str) -> int | None:
    """Parse a batch size; None for ``auto``.

    Raises:
        UsageError: Neither ``auto`` nor a whole number.
    """
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"--batch-size {text!r}", remedy="use auto, or 1 or more") from error


def two_dates(text: str) -> tuple[str, str]:
    """Parse ``A,B``.

    Raises:
        UsageError: Not exactly two dates.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(parts):
        raise UsageError(f"--dates {text!r}", remedy="give both, such as 2019-05-31,2024-06-02")
    return parts[0], parts[1]
