"""One catalogue on two databases: what goes in comes out, once, whatever the order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_sets import small_dataset

from tilth.data import importing
from tilth.data.catalogue import Catalogue
from tilth.data.dataset import Dataset
from tilth.data.records import Geometry, ReviewState, Source, Split, TaskKind, Transform
from tilth.errors import CatalogueError, DataError, EmptyDatasetError, SettingsError


def assert_same_labels(ours: Dataset, theirs: Dataset) -> None:
    """Equal but for the ids of annotations, which the catalogue gives."""
    assert ours.categories == theirs.categories
    assert list(ours.media.uri) == list(theirs.media.uri)
    for name in ("width", "height", "split", "parent_id"):
        np.testing.assert_array_equal(getattr(ours.media, name), getattr(theirs.media, name))
    a, b = ours.annotations, theirs.annotations
    for name in ("media_index", "category_index", "boxes_xyxy", "area", "is_crowd", "score"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    for name in ("source", "review_state", "geometry"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert list(a.segmentation) == list(b.segmentation)
    assert list(a.attributes) == list(b.attributes)


def test_read_gives_back_what_was_imported(catalogue: Catalogue) -> None:
    dataset = small_dataset()
    report = catalogue.import_dataset(dataset)
    assert (report.media_added, report.annotations_added, report.problems) == (4, 9, ())
    assert_same_labels(catalogue.read(), dataset)


def test_media_keep_the_ids_of_their_label_file_while_those_are_free(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    assert catalogue.read().media.id.tolist() == [100, 110, 120, 130]
    catalogue.import_dataset(small_dataset(prefix="more/"))  # the same ids for other pictures
    ids = catalogue.read().media.id
    assert len(np.unique(ids)) == 8
    assert ids[:4].tolist() == [100, 110, 120, 130]


def test_importing_twice_changes_nothing(catalogue: Catalogue) -> None:
    dataset = small_dataset()
    catalogue.import_dataset(dataset)
    before = catalogue.create_version("before")
    report = catalogue.import_dataset(dataset)
    assert not report.changed
    assert (report.media_unchanged, report.annotations_unchanged) == (4, 9)
    assert catalogue.create_version("after").digest == before.digest


def test_changed_labels_are_updated_and_new_ones_added(catalogue: Catalogue) -> None:
    dataset = small_dataset()
    catalogue.import_dataset(dataset)
    boxes = dataset.annotations.boxes_xyxy.copy()
    boxes[4] += 1.0
    shapes = list(dataset.annotations.segmentation)
    shapes[1] = b"[[1,2,3,4,5,6]]"
    changed = replace(
        dataset, annotations=replace(dataset.annotations, boxes_xyxy=boxes, segmentation=shapes)
    )
    report = catalogue.import_dataset(changed)
    assert (report.annotations_updated, report.annotations_unchanged) == (2, 7)
    assert_same_labels(catalogue.read(), changed)


def test_reviewed_labels_win_over_the_label_file(catalogue: Catalogue) -> None:
    dataset = small_dataset()
    catalogue.import_dataset(dataset)
    ids = catalogue.read().annotations.id
    catalogue.update_boxes(ids[:1], np.array([[5.0, 5.0, 9.0, 9.0]]))
    report = catalogue.import_dataset(dataset)
    assert (report.annotations_kept, report.annotations_updated) == (1, 0)
    labels = catalogue.read().annotations
    assert labels.boxes_xyxy[0].tolist() == [5.0, 5.0, 9.0, 9.0]
    assert labels.area[0] == 16.0
    assert labels.review_state[0] == ReviewState.CORRECTED


def test_labels_that_a_file_no_longer_has_stay_and_are_counted(catalogue: Catalogue) -> None:
    dataset = small_dataset()
    catalogue.import_dataset(dataset)
    fewer = dataset.keep_annotations(np.arange(9) != 3)
    report = catalogue.import_dataset(fewer)
    assert report.annotations_absent == 1
    assert len(catalogue.read().annotations) == 9


def test_overwriting_takes_what_the_file_says_even_against_review(catalogue: Catalogue) -> None:
    dataset = small_dataset()
    catalogue.import_dataset(dataset, origin="ann")
    catalogue.import_dataset(dataset, origin="bob")
    ids = catalogue.read().annotations.id
    rows = np.flatnonzero(np.isin(catalogue.read().media.id, [100, 110]))
    catalogue.write_features("box", ["width"], "annotation", ids, np.ones((18, 1)))
    catalogue.update_boxes(ids[:1], np.array([[5.0, 5.0, 9.0, 9.0]]))
    fewer = dataset.take(rows).keep_annotations(np.arange(6) != 3)
    report = catalogue.import_dataset(fewer, origin="ann", overwrite=True)
    assert (report.annotations_removed, report.annotations_updated) == (1, 1)
    assert (report.annotations_kept, report.annotations_absent) == (0, 0)
    labels = catalogue.read().annotations
    assert len(labels) == 17, "neither bob's labels nor those of other pictures are touched"
    assert labels.boxes_xyxy[0].tolist() == dataset.annotations.boxes_xyxy[0].tolist()
    assert labels.review_state[0] == ReviewState.UNREVIEWED
    again = catalogue.import_dataset(dataset, origin="ann")
    assert again.annotations_added == 1
    new = np.setdiff1d(catalogue.read().annotations.id, labels.id)
    assert catalogue.missing_features("box", new).tolist() == new.tolist(), "nothing inherited"


@pytest.mark.parametrize(
    ("geometry", "kind"),
    [
        (Geometry.LABEL, TaskKind.CLASSIFICATION),
        (Geometry.BOX, TaskKind.OBJECT_DETECTION),
        (Geometry.POLYGON, TaskKind.INSTANCE_SEGMENTATION),
        (Geometry.RLE, TaskKind.SEGMENTATION),
    ],
)
def test_a_task_is_of_the_kind_of_its_first_labels(
    geometry: Geometry, kind: TaskKind, catalogue: Catalogue
) -> None:
    dataset = small_dataset()
    labels = replace(
        dataset.annotations,
        geometry=np.full(9, geometry, np.uint8),
        is_crowd=np.zeros(9, np.bool_),
    )
    catalogue.import_dataset(replace(dataset, annotations=labels), task="first")
    catalogue.import_dataset(small_dataset(), task="named", kind=TaskKind.SEGMENTATION)
    assert catalogue.task_kinds() == {"first": kind, "named": TaskKind.SEGMENTATION}


def test_two_origins_in_one_task_are_two_sets_of_labels(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset(), origin="ann")
    report = catalogue.import_dataset(small_dataset(), origin="bob")
    assert (report.media_added, report.annotations_added) == (0, 9)
    assert len(catalogue.read().annotations) == 18


def test_the_same_labels_of_another_origin_are_refused_when_asked(catalogue: Catalogue) -> None:
    dataset = small_dataset()
    catalogue.import_dataset(dataset, origin="ann")
    fewer = dataset.keep_annotations(np.arange(9) < 5)
    boxes = fewer.annotations.boxes_xyxy.copy()
    boxes[0] += 1.0
    renumbered = replace(fewer.annotations, id=fewer.annotations.id + 100, boxes_xyxy=boxes)
    again = replace(fewer, annotations=renumbered)
    with pytest.raises(DataError, match="4 labels are in the catalogue already") as caught:
        catalogue.import_dataset(again, origin="bob", allow_duplicates=False)
    assert "--origin ann" in str(caught.value.fix)
    assert len(catalogue.read().annotations) == 9, "a refused import leaves nothing"
    assert catalogue.import_dataset(again, origin="bob").annotations_added == 5
    # Kept twice on purpose: importing them again is an update of their own origin.
    assert not catalogue.import_dataset(again, origin="bob", allow_duplicates=False).changed
    assert not catalogue.import_dataset(dataset, origin="ann", allow_duplicates=False).changed


def test_labels_of_another_task_are_no_duplicates(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset(), task="cars", origin="ann")
    report = catalogue.import_dataset(
        small_dataset(), task="people", origin="bob", allow_duplicates=False
    )
    assert report.annotations_added == 9


def test_tasks_do_not_see_each_others_media(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset(), task="cars")
    catalogue.import_dataset(small_dataset(prefix="other/"), task="people")
    assert len(catalogue.read("cars").media) == 4
    with pytest.raises(DataError, match="no such task") as caught:
        catalogue.read("trees")
    assert caught.value.expected == "cars, people"


def test_a_new_catalogue_reads_as_empty(catalogue: Catalogue) -> None:
    assert len(catalogue.read().media) == 0
    with pytest.raises(EmptyDatasetError):
        catalogue.create_version("v1")


def test_categories_are_matched_by_name_and_new_ones_appended(catalogue: Catalogue) -> None:
    dataset = small_dataset()
    catalogue.import_dataset(dataset)
    person, light, dog = dataset.categories
    renamed = replace(dog, name="cat")  # another class under an id that is taken
    other = replace(small_dataset(prefix="b/"), categories=(light, person, renamed))
    report = catalogue.import_dataset(other)
    assert [problem.action for problem in report.problems] == ["given a new id"]
    categories = catalogue.read().categories
    assert [c.name for c in categories] == ["person", "traffic light", "dog", "cat"]
    assert [c.origin_id for c in categories] == [1, 10, 3, 11]


def test_one_picture_under_two_ids_is_joined_and_reported(catalogue: Catalogue) -> None:
    dataset = small_dataset()
    media = replace(dataset.media, uri=["a.jpg", "a.jpg", "b.jpg", "c.jpg"])
    report = catalogue.import_dataset(replace(dataset, media=media))
    assert report.problems[0].kind == "picture under two ids"
    read = catalogue.read()
    assert list(read.media.uri) == ["a.jpg", "b.jpg", "c.jpg"]
    assert np.bincount(read.annotations.media_index).tolist() == [6, 3]


def test_sizes_and_splits_that_were_missing_are_filled_later(catalogue: Catalogue) -> None:
    dataset = small_dataset()
    unknown = replace(dataset.media, width=np.zeros(4, np.int32), height=np.zeros(4, np.int32))
    catalogue.import_dataset(replace(dataset, media=unknown))
    split = replace(dataset.media, split=np.full(4, Split.TEST, dtype=np.int8))
    report = catalogue.import_dataset(replace(dataset, media=split))
    assert report.media_updated == 4
    read = catalogue.read().media
    assert (read.width.tolist(), read.split.tolist()) == ([100] * 4, [2] * 4)


def test_another_size_is_reported_and_not_taken(catalogue: Catalogue) -> None:
    dataset = small_dataset()
    catalogue.import_dataset(dataset)
    larger = replace(dataset.media, width=dataset.media.width + 1)
    report = catalogue.import_dataset(replace(dataset, media=larger))
    assert report.problems[0].count == 4
    assert catalogue.read().media.width.tolist() == [100] * 4


def test_a_failed_import_leaves_nothing(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue.import_dataset(small_dataset())
    before = catalogue.create_version("before").digest

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("half-way")

    monkeypatch.setattr(importing, "insert_labels", fail)
    with pytest.raises(RuntimeError, match="half-way"):
        catalogue.import_dataset(small_dataset(prefix="new/"))
    monkeypatch.undo()
    assert catalogue.create_version("before").digest == before


def test_category_boxes_equal_a_filter_of_the_columns(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset(num_media=7, labels_each=4))
    dataset = catalogue.read()
    chosen = dataset.annotations.category_index == 1
    media, boxes = catalogue.category_boxes("traffic light")
    np.testing.assert_array_equal(boxes, dataset.annotations.boxes_xyxy[chosen])
    np.testing.assert_array_equal(media, dataset.media.id[dataset.annotations.media_index[chosen]])
    with pytest.raises(DataError, match="no such category"):
        catalogue.category_boxes("unicorn")


def test_update_boxes_refuses_what_is_no_box(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    ids = catalogue.read().annotations.id
    for box in ([5, 5, 5, 9], [np.nan, 0, 1, 1], [9, 9, 1, 1]):
        with pytest.raises(DataError, match="must be finite"):
            catalogue.update_boxes(ids[:1], np.array([box], dtype=np.float64))
    with pytest.raises(DataError, match="does not have"):
        catalogue.update_boxes(np.array([99_999]), np.array([[0.0, 0.0, 1.0, 1.0]]))


def derived_of(dataset: Dataset, rows: list[int]) -> Dataset:
    taken = dataset.take(np.array(rows))
    uris = [f"derived/{i}-{row}.jpg" for i, row in enumerate(rows)]
    return replace(taken, media=replace(taken.media, uri=uris, parent_id=taken.media.id))


def test_derived_media_know_parent_and_transform_and_share_the_split(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    dataset = catalogue.read()
    catalogue.set_splits(dataset.media.id, np.array([0, 2, 1, 0], dtype=np.int8))
    transforms = [Transform(name="flip", seed=i, parameters={"axis": "x"}) for i in range(3)]
    derived = derived_of(dataset, [0, 1, 1])
    report = catalogue.add_derived(derived, transforms)
    assert (report.media_added, report.annotations_added) == (3, 9)
    read = catalogue.read()
    made = read.media.parent_id >= 0
    assert read.media.parent_id[made].tolist() == [100, 110, 110]
    assert read.media.split[made].tolist() == [0, 2, 2]
    assert (read.annotations.source[made[read.annotations.media_index]] == Source.SYNTHETIC).all()
    again = catalogue.add_derived(derived, transforms)
    assert not again.changed


def test_derived_media_follow_when_their_parent_moves(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    dataset = catalogue.read()
    catalogue.add_derived(derived_of(dataset, [0]), [Transform(name="flip", seed=0)])
    child = catalogue.read().media.id[-1]
    catalogue.set_splits(np.array([100]), np.array([Split.TEST], dtype=np.int8))
    assert catalogue.read().media.split[-1] == Split.TEST
    with pytest.raises(DataError, match="leak"):
        catalogue.set_splits(np.array([child]), np.array([Split.TRAIN], dtype=np.int8))
    assert catalogue.read().media.split[-1] == Split.TEST


def test_a_derived_picture_needs_its_parent(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    derived = derived_of(catalogue.read(), [0])
    orphan = replace(derived, media=replace(derived.media, parent_id=np.array([9_999])))
    with pytest.raises(DataError, match="parent"):
        catalogue.add_derived(orphan, [Transform(name="flip", seed=0)])
    with pytest.raises(DataError, match="one transform"):
        catalogue.add_derived(derived, [])


def test_splits_of_unknown_media_are_refused(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    with pytest.raises(DataError, match="does not have"):
        catalogue.set_splits(np.array([5]), np.array([0], dtype=np.int8))


def test_tags_and_content_hashes_are_kept(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    catalogue.tag_media(np.array([110, 100]), "night")
    catalogue.tag_media(np.array([110, 130]), "night")
    assert catalogue.tagged_media("night").tolist() == [100, 110, 130]
    catalogue.set_content_hashes(np.array([110]), ["ab"])
    assert catalogue.content_hashes(np.array([100, 110])) == [None, "ab"]


def test_runs_keep_the_digest_that_they_saw(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    digest = catalogue.create_version("v1").digest
    catalogue.record_run("first", digest, {"steps": 7}, {"ap": 0.5})
    (run,) = catalogue.runs()
    assert (run.name, run.digest, run.settings, run.results) == (
        "first",
        digest,
        {"steps": 7},
        {"ap": 0.5},
    )


def test_media_attributes_survive(catalogue: Catalogue) -> None:
    dataset = small_dataset()
    media = replace(dataset.media, attributes=[b'{"license":3}', None, None, b"{}"])
    catalogue.import_dataset(replace(dataset, media=media))
    assert list(catalogue.read().media.attributes) == [b'{"license":3}', None, None, b"{}"]


def test_a_catalogue_is_made_once_and_opened_often(database_url: str) -> None:
    with pytest.raises(CatalogueError, match="no catalogue"):
        Catalogue.open(database_url)
    Catalogue.create(database_url).close()
    with pytest.raises(CatalogueError, match="already"):
        Catalogue.create(database_url)
    assert len(Catalogue.open(database_url).read().media) == 0


def test_a_database_of_another_kind_is_refused() -> None:
    with pytest.raises(SettingsError, match="SQLite or PostgreSQL"):
        Catalogue.open("mysql://localhost/x")
    with pytest.raises(SettingsError, match="cannot be read"):
        Catalogue.open("not a url")


def test_a_server_that_is_away_is_an_error_without_the_password() -> None:
    with pytest.raises(CatalogueError) as caught:
        Catalogue.open("postgresql+psycopg://someone:secret@127.0.0.1:1/x")
    assert "secret" not in str(caught.value)


def test_more_media_than_a_statement_may_bind_are_matched(catalogue: Catalogue) -> None:
    dataset = small_dataset(num_media=2_500, labels_each=1)
    catalogue.import_dataset(dataset)
    assert not catalogue.import_dataset(dataset).changed


def test_progress_is_told_in_rows(catalogue: Catalogue) -> None:
    seen: list[int] = []
    catalogue.import_dataset(small_dataset(), advance=seen.append)
    assert sum(seen) == 9
