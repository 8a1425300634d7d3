import numpy as np
import pytest

from rscd.training.evaluation.metrics import ObjectCounts, match_objects, near_edges


def mask(*boxes):
    m = np.zeros((40, 40), bool)
    for row, col, height, width in boxes:
        m[row : row + height, col : col + width] = True
    return m


def test_objects_match_at_an_iou_of_a_half():
    there = mask((0, 0, 10, 10), (20, 20, 10, 10))
    found = mask((0, 0, 10, 5), (20, 20, 10, 4), (0, 30, 3, 3))  # IoU 0.5, 0.4, none
    counts = match_objects(there, found)
    assert counts == ObjectCounts(there=2, found=3, matched=1)
    assert (counts.scores.recall, counts.scores.precision) == (1 / 2, pytest.approx(1 / 3))


def test_one_object_is_matched_once_and_by_the_better_one():
    there = mask((0, 0, 10, 10))
    assert match_objects(there, mask((0, 0, 4, 10), (5, 0, 5, 10))) == ObjectCounts(1, 2, 1)


def test_a_touch_in_a_corner_joins_nothing():
    assert match_objects(mask((0, 0, 4, 4), (4, 4, 4, 4)), mask()).there == 2


def test_what_is_below_the_minimum_mapping_unit_is_left_out_on_both_sides():
    there, found = mask((0, 0, 2, 2), (10, 10, 3, 3)), mask((0, 0, 2, 2), (10, 10, 3, 3), (30, 30, 1, 4))
    assert match_objects(there, found, least_px=5) == ObjectCounts(1, 1, 1)
    assert match_objects(there, found, least_px=4) == ObjectCounts(2, 3, 2)


def test_counts_add_up_and_nothing_is_no_error():
    assert match_objects(mask(), mask()) + ObjectCounts(1, 2, 1) == ObjectCounts(1, 2, 1)
    assert ObjectCounts().scores.f1 == 0


def test_pixels_near_edges_are_those_within_the_distance_on_both_sides():
    changed = np.zeros((20, 20), bool)
    changed[5:15, 5:15] = True
    near = near_edges(changed, 2)
    assert near[5:15, 4].all() and near[5:15, 3].all() and not near[5:15, 2].any()
    assert near[5:15, 5:7].all() and not near[8:12, 8:12].any()
    assert near[4, 4] and not near[3, 3]  # 1.41 and 2.83 px from the corner's pixel
    for none in (np.zeros((4, 4), bool), np.ones((4, 4), bool)):
        assert not near_edges(none, 2).any()
