"""What is asked for, and what is left out of the question."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from labelled_pictures import labelled

from tilth.data.records import Geometry
from tilth.train.targets import Targets, TargetTable, joined_targets, uncovered

WHOLE = (0, 0, 100, 100)


def _targets(boxes, ignored=()):
    count = len(boxes)
    return Targets(
        np.array(boxes, dtype=float).reshape(-1, 4),
        np.arange(count),
        np.ones(count),
        np.array(ignored, dtype=float).reshape(-1, 4),
    )


def _moved(targets, matrix=None, tile=WHOLE, bound=None, min_visible=0.2, min_side=1.0):
    return targets.moved(
        np.eye(3) if matrix is None else matrix,
        tile,
        tile if bound is None else bound,
        min_visible=min_visible,
        min_side=min_side,
    )


def test_too_little_of_a_box_is_no_target():
    boxes = [(-50, 0, -10, 30), (90, 10, 120, 40), (10, 10, 10.5, 40)]
    assert len(_moved(_targets(boxes)).boxes_xyxy) == 1  # a third of the second is left
    assert len(_moved(_targets(boxes), min_visible=0.4).boxes_xyxy) == 0
    thin = _moved(_targets(boxes), min_visible=0.0, min_side=0.4)
    assert thin.boxes_xyxy.tolist() == [[90, 10, 100, 40], [10, 10, 10.5, 40]]


def test_a_box_may_reach_under_the_other_tiles():
    boxes, tile = [(10, 10, 60, 40), (60, 10, 90, 40)], (0, 0, 40, 100)
    assert _moved(_targets(boxes), tile=tile).boxes_xyxy.tolist() == [[10, 10, 40, 40]]
    unbound = _moved(_targets(boxes), tile=tile, bound=WHOLE)
    assert unbound.boxes_xyxy.tolist() == [[10, 10, 60, 40]]  # the other is seen nowhere


def test_regions_to_ignore_move_along_and_stay_however_little_is_left():
    shift = np.array([[-1.0, 0, 100], [0, 2, 0], [0, 0, 1]])
    moved = _moved(_targets([], ignored=[(2, 10, 30, 20), (-90, 0, 2, 10)]), shift)
    assert moved.ignore_xyxy.tolist() == [[70, 20, 98, 40], [98, 0, 100, 20]]


def test_turned_boxes_are_their_upright_hull():
    turn = np.array([[0.0, -1, 100], [1, 0, 0], [0, 0, 1]])  # a quarter
    assert _moved(_targets([(10, 20, 30, 25)]), turn).boxes_xyxy.tolist() == [[75, 10, 80, 30]]


def test_table_gives_every_picture_its_own():
    boxes = [
        (0, 1, (0, 0, 5, 5), False, Geometry.BOX),
        (2, 0, (1, 1, 9, 9), False, Geometry.POLYGON),
        (2, 1, (0, 0, 3, 3), True, Geometry.BOX),
        (2, 1, (2, 2, 50, 8), False, Geometry.BOX),  # cut at the border
        (2, 1, (9.5, 2, 50, 8), False, Geometry.BOX),  # half a pixel left: gone
    ]
    table = TargetTable(labelled([(10, 10)] * 4, boxes))
    assert [len(table.of(row).boxes_xyxy) for row in range(4)] == [1, 0, 2, 0]
    assert table.of(2).boxes_xyxy.tolist() == [[1, 1, 9, 9], [2, 2, 10, 8]]
    assert table.of(2).class_index.tolist() == [0, 1]
    assert table.of(2).ignore_xyxy.tolist() == [[0, 0, 3, 3]]
    assert table.annotations_of(2).tolist() == [1, 3]


@pytest.mark.parametrize("mark", [True, 1, "1", "true"])
def test_difficult_objects_are_known_by_their_attribute(mark):
    boxes = [(0, 0, (0, 0, 5, 5), False, Geometry.BOX)]
    dataset = labelled([(10, 10)], boxes, attributes=[{"difficult": mark}])
    assert len(TargetTable(dataset).of(0).ignore_xyxy) == 1
    assert len(TargetTable(dataset, include_difficult=True).of(0).boxes_xyxy) == 1


def test_digest_knows_boxes_weights_and_what_is_ignored():
    def digest(is_crowd=False, weight=1.0, x=0.0):
        boxes = [(0, 0, (x, 0, 5, 5), is_crowd, Geometry.BOX)]
        table = TargetTable(labelled([(10, 10)], boxes), weights=np.array([weight]))
        made = hashlib.sha256()
        table.update(made)
        return made.hexdigest()

    assert len({digest(), digest(is_crowd=True), digest(weight=2.0), digest(x=1.0)}) == 4
    assert digest() == digest()


def test_covered_boxes_by_hand():
    boxes = np.array([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    assert uncovered(boxes, [(0, 0, 10, 7)], 0.3).tolist() == [True, True]
    assert uncovered(boxes, [(0, 0, 10, 8)], 0.3).tolist() == [False, True]
    assert uncovered(boxes, [(0, 0, 5, 10), (5, 0, 9, 10)], 0.3).tolist() == [False, True]
    assert uncovered(boxes, [(0, 0, 50, 50)], 0.0).tolist() == [False, False]


def test_joined_targets_keep_their_order():
    joined = joined_targets([_targets([(0, 0, 1, 1)]), _targets([], [(5, 5, 6, 6)])])
    assert joined.boxes_xyxy.tolist() == [[0, 0, 1, 1]]
    assert joined.ignore_xyxy.tolist() == [[5, 5, 6, 6]]
