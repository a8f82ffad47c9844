"""Darknet's training signal: what its program writes into the raw maps in place of a gradient.

Source: Bochkovskiy, Wang, Liao, 2020, YOLOv4: Optimal Speed and Accuracy of Object Detection,
    arXiv 2004.10934v1, as the authors' program Darknet computes it (yolo_layer.c).
Follows: process_batch -> `darknet_head`; delta_yolo_box -> `box_deltas`; delta_yolo_class ->
    `class_targets`; averages_yolo_deltas -> `classes_learnt`; backward_yolo_layer ->
    `PrescribedGradient`.
Symbols: delta = what Darknet adds to a raw output, the negative of a gradient; box_gain =
    iou_normalizer; objectness_gain = obj_normalizer; class_gain = cls_normalizer; max_delta;
    objectness_target "iou" = objectness_smooth; class weights = counters_per_class.
Differs: exp(t_w) is cut at exp(8), as everywhere here; class_gain counts also where there are no
    class weights, and those also with the focal loss; gamma and alpha of its focal loss are
    settings, not 2 and 0.5; weights of boxes and of the background, and regions left unjudged, are
    ours. What is reported is the losses themselves, where Darknet prints squared deltas.
Checked by: `test_gradient_equals_darknets_loop`, `test_max_delta_bounds_the_gradient_of_boxes`,
    `test_truths_of_two_classes_in_one_slot_are_both_right`
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tilth.losses.darknet_overlap import overlap_deltas
from tilth.losses.detection_assignment import Truths
from tilth.losses.detection_ignore import best_overlaps, covering, unjudged
from tilth.losses.detection_settings import DetectionLossSettings
from tilth.losses.detection_terms import HeadTerms, box_losses
from tilth.losses.slot_values import HeadMap, SlotValues, slot_values
from tilth.ops.anchor_grid import MAX_LOG_SCALE
from tilth.ops.boxes import xyxy_to_cxcywh

__all__ = ["PrescribedGradient", "box_deltas", "class_targets", "classes_learnt", "darknet_head"]

LOG_EPS = 1e-15


class PrescribedGradient(torch.autograd.Function):
    """A value whose gradients by objectness and by some slots are what one says."""

    @staticmethod
    def forward(
        ctx: Any,
        objectness: Tensor,
        own: Tensor,
        by_objectness: Tensor,
        by_own: Tensor,
        value: Tensor,
    ) -> Tensor:
        """The value; the gradients are kept for the way back."""
        ctx.save_for_backward(by_objectness, by_own)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """The prescribed gradients, scaled as the value is."""
        by_objectness, by_own = ctx.saved_tensors
        return grad_outputs[0] * by_objectness, grad_outputs[0] * by_own, None, None, None


class Learners(NamedTuple):
    """One head's slots that hold a truth, and the truths; several may meet in one slot.

    Attributes:
        truth: rows of the truths, one a pair of truth and slot.
        place: the pair's row in ``slots``.
        slots: those that hold a truth, once each.
        first, last: the first and the last truth in each.
    """

    truth: Int64[Tensor, "k"]
    place: Int64[Tensor, "k"]
    slots: Int64[Tensor, "p"]
    first: Int64[Tensor, "p"]
    last: Int64[Tensor, "p"]


def darknet_head(
    raw_map: Float[Tensor, "b channels h w"],
    map_: HeadMap,
    truths: Truths,
    pairs: tuple[Int64[Tensor, "k"], Int64[Tensor, "k"]],
    settings: DetectionLossSettings,
) -> HeadTerms:
    """The terms of one head; the prescribed gradient flows through their sum.

    Args:
        pairs: truths and the slots that they fall into, see `slots_of_truths`.
    """
    learners = _learners(*pairs)
    values = slot_values(raw_map, map_, learners.slots)
    with torch.no_grad():
        objectness, by_objectness, objects = _objectness(values, map_, truths, learners, settings)
        classes, deltas = _classes(values, learners, truths, settings)
        row_weights = truths.weights[learners.last][:, None]
        boxes, box_delta = _boxes(values, map_, learners, truths, settings)
        if settings.anchor_threshold < 1:
            # Truths of one class add up in a slot, those of several are averaged.
            is_learnt = by_objectness.flatten()[learners.slots] != 0
            shares = torch.where(is_learnt, classes_learnt(deltas), 1.0)
            box_delta = box_delta / shares[:, None]
        none = torch.zeros_like(row_weights)
        by_own = -torch.cat([box_delta, none, row_weights * deltas], dim=1)

        losses = boxes + (objects + classes.sum(dim=1))[learners.place]
        box = (truths.weights[learners.truth] * boxes).sum()
        class_ = (row_weights * classes).sum()
        value = box + objectness + class_
    total = PrescribedGradient.apply(values.objectness, values.own, by_objectness, by_own, value)
    num_positives = torch.tensor(len(learners.slots), device=raw_map.device)
    return HeadTerms(box, objectness, class_, total, num_positives, learners.truth, losses)


def box_deltas(
    params: Float[Tensor, "k 4"],
    found_cxcywh: Float[Tensor, "k 4"],
    wanted_cxcywh: Float[Tensor, "k 4"],
    gains: Float[Tensor, "k"],
    settings: DetectionLossSettings,
    *,
    is_activated: bool,
) -> Float[Tensor, "k 4"]:
    """What Darknet adds to x, y, w and h of a raw map for each pair of a slot and a truth.

    The derivatives by x and y stand for those by the raw outputs; those by w and h are multiplied
    by exp(t), or by nothing where the map is activated.

    Args:
        params: raw outputs x, y, w, h.
        found_cxcywh, wanted_cxcywh: in fractions of the picture.
        gains: of each pair.
    """
    centre, size = found_cxcywh.split(2, dim=1)
    size = torch.where(size == 0, 1.0, size)  # Darknet's own guard
    found = torch.cat([centre, size], dim=1)
    deltas = overlap_deltas(found, wanted_cxcywh, kind=settings.box_loss)
    if not is_activated:
        factors = params[:, 2:].clamp(max=MAX_LOG_SCALE).exp()
        deltas = torch.cat([deltas[:, :2], deltas[:, 2:] * factors], dim=1)
    deltas = (deltas * gains[:, None]).nan_to_num(0.0, 0.0, 0.0)
    return deltas.clamp(-settings.max_delta, settings.max_delta)


def class_targets(
    chances: Float[Tensor, "p c"],
    learners: Learners,
    truths: Truths,
    settings: DetectionLossSettings,
) -> tuple[Float[Tensor, "p c"], Float[Tensor, "p c"]]:
    """Targets of the classes of each slot with a truth, and the weights of their errors.

    Truths of several classes that meet in a slot are all of them right there. A focal loss weighs
    the whole row by how wrong the first truth's class is, and knows no smoothing; what later truths
    touch is smoothed and not weighed.
    """
    gamma, alpha = settings.focal("class")
    first = truths.class_index[learners.first][:, None]
    smoothing = 0.0 if gamma else settings.label_smoothing
    targets = torch.full_like(chances, smoothing / 2)
    targets.scatter_(1, first, 1 - smoothing / 2)
    weights = torch.ones_like(chances)
    if gamma:
        assert alpha is not None
        p = chances.gather(1, first)
        slope = gamma * p * (p + LOG_EPS).log() + p - 1
        weights = (-alpha * (1 - p) ** (gamma - 1) * slope).expand_as(chances).clone()
    class_index = truths.class_index[learners.truth]
    is_later = learners.truth != learners.first[learners.place]
    later = (learners.place[is_later], class_index[is_later])
    targets[later] = 1 - settings.label_smoothing / 2
    weights[later] = 1.0
    of_classes = torch.ones_like(weights)
    of_classes[learners.place, class_index] = truths.class_weights[learners.truth]
    return targets, weights * of_classes


def classes_learnt(deltas: Float[Tensor, "p c"]) -> Float[Tensor, "p"]:
    """How many classes of each slot are pulled up, at least 1: Darknet's count of its truths."""
    return (deltas > 0).sum(dim=1).clamp(min=1).float()


def _learners(truth: Int64[Tensor, "k"], slot: Int64[Tensor, "k"]) -> Learners:
    slots, place = slot.unique(return_inverse=True)
    first = torch.full_like(slots, torch.iinfo(slots.dtype).max)
    first = first.scatter_reduce(0, place, truth, reduce="amin")
    last = torch.full_like(slots, -1).scatter_reduce(0, place, truth, reduce="amax")
    return Learners(truth, place, slots, first, last)


def _objectness(
    values: SlotValues,
    map_: HeadMap,
    truths: Truths,
    learners: Learners,
    settings: DetectionLossSettings,
) -> tuple[Float[Tensor, ""], Float[Tensor, "b a h w"], Float[Tensor, "p"]]:
    """The term, its gradient slot by slot, and the loss of each slot with a truth."""
    chances = values.objectness if values.is_activated else values.objectness.sigmoid()
    targets = torch.zeros_like(chances)
    weights = torch.full_like(chances, settings.background_weight)
    weights[unjudged(map_, truths, settings.ignore_threshold)] = 0.0
    if settings.rewards_overlap:
        # objectness_smooth: what covers a truth learns how well; everything else, also a slot
        # with a truth, that there is nothing.
        place = covering(map_, truths, settings.ignore_threshold).nonzero(as_tuple=True)
        boxes = map_.boxes_xyxy[place]
        targets[place] = best_overlaps(boxes, place[0], truths.padded_xyxy)
        weights[place] = 1.0
    of_slots = truths.weights[learners.last]
    if not settings.rewards_overlap:
        targets.view(-1)[learners.slots] = 1.0
        of_slots = of_slots * truths.class_weights[learners.last]
    weights.view(-1)[learners.slots] = of_slots
    gain = settings.gains[1]
    losses = gain * _cross_entropy(chances, targets)
    gradient = gain * weights * (chances - targets)
    return (weights * losses).sum(), gradient, losses.flatten()[learners.slots]


def _classes(
    values: SlotValues, learners: Learners, truths: Truths, settings: DetectionLossSettings
) -> tuple[Float[Tensor, "p c"], Float[Tensor, "p c"]]:
    """The losses of each slot's classes and what Darknet adds to them, without box weights."""
    chances = values.own_chances[:, 1:]
    targets, weights = class_targets(chances, learners, truths, settings)
    weights = settings.gains[2] * weights
    return weights * _cross_entropy(chances, targets), weights * (targets - chances)


def _boxes(
    values: SlotValues,
    map_: HeadMap,
    learners: Learners,
    truths: Truths,
    settings: DetectionLossSettings,
) -> tuple[Float[Tensor, "k"], Float[Tensor, "p 4"]]:
    """The loss of each pair, and what Darknet adds to each slot, summed over its truths."""
    found, wanted = values.boxes_xyxy[learners.place], truths.boxes_xyxy[learners.truth]
    side = found.new_tensor(map_.picture_size * 2)
    deltas = box_deltas(
        values.own[learners.place, :4],
        xyxy_to_cxcywh(found / side),
        xyxy_to_cxcywh(wanted / side),
        settings.gains[0] * truths.class_weights[learners.truth],
        settings,
        is_activated=values.is_activated,
    )
    weighted = truths.weights[learners.truth][:, None] * deltas
    summed = weighted.new_zeros(len(learners.slots), 4).index_add(0, learners.place, weighted)
    return settings.gains[0] * box_losses(found, wanted, settings.box_loss), summed


def _cross_entropy(chances: Tensor, targets: Tensor) -> Tensor:
    """Of probabilities, with logarithms cut at -100; torch's own refuses what is not a number."""
    yes, no = chances.log().clamp(min=-100.0), (1 - chances).log().clamp(min=-100.0)
    return -(targets * yes + (1 - targets) * no)
