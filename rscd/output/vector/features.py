"""Features on their way to a file: GDAL draws them batch by batch while later ones are still being made."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain, islice

import pyarrow as pa

from rscd.vectorize.tracer import FEATURE_SCHEMA

BATCH_FEATURES = 1024
"""Features that are written at once, at most: a writer keeps all other threads of Python waiting meanwhile."""


class FeatureStream:
    """Batches of features for one writer; none is kept.

    Args:
        batches: The features, perhaps still to be made.
        schema: Their columns.
    """

    def __init__(self, batches: Iterable[pa.RecordBatch], schema: pa.Schema = FEATURE_SCHEMA) -> None:
        self._batches, self.schema = batches, schema
        self._error: BaseException | None = None
        self.features = 0
        """Features drawn so far."""

    @contextmanager
    def reader(self) -> Iterator[pa.RecordBatchReader]:
        """The stream for a writer, once the first features are there.

        Raises:
            BaseException: What making the features raised, as it was: a writer in C would make other words of it.
        """
        with closing(self._drawn()) as drawn:
            first = list(islice(drawn, 1))
            try:
                yield pa.RecordBatchReader.from_batches(self.schema, chain(first, drawn))
            except Exception:
                if self._error is not None:
                    raise self._error from None
                raise

    def _drawn(self) -> Generator[pa.RecordBatch]:
        try:
            for batch in self._batches:
                self.features += batch.num_rows
                for start in range(0, batch.num_rows, BATCH_FEATURES):
                    yield batch.slice(start, BATCH_FEATURES)
        except GeneratorExit:  # nobody draws any more
            raise
        except BaseException as error:
            self._error = error
            raise
