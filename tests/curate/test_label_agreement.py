"""Labels against detections: one of each kind is found, planted errors come first, no invention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from curate_sets import dataset_of
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tilth.curate.box_error_scores import (
    missed_score,
    moved_score,
    picture_scores,
    spurious_score,
    swapped_score,
)
from tilth.curate.box_pairs import AgreementSettings, Finding, pair_boxes, pairwise_iou
from tilth.curate.label_agreement import Agreement, compare_labels
from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.data.records import Category, Geometry
from tilth.errors import DataError, SettingsError

CLASSES = ("person", "dog", "bus")


def labelled(boxes: Sequence[Sequence[tuple[float, ...]]], classes: Sequence[Sequence[int]]):
    """A set of three classes with these boxes, picture by picture."""
    dataset = dataset_of([len(own) for own in boxes])
    corners = np.array([box for own in boxes for box in own], dtype=float).reshape(-1, 4)
    return replace(
        dataset,
        categories=tuple(Category(name=n, origin_id=i) for i, n in enumerate(CLASSES)),
        annotations=replace(
            dataset.annotations,
            boxes_xyxy=corners,
            category_index=np.array([c for own in classes for c in own], dtype=np.int64),
        ),
    )


def detections_of(rows: Sequence[tuple[int, int, tuple[float, ...], float]]) -> Detections:
    """From (picture, class, box, confidence)."""
    return Detections(
        media_index=np.array([row[0] for row in rows], dtype=np.int64),
        category_index=np.array([row[1] for row in rows], dtype=np.int64),
        boxes_xyxy=np.array([row[2] for row in rows], dtype=float).reshape(-1, 4),
        score=np.array([row[3] for row in rows], dtype=np.float32),
    )


def kinds(agreement: Agreement) -> list[str]:
    return [Finding(code).name for code in agreement.finding]


FAR, NEAR, OWN = (60, 60, 80, 80), (10, 0, 30, 20), (0, 0, 20, 20)


def test_one_of_each_is_found() -> None:
    dataset = labelled([[OWN], [OWN], [OWN], [OWN], []], [[0], [0], [0], [0], []])
    found = compare_labels(
        dataset,
        detections_of(
            [
                (0, 0, OWN, 0.9),  # agrees
                (1, 0, (0, 0, 20, 40), 0.8),  # half of it: moved, 0.8 * (1 - 0.5)
                (2, 1, OWN, 0.7),  # swapped, 0.7 * 1
                (4, 2, FAR, 0.95),  # missed, and picture 3 has a spurious label
            ]
        ),
    )
    assert dict(zip(kinds(found), found.media_index.tolist(), strict=True)) == {
        "MISSED": 4,
        "SWAPPED": 2,
        "MOVED": 1,
        "SPURIOUS": 3,
    }
    assert found.counts() == {"missed": 1, "spurious": 1, "moved": 1, "swapped": 1}
    by_kind = dict(zip(kinds(found), range(4), strict=True))
    assert found.annotation_row[by_kind["MISSED"]] == -1
    assert found.detection_row[by_kind["SPURIOUS"]] == -1
    assert found.error_score == pytest.approx([0.95, 0.7, 0.4, 0.02 / (2 / 6)])
    assert found.label_scores == pytest.approx([0, 0.4, 0.7, 0.02 / (2 / 6)])
    assert found.picture_scores == pytest.approx([0, 0.4, 0.7, 0.02 / (2 / 6), 0.95])


def test_scores_by_hand() -> None:
    one = np.array([0.8])
    assert missed_score(one, np.array([0.25])) == pytest.approx([0.6])
    assert moved_score(one, np.array([0.25])) == pytest.approx([0.6])
    assert swapped_score(one, np.array([0.5])) == pytest.approx([0.4])
    assert swapped_score(one, np.array([0.5]), np.array([0.5])) == pytest.approx([0.0])
    # One label in fifty is wrong, one in five is missed: a tenth of the silences, less the support.
    assert spurious_score(np.array([0.4]), 0.2, error_rate=0.02) == pytest.approx([0.06])
    assert spurious_score(np.array([0.4]), 0.01, error_rate=0.02) == pytest.approx([0.6])


def test_picture_score_is_a_soft_maximum() -> None:
    rng = np.random.default_rng(0)
    media, scores = rng.integers(0, 5, 60), rng.uniform(size=60)
    pooled = picture_scores(media, scores, 6, temperature=0.1)
    for picture in range(5):
        own = scores[media == picture]
        weights = np.exp(own / 0.1)
        assert pooled[picture] == pytest.approx((weights * own).sum() / weights.sum())
        assert own.mean() < pooled[picture] <= own.max()
    assert pooled[5] == 0
    assert picture_scores(media, scores, 6, temperature=1e-4)[0] == scores[media == 0].max()


def test_a_stronger_class_in_the_same_place_swaps_a_label_that_agrees_weakly() -> None:
    dataset = labelled([[OWN]], [[0]])
    weak, strong = (0, 0, OWN, 0.3), (0, 1, OWN, 0.8)
    found = compare_labels(dataset, detections_of([weak, strong]))
    assert kinds(found) == ["SWAPPED"]
    assert found.error_score == pytest.approx([0.5])
    assert kinds(compare_labels(dataset, detections_of([(0, 0, OWN, 0.9), strong]))) == []


def test_a_second_detection_of_a_labelled_object_is_not_missed() -> None:
    dataset = labelled([[OWN]], [[0]])
    twice = [(0, 0, OWN, 0.9), (0, 0, (0, 0, 20, 25), 0.8), (0, 2, (0, 2, 20, 20), 0.6)]
    assert kinds(compare_labels(dataset, detections_of(twice))) == []


def test_a_neighbours_detection_is_no_evidence_against_a_label() -> None:
    """Two people side by side, both detected: the overlap of one with the other says nothing."""
    dataset = labelled([[OWN, NEAR]], [[0, 0]])
    both = [(0, 0, OWN, 0.9), (0, 0, NEAR, 0.6)]
    assert kinds(compare_labels(dataset, detections_of(both))) == []


def test_weak_detections_speak_for_a_label_and_never_against_one() -> None:
    dataset = labelled([[OWN], [OWN]], [[0], [0]])
    found = compare_labels(
        dataset, detections_of([(0, 1, OWN, 0.4), (1, 0, FAR, 0.45), (1, 0, OWN, 0.04)])
    )
    assert kinds(found) == ["SPURIOUS", "SPURIOUS"]
    assert found.media_index.tolist() == [1, 0]
    assert found.error_score == pytest.approx([0.02 / 0.75, 0.02 / 0.75 * 0.6])


def test_crowds_are_neither_spurious_nor_a_reason_to_miss() -> None:
    dataset = labelled([[(0, 0, 90, 70)]], [[0]])
    crowd = replace(dataset.annotations, is_crowd=np.array([True]))
    dataset = replace(dataset, annotations=crowd)
    inside, other = (0, 0, OWN, 0.9), (0, 1, OWN, 0.9)
    assert len(compare_labels(dataset, detections_of([inside]))) == 0
    assert kinds(compare_labels(dataset, detections_of([other]))) == ["MISSED"]
    assert np.isnan(compare_labels(dataset, detections_of([])).label_scores).all()


def test_labels_of_whole_pictures_are_not_compared() -> None:
    dataset = labelled([[OWN]], [[0]])
    whole = replace(dataset.annotations, geometry=np.array([Geometry.LABEL], np.uint8))
    dataset = replace(dataset, annotations=whole)
    assert len(compare_labels(dataset, detections_of([]))) == 0


def random_set(rng: np.random.Generator, num_pictures: int) -> Dataset:
    """Boxes on a coarse grid, so that no two of a picture overlap."""
    boxes, classes = [], []
    for _ in range(num_pictures):
        cells = rng.permutation(16)[: rng.integers(1, 8)]
        corner = np.stack([cells % 4, cells // 4], axis=1) * 100 + rng.uniform(
            0, 20, (len(cells), 2)
        )
        size = rng.uniform(30, 78, (len(cells), 2))
        boxes.append([tuple(row) for row in np.concatenate([corner, corner + size], axis=1)])
        classes.append(rng.integers(0, 3, len(cells)).tolist())
    return labelled(boxes, classes)


def detected(dataset: Dataset, rng: np.random.Generator, *, noise: float = 1.0) -> Detections:
    """A near-perfect detector: every object, confident, a pixel or so beside it."""
    labels = dataset.annotations
    return Detections(
        media_index=labels.media_index,
        category_index=labels.category_index,
        boxes_xyxy=labels.boxes_xyxy + rng.normal(0, noise, (len(labels), 4)),
        score=rng.uniform(0.7, 1.0, len(labels)).astype(np.float32),
    )


def test_perfect_labels_have_no_finding() -> None:
    rng = np.random.default_rng(1)
    dataset = random_set(rng, 60)
    found = compare_labels(dataset, detected(dataset, rng))
    assert len(found) == 0
    assert not found.label_scores.any()
    assert not found.picture_scores.any()


def planted(
    truth: Dataset, rng: np.random.Generator
) -> tuple[Dataset, set[int], NDArray[np.float64]]:
    """The labels with a tenth of them wrong: their ids, and the boxes that were taken away."""
    labels = truth.annotations
    touched = rng.permutation(len(labels))[: len(labels) // 10]
    drop, move, swap, invent = np.array_split(touched, 4)
    boxes, classes = labels.boxes_xyxy.copy(), labels.category_index.copy()
    sides = boxes[move, 2:] - boxes[move, :2]
    boxes[move] += np.tile(sides, 2) * 0.4
    classes[swap] = (classes[swap] + 1) % 3
    boxes[invent] += 1000  # the picture's object loses its box, and nothing gets one
    changed = replace(labels, boxes_xyxy=boxes, category_index=classes)
    keep = ~np.isin(labels.id, labels.id[drop])
    gone = labels.boxes_xyxy[np.concatenate([drop, invent])]
    return replace(truth, annotations=changed).keep_annotations(keep), {*labels.id[touched]}, gone


@pytest.mark.parametrize("seed", range(5))
def test_planted_errors_come_first(seed: int) -> None:
    """A tenth of the labels dropped, moved, swapped or invented: those are the top of the list."""
    rng = np.random.default_rng(seed)
    truth = random_set(rng, 200)
    detections = detected(truth, rng, noise=3.0)
    lost = rng.random(len(detections)) < 0.01  # near-perfect, no more
    detections = Detections(**{name: values[~lost] for name, values in vars(detections).items()})
    noisy, touched, gone = planted(truth, rng)
    found = compare_labels(noisy, detections)

    def is_right(row: int) -> bool:
        label, detection = found.annotation_row[row], found.detection_row[row]
        if label >= 0:
            return int(noisy.annotations.id[label]) in touched
        return bool(pairwise_iou(detections.boxes_xyxy[[detection]], gone).max() > 0.5)

    right = [is_right(row) for row in range(len(touched))]
    assert np.mean(right) > 0.9
    assert np.mean(right[: len(right) // 2]) > 0.9
    assert min(found.counts().values()) >= len(touched) // 5, "each kind is found"
    worst = truth.media.id[np.argsort(-found.picture_scores)[:30]]
    wrong = np.isin(truth.annotations.id, list(touched))
    assert np.isin(worst, truth.media.id[truth.annotations.media_index[wrong]]).mean() > 0.9


def test_findings_ignore_the_order_of_boxes() -> None:
    rng = np.random.default_rng(3)
    dataset = random_set(rng, 30)
    detections = detected(dataset, rng, noise=12.0)
    mixed = rng.permutation(len(detections))
    shuffled = Detections(**{name: column[mixed] for name, column in vars(detections).items()})
    first, second = compare_labels(dataset, detections), compare_labels(dataset, shuffled)
    assert kinds(first) == kinds(second)
    assert len(first) > 10
    assert first.error_score == pytest.approx(second.error_score)
    assert first.annotation_row.tolist() == second.annotation_row.tolist()
    has = first.detection_row >= 0
    assert first.detection_row[has].tolist() == mixed[second.detection_row[has]].tolist()


def plain_pairs(iou, same, score, settings):
    """The rule of `pair_boxes`, one pair at a time over all that are left."""
    n, k = iou.shape
    partner, kind = [-1] * n, ["SPURIOUS"] * n
    used: set[int] = set()
    for accuse in (False, True):
        while True:
            best = None
            for i in range(n):
                for j in range(k):
                    if partner[i] >= 0 or j in used:
                        continue
                    if not accuse:
                        ok = same[i, j] and iou[i, j] >= settings.agree_iou
                    elif same[i, j]:
                        ok = (
                            iou[i, j] >= settings.moved_iou and score[j] >= settings.confident_score
                        )
                    else:
                        close = iou[i, j] >= settings.same_place_iou
                        ok = close and score[j] >= settings.confident_score
                    if ok and (best is None or score[j] * iou[i, j] > best[0]):
                        best = (score[j] * iou[i, j], i, j)
            if best is None:
                break
            _, i, j = best
            partner[i] = j
            used.add(j)
            kind[i] = "AGREED" if not accuse else ("MOVED" if same[i, j] else "SWAPPED")
    return kind, partner


@given(seed=st.integers(0, 10_000), n=st.integers(0, 6), k=st.integers(0, 7))
def test_pairs_equal_a_plain_twin(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    settings = AgreementSettings()
    corner = rng.uniform(0, 30, (n + k, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (n + k, 2))], axis=1)
    classes, score = rng.integers(0, 2, n + k), rng.uniform(0.05, 1, k)
    iou = pairwise_iou(boxes[:n], boxes[n:])
    same = classes[:n, None] == classes[None, n:]
    paired = pair_boxes(iou, same, score, settings)
    kind, partner = plain_pairs(iou, same, score, settings)
    rivals = ~same & (iou >= settings.same_place_iou) & (score >= settings.confident_score)
    used = {j for j in partner if j >= 0}
    for i in range(n):
        free = [j for j in range(k) if rivals[i, j] and j not in used]
        stronger = [
            j for j in free if score[j] * iou[i, j] > score[partner[i]] * iou[i, partner[i]]
        ]
        if kind[i] == "AGREED" and stronger:
            j = max(stronger, key=lambda j: score[j] * iou[i, j])
            kind[i], partner[i] = "SWAPPED", j
            used.add(j)
    assert [Finding(code).name for code in paired.kind] == kind
    assert paired.partner.tolist() == partner
    for j in range(k):
        alone = score[j] >= 0.5 and j not in partner and not (iou[:, j] >= 0.5).any()
        assert paired.is_missed[j] == alone


def test_pairwise_iou_by_counting_pixels() -> None:
    rng = np.random.default_rng(2)
    corner = rng.integers(0, 12, (12, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 9, (12, 2))], axis=1).astype(float)
    masks = np.zeros((12, 24, 24), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.astype(int), strict=True):
        mask[y0:y1, x0:x1] = True
    for i in range(6):
        for j in range(6, 12):
            union = (masks[i] | masks[j]).sum()
            expected = (masks[i] & masks[j]).sum() / union if union else 0
            assert pairwise_iou(boxes[[i]], boxes[[j]])[0, 0] == pytest.approx(expected)


def test_detections_of_another_set_are_refused() -> None:
    dataset = labelled([[OWN]], [[0]])
    with pytest.raises(DataError, match="another set") as caught:
        compare_labels(dataset, detections_of([(0, 3, OWN, 0.9)]))
    assert caught.value.expected == "category_index from 0 to 2"
    with pytest.raises(DataError, match="another set"):
        compare_labels(dataset, detections_of([(1, 0, OWN, 0.9)]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("confident_score", 0.01),
        ("agree_iou", 0.05),
        ("moved_iou", 0.0),
        ("weak_score", 0.0),
        ("crowd_share", 1.5),
        ("temperature", 0.0),
        ("same_place_iou", 0.0),
    ],
)
def test_settings_that_cannot_be_used_are_refused(name: str, value: float) -> None:
    with pytest.raises(SettingsError, match="agreement"):
        AgreementSettings(**{name: value})
