"""Features on their way: drawn while later ones are made, and what goes wrong in making them is told as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyogrio
import pytest
from conftest import Pointwise
from test_evidence import CONTRACT
from test_formats import pair

from rscd.core.errors import Interrupted
from rscd.core.paths import SUFFIXES
from rscd.options.detect import DetectConfig
from rscd.output.vector.features import BATCH_FEATURES, FeatureStream
from rscd.output.vector.geopackage import write_layer
from rscd.workflows.detect import detect

SCHEMA = pa.schema([pa.field("n", pa.int64()), pa.field("geometry", pa.binary())])


def features(start: int, stop: int) -> pa.RecordBatch:
    numbers = range(start, stop)
    return pa.RecordBatch.from_arrays(
        [pa.array(numbers), pa.array([None] * len(numbers), pa.binary())], schema=SCHEMA
    )


def test_the_first_features_are_in_the_file_while_the_last_are_made(tmp_path: Path) -> None:
    path = tmp_path / "c.gpkg"
    sizes = []

    def made() -> Iterator[pa.RecordBatch]:
        for start in range(0, 60_000, 20_000):
            sizes.append(path.stat().st_size if path.exists() else None)
            yield features(start, start + 20_000)

    changes = FeatureStream(made(), SCHEMA)
    with changes.reader() as stream:
        write_layer(path, "changes", "Polygon", "EPSG:32614", stream)
    assert sizes[0] is None
    assert 100_000 < sizes[1] < sizes[2]
    assert changes.features == pyogrio.read_info(path, layer="changes")["features"] == 60_000


def test_no_more_than_so_many_are_written_at_once() -> None:
    with FeatureStream(
        [features(0, 3), features(3, 3), features(3, 2 * BATCH_FEATURES)], SCHEMA
    ).reader() as stream:
        batches = list(stream)
    assert [batch.num_rows for batch in batches] == [3, BATCH_FEATURES, BATCH_FEATURES - 3]
    assert pa.Table.from_batches(batches)["n"].to_pylist() == [*range(2 * BATCH_FEATURES)]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted("by a test"), OSError("not of the output")])
def test_what_ends_a_run_among_its_features_is_told_as_it_was(
    tmp_path: Path, suffix: str, error: Exception
) -> None:
    before, after = pair(tmp_path / "in")

    def progress(done: int, total: int) -> None:
        if total // 2 < done < total:  # the first polygon is on its way to the file
            raise error

    config = DetectConfig(
        before, after, tmp_path / f"c{suffix}", device="cpu", threshold=0.9, window=64, overlap=16
    )
    with pytest.raises(type(error)) as caught:
        detect(config, model=(Pointwise(), CONTRACT), progress=progress)
    assert caught.value is error
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"c{suffix}.rscd", "in"]
