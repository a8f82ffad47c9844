"""The detection loss: who learns what, against a plain twin, and what a gradient may touch."""

import math
from types import SimpleNamespace

import pytest
import torch
from detector_maps import (
    ANCHORS,
    CLASSES,
    GRID_SCALES,
    PER_SLOT,
    SIDE,
    STRIDES,
    make_loss,
    quiet_maps,
    random_maps,
    truths,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.config import load_settings
from tilth.errors import DataError, SettingsError
from tilth.losses import detection_ignore
from tilth.losses.detection import DetectionLoss
from tilth.losses.detection_assignment import matching_anchors
from tilth.losses.detection_ignore import boxes_per_picture, cover_a_truth, lie_in_a_region
from tilth.losses.detection_settings import DetectionLossSettings
from tilth.ops import boxes as boxes_module
from tilth.ops.anchor_grid import decode_map
from tilth.ops.boxes import pairwise_iou


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


@pytest.mark.parametrize("row", [(0, CLASSES, 5.0, 5.0, 9.0, 9.0), (0, -1, 5.0, 5.0, 9.0, 9.0)])
def test_a_class_that_the_network_lacks_is_refused(row):
    with pytest.raises(DataError, match=r"(?s)class.*truth 1.*0 to 2"):
        make_loss()(random_maps(), *truths((0, 0, 1.0, 1.0, 9.0, 9.0), row))


def test_a_picture_beyond_the_batch_is_refused():
    with pytest.raises(DataError, match="picture"):
        make_loss()(random_maps(batch=2), *truths((2, 0, 1.0, 1.0, 9.0, 9.0)))


def test_an_anchor_that_two_heads_have_learns_in_both():
    heads = [[(8, 8), (30, 20)], [(30, 20), (24, 60)]]  # as YOLOv4-tiny's (81, 82)
    fine, coarse = matching_anchors(torch.tensor([[0.0, 0.0, 29.0, 21.0]]), heads, 1.0)
    assert fine.tolist() == [[False, True]]
    assert coarse.tolist() == [[True, False]]


@given(rows=st.lists(truth_row, max_size=6), seed=st.integers(0, 100))
def test_a_batch_twice_over_has_the_same_loss(rows, seed):
    maps = random_maps(seed=seed)
    once = make_loss()(maps, *truths(*rows))
    again = [(picture + 2, *rest) for picture, *rest in rows]
    twice = make_loss()([raw.repeat(2, 1, 1, 1) for raw in maps], *truths(*rows, *again))
    # Where there are fewer positives than pictures, the number of pictures divides; also the same.
    torch.testing.assert_close(twice["total"], once["total"])


@given(rows=st.lists(truth_row, max_size=6), seed=st.integers(0, 100))
def test_what_covers_a_truth_is_the_same_box_by_box(rows, seed):
    maps = random_maps(seed=seed)
    boxes, _, pictures = truths(*rows)
    decoded = decode_map(maps[0], ANCHORS[0], stride=8, grid_scale=1.2).boxes_xyxy.flatten(1, 3)
    padded = boxes_per_picture(boxes, pictures, 2)
    for threshold in (0.1, 0.3, 0.7):
        covers = cover_a_truth(decoded, padded, threshold)
        for picture in range(2):
            overlaps = pairwise_iou(decoded[picture], boxes[pictures == picture])
            plain = (overlaps > threshold).any(dim=1)
            near = ((overlaps - threshold).abs() < 1e-5).any(dim=1)
            assert ((covers[picture] == plain) | near).all()


def test_boxes_a_few_at_a_time_are_boxes_all_at_once(monkeypatch):
    found, boxes = torch.rand(2, 40, 4).sort(dim=-1).values, torch.rand(2, 23, 4).sort().values
    together = cover_a_truth(found, boxes, 0.3), lie_in_a_region(found, boxes)
    monkeypatch.setitem(detection_ignore.PAIRS_AT_ONCE, "cpu", 100)
    assert torch.equal(cover_a_truth(found, boxes, 0.3), together[0])
    assert torch.equal(lie_in_a_region(found, boxes), together[1])


def objectness_gradients(maps, rows, regions, **settings):
    leaves = [raw.clone().requires_grad_() for raw in maps]
    boxes, _, pictures = truths(*regions)
    loss = make_loss(**settings)
    loss(leaves, *truths(*rows), None, boxes, pictures)["total"].backward()
    return [raw.grad.unflatten(1, (2, PER_SLOT))[:, :, 4] for raw in leaves]


@pytest.mark.parametrize("gradient", ["true", "darknet"])
@settings(max_examples=8)
@given(seed=st.integers(0, 100))
def test_a_region_frees_exactly_what_lies_in_it(gradient, seed):
    maps, row, region = random_maps(seed=seed), (0, 1, 5.0, 6.0, 22.0, 19.0), (8.0, 4.0, 50.0, 40.0)
    options = {"gradient": gradient, "ignore_threshold": 1.0}
    without = objectness_gradients(maps, [row], [], **options)
    within = objectness_gradients(maps, [row], [(0, 0, *region)], **options)
    positive = set(plain_assignment([row]))
    for head, stride in enumerate(STRIDES):
        decoded = decode_map(maps[head], ANCHORS[head], stride=stride, grid_scale=GRID_SCALES[head])
        for slot in torch.cartesian_prod(*map(torch.arange, without[head].shape)).tolist():
            x0, y0, x1, y1 = decoded.boxes_xyxy[tuple(slot)].tolist()
            wide = max(0.0, min(x1, region[2]) - max(x0, region[0]))
            high = max(0.0, min(y1, region[3]) - max(y0, region[1]))
            share = wide * high / ((x1 - x0) * (y1 - y0))
            if abs(share - 0.5) < 1e-4:
                continue
            is_free = share > 0.5 and slot[0] == 0 and (head, *slot) not in positive
            wanted = 0.0 if is_free else without[head][tuple(slot)].item()
            assert within[head][tuple(slot)].item() == pytest.approx(wanted, rel=1e-5)


def test_a_region_of_a_picture_beyond_the_batch_is_refused():
    region = truths((2, 0, 0.0, 0.0, 9.0, 9.0))
    with pytest.raises(DataError, match="picture"):
        make_loss()(random_maps(batch=2), *truths(), None, region[0], region[2])


@pytest.mark.parametrize("gradient", ["true", "darknet"])
@given(rows=st.lists(truth_row, min_size=1, max_size=6), seed=st.integers(0, 100))
def test_losses_of_boxes_do_not_depend_on_the_rest_of_the_batch(gradient, rows, seed):
    if len(plain_assignment(rows)) < sum(len(plain_assignment([row])) for row in rows):
        return  # a slot that several truths share is nobody's alone
    maps = random_maps(seed=seed)
    loss = make_loss(gradient=gradient)
    _, together = loss.with_box_losses(maps, *truths(*rows), torch.rand(len(rows)))
    alone = torch.cat([loss.with_box_losses(maps, *truths(row))[1] for row in rows])
    torch.testing.assert_close(together, alone)
    assert not together.requires_grad


@given(rows=st.lists(truth_row, min_size=1, max_size=6), seed=st.integers(0, 100))
def test_losses_of_boxes_add_up_to_the_terms(rows, seed):
    maps = random_maps(seed=seed)
    loss = make_loss(background_weight=0.0)
    terms, own = loss.with_box_losses(maps, *truths(*rows))
    slots = torch.tensor([list(plain_assignment(rows).values()).count(n) for n in range(len(rows))])
    per = terms["num_positives"].clamp(min=2)
    torch.testing.assert_close((own * slots).sum() / per, terms["total"])


def test_a_truth_whose_slots_are_taken_has_no_loss():
    same_place = [(0, 0, 8.0, 8.0, 16.0, 16.0), (0, 2, 8.0, 8.0, 16.0, 16.0)]
    _, own = make_loss().with_box_losses(random_maps(), *truths(*same_place))
    assert own[0] == 0
    assert own[1] > 0


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_box_term_is_one_minus_the_overlap(kind):
    row = (0, 1, 10.0, 12.0, 18.0, 19.0)
    maps = random_maps(batch=1)
    found = []
    for head, picture, anchor, line, column in plain_assignment([row]):
        decoded = decode_map(
            maps[head], ANCHORS[head], stride=STRIDES[head], grid_scale=GRID_SCALES[head]
        )
        found.append(decoded.boxes_xyxy[picture, anchor, line, column])
    overlap = getattr(boxes_module, f"aligned_{kind}")
    wanted = (1 - overlap(torch.stack(found), torch.tensor([row[2:]]))).mean()
    term = make_loss(box_loss=kind, box_gain=1.0)(maps, *truths(row))["box"]
    torch.testing.assert_close(term, wanted)


def test_focal_terms_are_less_than_plain_ones():
    maps, row = random_maps(), truths((0, 1, 5.0, 6.0, 22.0, 19.0))
    plain, focal = make_loss()(maps, *row), make_loss(focal_gamma=2.0)(maps, *row)
    assert focal["class"] < plain["class"]
    assert focal["objectness"] < plain["objectness"]
    assert focal["box"] == plain["box"]
    of_class = make_loss(focal_gamma=2.0, focal_terms="class")(maps, *row)
    assert of_class["objectness"] == plain["objectness"]
    assert of_class["class"] == focal["class"]


def test_background_weight_scales_what_is_no_object():
    maps = random_maps()
    whole = make_loss()(maps, *truths())["objectness"]
    half = make_loss(background_weight=0.5)(maps, *truths())["objectness"]
    torch.testing.assert_close(half, 0.5 * whole)


def test_class_weights_are_box_weights_by_class():
    rows = [(0, 1, 5.0, 6.0, 22.0, 19.0), (1, 0, 1.0, 1.0, 60.0, 40.0)]
    by_class = make_loss(class_weights=(0.5, 3.0, 1.0))(random_maps(), *truths(*rows))
    by_box = make_loss()(random_maps(), *truths(*rows), torch.tensor([3.0, 0.5]))
    torch.testing.assert_close(by_class, by_box)


def test_balanced_class_weights_have_a_mean_of_one_over_the_boxes():
    counts = [60, 30, 10]
    loss = make_loss(class_weights="balanced", class_counts=counts)
    weights = loss.class_weights
    assert weights.dot(torch.tensor([60.0, 30, 10])) == pytest.approx(100)
    assert weights.tolist() == pytest.approx([100 / 180, 100 / 90, 100 / 30])
    rare = make_loss(class_weights="balanced", class_counts=[100_000, 1, 0]).class_weights
    assert rare.max() == 10


def test_class_weights_that_fit_no_class_list_are_refused():
    with pytest.raises(SettingsError, match="how often"):
        make_loss(class_weights="balanced")
    with pytest.raises(SettingsError, match="class_weights"):
        make_loss(class_weights=(1.0, 2.0))
    with pytest.raises(SettingsError, match="class_weights"):
        make_loss(class_weights=(1.0, -2.0, 1.0))


@pytest.mark.parametrize("gradient", ["true", "darknet"])
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_heads_that_are_activated_get_finite_gradients(gradient, scale):
    rows = [(0, 1, 5.0, 6.0, 22.0, 19.0), (1, 0, 1.0, 1.0, 60.0, 40.0)]
    maps = [raw.requires_grad_() for raw in random_maps(scale=scale)]
    loss = make_loss(is_activated=[True, True], gradient=gradient)
    terms = loss([raw.sigmoid() for raw in maps], *truths(*rows))
    terms["total"].backward()
    assert terms["total"].isfinite()
    assert all(raw.grad.isfinite().all() for raw in maps)


def test_an_activated_head_pulls_logits_as_a_plain_one():
    rows = [(0, 1, 5.0, 6.0, 22.0, 19.0)]
    gradients = []
    for is_activated in (False, True):
        maps = [raw.requires_grad_() for raw in random_maps()]
        loss = make_loss(
            is_activated=[is_activated] * 2, objectness_target="one", ignore_threshold=1.0
        )
        loss([raw.sigmoid() for raw in maps] if is_activated else maps, *truths(*rows))[
            "total"
        ].backward()
        gradients.append(maps[0].grad.unflatten(1, (2, PER_SLOT))[:, :, 4:])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_the_loss_of_a_network_reads_its_heads():
    network = SimpleNamespace(
        anchors=ANCHORS,
        strides=STRIDES,
        grid_scales=GRID_SCALES,
        is_activated=[False, False],
        num_classes=CLASSES,
    )
    maps, row = random_maps(), truths((0, 1, 5.0, 6.0, 22.0, 19.0))
    terms = DetectionLoss.of_network(network)(maps, *row)
    torch.testing.assert_close(terms, make_loss()(maps, *row))


@pytest.mark.parametrize(
    "values",
    [
        {"box_gain": -1.0},
        {"anchor_threshold": 1.5},
        {"label_smoothing": -0.1},
        {"focal_alpha": 2.0},
        {"max_delta": 0.0},
        {"class_weights": "some"},
        {"gradient": "steep"},
        {"objectness_target": "two"},
    ],
)
def test_settings_that_cannot_be_used_are_refused(values):
    with pytest.raises(SettingsError, match=next(iter(values))):
        load_settings(DetectionLossSettings, values=values)
