"""Options of a pair of images: how two files become one comparable pair."""

from __future__ import annotations

from dataclasses import KW_ONLY
from pathlib import Path
from typing import Annotated

from rscd.core.errors import UsageError
from rscd.options.declare import Option, options
from rscd.options.types import AtLeast0, AutoOff, BadBlocks, OnOff, Whose, both_bands, both_nir, parse_mask_values


@options
class ReadOptions:
    """Reading: which bands, on whose grid, with or without alignment."""

    _: KW_ONLY
    bands: Annotated[tuple[int, ...] | None, Option("strips", metavar="1,2,3[/1,2,3]", parse=both_bands)] = None
    """Bands to read, from 1, in the model's order; after a slash those of the later date, where they differ.
    Default: by their colours or descriptions, else 1, 2, 3."""
    after_bands: Annotated[tuple[int, ...] | None, Option("strips", flag="--bands", typed=False)] = None
    """Bands of the later date, where they differ; default: as ``bands``."""
    grid: Annotated[Whose, Option("strips")] = "before"
    """Whose pixel grid is the common grid; the other date is warped onto it where they differ."""
    align: Annotated[AutoOff, Option("strips")] = "auto"
    """``auto`` corrects a consistent shift between the dates; ``off`` only measures it."""


@options
class PairConfig(ReadOptions):
    """Pair: the images, and what of them is compared."""

    before: Annotated[Path, Option("strips", argument=True, of_pair=True, resolved=True)]
    """GeoTIFF of the earlier date."""
    after: Annotated[Path, Option("strips", argument=True, of_pair=True, resolved=True)]
    """GeoTIFF of the later date."""
    _: KW_ONLY
    nir: Annotated[int | None, AtLeast0, Option("strips", metavar="N[/N]", parse=both_nir)] = None
    """Near-infrared band, for ``ndvi_change``, after a slash that of the later date; 0: none. Default: the one that
    both files name so."""
    after_nir: Annotated[int | None, AtLeast0, Option("strips", flag="--nir", typed=False)] = None
    """That of the later date, where it differs; default: as ``nir``."""
    match: Annotated[OnOff, Option("strips")] = "off"
    """``on`` fits the other date's radiometry to the grid's date on probably unchanged pixels."""
    aoi: Annotated[Path | None, Option("strips", of_pair=True, resolved=True)] = None
    """Vector file, in any CRS: nothing outside it is forwarded or written."""
    before_mask: Annotated[Path | None, Option("strips", of_pair=True, resolved=True)] = None
    """Raster on any grid: where it is not 0, the earlier date is not observable."""
    after_mask: Annotated[Path | None, Option("strips", of_pair=True, resolved=True)] = None
    """Likewise of the later date."""
    mask_values: Annotated[
        tuple[int, ...] | None, Option("strips", of_pair=True, metavar="3,8,9,...", parse=parse_mask_values)
    ] = None
    """Values of both masks that are not observable, such as classes of cloud; default: all but 0 and nodata."""
    assume_same_crs: Annotated[bool, Option("strips")] = False
    """Where one file has no CRS, take the other's."""
    sidecars: Annotated[bool, Option("strips")] = False
    """Read .aux.xml, .tfw, .msk and .ovr files that lie beside an input."""
    bad_blocks: Annotated[BadBlocks, Option("strips", permits=True)] = "stop"
    """``stop`` ends the run at a block that cannot be decoded; ``mask`` makes it not observable and lists it."""
    force_gsd: Annotated[bool, Option("strips", permits=True)] = False
    """Go on although the scene's pixel size is outside the model's range."""
    remote: Annotated[bool, Option(permits=True, typed=False)] = False
    """The dates may be ``https://`` or ``s3://`` addresses, read through GDAL."""

    @property
    def rasters(self) -> dict[str, Path]:
        """Role -> file of the dates, and of the masks that there are."""
        files = {"before": self.before, "after": self.after}
        masks = {"before_mask": self.before_mask, "after_mask": self.after_mask}
        return files | {role: path for role, path in masks.items() if path is not None}

    def __post_init__(self) -> None:
        if self.nir is None and self.after_nir is not None:
            raise UsageError("after_nir without nir", remedy="name that of both dates")
        if self.mask_values is not None and len(self.rasters) == 2:
            remedy = "name one with --before-mask or --after-mask"
            raise UsageError("--mask-values without a mask", remedy=remedy)


@options
class InspectConfig(PairConfig):
    """Model: whose bands and pixel sizes the pair must fit."""

    _: KW_ONLY
    model: Annotated[str | None, Option("strips", resolved=True, model=True)] = None
    """Name of an embedded model, or a checkpoint file; default: the embedded one whose pixel sizes fit."""
