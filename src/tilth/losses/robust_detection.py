"""The detection loss with weights of truths: a box whose class is wrong is learnt less.

Each truth is an example, its loss the mean of what the slots that learn it lose in class and
objectness (and, on request, in where their boxes are). Weights go over all truths of a batch.

Source: Kumar, Amid, 2021, Constrained Instance and Class Reweighting for Robust Learning under
    Label Noise, arXiv 2111.05428; the loss it is put into is `tilth.losses.detection`'s.
Follows: instance weights, and class weights under total variation and under KL(label, weights) ->
    `RobustDetectionLoss`; the class that takes a share -> `likeliest_classes`.
Symbols: share = mass of the class weights on the likeliest class, gamma or 1 - exp(-gamma).
Differs: the paper is about one label a picture. A class here is a sigmoid's, and the loss of a soft
    target is the blend of the losses of its classes all the same, because it is linear in the
    target. Truths that have no slot of their own, and those of weight 0, take no part. Under
    Darknet's gradient truths of several classes that meet in one slot are each placed in full.
Checked by: `test_swapped_classes_get_less_weight`, `test_uniform_weights_are_the_plain_loss`,
    `test_class_weights_are_a_soft_target`, `test_boxes_are_weighed_on_request_only`
"""

import copy
import math
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from tilth.losses.detection import DetectionLoss
from tilth.losses.detection_assignment import Truths, last_truths, matching_anchors, slots_of_truths
from tilth.losses.detection_settings import DetectionLossSettings
from tilth.losses.gathered_rows import summed
from tilth.losses.reweighting import Reweighting
from tilth.losses.robust_reweighted import importance_terms
from tilth.losses.robust_settings import RobustSettings
from tilth.losses.slot_values import Head, HeadMap, slot_values

__all__ = ["RobustDetectionLoss", "likeliest_classes"]

TERMS = ("box", "objectness", "class", "total")


class RobustDetectionLoss(nn.Module):
    """As `DetectionLoss`, with weights that the truths' own losses give them.

    Args:
        loss: the one that is weighed; its settings are kept.
        settings: of kind "ciw" or "cicw", the latter with class weights under "tv" or "kl".
        steps: of the whole run.
    """

    def __init__(self, loss: DetectionLoss, settings: RobustSettings, *, steps: int) -> None:
        super().__init__()
        self.settings = settings
        self.reweighting = Reweighting(settings.applied_reweighting, steps=steps)
        self.steps = steps
        self.whole = loss
        gains = loss.settings
        self.judged = _with_settings(loss, replace(gains, box_gain=0.0))
        self.placed = _with_settings(loss, replace(gains, objectness_gain=0.0, class_gain=0.0))
        applied = self.reweighting.settings
        shares = {"none": 0.0, "tv": applied.gamma, "kl": -math.expm1(-applied.gamma)}
        self.share = shares[applied.class_divergence]

    def forward(
        self,
        raw_maps: list[Tensor],
        boxes_xyxy: Float[Tensor, "n 4"],
        class_index: Int64[Tensor, "n"],
        image_index: Int64[Tensor, "n"],
        *ignored: Tensor | None,
        box_weights: Float[Tensor, "n"] | None,
        step: int,
    ) -> dict[str, Tensor]:
        """The terms of `DetectionLoss`, and ``effective_share`` and ``trusted_loss`` for the log.

        Args:
            ignored: ``ignore_boxes_xyxy`` and ``ignore_image_index``, where there are any.
            box_weights: how much each truth counts, whatever its loss; 1 by default.
            step: of the run.

        Raises:
            DataError: see `DetectionLoss`.
        """
        if box_weights is None:
            box_weights = torch.ones_like(class_index, dtype=torch.float32)
        truths = (boxes_xyxy, class_index, image_index)
        if step < self.reweighting.settings.burn_in * self.steps:
            terms = self.whole(raw_maps, *truths, box_weights, *ignored)
            even = torch.ones_like(box_weights)
            return terms | importance_terms(even, even, even)
        other = self._other_classes(raw_maps, *truths)
        losses, weights = self.truth_weights(raw_maps, truths, other, box_weights, step)
        both = (box_weights, weights * box_weights)
        terms = self._blended(raw_maps, truths, other, both, ignored)
        return terms | importance_terms(losses, weights, weights)

    def _other_classes(
        self,
        raw_maps: list[Tensor],
        boxes_xyxy: Float[Tensor, "n 4"],
        class_index: Int64[Tensor, "n"],
        image_index: Int64[Tensor, "n"],
    ) -> Int64[Tensor, "n"] | None:
        """What takes a share of each truth's class; None without class weights."""
        if not self.share:
            return None
        likeliest, is_seen = likeliest_classes(self.whole, raw_maps, boxes_xyxy, image_index)
        return torch.where(is_seen, likeliest, class_index)

    @torch.no_grad()
    def truth_weights(
        self,
        raw_maps: list[Tensor],
        truths: tuple[Tensor, Tensor, Tensor],
        other: Int64[Tensor, "n"] | None,
        box_weights: Float[Tensor, "n"],
        step: int,
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
        """The losses that the weights go by, and the weights: 1 is even, 0 takes no part.

        Args:
            truths: boxes, classes and pictures, as `forward` takes them.
            other: the class that has a share of each truth's; None without class weights.
        """
        ranking = self.whole if self.settings.weigh_boxes else self.judged
        boxes, class_index, image = truths
        _, losses = ranking.with_box_losses(raw_maps, boxes, class_index, image)
        if other is not None:
            _, of_other = ranking.with_box_losses(raw_maps, boxes, other, image)
            losses = (1 - self.share) * losses + self.share * of_other
        # A truth without a slot loses nothing, which is not the same as being well learnt.
        mask = (losses != 0) & (box_weights > 0)
        weights = self.reweighting.weights(losses, step, mask=mask, groups=class_index)
        is_global = self.reweighting.settings.scope == "global"
        count = summed(mask.sum()) if is_global else mask.sum()
        return losses, weights * count

    def _blended(
        self,
        raw_maps: list[Tensor],
        truths: tuple[Tensor, Tensor, Tensor],
        other: Int64[Tensor, "n"] | None,
        box_weights: tuple[Float[Tensor, "n"], Float[Tensor, "n"]],
        ignored: tuple[Tensor | None, ...],
    ) -> dict[str, Tensor]:
        """The terms with the given weights and with those times the truths' own."""
        given, weighed = box_weights
        boxes, class_index, image = truths
        loss = self.whole if self.settings.weigh_boxes else self.judged
        terms = loss(raw_maps, *truths, weighed, *ignored)
        if other is not None:
            weighed = self._as_of(weighed, other, class_index)
            again = loss(raw_maps, boxes, other, image, weighed, *ignored)
            terms = _mixed(terms, again, self.share)
        if self.settings.weigh_boxes:
            return terms
        placed = self.placed(raw_maps, *truths, given, *ignored)
        return {**_added(terms, placed), "num_positives": placed["num_positives"]}

    def _as_of(
        self,
        weights: Float[Tensor, "n"],
        other: Int64[Tensor, "n"],
        class_index: Int64[Tensor, "n"],
    ) -> Float[Tensor, "n"]:
        """Box weights that, with the class weights of ``other``, weigh as the given classes do."""
        of_classes = self.whole.class_weights.to(weights.device)
        of_other = of_classes[other]
        same = of_classes[class_index] / torch.where(of_other > 0, of_other, 1.0)
        return weights * torch.where(of_other > 0, same, 0.0)


@torch.no_grad()
def likeliest_classes(
    loss: DetectionLoss,
    raw_maps: list[Tensor],
    boxes_xyxy: Float[Tensor, "n 4"],
    image_index: Int64[Tensor, "n"],
) -> tuple[Int64[Tensor, "n"], Bool[Tensor, "n"]]:
    """The class that the slots of each truth find likeliest, and whether it has any slot.

    By the mean of the slots' logits, over all heads.
    """
    boxes, none = boxes_xyxy.float(), boxes_xyxy.new_zeros(len(raw_maps[0]), 0, 4)
    alike = torch.ones(len(boxes), device=boxes.device)
    truths = Truths(boxes, image_index, image_index, alike, alike, none, none)
    scores = boxes.new_zeros(len(boxes), loss.num_classes)
    is_seen = torch.zeros_like(image_index, dtype=torch.bool)
    matches = matching_anchors(boxes, loss.anchors, loss.settings.anchor_threshold)
    described = zip(loss.anchors, loss.strides, loss.grid_scales, loss.is_activated, strict=True)
    for raw_map, matched, described_by in zip(raw_maps, matches, described, strict=True):
        map_ = HeadMap.of(raw_map, Head(*described_by))
        pairs = slots_of_truths(truths, matched, map_.shape, map_.head.stride)
        owners = last_truths(*pairs, math.prod(map_.shape))
        slot = (owners >= 0).nonzero().squeeze(1)
        logits = slot_values(raw_map, map_, slot).own_logits[:, 1:]
        scores.index_add_(0, owners[slot], logits)
        is_seen[owners[slot]] = True
    return scores.argmax(dim=1), is_seen


def _with_settings(loss: DetectionLoss, settings: DetectionLossSettings) -> DetectionLoss:
    changed = copy.copy(loss)
    changed.settings = settings
    return changed


def _mixed(terms: dict[str, Tensor], others: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    mixed = {name: (1 - share) * terms[name] + share * others[name] for name in TERMS}
    return {**mixed, "num_positives": terms["num_positives"]}


def _added(terms: dict[str, Tensor], others: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: terms[name] + others[name] for name in TERMS}
