"""A detector proposes; people decide: what is written, what is kept, what is never touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_sets import draw_pictures, drawn_project

from tilth.curate import rebalance
from tilth.curate.agreement_records import LABEL_SET, PICTURE_SET, finding_rows
from tilth.curate.box_pairs import AgreementSettings
from tilth.curate.proposals import compare_with_proposals
from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.data.preannotation import awaits_review
from tilth.data.project import Project
from tilth.data.records import ReviewState, Source
from tilth.errors import EmptyDatasetError, MediaError, SettingsError
from tilth.recipes import catalogue_detections
from tilth.recipes import preannotate as verb
from tilth.recipes.class_mapping import map_classes
from tilth.recipes.detector import new_detector
from tilth.recipes.detector_source import OpenedDetector
from tilth.recipes.label_agreement import compare_with_detector, propose_missed
from tilth.recipes.model_settings import ModelSettings
from tilth.recipes.preannotate import PreannotateSettings, preannotate
from tilth.recipes.training_pictures import originals, training_pictures

NUM_PICTURES = 9


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Nine drawn pictures with 13 labels, bright and dark; the last three are held out."""
    return drawn_project(tmp_path / "p", train=6, test=3)


def opened_as(name: str, *class_names: str, weights: str = "aa") -> OpenedDetector:
    settings = ModelSettings(width=0.125, size=64)
    detector, _ = new_detector(settings, class_names, root=Path(), seed=0)
    return OpenedDetector(
        detector=detector, name=name, weights=Path("w"), weights_digest=weights * 32
    )


@pytest.fixture
def truth(tmp_path: Path) -> Dataset:
    return draw_pictures(tmp_path / "again", NUM_PICTURES)[0]


class SeesEverything:
    """In the place of `find_objects`: every drawn object, and a few that are not there."""

    def __init__(self, truth: Dataset, *, flipped: bool = False, score: float = 0.9) -> None:
        self.truth, self.flipped, self.score = truth, flipped, score
        self.asked: list[str] = []
        self.fails: set[str] = set()

    def __call__(self, detector: Any, images: list[Path], **options: Any) -> Detections:
        parts = []
        for row, path in enumerate(images):
            if path.name in self.fails:
                raise MediaError("broken", where=str(path))
            labels = self.truth.annotations
            own = np.flatnonzero(labels.media_index == int(path.stem))
            kinds = labels.category_index[own]
            score = np.full(len(own), self.score, np.float32)
            found = Detections(
                media_index=np.full(len(own), row),
                category_index=1 - kinds if self.flipped else kinds,
                boxes_xyxy=labels.boxes_xyxy[own],
                score=score,
            )
            parts.append(found.take(np.flatnonzero(score >= options["score_threshold"])))
        self.asked += [path.name for path in images]
        return Detections.joined(parts)


@pytest.fixture
def sees(truth: Dataset, monkeypatch: pytest.MonkeyPatch) -> SeesEverything:
    detector = SeesEverything(truth)
    monkeypatch.setattr(catalogue_detections, "find_objects", detector)
    monkeypatch.setattr(verb, "BATCH_PICTURES", 4)
    return detector


FIRST = PreannotateSettings()


def proposals(project: Project) -> Dataset:
    dataset = project.catalogue.read()
    return dataset.keep_annotations(awaits_review(dataset))


def test_every_picture_gets_scored_proposals_that_say_who_made_them(project, sees) -> None:
    by_hand = project.catalogue.read().annotations
    done = preannotate(project, opened_as("first", "bright", "dark"), FIRST)
    assert (done["pictures"], done["added"], done["already"]) == (9, len(by_hand), 0)
    assert done["origin"] == "model:first"
    made = proposals(project).annotations
    assert made.boxes_xyxy.tolist() == by_hand.boxes_xyxy.tolist()
    assert made.category_index.tolist() == by_hand.category_index.tolist()
    assert np.allclose(made.score, 0.9)
    assert set(made.attributes) == {b'{"detector": "first", "weights": "aaaaaaaaaaaaaaaa"}'}
    labels = project.catalogue.read().annotations
    human = labels.source == Source.HUMAN
    assert labels.id[human].tolist() == by_hand.id.tolist()
    assert labels.boxes_xyxy[human].tolist() == by_hand.boxes_xyxy.tolist()


def test_a_second_call_detects_nothing_again(project, sees) -> None:
    opened = opened_as("first", "bright", "dark")
    preannotate(project, opened, FIRST)
    asked = len(sees.asked)
    again = preannotate(project, opened, FIRST)
    assert (again["pictures"], again["already"], again["added"]) == (0, 9, 0)
    assert len(sees.asked) == asked == 9


def test_an_interrupted_call_goes_on_where_it_stopped(project, sees, monkeypatch) -> None:
    opened, calls = opened_as("first", "bright", "dark"), []

    def pulled_plug(detector: Any, images: list[Path], **options: Any) -> Detections:
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return sees(detector, images, **options)

    with monkeypatch.context() as patch:
        patch.setattr(catalogue_detections, "find_objects", pulled_plug)
        with pytest.raises(KeyboardInterrupt):
            preannotate(project, opened, FIRST)
    assert len(set(proposals(project).annotations.media_index)) == 4
    done = preannotate(project, opened, FIRST)
    assert (done["already"], done["pictures"]) == (4, 5)
    assert sorted(sees.asked) == [f"{number:02}.jpg" for number in range(9)]


def test_other_weights_replace_only_when_they_are_told_to(project, sees) -> None:
    preannotate(project, opened_as("first", "bright", "dark"), FIRST)
    count = len(proposals(project).annotations)
    sees.score = 0.6
    retrained = opened_as("first", "bright", "dark", weights="bb")
    kept = preannotate(project, retrained, FIRST)
    assert (kept["of_other_weights"], kept["added"], kept["removed"]) == (9, 0, 0)
    done = preannotate(project, retrained, replace(FIRST, overwrite=True))
    assert (done["added"], done["removed"]) == (count, count)
    assert np.allclose(proposals(project).annotations.score, 0.6)
    again = preannotate(project, retrained, replace(FIRST, overwrite=True))
    assert (again["already"], again["pictures"]) == (9, 0)


def test_another_detector_proposes_beside_the_first(project, sees) -> None:
    preannotate(project, opened_as("first", "bright", "dark"), FIRST)
    count = len(proposals(project).annotations)
    preannotate(project, opened_as("second", "bright", "dark"), replace(FIRST, overwrite=True))
    assert len(proposals(project).annotations) == 2 * count


def test_review_turns_a_proposal_into_a_label_by_hand(project, sees) -> None:
    preannotate(project, opened_as("first", "bright", "dark"), FIRST)
    accepted, rejected = proposals(project).annotations.id[:2]
    project.catalogue.review(np.array([accepted]), ReviewState.ACCEPTED)
    project.catalogue.review(np.array([rejected]), ReviewState.REJECTED)
    retrained = opened_as("first", "bright", "dark", weights="bb")
    done = preannotate(project, retrained, replace(FIRST, overwrite=True))
    assert done["answered"] == 2
    labels = project.catalogue.read().annotations
    at = {int(key): row for row, key in enumerate(labels.id)}
    assert labels.source[at[int(accepted)]] == Source.HUMAN
    assert labels.review_state[at[int(rejected)]] == ReviewState.REJECTED


def test_classes_are_matched_by_name_and_the_unknown_are_said(project, sees) -> None:
    opened = opened_as("coco", "dark", "light", "dog")
    sees.truth = replace(sees.truth)  # class 0 of the detector is what the drawing calls bright
    done = preannotate(project, opened, FIRST)
    assert done["classes"] == {"dark": "dark"}
    assert done["unknown_classes"] == ["light", "dog"]
    names = [category.name for category in project.catalogue.read().categories]
    assert {names[c] for c in proposals(project).annotations.category_index} == {"dark"}
    mapped = replace(FIRST, name="mapped", classes={"light": "bright", "dog": ""})
    done = preannotate(project, opened, mapped)
    assert done["classes"] == {"dark": "dark", "light": "bright"}
    assert done["unknown_classes"] == []


def test_classes_that_are_found_can_be_added(project, sees) -> None:
    opened = opened_as("coco", "cat", "dog", "horse")
    with pytest.raises(SettingsError, match="no class of the task") as caught:
        preannotate(project, opened, FIRST)
    assert "--add-classes" in str(caught.value.fix)
    preannotate(project, opened, replace(FIRST, add_classes=True))
    names = [category.name for category in project.catalogue.read().categories]
    assert names == ["bright", "dark", "cat", "dog"], "horse was not found"


def test_only_unlabelled_pictures_of_a_split(project, sees) -> None:
    labelled = project.catalogue.read()
    with pytest.raises(EmptyDatasetError, match="without a label"):
        preannotate(
            project,
            opened_as("first", "bright", "dark"),
            replace(FIRST, only_unlabelled=True),
        )
    rows = labelled.keep_annotations(labelled.annotations.media_index != 7)
    bare = Project.init(project.root / "bare")
    media = replace(rows.media, uri=[str(project.root / uri) for uri in rows.media.uri])
    bare.import_dataset(replace(rows, media=media))
    opened = opened_as("first", "bright", "dark")
    done = preannotate(bare, opened, replace(FIRST, only_unlabelled=True))
    assert (done["pictures"], sees.asked) == (1, ["07.jpg"])
    tested = preannotate(bare, opened, replace(FIRST, name="other", split="test"))
    assert tested["pictures"] == 3


def test_a_broken_picture_is_said_and_the_others_are_done(project, sees) -> None:
    sees.fails = {"02.jpg"}
    opened = opened_as("first", "bright", "dark")
    done = preannotate(project, opened, FIRST)
    (error,) = done["errors"]
    assert (done["pictures"], error.where) == (8, str(project.root / "pictures" / "02.jpg"))
    assert 2 not in proposals(project).annotations.media_index
    sees.fails = set()
    again = preannotate(project, opened, FIRST)
    assert (again["already"], again["pictures"]) == (8, 1)


def test_nothing_is_learned_from_a_proposal(project, sees) -> None:
    before = training_pictures(project.catalogue.read())
    sees.flipped = True
    preannotate(project, opened_as("first", "bright", "dark"), FIRST)
    dataset = project.catalogue.read()
    assert training_pictures(dataset).annotations.id.tolist() == before.annotations.id.tolist()
    assert not awaits_review(originals(dataset)).any()


def test_no_picture_is_made_of_a_proposal(project, sees) -> None:
    known = originals(project.catalogue.read())
    plan = rebalance.random_plan(known, 3, name="more", seed=0)
    preannotate(project, opened_as("first", "bright", "dark"), FIRST)
    rebalance.run(project, plan, progress=False)
    dataset = project.catalogue.read()
    derived = dataset.take(np.flatnonzero(dataset.media.parent_id >= 0))
    assert len(derived.media) == 3
    for row, parent in enumerate(derived.media.parent_id.tolist()):
        of_parent = known.rows_of(int(np.flatnonzero(known.media.id == parent)[0]))
        own = derived.rows_of(row)
        assert own.stop - own.start <= of_parent.stop - of_parent.start


def test_agreement_with_proposals_finds_the_labels_that_were_spoiled(project, sees) -> None:
    dataset = project.catalogue.read()
    labels = dataset.annotations
    spoiled = labels.id[3:4]
    project.catalogue.update_boxes(spoiled, labels.boxes_xyxy[3:4] + 5)
    preannotate(project, opened_as("first", "bright", "dark"), FIRST)
    compared = compare_with_proposals(project, AgreementSettings())
    (row,) = finding_rows(compared.dataset, compared.detections, compared.agreement)
    assert (row["label"], row["finding"]) == (int(spoiled[0]), "moved")
    stored = project.catalogue.read_features(LABEL_SET)
    assert len(stored.ids) == len(labels)
    assert stored.ids[stored.values[:, 0] > 0].tolist() == spoiled.tolist()
    worst = project.catalogue.read_features(PICTURE_SET)
    assert worst.ids[worst.values[:, 0].argmax()] == dataset.media.id[labels.media_index[3]]
    # Put right, the label reads as not compared: nothing stale is left.
    project.catalogue.update_boxes(spoiled, labels.boxes_xyxy[3:4])
    assert int(spoiled[0]) not in project.catalogue.read_features(LABEL_SET).ids
    assert len(compare_with_proposals(project, AgreementSettings()).agreement) == 0


def test_agreement_needs_proposals_or_a_detector(project) -> None:
    with pytest.raises(EmptyDatasetError, match="proposals") as caught:
        compare_with_proposals(project, AgreementSettings())
    assert "tilth preannotate" in str(caught.value.fix)


def test_agreement_with_a_detector_proposes_what_was_missed_once(project, sees) -> None:
    labels = project.catalogue.read()
    extra = labels.annotations
    truth = sees.truth
    moved = replace(truth.annotations, boxes_xyxy=truth.annotations.boxes_xyxy.copy())
    sees.truth = replace(truth, annotations=moved)
    moved.boxes_xyxy[0] = [0, 50, 12, 62]  # an object that nobody has drawn
    opened = opened_as("first", "bright", "dark")
    compared = compare_with_detector(project, opened, AgreementSettings())
    assert compared.agreement.counts()["missed"] == 1
    assert compared.dataset.annotations.id.tolist() == extra.id.tolist()
    assert propose_missed(project, compared, opened) == 1
    (proposal,) = proposals(project).annotations.id
    assert propose_missed(project, compared, opened) == 1, "in place of the earlier one"
    (proposal,) = proposals(project).annotations.id
    project.catalogue.review(np.array([proposal]), ReviewState.REJECTED)
    again = compare_with_detector(project, opened, AgreementSettings())
    assert again.agreement.counts()["missed"] == 0, "somebody has said that it is none"


def test_labels_of_classes_that_the_detector_does_not_know_are_not_compared(project, sees) -> None:
    opened = opened_as("dogs", "dog")
    with pytest.raises(EmptyDatasetError, match="no label to compare"):
        compare_with_detector(project, opened, AgreementSettings())
    compared = compare_with_detector(
        project, opened_as("bright", "bright", "dog"), AgreementSettings()
    )
    names = {
        compared.dataset.categories[c].name for c in compared.dataset.annotations.category_index
    }
    assert names == {"bright"}


def test_darknets_spellings_are_the_same_classes() -> None:
    mapping = map_classes(["motorbike", "tvmonitor"], ["tv", "motorcycle"], {})
    assert mapping.rows == (1, 0)


@pytest.mark.parametrize("given", [{"persn": "bright"}, {"person": "brigth"}])
def test_a_class_that_does_not_exist_is_refused_with_the_nearest(given: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="has no class") as caught:
        map_classes(["person"], ["bright", "dark"], given)
    assert "did you mean" in str(caught.value.fix)


@pytest.mark.parametrize("wrong", [{"score": 0.0}, {"iou": 1.5}, {"split": "dev"}])
def test_settings_that_cannot_be_used_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        PreannotateSettings(**wrong)
