"""All that a run writes, fed by BandRecords: polygons and extent, and the probability raster if it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rscd.output.area import PixelAreas
from rscd.output.geopackage import FeatureSpool, ObservedExtent, write_geopackage
from rscd.output.polygons import PolygonTracer
from rscd.output.probability import ProbabilityRaster
from rscd.output.publish import publishing
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


@dataclass(frozen=True)
class Outputs:
    """Where a run's outputs go, and how polygons are made."""

    grid: Grid
    """The common grid."""
    areas: PixelAreas
    """Its pixels' areas."""
    geopackage: Path
    """GeoPackage to write."""
    probability: Path | None = None
    """Probability raster to write, if any."""
    min_area_m2: float = 0.0
    """Smallest polygon, m2."""
    simplify_m: float = 0.0
    """Tolerance of outline simplification, m."""

    def write(
        self,
        records: Iterable[BandRecord],
        provenance: Callable[[], Mapping[str, object]],
        progress: Progress = lambda done, total: None,
    ) -> Written:
        """Consume all records and publish: every output complete at its path, or the old ones untouched.

        Args:
            records: Every band of the grid, from the top.
            provenance: Asked once all bands are done, for the GeoPackage's metadata.
            progress: Called after each band.

        Raises:
            OutputError: An output could not be written.
        """
        tracer = PolygonTracer(self.grid, min_area_m2=self.min_area_m2, simplify_m=self.simplify_m)
        extent = ObservedExtent(self.grid, self.areas)
        changed_m2 = 0.0
        with ExitStack() as stack:
            package = stack.enter_context(publishing(self.geopackage))
            raster = self._raster(stack)
            spool = stack.enter_context(FeatureSpool(package.with_name(package.name + ".features")))
            for record in records:
                features = tracer.add(record)
                changed_m2 += sum(features.column("area_m2").to_pylist())
                spool.write(features)
                extent.add(record)
                if raster is not None:
                    raster.add(record)
                progress((record.row + record.height) * self.grid.width, self.grid.height * self.grid.width)
            features = tracer.finish()
            changed_m2 += sum(features.column("area_m2").to_pylist())
            spool.write(features)
            if raster is not None:
                raster.finish()
            write_geopackage(package, self.grid, spool, extent, provenance=provenance())
        return Written(
            geopackage=self.geopackage,
            probability=self.probability,
            polygons=spool.features,
            changed_m2=changed_m2,
            observed_km2=extent.observed_m2 / 1e6,
            not_observable_km2=extent.not_observable_m2 / 1e6,
        )

    def _raster(self, stack: ExitStack) -> ProbabilityRaster | None:
        if self.probability is None:
            return None
        raster = ProbabilityRaster(stack.enter_context(publishing(self.probability)), self.grid)
        stack.callback(raster.discard)
        return raster
