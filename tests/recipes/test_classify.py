"""The classification recipe learns, resumes, says what it cannot use, and keeps every row."""

import json

import cv2
import numpy as np
import pyarrow as pa
import pytest

from tilth.data.directories import images_from_directory
from tilth.errors import DataError, EmptyDatasetError, MediaError, SettingsError, TrainingError
from tilth.metrics.classification import classification_scores
from tilth.recipes.classifier import load_classifier
from tilth.recipes.classify import labelled_rows, train_classifier
from tilth.recipes.classify_settings import settings
from tilth.recipes.picture_folder import PictureFolder
from tilth.recipes.report.classification import write_classification_report
from tilth.recipes.table_files import read_table, with_predictions, write_table
from tilth.train.run import Run

WORDS = ("red", "green", "blue")
TINY = (
    *("train.steps=120", "train.evaluate_every=40", "train.checkpoint_every=40"),
    *("train.device=cpu", "text.num_embedded=16", "text.num_hidden=8", "text.dropout=0.0"),
    "train.learning_rate=0.02",
)
PICTURES = ("picture.size=16", "picture.width=4", "picture.blocks=[1,1]", "batch_size=8", *TINY)


def tiny(*overrides):
    return settings(overrides=[*TINY, *overrides])


def texts(num=150, seed=0):
    """The class is the only colour in the text; a number and a category stand beside it."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=num)
    filler = np.array(["the", "a", "some", "very", "old", "thing"])
    rows = [
        " ".join([*rng.choice(filler, 3), WORDS[label], *rng.choice(filler, rng.integers(4))])
        for label in labels
    ]
    return pa.table(
        {
            "unstructured_text": rows,
            "label": [f"class {WORDS[label]}" for label in labels],
            "size": rng.normal(size=num),
            "shop": rng.choice(["north", "south"], size=num),
            "note": [f"row {number}" for number in range(num)],
        }
    )


def picture_folder(root, *, count=20):
    """Bright and dark pictures."""
    rng = np.random.default_rng(0)
    for name, level in (("bright", 200), ("dark", 40)):
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(level - 30, level + 30, size=(20, 24, 3), dtype=np.uint8)
            cv2.imwrite(str(root / name / f"{number}.png"), pixels)
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A text classifier, the table it was trained on, and its folder."""
    folder, table = tmp_path_factory.mktemp("trained") / "run", texts()
    options = tiny("data.numeric=['size']", "data.categorical=['shop']")
    rows = labelled_rows(table, options, progress=False)
    done = train_classifier(rows, run_dir=folder, settings=options, table=table, progress=False)
    return done, table, folder


def test_learns_the_word_that_tells(trained):
    done, _, _ = trained
    assert done.scores.accuracy > 0.9 > done.scores.majority_accuracy + 0.3
    assert done.scores.num_examples == done.num_rows["held out"] == 30
    assert sum(done.num_rows.values()) == 150


def test_predictions_stand_beside_the_rows(trained):
    done, table, folder = trained
    written = read_table(folder / "predictions.parquet")
    assert written.equals(done.predictions)
    assert written.select(table.column_names).equals(table)
    frame = written.to_pandas()
    named = frame[[f"probability of class {word}" for word in ("blue", "green", "red")]]
    np.testing.assert_allclose(named.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(named.max(axis=1), frame["probability"])
    held_out = frame[frame["part"] == "held out"]
    assert (held_out["prediction"] == held_out["label"]).mean() == done.scores.accuracy


def test_loaded_classifier_predicts_the_same(trained):
    done, table, folder = trained
    again = load_classifier(folder, device="cpu")
    rows = again.rows(table)
    np.testing.assert_array_equal(
        again.probabilities(rows), done.classifier.probabilities(done.classifier.rows(table))
    )
    best = [again.class_names[k] for k in again.probabilities(rows).argmax(axis=1)]
    assert best == done.predictions.column("prediction").to_pylist()


def test_report_shows_matrix_and_calibration(trained):
    done, _, _ = trained
    page = done.report.read_text(encoding="utf-8")
    for part in ("Confusion matrix", "Calibration", "class green", "expected calibration error"):
        assert part in page
    assert "<script" not in page
    assert f"{done.scores.accuracy:.1%}" in page


def test_new_rows_may_lack_things(trained):
    done, _, _ = trained
    table = pa.table(
        {
            "unstructured_text": ["a blue thing", None, "", "unheard words only"],
            "size": [0.0, 0.0, 1.0, 2.0],
            "shop": ["north", "south", "elsewhere", None],
        }
    )
    rows = done.classifier.rows(table)
    assert rows.rows.tolist() == [0, 2, 3]
    chances = done.classifier.probabilities(rows)
    assert done.classifier.class_names[chances[0].argmax()] == "class blue"
    assert np.isfinite(chances).all()


def test_label_unseen_in_training_is_refused(trained):
    done, table, _ = trained
    changed = table.set_column(1, "label", pa.array(["class mauve"] * len(table)))
    with pytest.raises(DataError, match="none of the 3 classes") as caught:
        done.classifier.rows(changed, labelled=True)
    assert "class mauve" in str(caught.value)


def test_words_of_held_out_rows_are_unknown(tmp_path):
    table = pa.table(
        {"unstructured_text": [f"word{n}" for n in range(40)], "label": [n % 2 for n in range(40)]}
    )
    options = tiny("train.steps=1", "train.warmup_steps=0")
    rows = labelled_rows(table, options, progress=False)
    done = train_classifier(rows, run_dir=tmp_path / "run", settings=options, progress=False)
    parts = done.predictions["part"].to_pylist()
    learned = {f"word{n}" for n, part in enumerate(parts) if part == "train"}
    assert set(done.classifier.vocabulary.tokens) == learned


def test_killed_run_goes_on_to_the_same_weights(tmp_path):
    rows, options = labelled_rows(texts(), tiny(), progress=False), tiny()
    whole = train_classifier(rows, run_dir=tmp_path / "a", settings=options, progress=False)

    class Killed(Exception):
        pass

    save = Run.save

    def save_and_die(run):
        save(run)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "save", save_and_die)
        with pytest.raises(Killed):
            train_classifier(rows, run_dir=tmp_path / "b", settings=options, progress=False)
    resumed = train_classifier(rows, run_dir=tmp_path / "b", settings=options, progress=False)
    assert resumed.fitted.resumed_from == 40
    assert resumed.predictions.equals(whole.predictions)


@pytest.mark.parametrize(
    "change", ["text.cell=lstm", "text.pooling=mean", "label_smoothing=0.1", "train.seed=1"]
)
def test_changed_settings_are_refused(trained, change):
    _, table, folder = trained
    options = tiny("data.numeric=['size']", "data.categorical=['shop']", change)
    rows = labelled_rows(table, options, progress=False)
    with pytest.raises(TrainingError, match="another run"):
        train_classifier(rows, run_dir=folder, settings=options, progress=False)


def test_temperature_changes_confidence_but_no_answer(trained, tmp_path):
    done, table, _ = trained
    options = tiny("data.numeric=['size']", "data.categorical=['shop']", "temperature=true")
    rows = labelled_rows(table, options, progress=False)
    scaled = train_classifier(rows, run_dir=tmp_path / "run", settings=options, progress=False)
    assert scaled.classifier.temperature != 1
    assert load_classifier(tmp_path / "run").temperature == scaled.classifier.temperature
    assert scaled.predictions["prediction"].equals(done.predictions["prediction"])
    assert not scaled.predictions["probability"].equals(done.predictions["probability"])


def test_balanced_weights_help_the_rare_class(tmp_path):
    rng = np.random.default_rng(0)
    labels = (np.arange(200) % 20 == 0).astype(int)
    rows = [f"{'odd' if label or rng.random() < 0.1 else 'even'} thing" for label in labels]
    table = pa.table({"unstructured_text": rows, "label": labels})
    recall = []
    for weights in ("none", "balanced"):
        options = tiny(f"class_weights={weights}")
        data = labelled_rows(table, options, progress=False)
        done = train_classifier(data, run_dir=tmp_path / weights, settings=options, progress=False)
        recall.append(done.scores.recall[1])
    assert recall[0] == 0  # one of three "odd" rows is rare: saying no is right more often
    assert recall[1] == 1


def test_pictures_are_classified(tmp_path):
    options = settings(overrides=[*PICTURES])
    pictures = images_from_directory(picture_folder(tmp_path / "data"), shuffle=False)
    done = train_classifier(pictures, run_dir=tmp_path / "run", settings=options, progress=False)
    assert done.scores.accuracy == 1
    assert done.predictions["file"][0].as_py() == "bright/0.png"
    again = load_classifier(tmp_path / "run", device="cpu")
    assert again.reads_pictures
    folder = PictureFolder.of(pictures, options.picture)
    np.testing.assert_allclose(
        again.probabilities(folder), done.classifier.probabilities(folder), atol=1e-6
    )


def test_broken_picture_is_named(tmp_path):
    root = picture_folder(tmp_path / "data", count=6)
    (root / "dark" / "3.png").write_bytes(b"\x89PNG no more")
    options = settings(overrides=[*PICTURES, "batch_size=4"])
    pictures = images_from_directory(root)
    with pytest.raises(MediaError) as caught:
        train_classifier(pictures, run_dir=tmp_path / "run", settings=options, progress=False)
    assert "dark/3.png" in str(caught.value)


def test_picture_batches_are_pure_functions_of_the_step(tmp_path):
    pictures = images_from_directory(picture_folder(tmp_path / "data", count=5), shuffle=False)
    folder = PictureFolder.of(pictures, settings(overrides=[*PICTURES]).picture)
    one = folder.torch(batch_size=4, seed=3)
    other = folder.torch(batch_size=4, seed=3)
    for step in (7, 0, 7, 2):
        assert one.batch(step)["images"].equal(other.batch(step)["images"])
        assert one.batch(step)["names"] == other.batch(step)["names"]
    rows = [row for step in range(len(one)) for row in one.batch(step)["row"].tolist()]
    assert sorted(rows) == list(range(10))
    plain = folder.torch(batch_size=4, shuffle=False)
    assert [name for batch in plain for name in batch["names"]] == [str(p) for p in folder.paths]


def test_weight_column_counts(tmp_path):
    """Rows of weight 0 teach nothing: half of the labels are wrong, and weigh nothing."""
    table = texts()
    wrong = np.arange(len(table)) % 2 == 1
    labels = np.where(wrong, "class red", np.array(table["label"].to_pylist()))
    table = table.set_column(1, "label", pa.array(labels.tolist()))
    table = table.append_column("trust", pa.array((~wrong).astype(float)))
    options = tiny("data.weight=trust")
    rows = labelled_rows(table, options, progress=False)
    done = train_classifier(rows, run_dir=tmp_path / "run", settings=options, progress=False)
    clean = texts()
    named = done.classifier.probabilities(done.classifier.rows(clean)).argmax(axis=1)
    answers = np.array(done.classifier.class_names)[named]
    assert (answers == np.array(clean["label"].to_pylist())).mean() > 0.9


def test_one_class_only_is_refused():
    table = pa.table({"unstructured_text": ["a", "b"], "label": ["same", "same"]})
    with pytest.raises(DataError, match="all 2 rows have the label 'same'"):
        labelled_rows(table, tiny(), progress=False)


def test_empty_cells_of_a_label_column_are_no_class(tmp_path):
    """As pandas and others write what is missing; a class called '' would be learnt from it."""
    path = tmp_path / "rows.csv"
    path.write_text("unstructured_text,label\nred,a\nblue,b\ngreen,\nrose,a\nsky,b\n")
    with pytest.raises(DataError, match="'label' has 1 missing value"):
        labelled_rows(read_table(path), tiny(), progress=False)
    rows = labelled_rows(read_table(path), tiny("data.on_missing=drop"), progress=False)
    assert rows.class_names == ("a", "b")
    assert rows.rows.tolist() == [0, 1, 3, 4]


def test_a_column_that_is_not_there_is_named_with_its_option():
    table = pa.table({"body": ["a", "b"], "label": [0, 1]})
    with pytest.raises(DataError, match="no column 'unstructured_text'") as caught:
        labelled_rows(table, tiny(), progress=False)
    assert "--text COLUMN" in str(caught.value)


def test_empty_frame_is_refused():
    table = pa.table(
        {"unstructured_text": pa.array([], pa.string()), "label": pa.array([], "int64")}
    )
    with pytest.raises(EmptyDatasetError):
        labelled_rows(table, tiny(), progress=False)


def test_too_few_rows_to_divide_are_refused(tmp_path):
    table = pa.table({"unstructured_text": ["a b", "b c", "c d", "d e"], "label": [0, 1, 0, 1]})
    rows = labelled_rows(table, tiny(), progress=False)
    with pytest.raises(DataError, match="split would be empty"):
        train_classifier(rows, run_dir=tmp_path, settings=tiny(), progress=False)


def test_unknown_setting_names_the_nearest():
    with pytest.raises(SettingsError, match="unknown setting") as caught:
        settings(overrides=["text.cel=gru"])
    assert "text.cell" in str(caught.value)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_tables_come_back_as_they_went(tmp_path, suffix):
    table = pa.table({"text": ['a, "b"\nc', "d\te"], "label": [1, 0], "share": [0.25, None]})
    write_table(table, tmp_path / f"rows{suffix}")
    assert read_table(tmp_path / f"rows{suffix}").to_pydict() == table.to_pydict()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.csv", None, "not there"),
        ("rows.xlsx", b"", "of this kind"),
        ("rows.csv", b"a,b\n1\n", "cannot be read"),
        ("rows.parquet", b"PAR1", "cannot be read"),
        ("rows.jsonl", b'{"a": ', "cannot be read"),
    ],
)
def test_tables_that_cannot_be_read_are_named(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_table(tmp_path / name)
    assert name in str(caught.value)


def test_predictions_replace_no_column():
    table = pa.table({"prediction": ["mine"]})
    with pytest.raises(DataError, match="already"):
        with_predictions(table, np.array([0]), np.array([[1.0, 0.0]]), ("a", "b"))


def test_record_is_plain_json(trained):
    _, _, folder = trained
    record = json.loads((folder / "classifier.json").read_text())
    assert record["format"] == "tilth.classifier/1"
    assert record["columns"]["numeric"] == ["size"]


def test_report_escapes_names_and_says_which_classes_it_leaves_out(tmp_path):
    names = ("<b>", *(f"class {number}" for number in range(29)))
    probabilities = np.eye(30)
    scores = classification_scores(probabilities, np.arange(30))
    write_classification_report(tmp_path / "report.html", scores, names, {"held out": 30})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The 25 largest of 30 classes." in page
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
