"""The terms of one head of a detector, whose gradient is their true derivative.

Source: Zheng, Wang, Liu, Li, Ye, Ren, 2020, Distance-IoU Loss: Faster and Better Learning for
    Bounding Box Regression, arXiv 1911.08287v1; objectness and class by binary cross-entropy as in
    Redmon, Farhadi, 2018, YOLOv3, arXiv 1804.02767v1 (section 2.2).
Follows: Eq. 10 and its kin -> `box_losses`; section 2.2 -> `true_head`.
Symbols: slot = one anchor in one cell of one head; owner = the truth that a slot learns.
Differs: objectness learns the overlap that the slot's box has reached, unless the settings say 1;
    a later truth that meets an earlier one in a slot takes it altogether.
Checked by: `test_later_truth_takes_the_slot`, `test_perfect_prediction_has_no_box_loss`,
    `test_gradient_matches_finite_differences`, `test_losses_of_boxes_add_up_to_the_terms`
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tilth.losses.detection_assignment import Truths, last_truths
from tilth.losses.detection_ignore import unjudged
from tilth.losses.detection_settings import DetectionLossSettings
from tilth.losses.focal import focal_cross_entropy
from tilth.losses.slot_values import HeadMap, slot_values
from tilth.ops.boxes import aligned_ciou, aligned_diou, aligned_giou, aligned_iou

__all__ = ["OVERLAPS", "HeadTerms", "box_losses", "true_head"]

OVERLAPS = {
    "ciou": aligned_ciou,
    "diou": aligned_diou,
    "giou": aligned_giou,
    "iou": aligned_iou,
}


class HeadTerms(NamedTuple):
    """Sums over one head, with their gains, before division.

    Attributes:
        total: what a gradient flows through, equal to the sum of the three terms.
        num_positives: slots that learn a truth.
        truth, losses: for each slot that a truth learns in, the truth's row and what the slot
            loses there in all three terms, without the weights of boxes and classes; detached.
    """

    box: Float[Tensor, ""]
    objectness: Float[Tensor, ""]
    class_: Float[Tensor, ""]
    total: Float[Tensor, ""]
    num_positives: Int64[Tensor, ""]
    truth: Int64[Tensor, "k"]
    losses: Float[Tensor, "k"]


def box_losses(
    found_xyxy: Float[Tensor, "k 4"], wanted_xyxy: Float[Tensor, "k 4"], kind: str
) -> Float[Tensor, "k"]:
    """One minus the overlap; ``kind`` is a name in `OVERLAPS`."""
    return 1 - OVERLAPS[kind](found_xyxy, wanted_xyxy)  # Eq. 10


def true_head(
    raw_map: Float[Tensor, "b channels h w"],
    map_: HeadMap,
    truths: Truths,
    pairs: tuple[Int64[Tensor, "k"], Int64[Tensor, "k"]],
    settings: DetectionLossSettings,
) -> HeadTerms:
    """The terms of one head; a gradient flows through all of them.

    Args:
        pairs: truths and the slots that they fall into, see `slots_of_truths`.
    """
    owners = last_truths(*pairs, math.prod(map_.shape))
    slot = (owners >= 0).nonzero().squeeze(1)
    owner = owners[slot]
    wanted, weight = truths.boxes_xyxy[owner], truths.weights[owner] * truths.class_weights[owner]
    values = slot_values(raw_map, map_, slot)
    box_gain, objectness_gain, class_gain = settings.gains

    boxes = box_gain * box_losses(values.boxes_xyxy, wanted, settings.box_loss)
    is_background = ~unjudged(map_, truths, settings.ignore_threshold).flatten()
    is_background[slot] = False
    background = _objectness_losses(values.objectness_logits.flatten(), None, settings)
    background = objectness_gain * settings.background_weight * (background * is_background).sum()
    reached = aligned_iou(values.boxes_xyxy.detach(), wanted)
    target = reached if settings.rewards_overlap else torch.ones_like(reached)
    logits = values.own_logits
    objects = objectness_gain * _objectness_losses(logits[:, 0], target, settings)
    classes = class_gain * _class_losses(logits[:, 1:], truths.class_index[owner], settings)

    box, class_ = (weight * boxes).sum(), (weight * classes).sum()
    objectness = (weight * objects).sum() + background
    total = box + objectness + class_
    losses = (boxes + objects + classes).detach()
    return HeadTerms(box, objectness, class_, total, (owners >= 0).sum(), owner, losses)


def _objectness_losses(
    logits: Float[Tensor, "k"], targets: Float[Tensor, "k"] | None, settings: DetectionLossSettings
) -> Float[Tensor, "k"]:
    """Of each slot; without targets there is nothing."""
    gamma, alpha = settings.focal("objectness")
    wanted = torch.zeros_like(logits) if targets is None else targets
    return focal_cross_entropy(logits, wanted, gamma=gamma, alpha=alpha)


def _class_losses(
    logits: Float[Tensor, "k c"], class_index: Int64[Tensor, "k"], settings: DetectionLossSettings
) -> Float[Tensor, "k"]:
    """Summed over the classes of each slot."""
    labels = torch.nn.functional.one_hot(class_index, logits.shape[1]).float()
    labels = labels * (1 - settings.label_smoothing) + settings.label_smoothing / 2
    gamma, alpha = settings.focal("class")
    return focal_cross_entropy(logits, labels, gamma=gamma, alpha=alpha).sum(dim=1)
