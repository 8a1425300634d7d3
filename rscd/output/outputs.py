"""Writes all outputs of a run from StripRecords: polygons and extent, and the probability raster if requested."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from rscd.core.paths import Targets, legend_of, siblings
from rscd.core.pixel_area import PixelAreas
from rscd.core.publish import Publication, writing
from rscd.core.resources import Stopwatch
from rscd.core.types import Grid, StripRecord
from rscd.options.detect import DetectConfig
from rscd.output.probability import ProbabilityRaster
from rscd.output.project import Project
from rscd.output.report.page import Report
from rscd.output.results import Written
from rscd.output.vector.formats import GEOPACKAGE, check_vector_name, format_of
from rscd.output.vector.geopackage import FeatureStream, ObservedExtent, Outside, vector_writing, write_geopackage
from rscd.output.vector.reviews import BEFORE, check_reviews, reviews_of
from rscd.output.vector.style import probability_qml
from rscd.vectorize.attributes import Attributes
from rscd.vectorize.outline import check_regularizer
from rscd.vectorize.tracer import PolygonTracer


@dataclass(frozen=True)
class About:
    """Information on the run for its outputs."""

    provenance: Callable[[], Mapping[str, object]]
    """Called when all strips are done, for the vector file's metadata."""
    minimum_m2: float
    """Smallest polygon in m2, if the options give none."""
    raster: Mapping[str, object] | None = None
    """Information on the run for the probability raster."""


@dataclass(frozen=True)
class Outputs:
    """Paths of a run's outputs, and settings of the polygons."""

    geopackage: Path
    """Vector file to write, in the format of its suffix."""
    probability: Path | None = None
    """Probability raster to write, if any."""
    report: Path | None = None
    """Report page that the caller will write, if any."""
    project: Path | None = None
    """QGIS project that the caller will write, if any."""
    min_area_m2: float | None = None
    """Smallest polygon, m2; None: the model's minimum mapping unit."""
    simplify_m: float = 0.0
    """Tolerance of outline simplification, m."""
    fill_holes_m2: float = 0.0
    """Holes smaller than this are filled, m2."""
    regularize: bool = False
    """Make outlines right-angled."""

    @classmethod
    def of(cls, config: DetectConfig) -> Outputs:
        """The outputs of a run of ``detect``."""
        shaping = config.min_area_m2, config.simplify_m, config.fill_holes_m2, config.regularize
        return cls(config.output, config.probability, config.report, config.project, *shaping)

    def check(self, inputs: Iterable[Path], *, overwrite: bool, discard_reviews: bool = False) -> None:
        """Refuse, before any work, outputs that could not be published at the end; see ``Targets.check``.

        Raises:
            UsageError: An output exists already or has an unsuitable name, or the extra ``regularize`` is not
                installed.
            OutputError: An output cannot be written, or another program has it open.
        """
        check_vector_name(self.geopackage)
        targets = Targets(self.geopackage, self.probability, self.report, self.project)
        targets.check(inputs, overwrite=overwrite)
        check_reviews(self.geopackage, discard=discard_reviews)
        if self.regularize:
            check_regularizer()

    def write(
        self,
        records: Iterable[StripRecord],
        areas: PixelAreas,
        about: About,
        publication: Publication,
        *,
        attributes: Attributes | None = None,
        report: Report | None = None,
        watch: Stopwatch | None = None,
        outside: Outside | None = None,
    ) -> Written:
        """Consume all records and write every output except the report, next to its target.

        Args:
            records: Every strip of the grid, from the top.
            areas: The common grid, and its pixels' areas.
            about: Information on the run.
            publication: Puts the outputs in place later.
            attributes: Computes the polygons' columns; default: columns that need no image.
            report: Collects statistics for the report.
            watch: Times the stages ``vectorise`` and ``write``.
            outside: Returns the pixels outside the area of interest, if there is one.

        Raises:
            OutputError: An output could not be written.
        """
        grid = areas.grid
        attributes = attributes or Attributes(grid)
        min_area = about.minimum_m2 if self.min_area_m2 is None else self.min_area_m2
        tracer = PolygonTracer(
            grid,
            min_area_m2=min_area,
            simplify_m=self.simplify_m,
            fill_holes_m2=self.fill_holes_m2,
            regularize=self.regularize,
            attributes=attributes,
        )
        extent = ObservedExtent(grid, areas, outside)
        report, watch = report or Report(None, grid), watch or Stopwatch()
        read_errors: dict[str, None] = {}
        with ExitStack() as stack:
            raster = self._raster(grid, publication, stack, about.raster)
            beside = stack.enter_context(ThreadPoolExecutor(1))
            cog: list[Future[None]] = []

            def made() -> Iterator[pa.RecordBatch]:
                """Process the strips, and yield the features that are complete."""
                for record in records:
                    if raster is not None:
                        with watch.stage("write"):
                            raster.add(record)
                        if raster.complete:
                            cog.append(beside.submit(raster.finish))
                    with watch.stage("vectorise"):
                        features = tracer.add(record)
                    report.statistics.add(features)
                    extent.add(record)
                    read_errors.update(dict.fromkeys(record.read_errors))
                    report.note(record)
                    with watch.stage("write"):
                        yield features
                with watch.stage("vectorise"):
                    features = tracer.finish()
                report.statistics.add(features)
                stack.enter_context(watch.stage("write"))
                yield features

            def metadata() -> Mapping[str, object]:
                return {**about.provenance(), "read_errors": list(read_errors)}

            changes = FeatureStream(made(), attributes.schema)
            try:
                write_vectors(self.geopackage, grid, changes, extent, provenance=metadata, publication=publication)
            finally:  # if both fail, e.g. on a full disk, the raster's error is reported
                for each in cog:
                    each.result()
        return Written(
            geopackage=self.geopackage,
            probability=self.probability,
            project=self.project,
            polygons=changes.features,
            changed_m2=report.statistics.area_m2,
            observed_km2=extent.observed_m2 / 1e6,
            not_observable_km2=extent.not_observable_m2 / 1e6,
            outside_aoi_km2=extent.outside_aoi_m2 / 1e6,
            min_area_m2=min_area,
            directions=dict(report.statistics.directions),
            directions_m2=dict(report.statistics.directions_m2),
            read_errors=tuple(read_errors),
        )

    def publish(
        self,
        written: Written,
        publication: Publication,
        *,
        discard_reviews: bool = False,
        project: Project | None = None,
    ) -> Written:
        """Put all outputs in place, and carry over the reviews of the file that is replaced.

        Args:
            written: What ``write`` returned.
            publication: Puts them in place.
            discard_reviews: Drop the reviews.
            project: Written here, because its layers are known only after reviews are carried over.

        Raises:
            OutputError: A file cannot be put in place, or another program has the old GeoPackage open.
            UsageError: The old file contains layers that people added.
        """
        with reviews_of(self.geopackage, discard=discard_reviews) as reviews:
            with vector_writing(self.geopackage):
                temporary = publication.beside(self.geopackage)
                carried = reviews.carry_into(temporary)
            if project is not None:
                project.write(publication, [BEFORE] if carried.kept else [])
            publication.publish()
        return dataclasses.replace(written, reviews=carried)

    def _raster(
        self, grid: Grid, publication: Publication, stack: ExitStack, run: Mapping[str, object] | None
    ) -> ProbabilityRaster | None:
        if self.probability is None:
            return None
        raster = ProbabilityRaster(publication.beside(self.probability), grid, self.probability, run)
        stack.callback(raster.discard)
        legend = legend_of(self.probability)
        with writing(legend):
            publication.beside(legend).write_text(probability_qml(), encoding="utf-8")
        return raster


def write_vectors(
    path: Path,
    grid: Grid,
    changes: FeatureStream,
    extent: ObservedExtent,
    *,
    provenance: Callable[[], Mapping[str, object]],
    publication: Publication,
) -> None:
    """Write the vector file in the format of its suffix, and its sidecar files, next to their targets; check them.

    All formats have the same columns. A GeoPackage contains extent and provenance; for other formats they are
    separate files, see ``paths.siblings``.

    Args:
        path: The target; may exist, its folder must.
        grid: Grid with the CRS.
        changes: The polygons.
        extent: The observed extent, read after all polygons.
        provenance: Called after all polygons: names, and values that JSON can hold.
        publication: Puts them in place.

    Raises:
        OutputError: It could not be written, or the written file is damaged. Errors of making polygons are raised
            unchanged.
    """
    if path.suffix.lower() == GEOPACKAGE:
        write_geopackage(path, grid, changes, extent, provenance=provenance, publication=publication)
        return
    written = format_of(path)
    beside, metadata, main = (publication.beside(each) for each in (*siblings(path), path))
    with changes.reader() as stream, vector_writing(path):
        written.write(main, stream, grid, "Polygon", "changes")
    with vector_writing(path):
        _check(written.count(main), changes.features)
        area = extent.batch()
        reader = pa.RecordBatchReader.from_batches(area.schema, [area])
        written.write(beside, reader, grid, "MultiPolygon", "extent")
        _check(written.count(beside), 1)
        metadata.write_text(json.dumps(dict(provenance()), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _check(found: int, features: int) -> None:
    if found != features:
        raise OSError(f"it holds {found} features of {features}")
