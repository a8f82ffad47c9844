"""D-FINE, RT-DETR, RT-DETRv2 and DEIMv2 of transformers as detection networks of Tilth.

They predict a set: each of a fixed number of queries is matched to one object or to none while
training, so that nothing is left to suppress. Networks, matching and loss are those of the library
(Apache-2.0); this file gives them Tilth's pictures and truths, and reads their answers back.

Zhao et al., 2023, DETRs Beat YOLOs on Real-time Object Detection, arXiv 2304.08069; Lv et al.,
2024, RT-DETRv2, arXiv 2407.17140; Peng et al., 2024, D-FINE, arXiv 2410.13842; Huang et al., 2025,
Real-Time Object Detection Meets DINOv3 (DEIMv2), arXiv 2509.20787.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.errors import DataError, SettingsError
from tilth.lazy import require
from tilth.models.huggingface_architecture import HuggingFaceArchitecture, with_config
from tilth.models.huggingface_targets import (
    DetectionTargets,
    labels_of,
    painted_over,
    refuse_outside,
    split_by_weight,
)

__all__ = ["EXTRA", "SECOND_NAMES", "HuggingFaceDetector", "SetPredictions"]

EXTRA = "hf"

# The library's names of its loss terms -> what they measure. A term that is not here keeps its own.
TERMS = {
    "vfl": "class",
    "mal": "class",
    "bbox": "box_l1",
    "giou": "box_giou",
    "fgl": "box_edges",
    "ddf": "box_distillation",
}
DENOISING = "denoising"
# Names by which the library has the decoder's heads a second time, without using them.
SECOND_NAMES = ("class_embed", "bbox_embed")


class SetPredictions(NamedTuple):
    """One row a query.

    Attributes:
        boxes_xyxy: in pixels of the network's input.
        class_logits: a sigmoid makes scores of them; there is no column for "nothing".
    """

    boxes_xyxy: Float[Tensor, "b q 4"]
    class_logits: Float[Tensor, "b q c"]


class HuggingFaceDetector(nn.Module):
    """A detector of transformers, with random weights.

    Called with pictures it gives `SetPredictions`; called with truths too, the terms of its loss,
    so that wrappers that replace ``forward`` (mixed precision, several processes) see both.

    Args:
        architecture: see `huggingface_architecture`.
        num_classes: 1 or more.

    Attributes:
        network: the library's module.
        architecture: the given one with every value that was left to the library's defaults.
        stride: height and width of a picture are multiples of it.

    Raises:
        MissingExtraError: transformers or scipy is not installed.
        DataError: the description does not make a network.

    >>> from tilth.models.huggingface_architecture import scaled_architecture
    >>> small = scaled_architecture("rt-detr", width=0.1, depth=0.1)
    >>> found = HuggingFaceDetector(small, 2).eval()(torch.zeros(1, 3, 128, 128))
    >>> tuple(found.boxes_xyxy.shape)
    (1, 300, 4)
    """

    suppresses = False
    network: Any
    image_mean: Tensor
    image_std: Tensor

    def __init__(self, architecture: HuggingFaceArchitecture, num_classes: int) -> None:
        super().__init__()
        if num_classes < 1:
            raise SettingsError(
                "a detector needs a class", expected="1 or more", got=str(num_classes)
            )
        self.num_classes = num_classes
        self.network = _network(architecture, num_classes)
        # With the library's defaults of today, which may be others tomorrow.
        self.architecture = with_config(architecture, self.network.config.to_dict())
        self.stride = max(self.network.config.feat_strides)
        constants = (architecture.image_mean, architecture.image_std)
        for name, values in zip(("image_mean", "image_std"), constants, strict=True):
            # Part of the architecture, so not of the weights.
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(
        self, images: Float[Tensor, "b 3 h w"], targets: DetectionTargets | None = None
    ) -> SetPredictions | dict[str, Tensor]:
        """What it sees in the pictures or, with truths, how wrong that is.

        Returns:
            with ``targets``: ``"total"`` (to minimise) and, detached, terms that add up to it:
            ``"class"``, several ``"box_..."`` and ``"denoising"`` (truths with noise, to be put
            right). All decoder layers are in each.

        Raises:
            SettingsError: pictures of a size that the network cannot look at, or truths with
                weights between 0 and 1, which its loss does not know.
            DataError: a truth of a class or a picture that is not there.
        """
        self._refuse_size(images)
        if targets is not None:
            return self._loss_terms(images, targets)
        outputs = self.network(pixel_values=self._normalised(images))
        height, width = images.shape[-2:]
        extent = images.new_tensor([width, height, width, height], dtype=torch.float32)
        return SetPredictions(_corners(outputs.pred_boxes.float()) * extent, outputs.logits)

    def decode(
        self, outputs: SetPredictions
    ) -> tuple[Float[Tensor, "b n 4"], Float[Tensor, "b n c"]]:
        """Boxes in pixels of the network's input, and scores, float32."""
        return outputs.boxes_xyxy.float(), outputs.class_logits.float().sigmoid()

    def _normalised(self, images: Tensor) -> Tensor:
        return (images - self.image_mean) / self.image_std

    def _refuse_size(self, images: Tensor) -> None:
        height, width = images.shape[-2:]
        places = sum((height // s) * (width // s) for s in self.network.config.feat_strides)
        queries = self.network.config.num_queries
        if height % self.stride or width % self.stride or places < queries:
            raise SettingsError(
                "the picture does not fit the detector",
                expected=f"height and width that are multiples of {self.stride}, with {queries} "
                "places in the feature maps",
                got=f"{height} x {width}, with {places} places",
                fix="a larger model.size, a multiple of 32",
            )

    def _loss_terms(self, images: Tensor, targets: DetectionTargets) -> dict[str, Tensor]:
        refuse_outside("class", targets.class_index, self.num_classes)
        refuse_outside("picture", targets.image_index, len(images))
        counted, ignored = split_by_weight(targets)
        images = painted_over(images, ignored, counted, fill=self.image_mean)
        labels = labels_of(counted, images)
        outputs = self.network(pixel_values=self._normalised(images), labels=labels)
        terms = _grouped(outputs.loss_dict)
        # With a batch without any truth nothing is denoised; several processes still expect a
        # gradient of all that is trained.
        unused = [p.sum() for n, p in self.network.named_parameters() if "denoising" in n]
        return terms | {"total": outputs.loss + 0.0 * sum(unused)}


def _network(architecture: HuggingFaceArchitecture, num_classes: int) -> Any:
    transformers = require("transformers", extra=EXTRA)
    require("scipy.optimize", extra=EXTRA)  # the matching; transformers itself does without it
    arguments = dict(architecture.config)
    names = {number: str(number) for number in range(num_classes)}
    try:
        config = transformers.AutoConfig.for_model(
            arguments.pop("model_type"), **arguments, num_labels=num_classes
        )
        config.id2label = names
        network = transformers.AutoModelForObjectDetection.from_config(
            config, trust_remote_code=False
        )
    except Exception as error:  # whatever the library finds wrong with values of somebody's file
        raise DataError(
            "the description does not make a network",
            where=architecture.source or architecture.config["model_type"],
            got=f"{type(error).__name__}: {error}",
        ) from error
    for name in SECOND_NAMES:
        if hasattr(network, name):
            delattr(network, name)
    network.loss_function = _in_float32(network.loss_function)
    return network


def _in_float32(loss_function: Callable[..., Any]) -> Callable[..., Any]:
    """The library's loss, also under autocast, and not a number where the predictions are not one.

    Its matching would stop at such predictions with an error about the order of box corners; as a
    value it reaches the loop, which names the pictures.
    """

    def loss(
        logits: Tensor, labels: Any, device: Any, boxes: Tensor, *rest: Any, **more: Any
    ) -> Any:
        if not (boxes.isfinite().all() and logits.isfinite().all()):
            broken = boxes.sum() * float("nan")
            return broken, {"loss_bbox": broken}, None
        positional = [_float(value) for value in (logits, labels, device, boxes, *rest)]
        with torch.autocast(logits.device.type, enabled=False):
            return loss_function(*positional, **{name: _float(more[name]) for name in more})

    return loss


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _grouped(loss_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sum over layers of each kind of term: dozens of curves become a handful."""
    some = next(iter(loss_dict.values()))
    groups: dict[str, Tensor] = {DENOISING: torch.zeros_like(some.detach())}
    for name, value in loss_dict.items():
        kind = name.removeprefix("loss_").partition("_")[0]
        group = DENOISING if "_dn_" in name else TERMS.get(kind, kind)
        groups[group] = groups.get(group, 0) + value.detach()
    return groups


def _corners(boxes_cxcywh: Tensor) -> Tensor:
    centre, size = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)
