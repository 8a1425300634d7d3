"""All that a run writes, fed by BandRecords: polygons and extent, and the probability raster if it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute

from rscd.errors import UsageError
from rscd.output.area import PixelAreas
from rscd.output.geopackage import FeatureSpool, ObservedExtent, write_geopackage
from rscd.output.polygons import PolygonTracer
from rscd.output.probability import ProbabilityRaster
from rscd.output.publish import check_target, publishing, scratch
from rscd.types import BandRecord, Grid

Progress = Callable[[int, int], None]
"""Called with pixels done and pixels in all, after each band."""


@dataclass(frozen=True)
class Written:
    """What came out of a run."""

    geopackage: Path
    """The GeoPackage."""
    probability: Path | None
    """The probability raster, if one was asked for."""
    polygons: int
    """Features in the layer ``changes``."""
    changed_m2: float
    """Their area together, geodesic m2."""
    observed_km2: float
    """What both dates show, geodesic km2."""
    not_observable_km2: float
    """What at least one date does not show, geodesic km2."""
    min_area_m2: float
    """Components smaller than this were dropped, m2."""


@dataclass(frozen=True)
class Outputs:
    """Where a run's outputs go, and how polygons are made."""

    geopackage: Path
    """GeoPackage to write."""
    probability: Path | None = None
    """Probability raster to write, if any."""
    min_area_m2: float | None = None
    """Smallest polygon, m2; None leaves it to the model's minimum mapping unit."""
    simplify_m: float = 0.0
    """Tolerance of outline simplification, m."""

    def check(self, inputs: Iterable[Path], *, overwrite: bool) -> None:
        """Refuse, before any work, what could not be published in the end.

        Raises:
            UsageError: An output exists and ``overwrite`` is off, or is an input, or both outputs have one path;
                ``min_area_m2`` or ``simplify_m`` is negative.
            OutputError: A folder does not exist or cannot be written.
        """
        taken = {path.resolve() for path in inputs}
        for path in (self.geopackage, self.probability):
            if path is None:
                continue
            if path.resolve() in taken:
                raise UsageError("is an input or another output too", path=path, remedy="name another file")
            taken.add(path.resolve())
            check_target(path, overwrite=overwrite)
        if self.geopackage.suffix.lower() != ".gpkg":
            raise UsageError("no GeoPackage by its name", path=self.geopackage, remedy="give it the suffix .gpkg")
        for option, value in (("--min-area", self.min_area_m2 or 0.0), ("--simplify", self.simplify_m)):
            if not value >= 0:
                raise UsageError(f"{option} {value}", remedy="use 0 or more")

    def write(
        self,
        records: Iterable[BandRecord],
        grid: Grid,
        areas: PixelAreas,
        *,
        minimum_m2: float,
        provenance: Callable[[], Mapping[str, object]],
        progress: Progress = lambda done, total: None,
    ) -> Written:
        """Consume all records and publish: every output complete at its path, or the old ones untouched.

        Args:
            records: Every band of the grid, from the top.
            grid: The common grid.
            areas: Its pixels' areas.
            minimum_m2: Smallest polygon in m2, where ``min_area_m2`` is None.
            provenance: Asked once all bands are done, for the GeoPackage's metadata.
            progress: Called after each band.

        Raises:
            OutputError: An output could not be written.
        """
        min_area = minimum_m2 if self.min_area_m2 is None else self.min_area_m2
        tracer = PolygonTracer(grid, min_area_m2=min_area, simplify_m=self.simplify_m)
        extent = ObservedExtent(grid, areas)
        changed_m2 = 0.0
        with ExitStack() as stack:
            raster = self._raster(grid, stack)
            spool = stack.enter_context(FeatureSpool(stack.enter_context(scratch(self.geopackage))))
            for record in records:
                features = tracer.add(record)
                changed_m2 += pyarrow.compute.sum(features["area_m2"], min_count=0).as_py()
                spool.write(features)
                extent.add(record)
                if raster is not None:
                    raster.add(record)
                progress((record.row + record.height) * grid.width, grid.height * grid.width)
            features = tracer.finish()
            changed_m2 += pyarrow.compute.sum(features["area_m2"], min_count=0).as_py()
            spool.write(features)
            if raster is not None:
                raster.finish()
            write_geopackage(self.geopackage, grid, spool, extent, provenance=provenance())
        return Written(
            geopackage=self.geopackage,
            probability=self.probability,
            polygons=spool.features,
            changed_m2=changed_m2,
            observed_km2=extent.observed_m2 / 1e6,
            not_observable_km2=extent.not_observable_m2 / 1e6,
            min_area_m2=min_area,
        )

    def _raster(self, grid: Grid, stack: ExitStack) -> ProbabilityRaster | None:
        if self.probability is None:
            return None
        raster = ProbabilityRaster(stack.enter_context(publishing(self.probability)), grid)
        stack.callback(raster.discard)
        return raster
