"""noise find, from a file to a ranked list, and to the agreement of boxes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from cli_runs import Tilth

from tilth.recipes.robust_training import INSTANCE_WEIGHTS
from tilth.recipes.table_files import read_table

COLOURS = ("blue", "green", "red")
TINY = (
    *("--set", "train.steps=40", "--set", "train.device=cpu", "--set", "text.dropout=0.0"),
    *("--set", "text.num_embedded=16", "--set", "text.num_hidden=8", "--quiet"),
    *("--set", "train.learning_rate=0.05", "--set", "train.warmup_steps=4"),
)


@pytest.fixture
def project(tilth: Tilth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tilth:
    """Inside an empty project, beside a table with six wrong labels and its probabilities."""
    assert tilth("init", tmp_path / "field").code == 0
    monkeypatch.chdir(tmp_path / "field")
    stream = np.random.default_rng(0)
    with Path("things.csv").open("w", newline="", encoding="utf-8") as stream_of_rows:
        writer = csv.writer(stream_of_rows)
        writer.writerow(["body", "colour", *(f"probability of {name}" for name in COLOURS)])
        for number in range(90):
            true, given = number % 3, (number + (number < 6)) % 3
            chances = np.full(3, 0.1)
            chances[true] = 0.8
            text = f"a {COLOURS[true]} thing, number {stream.integers(1000)}"
            writer.writerow([text, COLOURS[given], *chances])
    return tilth


NAMED = ("things.csv", "--text", "body", "--label", "colour")


def test_list_of_given_probabilities(project: Tilth):
    arguments = (*NAMED, "--probabilities", "things.csv", "--output", "wrong.parquet")
    done = project("noise", "find", *arguments, "--json")
    assert done.code == 0, done.err
    assert sorted(row["row"] for row in done.document["errors"]) == list(range(6))
    first = done.document["errors"][0]
    assert first["suggested_label"] in first["name"]
    assert done.document["found"] == 6
    assert len(done.document["noise"]["noise_matrix"]) == 3
    assert read_table(Path("wrong.parquet"))["rank"].to_pylist() == [1, 2, 3, 4, 5, 6]
    for key in ("report", "list", "labels"):
        assert Path(done.document[key]).is_file()


def test_list_on_the_screen(project: Tilth):
    done = project("noise", "find", *NAMED, "--probabilities", "things.csv", "--top", "2")
    assert done.code == 0, done.err
    assert "6 of 90 labels are taken for wrong (posterior)" in done.out
    assert "and 4 more" in done.out
    assert "label_errors.csv" in done.out


def test_judges_are_trained_where_none_are_given(project: Tilth):
    done = project("noise", "find", *NAMED, "--folds", "2", *TINY, "--json")
    assert done.code == 0, done.err
    assert done.document["folds"] == 2
    assert read_table(Path(done.document["probabilities"]))["fold"].to_pylist().count(0) == 45
    assert len(read_table(Path(done.document["labels"]))) == 90


@pytest.mark.parametrize("filter", ["both", "predicted_neq_given", "low_self_confidence"])
def test_filters_and_scores_are_chosen_by_name(project: Tilth, filter: str):
    chosen = ("--filter", filter, "--score", "self_confidence", "--adjusted")
    done = project("noise", "find", *NAMED, "--probabilities", "things.csv", *chosen, "--json")
    assert done.code == 0, done.err
    assert sorted(row["row"] for row in done.document["errors"]) == list(range(6))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("gone.csv",), 3, "is not there"),
        ((*NAMED, "--filter", "prune"), 2, "filter"),
        ((*NAMED, "--score", "low"), 2, "score"),
        ((*NAMED, "--adjusted"), 2, "adjusted"),
        ((*NAMED, "--output", "list.txt"), 2, "cannot be written"),
        ((*NAMED, "--split", "dev"), 2, "no such split"),
        ((*NAMED, "--group", "shop"), 3, "no column to group by"),
        ((*NAMED, "--only", "shop=1"), 2, "rows cannot be chosen"),
        ((*NAMED, "--name", "../out"), 2, "name of a run"),
        ((*NAMED, "--boxes", "first"), 2, "has its labels already"),
        ((), 3, "label for the whole"),
        ((*NAMED, "--weights", "first"), 2, "has its labels already"),
        (("--boxes", "first", "--filter", "both"), 2, "does not read --filter"),
        (("--boxes", "first", "--set", "train.steps=9"), 2, "does not read --set"),
        (("--boxes", "first", "--weights", "second"), 2, "does not read --weights"),
        (("--weights", "first", "--folds", "4"), 2, "does not read --folds"),
        (("--weights", "first", "--split", "val", "--score", "posterior"), 2, "--score, --split"),
        (("--weights", "first"), 3, "kept no weights"),
    ],
)
def test_what_cannot_be_searched_is_said(
    project: Tilth, arguments: tuple[str, ...], code: int, words: str
):
    done = project("noise", "find", *arguments, "--quiet")
    assert (done.code, words in done.err) == (code, True), done.err


def test_a_search_of_edited_data_asks_for_another_name(project: Tilth):
    call = ("noise", "find", *NAMED, "--folds", "2", *TINY)
    assert project(*call).code == 0
    things = Path("things.csv")
    things.write_text(things.read_text(encoding="utf-8").replace("thing,", "object,"), "utf-8")
    again = project(*call)
    assert again.code == 8
    assert "--name" in again.err
    assert "data.digest: what it was made of has changed" in again.err
    assert project(*call, "--name", "again").code == 0


def test_rows_without_a_label_are_an_error_that_says_how_to_leave_them_out(project: Tilth):
    with Path("things.csv").open("a", encoding="utf-8") as stream:
        stream.write("a thing without a colour,,0.3,0.3,0.4\n")
    call = ("noise", "find", *NAMED, "--probabilities", "things.csv", "--json")
    refused = project(*call)
    assert refused.code == 3
    assert "--set data.on_missing=drop" in refused.document["error"]["fix"]
    assert project(*call, "--set", "data.on_missing=drop").document["rows"] == 90


def test_weights_of_a_run_rank_its_rows(project: Tilth):
    run = Path("runs") / "robust"
    run.mkdir(parents=True)
    columns = {
        "row": [0, 1, 2, 3],
        "label": ["a", "a", "b", "b"],
        "weight": [1.2, 0.1, None, 1.0],
        "seen": [3, 3, 0, 3],
    }
    pyarrow.parquet.write_table(pa.table(columns), run / INSTANCE_WEIGHTS)
    ended = project("noise", "find", "--weights", "robust", "--output", "list.csv", "--json")
    assert ended.code == 0, ended.err
    rows = [row["row"] for row in ended.document["errors"]]
    assert rows == [1, 3, 0]  # a row that was never seen has no rank
    with Path("list.csv").open(newline="") as stream:
        assert [int(row["row"]) for row in csv.DictReader(stream)] == rows
    none = project("noise", "find", "--weights", "nothing")
    assert none.code != 0
    beside = project("noise", "find", "rows.csv", "--weights", "robust")
    assert "has its labels already" in beside.err


def test_boxes_are_those_of_the_agreement(project: Tilth, monkeypatch: pytest.MonkeyPatch):
    from tilth.cli import agreement
    from tilth.cli.outcome import Outcome

    asked: dict[str, object] = {}

    def command(**named: object) -> Outcome:
        asked.update(named)
        return Outcome({"findings": []}, lambda: None)

    monkeypatch.setattr(agreement, "command", command)
    done = project("noise", "find", "--boxes", "first", "--split", "val", "--top", "7", "--json")
    assert done.document == {"findings": []}
    assert (asked["run"], asked["split"], asked["limit"], asked["task"]) == (
        *("first", "val", 7, "detection"),
    )


def test_boxes_of_a_run_that_is_not_there_end_as_in_the_agreement(project: Tilth):
    ends = [
        project(*verb) for verb in (("noise", "find", "--boxes", "x"), ("agreement", "--run", "x"))
    ]
    assert ends[0].code == ends[1].code != 0
    assert ends[0].err == ends[1].err
