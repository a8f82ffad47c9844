"""The loss of anchor-grid detectors: where a box is, whether there is one, and of which class.

Source: Bochkovskiy, Wang, Liao, 2020, YOLOv4: Optimal Speed and Accuracy of Object Detection,
    arXiv 2004.10934v1 (section 3.4); the rules of assignment are those of the authors' program,
    Darknet (yolo_layer.c); the box term is Zheng et al., 2020, arXiv 1911.08287v1, Eq. 10.
Follows: "multiple anchors for a single ground truth: IoU (truth, anchor) > IoU threshold" ->
    `matching_anchors`; Eq. 10 -> `DetectionLoss`.
Symbols: anchor_threshold = iou_thresh 0.213; ignore_threshold = ignore_thresh 0.7; slot = one
    anchor in one cell of one head, Darknet's box index; label_smoothing = label_smooth_eps.
Differs: Darknet writes the derivative of CIoU by x, y, w, h into the raw outputs without the chain
    rule and sums over slots; here the true gradient flows and every term is a sum divided by the
    number of positive slots (at least one a picture), so the gains are our own and batches of any
    size weigh the same. A truth whose best anchor belongs to no head (YOLOv4-tiny's smallest) goes
    to the best that does. Objectness learns the overlap, which Darknet only does when asked
    (objectness_smooth). A later truth that meets an earlier one in a slot takes it altogether.
Checked by: `test_assignment_matches_plain_twin`, `test_later_truth_takes_the_slot`,
    `test_perfect_prediction_has_no_box_loss`, `test_ignored_slots_carry_no_objectness_gradient`,
    `test_loss_ignores_the_order_of_truths`, `test_shift_by_a_cell_shifts_the_assignment`
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from tilth.errors import DataError, SettingsError
from tilth.ops.anchor_grid import Anchors, DecodedMap, decode_map
from tilth.ops.boxes import aligned_ciou, aligned_iou, pairwise_iou

__all__ = ["DetectionLoss", "matching_anchors"]

# Darknet compares a prediction with the truths only if it names some class with this probability.
IGNORE_CLASS_PROBABILITY = 0.25


class Truths(NamedTuple):
    """The boxes of a batch, row by row, in network pixels."""

    boxes_xyxy: Float[Tensor, "n 4"]
    class_index: Int64[Tensor, "n"]
    image_index: Int64[Tensor, "n"]
    weights: Float[Tensor, "n"]


class HeadTerms(NamedTuple):
    """Sums over one head, before division by the number of positive slots."""

    box: Tensor
    objectness: Tensor
    class_: Tensor
    num_positives: Tensor


class DetectionLoss(nn.Module):
    """Weighted sum of a box, an objectness and a class term over all heads.

    Args:
        anchors: for each head, (width, height) in pixels of the network's input.
        strides: pixels per cell of each head.
        num_classes: classes that the maps hold.
        grid_scales: how far a centre may leave its cell, one a head (``model.grid_scales``).
        box_gain, objectness_gain, class_gain: factors of the three terms in the total.
        anchor_threshold: every anchor whose shape has at least this IoU with a truth's learns it,
            beside the best one; 1 leaves the best alone.
        ignore_threshold: a prediction that covers a truth better than this is no background.
        objectness_target: ``"iou"``, the overlap that the slot's box has reached, so that scores
            rank boxes by fit; or ``"one"``, as Darknet does by default.
        label_smoothing: y becomes y (1 - e) + e / 2.

    Raises:
        SettingsError: lists that do not have one entry a head.
    """

    def __init__(
        self,
        anchors: Sequence[Anchors],
        strides: Sequence[int],
        num_classes: int,
        *,
        grid_scales: Sequence[float],
        box_gain: float = 2.0,
        objectness_gain: float = 1.0,
        class_gain: float = 0.5,
        anchor_threshold: float = 0.213,
        ignore_threshold: float = 0.7,
        objectness_target: str = "iou",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not len(anchors) == len(strides) == len(grid_scales):
            raise SettingsError(
                "anchors, strides and grid scales do not describe the same heads",
                expected="one entry a head in each",
                got=f"{len(anchors)}, {len(strides)} and {len(grid_scales)} entries",
            )
        if objectness_target not in {"iou", "one"}:
            raise SettingsError(
                "unknown objectness target", expected="'iou' or 'one'", got=repr(objectness_target)
            )
        self.anchors = anchors
        self.strides = strides
        self.num_classes = num_classes
        self.grid_scales = grid_scales
        self.box_gain = box_gain
        self.objectness_gain = objectness_gain
        self.class_gain = class_gain
        self.anchor_threshold = anchor_threshold
        self.ignore_threshold = ignore_threshold
        self.objectness_target = objectness_target
        self.label_smoothing = label_smoothing

    def forward(
        self,
        raw_maps: list[Tensor],
        boxes_xyxy: Float[Tensor, "n 4"],
        class_index: Int64[Tensor, "n"],
        image_index: Int64[Tensor, "n"],
        box_weights: Float[Tensor, "n"] | None = None,
    ) -> dict[str, Tensor]:
        """Loss of one batch, in float32 also under autocast.

        Args:
            raw_maps: what the model returned: one [b, a * (5 + c), h, w] a head.
            boxes_xyxy: all truths of the batch, in pixels of the network's input.
            class_index: class of each truth.
            image_index: row of each truth's picture in the batch.
            box_weights: how much each truth counts in all three terms; 1 by default.

        Returns:
            ``"total"`` (to minimise); ``"box"``, ``"objectness"``, ``"class"``, detached and with
            their gains, so that they add up to it; ``"num_positives"``, slots that learn a truth.

        Raises:
            DataError: a truth of a class or a picture that the maps do not have.
        """
        _refuse_outside("class", class_index, self.num_classes)
        _refuse_outside("picture", image_index, len(raw_maps[0]))
        with torch.autocast(raw_maps[0].device.type, enabled=False):
            weights = torch.ones_like(class_index, dtype=torch.float32)
            truths = Truths(
                boxes_xyxy.float(),
                class_index,
                image_index,
                weights if box_weights is None else box_weights.float(),
            )
            heads = self._head_terms(raw_maps, truths)
            num_positives = torch.stack([head.num_positives for head in heads]).sum()
            per = num_positives.clamp(min=len(raw_maps[0]))
            box = self.box_gain * torch.stack([head.box for head in heads]).sum() / per
            objectness = torch.stack([head.objectness for head in heads]).sum() / per
            objectness = self.objectness_gain * objectness
            class_ = self.class_gain * torch.stack([head.class_ for head in heads]).sum() / per
        return {
            "box": box.detach(),
            "objectness": objectness.detach(),
            "class": class_.detach(),
            "total": box + objectness + class_,
            "num_positives": num_positives,
        }

    def _head_terms(self, raw_maps: list[Tensor], truths: Truths) -> list[HeadTerms]:
        matches = matching_anchors(truths.boxes_xyxy, self.anchors, self.anchor_threshold)
        per_head = zip(raw_maps, matches, self.anchors, self.strides, self.grid_scales, strict=True)
        terms = []
        for raw_map, matched, anchors, stride, grid_scale in per_head:
            decoded = decode_map(raw_map, anchors, stride=stride, grid_scale=grid_scale)
            owners = _slot_owners(decoded, truths, matched, stride)
            terms.append(self._terms(decoded, truths, owners))
        return terms

    def _terms(
        self, decoded: DecodedMap, truths: Truths, owners: Int64[Tensor, "b a h w"]
    ) -> HeadTerms:
        positive = owners >= 0
        owner = owners[positive]
        weight, wanted = truths.weights[owner], truths.boxes_xyxy[owner]
        found = decoded.boxes_xyxy[positive]
        box = (weight * (1 - aligned_ciou(found, wanted))).sum()  # Eq. 10

        target = torch.zeros_like(decoded.objectness_logits)
        slot_weight = (~self._ignored(decoded, truths)).float()
        if self.objectness_target == "iou":
            target[positive] = aligned_iou(found.detach(), wanted)
        else:
            target[positive] = 1.0
        slot_weight[positive] = weight
        objectness = bce(decoded.objectness_logits, target, weight=slot_weight, reduction="sum")

        logits = decoded.class_logits[positive]
        labels = torch.nn.functional.one_hot(truths.class_index[owner], self.num_classes).float()
        labels = labels * (1 - self.label_smoothing) + self.label_smoothing / 2
        class_ = bce(logits, labels, weight=weight[:, None], reduction="sum")
        return HeadTerms(box, objectness, class_, positive.sum())

    @torch.no_grad()
    def _ignored(self, decoded: DecodedMap, truths: Truths) -> Bool[Tensor, "b a h w"]:
        """Slots that see an object well although it is not theirs to learn."""
        padded = _boxes_per_picture(truths, batch=len(decoded.boxes_xyxy))
        overlaps = pairwise_iou(decoded.boxes_xyxy.flatten(1, 3), padded)
        covers = overlaps.amax(dim=-1) if padded.shape[1] else overlaps.sum(dim=-1)
        names_a_class = decoded.class_logits.sigmoid().amax(dim=-1) > IGNORE_CLASS_PROBABILITY
        return (covers > self.ignore_threshold).view_as(names_a_class) & names_a_class


def matching_anchors(
    boxes_xyxy: Float[Tensor, "n 4"],
    anchors: Sequence[Anchors],
    threshold: float,
) -> list[Bool[Tensor, "n a"]]:
    """For each head, which of its anchors learn which truth.

    Shapes are compared with their centres put together. The anchor of the greatest IoU over all
    heads matches (the first of equals), and so does every other one above ``threshold``.

    >>> matching_anchors(torch.tensor([[0.0, 0.0, 9.0, 9.0]]), [[(10, 10), (40, 40)]], 0.213)
    [tensor([[ True, False]])]
    """
    sizes = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    flat = sizes.new_tensor([list(pair) for head in anchors for pair in head])
    overlaps = pairwise_iou(_centred(sizes), _centred(flat))
    matched = overlaps > threshold
    if len(sizes):
        matched.scatter_(1, overlaps.argmax(dim=1, keepdim=True), True)
    return list(matched.split([len(head) for head in anchors], dim=1))


def _refuse_outside(name: str, index: Int64[Tensor, "n"], count: int) -> None:
    outside = (index < 0) | (index >= count)
    if outside.any():
        row = int(outside.nonzero()[0])
        raise DataError(
            f"a truth is of a {name} that the network's maps do not hold",
            expected=f"0 to {count - 1}",
            got=str(int(index[row])),
            where=f"truth {row} of the batch",
        )


def _centred(sizes: Float[Tensor, "n 2"]) -> Float[Tensor, "n 4"]:
    return torch.cat([-sizes / 2, sizes / 2], dim=1)


def _slot_owners(
    decoded: DecodedMap, truths: Truths, matched: Bool[Tensor, "n a"], stride: int
) -> Int64[Tensor, "b a h w"]:
    """The truth (row) that each slot learns, -1 for none; of several the last one."""
    shape = decoded.objectness_logits.shape
    _, num_anchors, height, width = shape
    centres = (truths.boxes_xyxy[:, :2] + truths.boxes_xyxy[:, 2:]) / (2 * stride)
    # A centre on the far border belongs to the last cell.
    column = centres[:, 0].floor().long().clamp(0, width - 1)
    row = centres[:, 1].floor().long().clamp(0, height - 1)
    truth, anchor = matched.nonzero().unbind(1)
    slot = (truths.image_index[truth] * num_anchors + anchor) * height + row[truth]
    slot = slot * width + column[truth]
    owners = truth.new_full((shape.numel(),), -1)
    # The greatest row wins: deterministic, where plain indexing leaves the order open.
    return owners.scatter_reduce(0, slot, truth, reduce="amax").view(shape)


def _boxes_per_picture(truths: Truths, batch: int) -> Float[Tensor, "b t 4"]:
    """Each picture's truths, filled up with empty boxes, which overlap nothing."""
    order = torch.argsort(truths.image_index, stable=True)
    picture = truths.image_index[order]
    counts = torch.bincount(picture, minlength=batch)
    place = torch.arange(len(picture), device=picture.device)
    place = place - (counts.cumsum(0) - counts)[picture]
    padded = truths.boxes_xyxy.new_zeros(batch, int(counts.max()), 4)
    padded[picture, place] = truths.boxes_xyxy[order]
    return padded
