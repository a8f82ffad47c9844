"""Files by class folder, in the order that people know from Keras."""

from __future__ import annotations

from pathlib import Path

import pytest

from tilth.data.class_folders import list_class_folders
from tilth.errors import EmptyDatasetError, SettingsError

FILES = ("b/2.txt", "b/1.txt", "a/z.txt", "a/sub/a.txt", "a/m.TXT", "a/note.md", ".git/x.txt")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / "loose.txt").write_text("in no class")
    return tmp_path


def names(root: Path, files: list[Path]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in files]


def test_classes_by_name_and_files_by_folder(root: Path) -> None:
    files, labels, classes = list_class_folders(root, extensions={".txt"})
    assert names(root, files) == ["a/m.TXT", "a/z.txt", "a/sub/a.txt", "b/1.txt", "b/2.txt"]
    assert labels.tolist() == [0, 0, 0, 1, 1]
    assert classes == ("a", "b")


def test_class_names_decide_the_order(root: Path) -> None:
    files, labels, classes = list_class_folders(root, extensions={".txt"}, class_names=["b", "a"])
    assert names(root, files)[:2] == ["b/1.txt", "b/2.txt"]
    assert (labels.tolist(), classes) == ([0, 0, 1, 1, 1], ("b", "a"))
    with pytest.raises(SettingsError, match="are not the folders"):
        list_class_folders(root, extensions={".txt"}, class_names=["a", "c"])


def test_links_are_entered_when_asked(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "l.txt").write_text("text")
    (root / "b" / "linked").symlink_to(other)
    assert len(list_class_folders(root, extensions={".txt"})[0]) == 5
    assert len(list_class_folders(root, extensions={".txt"}, follow_links=True)[0]) == 6


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError, match="no files in class folders"):
        list_class_folders(tmp_path, extensions={".txt"})
    with pytest.raises(EmptyDatasetError, match="cannot be read"):
        list_class_folders(tmp_path / "none", extensions={".txt"})
