"""Components of a band and over bands, against a labelling of the whole mask."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.measure import label

from rscd.core.pixel_area import PixelAreas
from rscd.core.types import NOT_OBSERVABLE, ComponentTable, Grid, StripRecord
from rscd.inference.components import ComponentJoiner, is_changed, label_changes, record_digest, strip_record

THRESHOLD = 128


def grid_of(shape: tuple[int, int]) -> Grid:
    return Grid("EPSG:32633", (10.0, 0, 700_000.0, 0, -10.0, 6_700_000.0), shape[1], shape[0])


def records_of(
    probability: NDArray[np.uint8], heights: list[int], image: NDArray[np.uint16] | None = None
) -> list[StripRecord]:
    grid, row, records = grid_of(probability.shape), 0, []
    areas = PixelAreas(grid)
    while row < grid.height:
        stop = row + heights[len(records) % len(heights)]
        band = probability[row:stop]
        piece = None if image is None else image[:, row:stop][:, is_changed(band, THRESHOLD)]
        records.append(
            strip_record(
                len(records),
                row,
                band,
                threshold=THRESHOLD,
                areas=areas,
                colours=None if piece is None else (piece, piece * 2),
            )
        )
        row = stop
    return records


def join(records: list[StripRecord]) -> list[ComponentTable]:
    joiner = ComponentJoiner()
    tables = [joiner.add(record).closed() for record in records]
    return [*tables, joiner.finish().closed()]


def scene(seed: int, shape: tuple[int, int], density: float) -> NDArray[np.uint8]:
    """Probability values of which some are at the threshold, and some not observable."""
    rng = np.random.default_rng(seed)
    values = np.where(
        rng.random(shape) < density, rng.integers(THRESHOLD, 255, shape), rng.integers(0, THRESHOLD, shape)
    )
    values[rng.random(shape) < 0.1] = NOT_OBSERVABLE
    values[rng.random(shape) < 0.05] = THRESHOLD
    return values.astype(np.uint8)


scenes = st.builds(
    scene,
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 16), st.integers(1, 16)),
    st.sampled_from([0.0, 0.1, 0.4, 0.6, 0.9]),
)
heights = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def brute_force(probability: NDArray[np.uint8], image: NDArray[np.uint16]) -> dict[tuple[int, ...], list[object]]:
    """Every component by itself, pixel by pixel; keyed by bounding box and first pixel."""
    changed = (probability >= THRESHOLD) & (probability != NOT_OBSERVABLE)
    labels = label(changed, connectivity=1)
    framed = np.pad(labels, 1)
    unseen = np.pad(probability == NOT_OBSERVABLE, 1)
    areas = PixelAreas(grid_of(probability.shape))
    found = {}
    for number in range(1, labels.max() + 1):
        rows, cols = np.nonzero(labels == number)
        around = [
            (r + 1 + dr, c + 1 + dc)
            for r, c in zip(rows, cols, strict=True)
            for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0))
        ]
        outline = [at for at in around if framed[at] != number]
        values = probability[rows, cols]
        box = (rows.min(), cols.min(), rows.max() + 1, cols.max() + 1)
        found[(*map(int, box), len(rows), int(values.sum(dtype=np.int64)))] = [
            areas.at(rows, cols).sum(),
            values.max(),
            dict(zip(*(part.tolist() for part in np.unique(values, return_counts=True)), strict=True)),
            image[:, rows, cols].sum(axis=1).tolist(),
            len(outline),
            sum(bool(unseen[at]) for at in outline),
        ]
    return found


def as_dict(tables: list[ComponentTable]) -> dict[tuple[int, ...], list[object]]:
    found = {}
    for table in tables:
        for i in range(len(table)):
            part = slice(table.hist_start[i], table.hist_start[i + 1])
            assert (np.diff(table.hist_value[part].astype(int)) > 0).all()
            np.testing.assert_array_equal(table.after_sum[i], 2 * table.before_sum[i])
            found[(*table.bbox[i].tolist(), int(table.pixels[i]), int(table.p_sum[i]))] = [
                table.area_m2[i],
                table.p_max[i],
                dict(zip(table.hist_value[part].tolist(), table.hist_count[part].tolist(), strict=True)),
                table.before_sum[i].tolist(),
                table.outline_edges[i],
                table.hidden_edges[i],
            ]
    return found


@settings(max_examples=200, deadline=None)
@given(scenes, heights)
def test_joined_bands_equal_the_whole(probability: NDArray[np.uint8], cuts: list[int]) -> None:
    image = np.random.default_rng(1).integers(0, 4000, (3, *probability.shape), dtype=np.uint16)
    tables = join(records_of(probability, cuts, image))
    whole = brute_force(probability, image)
    got = as_dict(tables)
    labels = label((probability >= THRESHOLD) & (probability != NOT_OBSERVABLE), connectivity=1)
    assert sum(map(len, tables)) == labels.max()
    assert got.keys() == whole.keys()
    for key, row in got.items():
        np.testing.assert_allclose(row[0], whole[key][0], rtol=1e-12)
        if list(map(str, whole)).count(str(key)) == 1:
            assert row[1:] == whole[key][1:]


def test_a_touch_in_a_corner_over_a_seam_joins_nothing() -> None:
    probability = np.array([[200, 0], [0, 200]], dtype=np.uint8)
    tables = join(records_of(probability, [1]))
    assert [len(table) for table in tables] == [0, 1, 1]


def test_a_component_closes_when_the_band_after_it_shows_nothing_below() -> None:
    probability = np.zeros((6, 5), dtype=np.uint8)
    probability[1:4, 2] = 200
    assert [len(table) for table in join(records_of(probability, [2]))] == [0, 0, 1, 0]


def test_255_is_never_a_change_and_the_threshold_counts() -> None:
    runs = label_changes(np.array([[255, 254, 10, 128, 127]], dtype=np.uint8), THRESHOLD)
    assert runs.labels_in(0, 5).tolist() == [0, 1, 0, 2, 0]
    assert (runs.start.tolist(), runs.stop.tolist()) == ([1, 3], [2, 4])


def test_a_band_without_change_has_an_empty_table() -> None:
    record = records_of(np.zeros((3, 4), dtype=np.uint8), [3])[0]
    assert len(record.table) == 0
    assert record.table.hist_start.tolist() == [0]
    assert record.table.bbox.shape == (0, 4)
    assert record.table.before_sum.shape == (0, 0)


def test_the_digest_tells_place_shape_and_values_apart() -> None:
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    digests = {
        record_digest(0, 0, values),
        record_digest(1, 0, values),
        record_digest(0, 3, values),
        record_digest(0, 0, values.reshape(4, 3)),
        record_digest(0, 0, values + np.uint8(1)),
    }
    assert len(digests) == 5
    assert record_digest(0, 0, np.asfortranarray(values)) == record_digest(0, 0, values)
    assert len(bytes.fromhex(record_digest(0, 0, values))) == hashlib.sha256().digest_size
