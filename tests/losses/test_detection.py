"""The detection loss: who learns what, against a plain twin, and what a gradient may touch."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import DataError, SettingsError
from tilth.losses.detection import DetectionLoss, matching_anchors

ANCHORS = [[(8, 8), (16, 12)], [(30, 20), (24, 60)]]
STRIDES = [8, 16]
GRID_SCALES = [1.2, 1.05]
CLASSES = 3
SIDE = 64
PER_SLOT = 5 + CLASSES


def make_loss(**settings):
    return DetectionLoss(ANCHORS, STRIDES, CLASSES, grid_scales=GRID_SCALES, **settings)


def random_maps(batch=2, seed=0, scale=1.0):
    draw = torch.Generator().manual_seed(seed)
    return [
        scale * torch.randn(batch, 2 * PER_SLOT, SIDE // stride, SIDE // stride, generator=draw)
        for stride in STRIDES
    ]


def quiet_maps(batch=2):
    """Maps that see nothing anywhere: objectness and classes far below zero."""
    maps = random_maps(batch, scale=0.0)
    for raw in maps:
        raw.unflatten(1, (2, PER_SLOT))[:, :, 4:] = -20.0
    return maps


def truths(*rows):
    """Rows of (picture, class, x0, y0, x1, y1)."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return table[:, 2:], table[:, 1].long(), table[:, 0].long()


def plain_assignment(rows):
    """(head, picture, anchor, row, column) -> the truth that learns there, one truth at a time."""

    def shape_iou(width, height, anchor):
        overlap = min(width, anchor[0]) * min(height, anchor[1])
        return overlap / (width * height + anchor[0] * anchor[1] - overlap)

    owners = {}
    flat = [(h, a, size) for h, head in enumerate(ANCHORS) for a, size in enumerate(head)]
    for number, (picture, _, x0, y0, x1, y1) in enumerate(rows):
        overlaps = [shape_iou(x1 - x0, y1 - y0, size) for _, _, size in flat]
        best = overlaps.index(max(overlaps))
        for position, (head, anchor, _) in enumerate(flat):
            if position == best or overlaps[position] > 0.213:
                cells = SIDE // STRIDES[head]
                column = min(int((x0 + x1) / 2 // STRIDES[head]), cells - 1)
                row = min(int((y0 + y1) / 2 // STRIDES[head]), cells - 1)
                owners[head, picture, anchor, row, column] = number
    return owners


def learnt_slots(maps, rows, **settings):
    """The slots whose box parameters get a gradient: those that learn a truth."""
    maps = [raw.requires_grad_() for raw in maps]
    make_loss(**settings)(maps, *truths(*rows))["total"].backward()
    found = set()
    for head, raw in enumerate(maps):
        moved = raw.grad.unflatten(1, (2, PER_SLOT))[:, :, :4].abs().sum(2) > 0
        found |= {(head, *slot) for slot in moved.nonzero().tolist()}
    return found


def write_slot(raw, head, slot, box, objectness=20.0, class_index=0):
    """Set one slot of a head's map so that it predicts ``box`` exactly."""
    picture, anchor, row, column = slot
    (width, height), stride = ANCHORS[head][anchor], STRIDES[head]
    values = torch.full((PER_SLOT,), -20.0)
    for axis, cell in enumerate((column, row)):
        centre = (box[axis] + box[axis + 2]) / 2 / stride - cell
        scale = GRID_SCALES[head]
        share = (centre + (scale - 1) / 2) / scale
        values[axis] = math.log(share / (1 - share))
        values[2 + axis] = math.log((box[axis + 2] - box[axis]) / (width, height)[axis])
    values[4], values[5 + class_index] = objectness, 20.0
    raw.unflatten(1, (2, PER_SLOT))[picture, anchor, :, row, column] = values


coordinate = st.floats(0, SIDE - 1, width=32)
truth_row = st.builds(
    lambda picture, category, x, y, w, h: (
        picture,
        category,
        x,
        y,
        min(x + w, SIDE),
        min(y + h, SIDE),
    ),
    st.integers(0, 1),
    st.integers(0, CLASSES - 1),
    coordinate,
    coordinate,
    st.floats(1, 60, width=32),
    st.floats(1, 60, width=32),
)


@given(rows=st.lists(truth_row, max_size=8), seed=st.integers(0, 100))
def test_assignment_matches_plain_twin(rows, seed):
    assert learnt_slots(random_maps(seed=seed), rows) == set(plain_assignment(rows))


@given(rows=st.lists(truth_row, max_size=8))
def test_number_of_positives_is_the_number_of_slots(rows):
    terms = make_loss()(random_maps(), *truths(*rows))
    assert terms["num_positives"] == len(plain_assignment(rows))


def test_best_anchor_alone_when_the_threshold_is_one():
    boxes = torch.tensor([[0.0, 0.0, 15.0, 12.0], [0.0, 0.0, 300.0, 2.0]])
    fine, coarse = matching_anchors(boxes, ANCHORS, 1.0)
    assert torch.cat([fine, coarse], dim=1).sum(dim=1).tolist() == [1, 1]
    assert fine[0].tolist() == [False, True]


def test_shift_by_a_cell_shifts_the_assignment():
    rows = [(0, 1, 3.0, 5.0, 13.0, 17.0), (1, 0, 16.0, 2.0, 40.0, 30.0)]
    shifted = [(p, c, x0 + 16, y0 + 16, x1 + 16, y1 + 16) for p, c, x0, y0, x1, y1 in rows]
    moved = {
        (head, picture, anchor, row + 16 // STRIDES[head], column + 16 // STRIDES[head])
        for head, picture, anchor, row, column in learnt_slots(random_maps(), rows)
    }
    assert learnt_slots(random_maps(), shifted) == moved


def test_later_truth_takes_the_slot():
    same_place = [(0, 0, 8.0, 8.0, 16.0, 16.0), (0, 2, 8.0, 8.0, 16.0, 17.0)]
    maps = quiet_maps()
    together = make_loss()(maps, *truths(*same_place))
    last_alone = make_loss()(maps, *truths(same_place[1]))
    for name, value in last_alone.items():
        torch.testing.assert_close(together[name], value)


@given(rows=st.lists(truth_row, min_size=1, max_size=6), seed=st.integers(0, 100))
def test_loss_ignores_the_order_of_truths(rows, seed):
    if len(plain_assignment(rows)) < sum(len(plain_assignment([row])) for row in rows):
        return  # two truths share a slot, and then the later one wins by design
    maps = random_maps(seed=seed)
    forwards = make_loss()(maps, *truths(*rows))["total"]
    backwards = make_loss()(maps, *truths(*rows[::-1]))["total"]
    torch.testing.assert_close(forwards, backwards)


@pytest.mark.parametrize("target", ["one", "iou"])
def test_perfect_prediction_has_no_loss(target):
    row = (1, 2, 10.0, 9.0, 19.0, 18.0)
    maps = quiet_maps()
    for head, *slot in plain_assignment([row]):
        write_slot(maps[head], head, slot, row[2:], class_index=2)
    terms = make_loss(objectness_target=target)(maps, *truths(row))
    assert terms["num_positives"] >= 2
    assert terms["total"].item() == pytest.approx(0.0, abs=1e-4)


def test_perfect_prediction_has_no_box_loss():
    row = (0, 0, 30.0, 20.0, 57.0, 43.0)
    maps = random_maps()
    for head, *slot in plain_assignment([row]):
        write_slot(maps[head], head, slot, row[2:])
    assert make_loss()(maps, *truths(row))["box"].item() == pytest.approx(0.0, abs=1e-4)


def test_ignored_slots_carry_no_objectness_gradient():
    row = (0, 0, 12.4, 8.0, 19.4, 16.0)  # its centre is just inside column 1
    maps = quiet_maps()
    bystander = (0, 0, 1, 2)  # learns nothing in column 2, but its box is the truth's
    assert (0, *bystander) not in plain_assignment([row])
    write_slot(maps[0], 0, bystander, row[2:], objectness=3.0)

    def bystander_gradient(**settings):
        leaves = [raw.clone().requires_grad_() for raw in maps]
        make_loss(**settings)(leaves, *truths(row))["total"].backward()
        picture, anchor, line, column = bystander
        return leaves[0].grad.unflatten(1, (2, PER_SLOT))[picture, anchor, 4, line, column].item()

    assert bystander_gradient() == 0.0
    assert bystander_gradient(ignore_threshold=1.0) > 0.0


def test_pictures_without_boxes_teach_background():
    maps = [raw.requires_grad_() for raw in random_maps()]
    terms = make_loss()(maps, *truths())
    assert terms["num_positives"] == 0
    assert terms["box"] == terms["class"] == 0
    terms["total"].backward()
    for raw in maps:
        gradient = raw.grad.unflatten(1, (2, PER_SLOT))
        assert (gradient[:, :, 4] > 0).all()
        assert (gradient[:, :, :4] == 0).all()


def test_one_of_the_pictures_may_be_empty():
    terms = make_loss()(random_maps(batch=3), *truths((1, 0, 5.0, 5.0, 20.0, 20.0)))
    assert terms["total"].isfinite()
    assert terms["num_positives"] > 0


@pytest.mark.parametrize("scale", [1.0, 50.0, 1e4])
@given(rows=st.lists(truth_row, min_size=1, max_size=4))
def test_gradients_are_finite_whatever_the_maps_hold(scale, rows):
    maps = [raw.requires_grad_() for raw in random_maps(scale=scale)]
    terms = make_loss()(maps, *truths(*rows, (0, 0, 5.0, 5.0, 5.0, 5.0)))
    terms["total"].backward()
    assert terms["total"].isfinite()
    assert all(raw.grad.isfinite().all() for raw in maps)


def test_gradient_matches_finite_differences():
    rows = [(0, 1, 5.0, 6.0, 22.0, 19.0)]
    # What is decided under no gradient must not move with the step.
    settings = {"ignore_threshold": 1.0, "objectness_target": "one"}
    maps = [raw.requires_grad_() for raw in random_maps(batch=1, scale=0.5)]
    make_loss(**settings)(maps, *truths(*rows))["total"].backward()
    for head, picture, anchor, row, column in plain_assignment(rows):
        for channel in (2, 4, 6):  # width, objectness, a class; x and y pass through alpha too
            place = (picture, anchor * PER_SLOT + channel, row, column)
            values = []
            for step in (-0.01, 0.01):
                moved = [raw.detach().clone() for raw in maps]
                moved[head][place] += step
                terms = make_loss(**settings)(moved, *truths(*rows))
                values.append(terms["total"].item())
            slope = (values[1] - values[0]) / 0.02
            # Loose: alpha of CIoU is a constant to the gradient, not to the difference.
            assert maps[head].grad[place].item() == pytest.approx(slope, rel=0.1, abs=2e-3)


def test_weight_zero_leaves_the_truth_unlearnt_and_its_slot_out_of_the_background():
    rows = [(0, 1, 5.0, 6.0, 22.0, 19.0)]
    maps = [raw.requires_grad_() for raw in random_maps()]
    terms = make_loss()(maps, *truths(*rows), torch.zeros(1))
    terms["total"].backward()
    assert terms["box"] == terms["class"] == 0
    for head, picture, anchor, row, column in plain_assignment(rows):
        slot = maps[head].grad.unflatten(1, (2, PER_SLOT))[picture, anchor, :, row, column]
        assert (slot == 0).all()


def test_weights_of_one_change_nothing():
    rows = [(0, 1, 5.0, 6.0, 22.0, 19.0), (1, 0, 1.0, 1.0, 60.0, 40.0)]
    maps = random_maps()
    plain = make_loss()(maps, *truths(*rows))
    weighted = make_loss()(maps, *truths(*rows), torch.ones(2))
    assert all(torch.equal(plain[name], weighted[name]) for name in plain)


def test_box_term_is_linear_in_the_weights():
    rows = [(0, 1, 5.0, 6.0, 22.0, 19.0)]
    once = make_loss()(random_maps(), *truths(*rows), torch.ones(1))
    thrice = make_loss()(random_maps(), *truths(*rows), torch.full((1,), 3.0))
    torch.testing.assert_close(thrice["box"], 3 * once["box"])


def test_terms_add_up_and_only_the_total_carries_a_gradient():
    maps = [raw.requires_grad_() for raw in random_maps()]
    terms = make_loss(label_smoothing=0.1)(maps, *truths((0, 1, 5.0, 6.0, 22.0, 19.0)))
    parts = terms["box"] + terms["objectness"] + terms["class"]
    torch.testing.assert_close(terms["total"].detach(), parts)
    assert not parts.requires_grad
    assert terms["total"].requires_grad


def test_label_smoothing_pulls_a_certain_class_back():
    row = (1, 2, 10.0, 9.0, 19.0, 18.0)
    maps = quiet_maps()
    for head, *slot in plain_assignment([row]):
        write_slot(maps[head], head, slot, row[2:], class_index=2)
    smooth = make_loss(label_smoothing=0.1)(maps, *truths(row))
    # Three classes, each 0.05 away from its certain logit of 20.
    assert smooth["class"].item() == pytest.approx(0.5 * 3 * 0.05 * 20, rel=1e-3)


def test_loss_is_float32_under_autocast():
    maps = random_maps()
    plain = make_loss()(maps, *truths((0, 1, 5.0, 6.0, 22.0, 19.0)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = make_loss()(maps, *truths((0, 1, 5.0, 6.0, 22.0, 19.0)))
    assert inside["total"].dtype == torch.float32
    torch.testing.assert_close(inside["total"], plain["total"])


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(SettingsError, match="same heads"):
        DetectionLoss(ANCHORS, [8], CLASSES, grid_scales=GRID_SCALES)
    with pytest.raises(SettingsError, match="objectness target"):
        make_loss(objectness_target="two")


@pytest.mark.parametrize("row", [(0, CLASSES, 5.0, 5.0, 9.0, 9.0), (0, -1, 5.0, 5.0, 9.0, 9.0)])
def test_a_class_that_the_network_lacks_is_refused(row):
    with pytest.raises(DataError, match=r"(?s)class.*truth 1.*0 to 2"):
        make_loss()(random_maps(), *truths((0, 0, 1.0, 1.0, 9.0, 9.0), row))


def test_a_picture_beyond_the_batch_is_refused():
    with pytest.raises(DataError, match="picture"):
        make_loss()(random_maps(batch=2), *truths((2, 0, 1.0, 1.0, 9.0, 9.0)))
