"""train classify and classify, from a file to a file with predictions, on the real recipe."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_runs import Tilth

TINY = (
    *("--set", "train.steps=80", "--set", "train.device=cpu", "--set", "text.dropout=0.0"),
    *("--set", "text.num_embedded=16", "--set", "text.num_hidden=8"),
    *("--set", "train.learning_rate=0.02", "--quiet"),
)


def write_csv(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def reviews(count: int) -> list[dict[str, object]]:
    words = {"up": ["good", "fine"], "down": ["bad", "poor"]}
    rows: list[dict[str, object]] = []
    for number in range(count):
        stars = ("up", "down")[number % 2]
        body = f"a {words[stars][number // 2 % 2]} book, number {number % 7}"
        rows.append({"id": number, "body": body, "stars": stars})
    return rows


@pytest.fixture
def project(tilth: Tilth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tilth:
    """Inside an empty project."""
    assert tilth("init", tmp_path / "field").code == 0
    monkeypatch.chdir(tmp_path / "field")
    return tilth


def test_from_a_csv_to_a_csv_with_predictions(project: Tilth, tmp_path: Path):
    table = write_csv(tmp_path / "reviews.csv", reviews(100))
    named = ("--text", "body", "--label", "stars", "--name", "reviews")
    trained = project("train", "classify", table, *named, *TINY, "--json")
    assert trained.code == 0, trained.err
    assert trained.document["accuracy"] >= 0.9
    assert trained.document["class_names"] == ["down", "up"]
    assert Path(trained.document["report"]).is_file()

    new = write_csv(
        tmp_path / "new.csv", [{"id": 7, "body": "a poor book"}, {"id": 8, "body": "fine"}]
    )
    done = project("classify", new, "--run", "reviews", "--json")
    assert done.code == 0, done.err
    assert done.document["predictions"] == {"down": 1, "up": 1}
    written = read_csv(tmp_path / "new-classified.csv")
    assert [row["prediction"] for row in written] == ["down", "up"]
    assert [row["id"] for row in written] == ["7", "8"]
    assert all(float(row["probability"]) > 0.5 for row in written)

    scored = project("classify", table, "--run", "reviews", "--output", tmp_path / "all.parquet")
    assert "accuracy: " in scored.out
    assert (tmp_path / "all.parquet").is_file()


def test_same_command_again_goes_on(project: Tilth, tmp_path: Path):
    table = write_csv(tmp_path / "reviews.csv", reviews(100))
    call = ("train", "classify", table, "--text", "body", "--label", "stars", *TINY, "--json")
    first, again = project(*call).document, project(*call).document
    assert (first["resumed_from"], again["resumed_from"]) == (0, 80)
    assert first["log_loss"] == again["log_loss"]
    other = project(*call, "--set", "text.cell=lstm")
    assert other.code == 8
    assert other.document["error"]["message"] == "the folder holds another run"


def test_folder_of_texts(project: Tilth, tmp_path: Path):
    for row in reviews(60):
        path = tmp_path / "texts" / str(row["stars"]) / f"{row['id']}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(row["body"]), encoding="utf-8")
    done = project("train", "classify", tmp_path / "texts", *TINY, "--json")
    assert done.code == 0, done.err
    assert done.document["accuracy"] >= 0.9


def test_folder_of_pictures(project: Tilth, tmp_path: Path):
    rng = np.random.default_rng(0)
    for name, level in (("bright", 200), ("dark", 40)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(level - 20, level + 20, size=(20, 20, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / "photos" / name / f"{number}.png"), pixels)
    small = ("--set", "picture.size=16", "--set", "picture.width=4", "--set", "batch_size=8")
    done = project("train", "classify", tmp_path / "photos", *TINY, *small, "--json")
    assert done.code == 0, done.err
    assert done.document["accuracy"] == 1
    new = project("classify", tmp_path / "photos" / "dark", "--json")
    assert new.document["predictions"] == {"bright": 0, "dark": 20}
    assert len(read_csv(tmp_path / "photos" / "dark-classified.csv")) == 20


def test_label_unseen_in_training_ends_with_its_row(project: Tilth, tmp_path: Path):
    table = write_csv(tmp_path / "reviews.csv", reviews(100))
    project("train", "classify", table, "--text", "body", "--label", "stars", *TINY)
    new = write_csv(tmp_path / "new.csv", [{"body": "good", "stars": "sideways"}])
    done = project("classify", new)
    assert done.code == 3
    assert "sideways" in done.err
    assert not (tmp_path / "new-classified.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("gone.csv",), 3, "the data is not there"),
        (("reviews.csv", "--text", "bdoy", "--label", "stars"), 3, "body"),
        (
            ("reviews.csv", "--text", "body", "--label", "stars", "--name", "../out"),
            2,
            "name of a run",
        ),
        (("reviews.csv", "--set", "text.cell=ltsm"), 2, "text.cell"),
    ],
)
def test_what_cannot_be_used_is_said(
    project: Tilth, arguments: tuple[str, ...], code: int, words: str
):
    write_csv(Path("reviews.csv"), reviews(20))
    done = project("train", "classify", *arguments)
    assert (done.code, words in done.err) == (code, True), done.err


def test_classify_without_a_run_says_how_to_train_one(project: Tilth):
    done = project("classify", write_csv(Path("new.csv"), [{"body": "good"}]), "--json")
    assert done.code == 3
    assert json.loads(done.out)["error"]["fix"] == "tilth train classify DATA --name NAME"


def test_train_alone_still_trains_a_detector(project: Tilth):
    done = project("train", "--name", "first", "--json")
    assert done.code == 3  # of a project without a picture
    assert "picture" in done.document["error"]["message"]
