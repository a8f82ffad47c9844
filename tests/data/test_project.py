"""A project is a folder that can be moved, and no path leads out of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_sets import small_dataset

from tilth.data.dataset import Dataset
from tilth.data.images import content_hash, write_jpeg
from tilth.data.project import Project
from tilth.errors import CatalogueError, MediaError, PathEscapeError, SettingsError


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.init(tmp_path / "field")


def pictures(root: Path, dataset: Dataset) -> Dataset:
    """The data set with its pictures on the disk, by absolute path."""
    for uri in dataset.media.uri:
        write_jpeg(root / uri, np.zeros((80, 100, 3), dtype=np.uint8))
    uris = [str(root / uri) for uri in dataset.media.uri]
    return replace(dataset, media=replace(dataset.media, uri=uris))


def test_init_makes_the_three_parts_and_open_finds_them(project: Project) -> None:
    assert sorted(
        p.name for p in project.root.iterdir() if p.suffix not in (".db-shm", ".db-wal")
    ) == [
        "runs",
        "tilth.db",
        "tilth.toml",
    ]
    project.catalogue.import_dataset(small_dataset())
    again = Project.open(project.root)
    assert again.settings.name == "field"
    assert len(again.catalogue.read().media) == 4
    assert again.runs == project.root / "runs"


def test_init_in_a_project_is_refused_and_changes_nothing(project: Project) -> None:
    project.catalogue.import_dataset(small_dataset())
    with pytest.raises(SettingsError, match="already"):
        Project.init(project.root)
    assert len(Project.open(project.root).catalogue.read().media) == 4


def test_a_folder_without_settings_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not a project") as caught:
        Project.open(tmp_path)
    assert caught.value.fix == f"tilth init {tmp_path}"


def test_an_unknown_key_is_refused_with_the_nearest(project: Project) -> None:
    (project.root / "tilth.toml").write_text('[catalog]\nurl = "x"\n')
    with pytest.raises(SettingsError, match="unknown setting 'catalog'") as caught:
        Project.open(project.root)
    assert "catalogue" in str(caught.value.fix)


def test_a_lost_catalogue_is_named(project: Project) -> None:
    project.catalogue.close()
    (project.root / "tilth.db").unlink()
    with pytest.raises(CatalogueError, match="no catalogue"):
        Project.open(project.root)
    assert not (project.root / "tilth.db").exists(), "opening makes no empty database"


def test_a_server_that_is_away_leaves_no_half_project(tmp_path: Path) -> None:
    url = "postgresql+psycopg://nobody@127.0.0.1:1/none"
    with pytest.raises(CatalogueError):
        Project.init(tmp_path / "team", database_url=url)
    assert not (tmp_path / "team" / "tilth.toml").exists()


def test_a_team_shares_one_catalogue(tmp_path: Path, postgres_team_url: str) -> None:
    first = Project.init(tmp_path / "a", database_url=postgres_team_url)
    first.catalogue.import_dataset(small_dataset())
    second = Project.init(tmp_path / "b", database_url=postgres_team_url)
    assert len(second.catalogue.read().media) == 4
    assert Project.open(tmp_path / "b").settings.catalogue.url == postgres_team_url
    assert not (tmp_path / "a" / "tilth.db").exists()


def test_relative_paths_stay_inside(project: Project) -> None:
    assert project.media_path("a/../b c/é.jpg") == project.root / "b c" / "é.jpg"


@pytest.mark.parametrize(
    "uri", ["../x.jpg", "a/../../x.jpg", "a\0.jpg", "", "C:x.jpg", "c:/x.jpg", "a\\..\\b.jpg", ".."]
)
def test_paths_that_leave_the_project_are_refused(project: Project, uri: str) -> None:
    if uri == "..":
        uri = "../field-of-another/x.jpg"  # a sibling whose name starts alike
    with pytest.raises(PathEscapeError):
        project.media_path(uri)


def test_a_symlink_out_of_the_project_is_refused(project: Project, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (project.root / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(PathEscapeError, match="leaves the project"):
        project.media_path("link/key.jpg")


def test_absolute_paths_are_those_that_were_imported(project: Project, tmp_path: Path) -> None:
    dataset = pictures(tmp_path / "elsewhere", small_dataset())
    project.import_dataset(dataset)
    uri = dataset.media.uri[0]
    assert project.media_path(uri) == Path(uri)
    with pytest.raises(PathEscapeError, match="never imported"):
        project.media_path("/etc/passwd")


def test_urls_are_recorded_and_say_that_they_cannot_be_read(project: Project) -> None:
    dataset = small_dataset(prefix="https://nowhere.invalid/")
    (project.root / "tilth.toml").write_text("[media]\nretries = 0\n")
    project = Project.open(project.root)
    assert project.import_dataset(dataset).media_added == 4
    with pytest.raises(MediaError, match="URL"):
        project.media_path(dataset.media.uri[0])


def test_media_inside_the_project_survive_its_move(project: Project) -> None:
    project.import_dataset(pictures(project.root, small_dataset()))
    project.catalogue.close()
    moved = Project.open(project.root.rename(project.root.with_name("moved")))
    uri = moved.catalogue.read().media.uri[0]
    assert uri == "pictures/000.jpg"
    assert moved.media_path(uri).is_file()


def test_sizes_are_read_from_headers_only_where_labels_lack_them(project: Project) -> None:
    dataset = pictures(project.root, small_dataset())
    width = dataset.media.width.copy()
    width[:] = [0, 100, 0, 77]  # the last is wrong, and not our business yet
    Path(dataset.media.uri[2]).unlink()
    dataset = replace(dataset, media=replace(dataset.media, width=width))
    report = project.import_dataset(dataset)
    assert project.catalogue.read().media.width.tolist() == [100, 100, 0, 77]
    (problem,) = report.problems
    assert (problem.kind, problem.count) == ("picture that cannot be read", 1)
    assert "002.jpg" in problem.examples[0]


def test_verify_decodes_and_hashes_at_once(project: Project) -> None:
    dataset = pictures(project.root, small_dataset())
    files = [Path(uri) for uri in dataset.media.uri]
    files[1].write_bytes(files[1].read_bytes()[:-40])
    write_jpeg(files[2], np.zeros((8, 8, 3), dtype=np.uint8))
    report = project.import_dataset(dataset, verify=True)
    kinds = [problem.kind for problem in report.problems]
    assert kinds == [
        "picture that cannot be decoded",
        "picture of another size than its labels say",
    ]
    ids = project.catalogue.read().media.id
    hashes = project.catalogue.content_hashes(ids)
    assert hashes[0] == content_hash(files[0].read_bytes())
    assert hashes[1] is None
    again = project.import_dataset(dataset, verify=True)
    assert not again.changed


def test_a_corrected_size_forgets_what_was_measured(project: Project) -> None:
    dataset = pictures(project.root, small_dataset())
    width = dataset.media.width.copy()
    width[1] = 77
    project.import_dataset(replace(dataset, media=replace(dataset.media, width=width)))
    held = project.catalogue.read()
    for owner, ids in (("media", held.media.id), ("annotation", held.annotations.id)):
        project.catalogue.write_features(owner, ["a"], owner, ids, np.ones((len(ids), 1)))
    report = project.import_dataset(dataset)
    assert (report.media_updated, report.problems) == (1, ())
    missing = project.catalogue.missing_features
    assert missing("media", held.media.id).tolist() == [held.media.id[1]]
    of_it = held.annotations.id[held.annotations.media_index == 1]
    assert missing("annotation", held.annotations.id).tolist() == of_it.tolist()


def test_import_reads_no_picture_without_need(project: Project) -> None:
    dataset = small_dataset()
    for uri in dataset.media.uri:
        path = project.root / uri
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no picture")
    assert project.import_dataset(dataset).problems == ()


def test_pictures_that_are_not_there_are_reported(project: Project) -> None:
    dataset = pictures(project.root, small_dataset())
    Path(dataset.media.uri[2]).unlink()
    (problem,) = project.import_dataset(dataset).problems
    assert (problem.kind, problem.count) == ("picture that is not there", 1)
    assert problem.examples == ("pictures/002.jpg",)
    (problem,) = project.import_dataset(small_dataset(prefix="/nowhere/")).problems
    assert problem.count == 4


def test_links_that_leave_the_project_are_reported(project: Project, tmp_path: Path) -> None:
    dataset = pictures(project.root, small_dataset())
    first, second = Path(dataset.media.uri[0]), Path(dataset.media.uri[1])
    first.rename(tmp_path / "real.jpg")
    first.symlink_to(tmp_path / "real.jpg")
    second.rename(project.root / "real.jpg")
    second.symlink_to(project.root / "real.jpg")  # stays inside: in order
    (problem,) = project.import_dataset(dataset).problems
    assert problem.kind == "picture behind a link that leaves the project"
    assert problem.examples == ("pictures/000.jpg",)
    with pytest.raises(PathEscapeError):
        project.media_path("pictures/000.jpg")


def test_a_linked_folder_is_reported_for_each_picture(project: Project, tmp_path: Path) -> None:
    pictures(tmp_path / "elsewhere", small_dataset())
    (project.root / "pictures").symlink_to(tmp_path / "elsewhere" / "pictures")
    (problem,) = project.import_dataset(small_dataset()).problems
    assert (problem.count, len(problem.examples)) == (4, 4)
    assert "leaves the project" in problem.kind
