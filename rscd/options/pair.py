"""Options of a pair of images: how two files are made comparable."""

from __future__ import annotations

from dataclasses import KW_ONLY
from pathlib import Path
from typing import Annotated

from rscd.core.errors import UsageError
from rscd.options.declare import Option, options
from rscd.options.types import AtLeast0, AutoOff, BadBlocks, OnOff, Whose, both_bands, both_nir, parse_mask_values


@options
class ReadOptions:
    """Reading: which bands, which date's grid, with or without alignment."""

    _: KW_ONLY
    bands: Annotated[tuple[int, ...] | None, Option("strips", metavar="1,2,3[/1,2,3]", parse=both_bands)] = None
    """Bands to read, counted from 1, in the model's order; after a slash those of the later date, if they differ.
    Default: by colour interpretation or description, else 1, 2, 3."""
    after_bands: Annotated[tuple[int, ...] | None, Option("strips", flag="--bands", typed=False)] = None
    """Bands of the later date, if they differ; default: as ``bands``."""
    grid: Annotated[Whose, Option("strips")] = "before"
    """Date whose pixel grid is the common grid; the other date is warped onto it if the grids differ."""
    align: Annotated[AutoOff, Option("strips")] = "auto"
    """``auto`` corrects a consistent shift between the dates; ``off`` only measures it."""


@options
class PairConfig(ReadOptions):
    """Pair: the images, and which part of them is compared."""

    before: Annotated[Path, Option("strips", argument=True, of_pair=True, resolved=True)]
    """GeoTIFF of the earlier date."""
    after: Annotated[Path, Option("strips", argument=True, of_pair=True, resolved=True)]
    """GeoTIFF of the later date."""
    _: KW_ONLY
    nir: Annotated[int | None, AtLeast0, Option("strips", metavar="N[/N]", parse=both_nir)] = None
    """Near-infrared band, for ``ndvi_change``; after a slash that of the later date; 0: none. Default: the band
    that both files describe as near infrared."""
    after_nir: Annotated[int | None, AtLeast0, Option("strips", flag="--nir", typed=False)] = None
    """Near-infrared band of the later date, if it differs; default: as ``nir``."""
    match: Annotated[OnOff, Option("strips")] = "off"
    """``on`` fits the radiometry of the other date to that of the grid's date, on probably unchanged pixels."""
    aoi: Annotated[Path | None, Option("strips", of_pair=True, resolved=True)] = None
    """Vector file of the area of interest, in any CRS: nothing outside it is processed or written."""
    before_mask: Annotated[Path | None, Option("strips", of_pair=True, resolved=True)] = None
    """Raster on any grid: pixels that are not 0 are not observable in the earlier date."""
    after_mask: Annotated[Path | None, Option("strips", of_pair=True, resolved=True)] = None
    """The same for the later date."""
    mask_values: Annotated[
        tuple[int, ...] | None, Option("strips", of_pair=True, metavar="3,8,9,...", parse=parse_mask_values)
    ] = None
    """Values of both masks that mean not observable, such as cloud classes; default: all but 0 and nodata."""
    assume_same_crs: Annotated[bool, Option("strips")] = False
    """If one file has no CRS, use that of the other."""
    sidecars: Annotated[bool, Option("strips")] = False
    """Read .aux.xml, .tfw, .msk and .ovr files next to an input."""
    bad_blocks: Annotated[BadBlocks, Option("strips", permits=True)] = "stop"
    """``stop`` ends the run at a block that cannot be decoded; ``mask`` makes it not observable and lists it."""
    force_gsd: Annotated[bool, Option("strips", permits=True)] = False
    """Continue although the scene's pixel size is outside the model's range."""
    remote: Annotated[bool, Option(permits=True, typed=False)] = False
    """The images may be ``https://`` or ``s3://`` addresses, read through GDAL."""

    @property
    def rasters(self) -> dict[str, Path]:
        """Role -> file, for both images and the masks that are given."""
        files = {"before": self.before, "after": self.after}
        masks = {"before_mask": self.before_mask, "after_mask": self.after_mask}
        return files | {role: path for role, path in masks.items() if path is not None}

    def __post_init__(self) -> None:
        if self.nir is None and self.after_nir is not None:
            raise UsageError("after_nir without nir", remedy="give nir too")
        if self.mask_values is not None and len(self.rasters) == 2:
            remedy = "name one with --before-mask or --after-mask"
            raise UsageError("--mask-values without a mask", remedy=remedy)


@options
class InspectConfig(PairConfig):
    """Model: the model whose bands and pixel sizes the pair must fit."""

    _: KW_ONLY
    model: Annotated[str | None, Option("strips", resolved=True, model=True)] = None
    """Name of an embedded model, or a checkpoint file; default: the embedded model whose pixel sizes fit."""
