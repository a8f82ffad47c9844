"""From a label file to a rebalanced set and back to a label file, by the command line alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_runs import Tilth
from coco_sets import write_coco_set

NUM_PICTURES = 30


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_coco_set(tmp_path, NUM_PICTURES)


@pytest.fixture
def project(tilth: Tilth, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tilth:
    """Inside a project that has imported the labels."""
    assert tilth("init", "field").code == 0
    monkeypatch.chdir(tmp_path / "field")
    ended = tilth("import", labels, "--images", tmp_path / "photos", "--json")
    assert ended.code == 0, ended.err
    assert ended.document["media_added"] == ended.document["annotations_added"] == NUM_PICTURES
    return tilth


def done(tilth: Tilth, *arguments: object) -> dict[str, Any]:
    ended = tilth(*arguments, "--json")
    assert ended.code == 0, ended.err
    return ended.document


def boxes_by_picture(path: Path) -> dict[str, Any]:
    file = json.loads(path.read_text())
    names = {image["id"]: Path(image["file_name"]).name for image in file["images"]}
    classes = {category["id"]: category["name"] for category in file["categories"]}
    return {
        names[a["image_id"]]: (a["bbox"], classes[a["category_id"]]) for a in file["annotations"]
    }


def test_init_twice_is_refused_and_keeps_the_project(project: Tilth) -> None:
    ended = project("init", ".", "--json")
    assert ended.code == 2
    assert ended.document["error"]["where"].endswith("field")
    assert done(project, "info")["num_media"] == NUM_PICTURES


def test_import_twice_changes_nothing(project: Tilth, labels: Path, tmp_path: Path) -> None:
    again = done(project, "import", labels, "--images", tmp_path / "photos")
    assert again["media_added"] == again["annotations_added"] == again["annotations_updated"] == 0
    assert again["annotations_unchanged"] == NUM_PICTURES


def test_the_same_labels_in_another_file_are_refused(
    project: Tilth, labels: Path, tmp_path: Path
) -> None:
    copy = labels.with_name("copy.json")
    copy.write_bytes(labels.read_bytes())
    arguments = ("import", copy, "--images", tmp_path / "photos", "--json")
    ended = project(*arguments)
    assert ended.code == 3
    assert f"{NUM_PICTURES} labels" in ended.document["error"]["message"]
    assert "--origin labels" in ended.document["error"]["fix"]
    assert done(project, "info")["num_annotations"] == NUM_PICTURES
    update = done(project, *arguments[:-1], "--origin", "labels")
    assert update["annotations_unchanged"] == NUM_PICTURES
    assert done(project, *arguments[:-1], "--origin", "b")["annotations_added"] == NUM_PICTURES


def test_boxes_that_left_the_file_are_shown_and_kept(
    project: Tilth, labels: Path, tmp_path: Path
) -> None:
    file = json.loads(labels.read_text())
    del file["annotations"][:2]
    labels.write_text(json.dumps(file))
    ended = project("import", labels, "--images", tmp_path / "photos")
    assert "no longer in the file: 2 annotations, kept" in ended.out
    assert done(project, "info")["num_annotations"] == NUM_PICTURES


def test_a_wrong_size_is_put_right_by_correct_labels(
    project: Tilth, labels: Path, tmp_path: Path
) -> None:
    right = labels.read_text()
    wrong = json.loads(right)
    for image in wrong["images"][:3]:
        image["width"], image["height"] = 48, 64
    labels.write_text(json.dumps(wrong))
    again = ("import", labels, "--images", tmp_path / "photos")
    (problem,) = done(project, *again)["problems"]
    assert (problem["count"], problem["action"]) == (3, "the catalogue's size was kept")

    done(project, "init", tmp_path / "other")
    there = ("--project", tmp_path / "other")
    done(project, *again, *there)
    assert len(done(project, "metrics", *there)["errors"]) == 3
    labels.write_text(right)
    corrected = done(project, *again, *there)
    assert (corrected["media_updated"], corrected["problems"]) == (3, [])
    assert done(project, "metrics", *there)["errors"] == []


def test_import_from_a_folder_that_is_not_there_is_refused(project: Tilth, labels: Path) -> None:
    ended = project("import", labels, "--images", "/nowhere", "--json")
    assert ended.code == 2
    assert "/nowhere" in ended.document["error"]["where"]
    assert done(project, "info")["num_media"] == NUM_PICTURES


def test_remove_takes_out_what_is_named_and_says_how_much(project: Tilth, tmp_path: Path) -> None:
    (tmp_path / "photos" / "7.png").unlink()
    counted = done(project, "remove", "--missing", "--dry-run")
    assert (counted["media"], counted["annotations"], counted["dry_run"]) == (1, 1, True)
    assert counted["examples"] == [f"{tmp_path}/photos/7.png"]
    assert done(project, "info")["num_media"] == NUM_PICTURES
    assert "7.png" in project("remove", "--missing").out
    assert done(project, "remove", "--missing")["media"] == 0
    assert done(project, "remove", "*/photos/1?.png")["media"] == 10
    assert done(project, "info")["num_media"] == NUM_PICTURES - 11
    assert done(project, "metrics")["errors"] == []


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["*.jpg"], 3)])
def test_remove_of_nothing_is_refused(arguments: list[str], code: int, project: Tilth) -> None:
    assert project("remove", *arguments, "--json").code == code


def test_export_gives_back_what_was_imported(project: Tilth, labels: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    assert done(project, "export", target)["num_annotations"] == NUM_PICTURES
    assert boxes_by_picture(target) == boxes_by_picture(labels)


def test_the_whole_way(project: Tilth, tmp_path: Path) -> None:
    splits = done(project, "split", "--fractions", "0.6,0.2,0.2")["splits"]
    assert done(project, "split", "--fractions", "0.6,0.2,0.2")["splits"] == splits
    assert sum(splits.values()) == NUM_PICTURES
    assert min(splits.values()) > 0
    measured = done(project, "metrics")
    assert (measured["pictures"], measured["boxes"], measured["errors"]) == (30, 30, [])
    assert done(project, "metrics")["already"] == NUM_PICTURES
    clusters = done(project, "clusters", "--k", "2")
    assert clusters["boxes"] == [25, 5]  # the dark ones, the bright ones
    assert done(project, "info")["annotations_by_cluster"] == {"0": 25, "1": 5}
    before = done(project, "version", "create", "before")["versions"][0]

    plan = done(project, "rebalance", "--plan-only", "--plan", "plan.toml")
    have = [cluster["have"] for cluster in plan["clusters"]]
    assert sum(have) == splits["train"]
    assert plan["to_make"] == max(have) - min(have)
    assert done(project, "info")["num_derived"] == 0
    made = done(project, "rebalance", "--plan", "plan.toml")
    assert made["made"] == plan["to_make"]
    info = done(project, "info")
    assert info["num_derived"] == plan["to_make"]
    assert info["media_by_split"] == {
        "none": 0,
        "train": splits["train"] + plan["to_make"],
        "val": splits["val"],
        "test": splits["test"],
    }
    assert info["measured"] == {"pictures": NUM_PICTURES, "boxes": NUM_PICTURES}
    assert info["versions"] == ["before"]

    after = tmp_path / "train.json"
    exported = done(project, "export", after, "--split", "train")
    assert exported["num_media"] == splits["train"] + plan["to_make"]
    frozen = done(project, "export", tmp_path / "before.json", "--version", "before")
    assert frozen["num_media"] == NUM_PICTURES
    assert done(project, "version", "show", "before")["versions"] == [before]
    assert done(project, "version", "list")["versions"] == [before]


def test_boxes_that_were_not_measured_have_no_cluster(project: Tilth, tmp_path: Path) -> None:
    (tmp_path / "photos" / "7.png").write_bytes(b"no picture")
    done(project, "metrics")
    clusters = done(project, "clusters", "--k", "2")
    assert (sum(clusters["boxes"]), clusters["not_measured"]) == (NUM_PICTURES - 1, 1)
    assert "1 boxes have no cluster" in project("clusters", "--k", "2").out
    assert sum(done(project, "info")["annotations_by_cluster"].values()) == NUM_PICTURES - 1


def test_tables_for_people(project: Tilth) -> None:
    """The same verbs without --json say the same in words."""
    assert "pictures" in project("split").out
    assert "measured 30 pictures and 30 boxes" in project("metrics", "--quiet").out
    assert "k = 2" in project("clusters", "--k", "2").out
    assert "k = 1, silhouette -" in project("clusters", "--k", "1").out
    project("clusters", "--k", "2")
    assert "plan 'rebalanced'" in project("rebalance", "--plan-only").out
    text = project("info").out
    assert all(word in text for word in ("class cat", "class dog", "split train", "unreviewed"))
    assert "before" in project("version", "create", "before").out
    assert "coco" in project("formats").out


def test_metrics_with_workers_measures_the_same(project: Tilth) -> None:
    assert done(project, "metrics", "--workers", "2")["boxes"] == NUM_PICTURES


def test_metrics_refuses_two_places_to_work(project: Tilth) -> None:
    assert project("metrics", "--workers", "2", "--dask", "tcp://x:1").code == 2


def test_metrics_lists_a_picture_that_cannot_be_read(project: Tilth, tmp_path: Path) -> None:
    (tmp_path / "photos" / "7.png").write_bytes(b"no picture")
    document = done(project, "metrics")
    assert document["pictures"] == NUM_PICTURES - 1
    (error,) = document["errors"]
    assert error["kind"] == "MediaError"
    assert error["where"].endswith("7.png")


@pytest.mark.parametrize("verb", ["clusters", "rebalance"])
def test_a_verb_out_of_order_names_the_one_before(verb: str, project: Tilth) -> None:
    ended = project(verb, "--json")
    assert ended.code == 3
    expected = {"clusters": "tilth metrics", "rebalance": "tilth clusters"}
    assert ended.document["error"]["fix"] == expected[verb]


def test_rebalance_without_splits_is_refused(project: Tilth) -> None:
    done(project, "metrics")
    done(project, "clusters", "--k", "2")
    ended = project("rebalance", "--json")
    assert ended.code == 3
    assert "tilth split" in ended.document["error"]["fix"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["split", "--fractions", "0.5,0.5"], "fractions cannot be read"),
        (["split", "--fractions", "a,b,c"], "fractions cannot be read"),
        (["clusters", "--k", "few"], "--k cannot be read"),
        (["rebalance", "--target", "more"], "--target cannot be read"),
        (["rebalance", "--plan", "plan.toml", "--target", "3"], "the plan in the file says"),
        (["export", "out.json", "--format", "coca"], "unknown label format"),
        (["import", "labels.json", "--format", "coca"], "unknown label format"),
    ],
)
def test_option_that_cannot_be_read_is_refused(
    arguments: list[str], message: str, project: Tilth
) -> None:
    ended = project(*arguments, "--json")
    assert ended.code == 2
    assert message in ended.document["error"]["message"]


def test_import_verify_counts_the_broken_picture_and_keeps_the_labels(
    project: Tilth, labels: Path, tmp_path: Path
) -> None:
    arguments = ("import", labels, "--images", tmp_path / "photos", "--verify")
    assert done(project, *arguments)["problems"] == []
    (tmp_path / "photos" / "7.png").write_bytes(b"no picture")
    (problem,) = done(project, *arguments)["problems"]
    assert problem["count"] == 1
    assert "7.png" in problem["examples"][0]
    assert "7.png" in project(*arguments).err
    assert done(project, "info")["num_annotations"] == NUM_PICTURES


def test_import_of_an_unknown_category_is_refused_or_skipped(
    project: Tilth, labels: Path, tmp_path: Path
) -> None:
    file = json.loads(labels.read_text())
    file["annotations"][3]["category_id"] = 99
    labels.write_text(json.dumps(file))
    arguments = ("import", labels, "--images", tmp_path / "photos", "--origin", "second", "--json")
    ended = project(*arguments)
    assert ended.code == 3
    assert "99" in ended.err
    skipped = done(project, *arguments[:-1], "--on-unknown", "skip")
    assert skipped["annotations_added"] == NUM_PICTURES - 1
    assert [problem["count"] for problem in skipped["problems"]] == [1]


def test_missing_label_file_is_a_clear_error(project: Tilth) -> None:
    ended = project("import", "none.json", "--json")
    assert ended.code == 3
    assert "none.json" in ended.document["error"]["where"]


def test_unknown_version_is_refused(project: Tilth) -> None:
    ended = project("version", "show", "none", "--json")
    assert ended.code == 3
    assert ended.document["error"]["got"] == "none"
