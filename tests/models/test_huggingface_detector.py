"""Detectors of transformers keep the contract of a detection network, pictures and truths alike."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from small_huggingface import QUERIES, SIDE, pictures, small_architecture, small_detector, truths
from transformers.image_transforms import center_to_corners_format

from tilth.errors import DataError, MissingExtraError, SettingsError
from tilth.models.detection_network import DetectionNetwork, detect
from tilth.models.huggingface_architecture import MODEL_TYPES
from tilth.models.huggingface_detector import HuggingFaceDetector
from tilth.models.huggingface_targets import DetectionTargets

VARIANTS = sorted(MODEL_TYPES)
NONE = DetectionTargets(
    boxes_xyxy=torch.zeros(0, 4),
    class_index=torch.zeros(0, dtype=torch.int64),
    image_index=torch.zeros(0, dtype=torch.int64),
)


@pytest.fixture(scope="module")
def detector() -> HuggingFaceDetector:
    """For tests that do not change it."""
    return small_detector("rt-detr-v2")


def loss_terms(model: HuggingFaceDetector, images: torch.Tensor, targets: DetectionTargets):
    """The same noise on the truths each time."""
    torch.manual_seed(7)
    return model.train()(images, targets)


@pytest.mark.parametrize("variant", VARIANTS)
def test_decodes_what_the_library_predicts(variant: str) -> None:
    model = small_detector(variant)
    images = torch.cat([pictures(2), pictures(2, seed=1)], dim=3)  # twice as wide as high
    with torch.no_grad():
        boxes, scores = model.decode(model(images))
        said = model.network(pixel_values=images)
    assert isinstance(model, DetectionNetwork)
    assert (boxes.shape, scores.shape) == ((2, QUERIES, 4), (2, QUERIES, 3))
    extent = torch.tensor([2 * SIDE, SIDE, 2 * SIDE, SIDE])
    torch.testing.assert_close(boxes, center_to_corners_format(said.pred_boxes) * extent)
    torch.testing.assert_close(scores, said.logits.sigmoid())


def test_nothing_is_suppressed(detector: HuggingFaceDetector) -> None:
    found = detect(detector, pictures(1), score_threshold=0.0)
    boxes, scores, classes = found[0]
    assert len(boxes) == QUERIES * 3  # every query answers for every class, however they overlap
    assert (scores.diff() <= 0).all()
    assert set(classes.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_total_is_the_librarys_loss_and_the_sum_of_the_terms(variant: str) -> None:
    model = small_detector(variant)
    terms = loss_terms(model, pictures(), truths())
    labels = [
        {
            "class_labels": torch.tensor([0, 2]),
            "boxes": torch.tensor([[14, 24, 20, 32], [45, 40, 30, 20]]) / SIDE,
        },
        {"class_labels": torch.tensor([1]), "boxes": torch.tensor([[15, 15, 10, 10]]) / SIDE},
    ]
    torch.manual_seed(7)
    said = model.network(pixel_values=pictures(), labels=labels)
    torch.testing.assert_close(terms["total"], said.loss)
    parts = [value for name, value in terms.items() if name != "total"]
    torch.testing.assert_close(sum(parts), terms["total"].detach())
    assert {"class", "box_l1", "box_giou", "denoising"} <= set(terms)
    assert not any(part.requires_grad for part in parts)


@pytest.mark.parametrize("variant", VARIANTS)
def test_everything_that_is_trained_gets_a_gradient_with_and_without_truths(variant: str) -> None:
    # Several processes wait for the gradient of each parameter.
    model = small_detector(variant)
    names = set()
    for targets in (truths(), NONE):
        model.zero_grad()
        terms = loss_terms(model, pictures(), targets)
        terms["total"].backward()
        names.add(frozenset(terms))
        left_out = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not left_out
    assert len(names) == 1  # and the same terms


def test_a_truth_is_given_to_its_own_picture(detector: HuggingFaceDetector) -> None:
    mirrored = truths(image_index=torch.tensor([1, 1, 0]))
    straight = detector.eval()(pictures(), truths())["total"]
    swapped = detector(pictures().flip(0), mirrored)["total"]
    torch.testing.assert_close(straight, swapped)


def test_what_lies_in_an_ignored_place_does_not_matter(detector: HuggingFaceDetector) -> None:
    place = torch.tensor([[36.0, 4.0, 60.0, 28.0]])
    ignoring = truths(ignore_boxes_xyxy=place, ignore_image_index=torch.tensor([1]))
    other = pictures()
    other[1, :, 4:28, 36:60] = 0.0
    torch.testing.assert_close(
        loss_terms(detector, pictures(), ignoring)["total"],
        loss_terms(detector, other, ignoring)["total"],
    )
    assert (
        loss_terms(detector, other, truths())["total"]
        != (loss_terms(detector, pictures(), truths())["total"])
    )


def test_an_object_in_an_ignored_place_is_still_seen(detector: HuggingFaceDetector) -> None:
    everywhere = torch.tensor([[0.0, 0.0, SIDE, SIDE]])
    ignoring = truths(ignore_boxes_xyxy=everywhere, ignore_image_index=torch.tensor([1]))
    other = pictures()
    other[1, :, 12:18, 12:18] = 0.0  # inside the truth at 10, 10, 20, 20
    assert (
        loss_terms(detector, other, ignoring)["total"]
        != (loss_terms(detector, pictures(), ignoring)["total"])
    )


def test_a_truth_of_weight_0_is_an_ignored_place(detector: HuggingFaceDetector) -> None:
    dropped = truths(box_weights=torch.tensor([1.0, 0.0, 1.0]))
    kept = [0, 2]
    ignored = DetectionTargets(
        *(column[kept] for column in truths()[:3]),
        ignore_boxes_xyxy=truths().boxes_xyxy[[1]],
        ignore_image_index=torch.tensor([0]),
    )
    for name, value in loss_terms(detector, pictures(), dropped).items():
        torch.testing.assert_close(value, loss_terms(detector, pictures(), ignored)[name])


def test_a_batch_of_the_loader_is_read_by_its_names(detector: HuggingFaceDetector) -> None:
    batch = {"images": pictures(), "names": ["a", "b"], "media_index": torch.tensor([0, 1])}
    batch |= truths()._asdict() | {"box_weights": torch.ones(3)}
    targets = DetectionTargets.of_batch(batch)
    torch.testing.assert_close(
        loss_terms(detector, batch["images"], targets)["total"],
        loss_terms(detector, pictures(), truths())["total"],
    )


def test_weights_of_single_boxes_are_refused(detector: HuggingFaceDetector) -> None:
    with pytest.raises(SettingsError, match="weights of single boxes") as caught:
        detector(pictures(), truths(box_weights=torch.tensor([1.0, 0.25, 1.0])))
    assert caught.value.got == "0.25"
    assert "mixup" in str(caught.value.fix)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"class_index": torch.tensor([0, 3, 1])}, "of a class"),
        ({"image_index": torch.tensor([0, 0, 2])}, "of a picture"),
    ],
)
def test_a_truth_that_nothing_can_learn(detector, changes, match: str) -> None:
    with pytest.raises(DataError, match=match):
        detector(pictures(), truths(**changes))


@pytest.mark.parametrize("shape", [(64, 70), (32, 32)], ids=["not a multiple", "too small"])
def test_a_picture_that_does_not_fit(detector: HuggingFaceDetector, shape) -> None:
    with pytest.raises(SettingsError, match="does not fit") as caught:
        detector(torch.zeros(1, 3, *shape))
    assert "multiples of 32, with 24 places" in str(caught.value.expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_broken_predictions_give_a_loss_that_is_not_a_number(variant: str) -> None:
    model = small_detector(variant)
    with torch.no_grad():
        model.network.model.enc_output[0].weight.fill_(float("nan"))
    assert loss_terms(model, pictures(), truths())["total"].isnan()


@pytest.mark.parametrize("variant", VARIANTS)
def test_low_precision_changes_little(variant: str) -> None:
    model = small_detector(variant)
    exact = loss_terms(model, pictures(), truths())["total"]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = loss_terms(model, pictures(), truths())["total"]
        boxes, scores = model.decode(model.eval()(pictures()))
    assert rounded.dtype == boxes.dtype == scores.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0)


def test_the_normalisation_is_part_of_the_network() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    plain = small_detector("d-fine")
    normalising = small_detector("d-fine", image_mean=mean, image_std=std)
    normalising.load_state_dict(plain.state_dict())
    given = (pictures() - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(plain(given), normalising(pictures()))


@pytest.mark.parametrize("change", [{"d_model": 30}, {"backbone_config": {"model_type": "no"}}])
def test_a_description_that_makes_no_network(change: dict) -> None:
    architecture = small_architecture("d-fine", source="somewhere")
    architecture.config.update(change)
    with pytest.raises(DataError, match="does not make a network") as caught:
        HuggingFaceDetector(architecture, 2)
    assert caught.value.where == "somewhere"


def test_without_the_library_the_error_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError) as caught:
        HuggingFaceDetector(small_architecture("d-fine"), 2)
    assert caught.value.fix == "pip install 'tilth[hf]'"


def test_the_library_is_loaded_only_when_it_is_chosen() -> None:
    script = (
        "import sys, tilth.recipes.detector\n"
        "print([name for name in ('transformers', 'torchvision') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


class Decoded(torch.nn.Module):
    """What an exported file holds: pictures in, boxes and scores out."""

    def __init__(self, network: HuggingFaceDetector) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.network.decode(self.network(images))


@pytest.mark.parametrize(
    "variant",
    [pytest.param(name, marks=() if name == "d-fine" else pytest.mark.slow) for name in VARIANTS],
)
@pytest.mark.filterwarnings("ignore")
def test_an_exported_network_answers_the_same_for_any_batch(variant: str) -> None:
    model = Decoded(small_detector(variant)).eval()
    stream = io.BytesIO()
    torch.onnx.export(
        model,
        (pictures(2),),
        stream,
        dynamo=False,
        opset_version=17,
        input_names=["images"],
        output_names=["boxes", "scores"],
        dynamic_axes={name: {0: "batch"} for name in ("images", "boxes", "scores")},
    )
    session = onnxruntime.InferenceSession(stream.getvalue(), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        images = pictures(count, seed=count)
        with torch.no_grad():
            boxes, scores = model(images)
        given_boxes, given_scores = session.run(None, {"images": images.numpy()})
        np.testing.assert_allclose(given_boxes, boxes.numpy(), atol=1e-3 * SIDE)
        np.testing.assert_allclose(given_scores, scores.numpy(), atol=1e-4)
