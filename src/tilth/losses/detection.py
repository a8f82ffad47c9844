"""The loss of anchor-grid detectors: where a box is, whether there is one, and of which class.

Source: Bochkovskiy, Wang, Liao, 2020, YOLOv4: Optimal Speed and Accuracy of Object Detection,
    arXiv 2004.10934v1 (section 3.4); the rules are those of the authors' program, Darknet
    (yolo_layer.c).
Follows: section 3.4 -> `DetectionLoss`; who learns what -> `tilth.losses.detection_assignment`;
    what is no background -> `tilth.losses.detection_ignore`; the terms and their true gradient ->
    `tilth.losses.detection_terms`; Darknet's -> `tilth.losses.darknet_gradient`.
Symbols: slot = one anchor in one cell of one head, Darknet's box index.
Differs: Darknet writes the derivative of CIoU by x, y, w, h into the raw outputs without the chain
    rule and sums over slots; here, by default, the true gradient flows and every term is a sum
    divided by the number of positive slots (at least one a picture), so the gains are our own and
    batches of any size weigh the same.
Checked by: `test_assignment_matches_plain_twin`, `test_ignored_slots_carry_no_objectness_gradient`,
    `test_loss_ignores_the_order_of_truths`, `test_shift_by_a_cell_shifts_the_assignment`,
    `test_a_batch_twice_over_has_the_same_loss`, `test_gradient_equals_darknets_loop`
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from tilth.errors import SettingsError
from tilth.losses.darknet_gradient import darknet_head
from tilth.losses.detection_assignment import Truths, matching_anchors, slots_of_truths
from tilth.losses.detection_ignore import boxes_per_picture
from tilth.losses.detection_settings import DetectionLossSettings
from tilth.losses.detection_terms import HeadTerms, true_head
from tilth.losses.index_range import refuse_outside
from tilth.losses.slot_values import Head, HeadMap
from tilth.ops.anchor_grid import Anchors

__all__ = ["AnchorGrid", "DetectionLoss"]

# A class that is hardly there would otherwise drown the others with every box of its own.
LARGEST_BALANCED_WEIGHT = 10.0
NOT_HELD = "a truth is of a {} that the network's maps do not hold"


@runtime_checkable
class AnchorGrid(Protocol):
    """What the loss has to know of a network: one entry a head, and the number of classes."""

    anchors: Sequence[Anchors]
    strides: Sequence[int]
    grid_scales: Sequence[float]
    is_activated: Sequence[bool]
    num_classes: int


class DetectionLoss(nn.Module):
    """Weighted sum of a box, an objectness and a class term over all heads.

    Args:
        anchors: for each head, (width, height) in pixels of the network's input.
        strides: pixels per cell of each head.
        num_classes: classes that the maps hold.
        grid_scales: how far a centre may leave its cell, one a head (``model.grid_scales``).
        is_activated: whether a head's map went through a sigmoid already; none by default.
        settings: gains, thresholds, and what the terms are made of.
        class_counts: boxes of each class in the training set, for balanced class weights.

    Raises:
        SettingsError: lists that do not have one entry a head, or class weights that are not one a
            class.
    """

    def __init__(
        self,
        anchors: Sequence[Anchors],
        strides: Sequence[int],
        num_classes: int,
        *,
        grid_scales: Sequence[float],
        is_activated: Sequence[bool] | None = None,
        settings: DetectionLossSettings | None = None,
        class_counts: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        activated = [False] * len(anchors) if is_activated is None else is_activated
        if not len(anchors) == len(strides) == len(grid_scales) == len(activated):
            raise SettingsError(
                "anchors, strides and grid scales do not describe the same heads",
                expected="one entry a head in each",
                got=f"{len(anchors)}, {len(strides)}, {len(grid_scales)} and {len(activated)} "
                "entries",
            )
        self.anchors = anchors
        self.strides = strides
        self.num_classes = num_classes
        self.grid_scales = grid_scales
        self.is_activated = activated
        self.settings = DetectionLossSettings() if settings is None else settings
        weights = _class_weights(self.settings, num_classes, class_counts)
        self.class_weights: Tensor
        self.register_buffer("class_weights", weights, persistent=False)

    @classmethod
    def of_network(
        cls,
        network: AnchorGrid,
        settings: DetectionLossSettings | None = None,
        *,
        class_counts: Sequence[int] | None = None,
    ) -> "DetectionLoss":
        """The loss over the heads of a network."""
        return cls(
            network.anchors,
            network.strides,
            network.num_classes,
            grid_scales=network.grid_scales,
            is_activated=network.is_activated,
            settings=settings,
            class_counts=class_counts,
        )

    def forward(
        self,
        raw_maps: list[Tensor],
        boxes_xyxy: Float[Tensor, "n 4"],
        class_index: Int64[Tensor, "n"],
        image_index: Int64[Tensor, "n"],
        box_weights: Float[Tensor, "n"] | None = None,
        ignore_boxes_xyxy: Float[Tensor, "m 4"] | None = None,
        ignore_image_index: Int64[Tensor, "m"] | None = None,
    ) -> dict[str, Tensor]:
        """Loss of one batch, in float32 also under autocast.

        Args:
            raw_maps: what the model returned: one [b, a * (5 + c), h, w] a head.
            boxes_xyxy: all truths of the batch, in pixels of the network's input.
            class_index: class of each truth.
            image_index: row of each truth's picture in the batch.
            box_weights: how much each truth counts in all three terms; 1 by default.
            ignore_boxes_xyxy, ignore_image_index: regions, such as crowds, and their pictures;
                a prediction with more than half of its area in one is not punished for being there.

        Returns:
            ``"total"`` (to minimise); ``"box"``, ``"objectness"``, ``"class"``, detached and with
            their gains, so that they add up to it; ``"num_positives"``, slots that learn a truth.

        Raises:
            DataError: a truth of a class or a picture that the maps do not have.
        """
        terms, _ = self.with_box_losses(
            raw_maps,
            boxes_xyxy,
            class_index,
            image_index,
            box_weights,
            ignore_boxes_xyxy,
            ignore_image_index,
        )
        return terms

    def with_box_losses(
        self,
        raw_maps: list[Tensor],
        boxes_xyxy: Float[Tensor, "n 4"],
        class_index: Int64[Tensor, "n"],
        image_index: Int64[Tensor, "n"],
        box_weights: Float[Tensor, "n"] | None = None,
        ignore_boxes_xyxy: Float[Tensor, "m 4"] | None = None,
        ignore_image_index: Int64[Tensor, "m"] | None = None,
    ) -> tuple[dict[str, Tensor], Float[Tensor, "n"]]:
        """As `forward`, and beside it the loss of each truth, for methods that weigh boxes anew.

        A truth's loss is the mean over the slots that learn it of what they lose in all three
        terms, with the gains and without any weights, detached; 0 where later truths have taken all
        of its slots. It does not depend on the rest of the batch.
        """
        no_picture, batch = NOT_HELD.format("picture"), len(raw_maps[0])
        refuse_outside(class_index, self.num_classes, NOT_HELD.format("class"), item="truth")
        refuse_outside(image_index, batch, no_picture, item="truth")
        with torch.autocast(raw_maps[0].device.type, enabled=False):
            regions = boxes_xyxy.new_zeros(0, 4), image_index.new_zeros(0)
            if ignore_boxes_xyxy is not None and ignore_image_index is not None:
                refuse_outside(ignore_image_index, batch, no_picture, item="region")
                regions = ignore_boxes_xyxy, ignore_image_index
            weights = torch.ones_like(class_index, dtype=torch.float32)
            boxes = boxes_xyxy.float()
            truths = Truths(
                boxes_xyxy=boxes,
                class_index=class_index,
                image_index=image_index,
                weights=weights if box_weights is None else box_weights.float(),
                class_weights=self.class_weights.to(boxes.device)[class_index],
                padded_xyxy=boxes_per_picture(boxes, image_index, batch),
                regions_xyxy=boxes_per_picture(regions[0].float(), regions[1], batch),
            )
            heads = self._heads(raw_maps, truths)
            return self._terms(heads, batch), _mean_losses(heads, len(boxes))

    def _heads(self, raw_maps: list[Tensor], truths: Truths) -> list[HeadTerms]:
        matches = matching_anchors(truths.boxes_xyxy, self.anchors, self.settings.anchor_threshold)
        described = zip(
            self.anchors, self.strides, self.grid_scales, self.is_activated, strict=True
        )
        terms_of = true_head if self.settings.gradient == "true" else darknet_head
        heads = []
        for raw_map, matched, described_by in zip(raw_maps, matches, described, strict=True):
            head = Head(*described_by)
            map_ = HeadMap.of(raw_map, head)
            pairs = slots_of_truths(truths, matched, map_.shape, head.stride)
            heads.append(terms_of(raw_map, map_, truths, pairs, self.settings))
        return heads

    def _terms(self, heads: list[HeadTerms], batch: int) -> dict[str, Tensor]:
        num_positives = torch.stack([head.num_positives for head in heads]).sum()
        # Darknet divides by pictures alone; its learning rates are made for that.
        is_mean = self.settings.gradient == "true"
        per = num_positives.clamp(min=batch) if is_mean else batch
        return {
            "box": torch.stack([head.box for head in heads]).sum().detach() / per,
            "objectness": torch.stack([head.objectness for head in heads]).sum().detach() / per,
            "class": torch.stack([head.class_ for head in heads]).sum().detach() / per,
            "total": torch.stack([head.total for head in heads]).sum() / per,
            "num_positives": num_positives,
        }


def _mean_losses(heads: list[HeadTerms], count: int) -> Float[Tensor, "n"]:
    """For each truth the mean of its slots' losses over all heads."""
    truth = torch.cat([head.truth for head in heads])
    losses = torch.cat([head.losses for head in heads])
    summed = losses.new_zeros(count).index_add(0, truth, losses)
    return summed / torch.bincount(truth, minlength=count).clamp(min=1)


def _class_weights(
    settings: DetectionLossSettings, num_classes: int, class_counts: Sequence[int] | None
) -> Float[Tensor, "c"]:
    given = settings.class_weights
    if given == "none":
        return torch.ones(num_classes)
    if given == "balanced":
        if class_counts is None or len(class_counts) != num_classes or not sum(class_counts):
            raise SettingsError(
                "balanced class weights need to know how often the classes are",
                expected=f"{num_classes} counts, not all 0",
                got=str(class_counts),
            )
        counts = torch.tensor(class_counts, dtype=torch.float64)
        weights = counts.sum() / ((counts > 0).sum() * counts.clamp(min=1))
        return weights.clamp(max=LARGEST_BALANCED_WEIGHT).float()
    if len(given) != num_classes:
        raise SettingsError(
            "setting 'class_weights' of the detection loss cannot be used",
            expected=f"{num_classes} numbers, one a class",
            got=f"{len(given)} numbers",
        )
    return torch.tensor([float(weight) for weight in given])
