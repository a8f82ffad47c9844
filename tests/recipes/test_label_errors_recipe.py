"""Rows are judged by classifiers that have not seen them; what is found is written and stored."""

from __future__ import annotations

import cv2
import numpy as np
import pyarrow as pa
import pytest

from tilth.curate.label_error_records import LABEL_ERROR_SET
from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.directories import images_from_directory
from tilth.data.project import Project
from tilth.data.records import Category, Geometry, ReviewState, Source, Split
from tilth.errors import DataError, EmptyDatasetError, SettingsError, TrainingError
from tilth.recipes.catalogue_labels import catalogue_labels
from tilth.recipes.classify import labelled_rows
from tilth.recipes.classify_settings import settings
from tilth.recipes.held_out_probabilities import held_out_probabilities, probability_table
from tilth.recipes.label_error_groups import duplicate_groups
from tilth.recipes.label_errors import LabelSearchSettings, search_label_errors
from tilth.recipes.probability_file import read_probabilities
from tilth.recipes.table_files import read_table, write_table

WORDS = ("red", "green", "blue")
TINY = (
    *("train.steps=60", "train.evaluate_every=30", "train.checkpoint_every=60"),
    *("train.device=cpu", "text.num_embedded=16", "text.num_hidden=8", "text.dropout=0.0"),
    *("train.learning_rate=0.05", "train.warmup_steps=5"),
)
SMALL = ("picture.size=16", "picture.width=4", "picture.blocks=[1,1]", "batch_size=8")


def tiny(*overrides):
    return settings(overrides=[*TINY, *overrides])


def texts(num=150, wrong=15, seed=0):
    """The class is the only colour in the text; some labels say another one."""
    rng = np.random.default_rng(seed)
    true = np.arange(num) % 3
    given = true.copy()
    bad = rng.choice(num, wrong, replace=False)
    given[bad] = (true[bad] + 1) % 3
    filler = np.array(["the", "a", "some", "very", "old", "thing"])
    rows = [
        " ".join([*rng.choice(filler, 3), WORDS[label], *rng.choice(filler, 2), f"n{number}"])
        for number, label in enumerate(true)
    ]
    table = pa.table(
        {
            "unstructured_text": rows,
            "label": [WORDS[label] for label in given],
            "part": ["train" if number < num - 30 else "test" for number in range(num)],
            "author": [f"author {number // 2}" for number in range(num)],
        }
    )
    return table, np.sort(bad)


@pytest.fixture
def project(tmp_path):
    return Project.init(tmp_path / "field")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search of texts, once: its project, table, wrong rows and result."""
    folder = tmp_path_factory.mktemp("searched")
    project = Project.init(folder / "field")
    table, bad = texts()
    write_table(table, folder / "texts.parquet")
    found = search_label_errors(
        project.root,
        data=folder / "texts.parquet",
        settings=tiny(),
        search=LabelSearchSettings(folds=3),
        name="first",
        progress=False,
    )
    return folder, table, bad, found


def test_wrong_labels_of_texts_are_found_and_named(searched):
    _, table, bad, found = searched
    listed = [row["row"] for row in found["errors"]]
    hits = len(set(listed) & set(bad.tolist()))
    assert hits >= 0.8 * len(listed)
    assert hits >= 0.6 * len(bad)
    first = found["errors"][0]
    text = table["unstructured_text"][first["row"]].as_py()
    assert first["suggested_label"] in text.split()
    assert first["given_label"] == table["label"][first["row"]].as_py()
    assert text.startswith(first["name"])
    low, high = found["noise"]["share_wrong_interval"]
    assert low <= found["noise"]["share_wrong"] <= high


def test_every_row_stays_with_its_score(searched):
    _, table, _, found = searched
    labels = read_table(found["labels"])
    assert labels["row"].to_pylist() == list(range(len(table)))
    assert labels["given_label"].to_pylist() == table["label"].to_pylist()
    listed = read_table(found["list"])
    assert listed["rank"].to_pylist() == list(range(1, found["found"] + 1))
    assert labels.filter(labels["is_error"])["row"].to_pylist() == sorted(listed["row"].to_pylist())


def test_probabilities_say_who_judged(searched):
    _, _, _, found = searched
    written = read_table(found["probabilities"])
    assert set(written["fold"].to_pylist()) == {0, 1, 2}
    models = {
        (fold, model)
        for fold, model in zip(
            written["fold"].to_pylist(), written["model"].to_pylist(), strict=True
        )
    }
    assert len(models) == 3
    chances = np.stack([written[f"probability of {word}"].to_numpy() for word in sorted(WORDS)])
    np.testing.assert_allclose(chances.sum(axis=0), 1, atol=1e-5)


def test_page_shows_matrix_and_list(searched):
    _, _, _, found = searched
    page = found["report"].read_text(encoding="utf-8")
    assert "Noise matrix" in page
    assert "No label was changed" in page
    assert found["errors"][0]["name"][:10] in page
    assert "<script" not in page


def test_given_probabilities_find_the_same_and_train_nothing(searched, project):
    folder, _, _, found = searched
    again = search_label_errors(
        project.root,
        data=folder / "texts.parquet",
        settings=tiny(),
        search=LabelSearchSettings(folds=3),
        name="given",
        probabilities=found["probabilities"],
        progress=False,
    )
    assert [row["row"] for row in again["errors"]] == [row["row"] for row in found["errors"]]
    assert not (again["folder"] / "repeat-0").exists()


def test_search_goes_on_where_it_stopped_and_is_then_the_same(searched, tmp_path, monkeypatch):
    from tilth.recipes import held_out_probabilities as module

    _, table, _, found = searched
    rows, train, calls = labelled_rows(table, tiny(), progress=False), module.train_classifier, []

    def stops(*arguments, **named):
        calls.append(named["run_dir"].name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **named)

    monkeypatch.setattr(module, "train_classifier", stops)
    options = {"folder": tmp_path / "run", "settings": tiny(), "folds": 3, "progress": False}
    options["groups"] = duplicate_groups(rows)
    with pytest.raises(KeyboardInterrupt):
        held_out_probabilities(rows, **options)
    record = (tmp_path / "run" / "repeat-0" / "fold-0" / "metrics.jsonl").read_bytes()
    done = held_out_probabilities(rows, **options)
    assert (tmp_path / "run" / "repeat-0" / "fold-0" / "metrics.jsonl").read_bytes() == record
    written = read_table(found["probabilities"])
    expected = np.stack([written[f"probability of {w}"].to_numpy() for w in sorted(WORDS)], axis=1)
    np.testing.assert_array_equal(done.probabilities, expected)
    with pytest.raises(TrainingError, match="another run"):
        held_out_probabilities(rows, **{**options, "folds": 4})


def test_no_judge_has_seen_the_row_or_its_twin(tmp_path, monkeypatch):
    from tilth.recipes import held_out_probabilities as module

    table, _ = texts(60, 0)
    said = table["unstructured_text"].to_pylist()
    said[1] = said[0].upper().replace(" ", "  ") + "!"
    table = table.set_column(0, "unstructured_text", pa.array(said))
    rows, held = labelled_rows(table, tiny(), progress=False), []
    train = module.train_classifier

    def watched(data, **named):
        held.append(named["held_out_rows"])
        return train(data, **named)

    monkeypatch.setattr(module, "train_classifier", watched)
    options = {"settings": tiny("train.steps=1", "train.warmup_steps=0"), "progress": False}
    groups = duplicate_groups(rows)
    done = held_out_probabilities(rows, folder=tmp_path, folds=3, groups=groups, **options)
    assert groups[0] == groups[1]
    assert len(np.unique(groups)) == 59
    np.testing.assert_array_equal(np.sort(np.concatenate(held)), np.arange(60))
    assert done.fold[0, 0] == done.fold[0, 1]


def test_repeats_are_averaged_and_told_apart(tmp_path):
    table, _ = texts(45, 0)
    rows = labelled_rows(table, tiny(), progress=False)
    short = tiny("train.steps=2", "train.warmup_steps=0")
    done = held_out_probabilities(
        rows, folder=tmp_path, settings=short, folds=2, repeats=2, progress=False
    )
    assert done.seeds[0] != done.seeds[1]
    assert (done.fold[0] != done.fold[1]).any()
    written = probability_table(done, rows.rows, rows.labels, rows.class_names)
    assert {"fold of repeat 0", "model of repeat 1"} <= set(written.column_names)
    with pytest.raises(SettingsError, match="nothing would be judged"):
        held_out_probabilities(rows, folder=tmp_path, settings=short, repeats=0, progress=False)


def test_only_the_chosen_rows_are_searched(project, tmp_path):
    table, _ = texts(90, 6)
    chances = np.full((90, 3), 0.2)
    chances[np.arange(90), np.arange(90) % 3] = 0.6
    named = dict(zip(("red", "green", "blue"), chances.T, strict=True))
    write_table(table, tmp_path / "texts.csv")
    write_table(pa.table({f"probability of {k}": v for k, v in named.items()}), tmp_path / "p.csv")
    found = search_label_errors(
        project.root,
        data=tmp_path / "texts.csv",
        settings=tiny(),
        search=LabelSearchSettings(only="part=train", group="author"),
        name="train",
        probabilities=tmp_path / "p.csv",
        progress=False,
    )
    assert found["rows"] == 60
    assert max(row["row"] for row in found["errors"]) < 60
    for only, error in (("part=gone", EmptyDatasetError), ("nothing=1", SettingsError)):
        with pytest.raises(error):
            search_label_errors(
                project.root,
                data=tmp_path / "texts.csv",
                settings=tiny(),
                search=LabelSearchSettings(only=only),
                name="none",
                progress=False,
            )


def bright_and_dark(root, *, count=16, swapped=2):
    """Two classes of pictures, the first few of each in the other's folder."""
    rng = np.random.default_rng(0)
    for name, level, other in (("bright", 200, "dark"), ("dark", 40, "bright")):
        for number in range(count):
            pixels = rng.integers(level - 30, level + 30, size=(20, 24, 3), dtype=np.uint8)
            folder = root / (other if number < swapped else name)
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{name}{number}.png"), pixels)
    return root


def test_pictures_in_the_wrong_folder_are_found(project, tmp_path):
    found = search_label_errors(
        project.root,
        data=bright_and_dark(tmp_path / "photos"),
        settings=tiny(*SMALL),
        search=LabelSearchSettings(folds=2),
        name="photos",
        progress=False,
    )
    listed = [row["name"] for row in found["errors"][:4]]
    expected = {"dark/bright0.png", "dark/bright1.png", "bright/dark0.png", "bright/dark1.png"}
    assert set(listed) == expected
    assert "data:image/jpeg;base64," in found["report"].read_text(encoding="utf-8")
    assert len(list((tmp_path / "photos").rglob("*.png"))) == 32


def test_the_same_shot_in_another_size_is_a_near_duplicate(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    smooth = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (320, 240))
    other = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (320, 240))
    cv2.imwrite(str(tmp_path / "a" / "1.png"), smooth)
    cv2.imwrite(str(tmp_path / "a" / "2.png"), other)
    cv2.imwrite(str(tmp_path / "b" / "1.jpg"), smooth, [cv2.IMWRITE_JPEG_QUALITY, 95])
    for name in ("3", "4"):  # of one colour, but two of them
        level = 10 * int(name)
        cv2.imwrite(str(tmp_path / "b" / f"{name}.png"), np.full((9, 9, 3), level, np.uint8))
    data = images_from_directory(tmp_path, shuffle=False)
    groups = dict(zip([p.name for p in data.files], duplicate_groups(data).tolist(), strict=False))
    numbers = duplicate_groups(data)
    places = {path.relative_to(tmp_path).as_posix(): n for n, path in enumerate(data.files)}
    assert numbers[places["a/1.png"]] == numbers[places["b/1.jpg"]]
    assert len(set(numbers.tolist())) == 4
    assert groups["3.png"] != groups["4.png"]


def whole_picture_labels(project, folder, *, split=Split.NONE, twice=False):
    """The pictures of ``bright_and_dark`` in a catalogue, with a label for the whole of each."""
    files = sorted((bright_and_dark(folder)).rglob("*.png"))
    count = len(files)
    media = np.arange(count)
    if twice:
        media[1] = 0
    project.import_dataset(
        Dataset(
            categories=(Category(name="dark", origin_id=7), Category(name="bright", origin_id=9)),
            media=MediaColumns(
                id=np.arange(1, count + 1),
                uri=[str(path) for path in files],
                width=np.full(count, 24, np.int32),
                height=np.full(count, 20, np.int32),
                split=np.full(count, split, np.int8),
                parent_id=np.full(count, -1),
            ),
            annotations=AnnotationColumns(
                id=np.arange(1, count + 1),
                media_index=media,
                category_index=np.array([int(path.parent.name == "bright") for path in files]),
                boxes_xyxy=np.zeros((count, 4)),
                area=np.zeros(count),
                is_crowd=np.zeros(count, bool),
                score=np.full(count, np.nan, np.float32),
                source=np.full(count, Source.HUMAN, np.uint8),
                review_state=np.full(count, ReviewState.UNREVIEWED, np.uint8),
                geometry=np.full(count, Geometry.LABEL, np.uint8),
                segmentation=[None] * count,
                attributes=[None] * count,
            ),
        ),
        task="classification",
        origin="folder",
    )


def test_scores_of_a_projects_labels_stand_in_its_catalogue(project):
    whole_picture_labels(project, project.root / "photos")
    found = search_label_errors(
        project.root,
        data=None,
        settings=tiny(*SMALL),
        search=LabelSearchSettings(folds=2),
        name="labels",
        progress=False,
    )
    assert {row["name"].rpartition("/")[2] for row in found["errors"][:4]} == {
        *("bright0.png", "bright1.png", "dark0.png", "dark1.png")
    }
    stored = project.catalogue.read_features(LABEL_ERROR_SET)
    assert stored.columns == ("is_error", "quality", "suggested", "margin")
    assert len(stored.ids) == 32
    assert stored.values[:, 0].sum() == found["found"]
    labels = project.catalogue.read("classification").annotations
    accused = stored.values[:, 0] == 1
    own = labels.category_index[np.searchsorted(labels.id, stored.ids)]
    assert (stored.values[accused, 2] == 1 - own[accused]).all()


def test_validation_and_test_pictures_are_left_alone(project):
    whole_picture_labels(project, project.root / "photos", split=Split.TEST)
    with pytest.raises(EmptyDatasetError, match="label for the whole"):
        catalogue_labels(project, task="classification")
    assert len(catalogue_labels(project, task="classification", split="test").uris) == 32


def test_picture_of_two_classes_is_refused(project):
    whole_picture_labels(project, project.root / "photos", twice=True)
    with pytest.raises(DataError, match="two labels"):
        catalogue_labels(project, task="classification")


def test_probabilities_are_read_by_row_number_and_by_place(tmp_path):
    table = pa.table(
        {"row": [2, 0, 1], "probability of b": [0.2, 0.0, 0.1], "probability of a": [0.8, 1, 0.9]}
    )
    write_table(table, tmp_path / "p.parquet")
    found = read_probabilities(tmp_path / "p.parquet", ("a", "b"), np.array([0, 2]))
    np.testing.assert_allclose(found, [[1, 0], [0.8, 0.2]], rtol=1e-6)
    halves = np.array([[1, 0], [0.5, 0.5], [0.25, 0.75]], np.float16)
    np.savez(tmp_path / "p.npz", probs=halves, labels=np.arange(3))
    np.save(tmp_path / "p.npy", halves)
    for name in ("p.npz", "p.npy"):
        found = read_probabilities(tmp_path / name, ("a", "b"), np.array([0, 2]))
        np.testing.assert_array_equal(found, halves[[0, 2]])
        assert found.dtype == np.float16


def test_probabilities_that_cannot_be_placed_are_refused(tmp_path):
    write_table(pa.table({"row": [0], "a": [1.0], "b": [0.0]}), tmp_path / "p.csv")
    np.savez(tmp_path / "two.npz", one=np.ones((2, 2)), two=np.ones((2, 2)))
    (tmp_path / "p.txt").write_text("0.5 0.5")
    (tmp_path / "broken.npz").write_bytes(b"nothing")
    for name, classes, words in (
        ("p.csv", ("a", "b"), "lacks probabilities"),
        ("p.csv", ("a", "c"), "no column of probabilities"),
        ("two.npz", ("a", "b"), "no one array"),
        ("p.txt", ("a", "b"), "of this kind"),
        ("broken.npz", ("a", "b"), "cannot be read"),
        ("gone.csv", ("a", "b"), "not there"),
    ):
        with pytest.raises(DataError, match=words):
            read_probabilities(tmp_path / name, classes, np.array([0, 1]))


def test_searches_that_cannot_be_made():
    for changes in ({"folds": 1}, {"repeats": 0}, {"only": "part"}):
        with pytest.raises(SettingsError):
            LabelSearchSettings(**changes)
