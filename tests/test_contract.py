"""The contract: it reads back, what is wrong in it is named, and it says which pixel sizes it takes."""

import dataclasses
import json

import pytest

from rscd.core.contract import MOST_RESAMPLING, Contract
from rscd.core.errors import DataError, ModelError

CONTRACT = Contract(
    name="tiny", version="1", encoder="lite", width=16, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), gsd_m=(0.4, 1.0)
)


def test_a_contract_reads_back():
    assert Contract.from_json(CONTRACT.to_json()) == CONTRACT


def test_a_contract_of_the_first_edition_has_no_fine_scales_and_no_presence():
    raw = json.loads(CONTRACT.to_json())
    del raw["fine"], raw["presence"]
    found = Contract.from_json(json.dumps(raw))
    assert (found.fine, found.presence) == (0, False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"window": 100}, "window out of range"),
        ({"overlap": 448}, "overlap out of range"),
        ({"std": [1.0, 0.0, 1.0]}, "std out of range"),
        ({"gsd_m": [1.0, 0.4]}, "gsd_m out of range"),
        ({"threshold": "0.5"}, "threshold is not float"),
        ({"width": True}, "width is not int"),
        ({"colour": 1}, "colour"),
        ({"format": 9}, "format"),
        ({"encoder": "vit_b", "fine": 24}, "fine out of range"),
    ],
)
def test_what_is_wrong_is_named(change, words):
    with pytest.raises(ModelError, match=words):
        Contract.from_json(json.dumps(json.loads(CONTRACT.to_json()) | change), path="m.safetensors")


def test_a_missing_field_and_what_is_no_json_are_refused():
    raw = json.loads(CONTRACT.to_json())
    del raw["encoder"]
    for text in (json.dumps(raw), "[]", "{", "[" * 100_000):
        with pytest.raises(ModelError, match="unreadable contract"):
            Contract.from_json(text)


def test_pixel_sizes_are_taken_resampled_or_refused():
    assert CONTRACT.working_gsd(0.5, "a.tif") is None
    assert CONTRACT.working_gsd(0.2, "a.tif") == 0.4
    assert CONTRACT.working_gsd(2.0, "a.tif") == 1.0
    for gsd in (0.4 / MOST_RESAMPLING * 0.99, 1.0 * MOST_RESAMPLING * 1.01):
        assert not CONTRACT.takes(gsd)
        with pytest.raises(DataError, match=r"a.tif: ground sample distance is .* takes 0.4 to 1 m"):
            CONTRACT.working_gsd(gsd, "a.tif")


def test_the_smallest_polygon_is_four_pixels_or_the_smallest_thing():
    assert CONTRACT.minimum_m2(1.0) == pytest.approx(4, rel=0.01)
    assert dataclasses.replace(CONTRACT, minimum_mapping_m2=40.0).minimum_m2(1.0) == 40.0
