"""What a head's map says at the slots that a loss looks at.

A loss needs the objectness of every slot, all numbers of the few that learn a truth, and the boxes
of all slots only to compare them. Taking these out of the map in one step, with a backward pass
that fills the map's gradient once, is what keeps a loss over tens of thousands of slots cheap.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tilth.ops.anchor_grid import PROBABILITY_EPS, Anchors, decode_boxes

__all__ = ["Head", "HeadMap", "SlotValues", "slot_values"]


class Head(NamedTuple):
    """One head of a network; see `tilth.losses.detection.DetectionLoss`."""

    anchors: Anchors
    stride: int
    grid_scale: float
    is_activated: bool

    def boxes(
        self,
        params: Float[Tensor, "*#n 4"],
        cells: Float[Tensor, "*#n 2"],
        sizes: Float[Tensor, "*#n 2"],
    ) -> Tensor:
        """In pixels of the network's input."""
        return decode_boxes(
            params,
            cells,
            sizes,
            stride=self.stride,
            grid_scale=self.grid_scale,
            is_activated=self.is_activated,
        )


class HeadMap(NamedTuple):
    """A head's map without gradient.

    Attributes:
        head: what it was made by.
        raw: its numbers, [b, a, 5 + c, h, w].
        boxes_xyxy: what every slot finds.
    """

    head: Head
    raw: Float[Tensor, "b a q h w"]
    boxes_xyxy: Float[Tensor, "b a h w 4"]

    @classmethod
    @torch.no_grad()
    def of(cls, raw_map: Float[Tensor, "b channels h w"], head: Head) -> "HeadMap":
        """Decode the boxes of all slots."""
        raw = raw_map.detach().unflatten(1, (len(head.anchors), -1))
        height, width = raw.shape[-2:]
        columns = torch.arange(width, device=raw.device, dtype=torch.float32)
        rows = torch.arange(height, device=raw.device, dtype=torch.float32)
        cells = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
        params = raw[:, :, :4].float().movedim(2, -1)
        sizes = params.new_tensor([list(pair) for pair in head.anchors])[:, None, None, :]
        return cls(head, raw, head.boxes(params, cells, sizes))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Pictures, anchors, rows and columns."""
        batch, num_anchors, _, height, width = self.raw.shape
        return batch, num_anchors, height, width

    @property
    def picture_size(self) -> tuple[int, int]:
        """Width and height of the network's input."""
        return self.raw.shape[-1] * self.head.stride, self.raw.shape[-2] * self.head.stride


class SlotValues(NamedTuple):
    """What a gradient flows through, in float32.

    Attributes:
        objectness: as the map has it, logits or, where it is activated, probabilities.
        own: all numbers of some slots, likewise.
        boxes_xyxy: what these slots find.
        is_activated: whether objectness and classes are probabilities.
    """

    objectness: Float[Tensor, "b a h w"]
    own: Float[Tensor, "p q"]
    boxes_xyxy: Float[Tensor, "p 4"]
    is_activated: bool

    @property
    def objectness_logits(self) -> Float[Tensor, "b a h w"]:
        """Of all slots."""
        return _logits(self.objectness, self.is_activated)

    @property
    def own_logits(self) -> Float[Tensor, "p r"]:
        """Of an object, then of every class, at the chosen slots."""
        return _logits(self.own[:, 4:], self.is_activated)

    @property
    def own_chances(self) -> Float[Tensor, "p r"]:
        """Probabilities of an object, then of every class, at the chosen slots."""
        return self.own[:, 4:] if self.is_activated else self.own[:, 4:].sigmoid()


def slot_values(
    raw_map: Float[Tensor, "b channels h w"], map_: HeadMap, slots: Int64[Tensor, "p"]
) -> SlotValues:
    """Objectness everywhere, and everything at ``slots``.

    Args:
        slots: numbers of slots, each at most once; see `tilth.losses.detection_assignment`.
    """
    head, place = map_.head, torch.unravel_index(slots, map_.shape)
    objectness, own = _Taken.apply(raw_map, len(head.anchors), *place)
    cells = torch.stack([place[3], place[2]], dim=1).float()
    sizes = own.new_tensor([list(pair) for pair in head.anchors])[place[1]]
    return SlotValues(objectness, own, head.boxes(own[:, :4], cells, sizes), head.is_activated)


class _Taken(torch.autograd.Function):
    """Objectness of all slots and all numbers of some; their gradients go into one map."""

    @staticmethod
    def forward(
        ctx: Any, raw_map: Tensor, num_anchors: int, *place: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Float32 copies."""
        ctx.num_anchors = num_anchors
        ctx.save_for_backward(raw_map, *place)
        raw = raw_map.unflatten(1, (num_anchors, -1))
        picture, anchor, row, column = place
        return raw[:, :, 4].float().contiguous(), raw[picture, anchor, :, row, column].float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """A map of zeros but for the objectness and the chosen slots."""
        raw_map, picture, anchor, row, column = ctx.saved_tensors
        whole = torch.zeros_like(raw_map)
        parts = whole.unflatten(1, (ctx.num_anchors, -1))
        parts[:, :, 4] = gradients[0].to(whole.dtype)
        # The objectness of a chosen slot may come both ways.
        parts[picture, anchor, :, row, column] += gradients[1].to(whole.dtype)
        return whole, None, None, None, None, None


def _logits(values: Tensor, is_activated: bool) -> Tensor:
    return torch.logit(values, eps=PROBABILITY_EPS) if is_activated else values
