"""A project: a folder with `tilth.toml`, the catalogue `tilth.db`, and `runs/`.

Media stay where they are. Inside the project they are known by a relative path, outside by the
absolute path that was recorded when they were imported, elsewhere by a URL. Remote files and frames
of videos are read through a cache in the project, ``.tilth/cache``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from tilth.config import load_settings, read_toml
from tilth.data.atomic import atomic_writer
from tilth.data.catalogue import Catalogue
from tilth.data.dataset import Dataset
from tilth.data.headers import fill_sizes, verify_media
from tilth.data.images import read_size
from tilth.data.importing import ImportReport
from tilth.data.media_cache import MediaCache
from tilth.data.media_source import MediaSource, is_plain
from tilth.data.presence import find_files
from tilth.data.problems import LabelReport, Problem
from tilth.data.records import TaskKind
from tilth.data.storage import FetchSettings
from tilth.data.video import split_frame
from tilth.errors import CatalogueError, MediaError, PathEscapeError, SettingsError

__all__ = ["CatalogueSettings", "Project", "ProjectSettings"]

SETTINGS_FILE = "tilth.toml"
DATABASE_FILE = "tilth.db"
RUNS_FOLDER = "runs"

CACHE_FOLDER = ".tilth/cache"

_WINDOWS_DRIVE = re.compile(r"^[A-Za-z]:")


@dataclass(frozen=True, kw_only=True)
class CatalogueSettings:
    """Where the catalogue is: empty for ``tilth.db`` in the project, else PostgreSQL."""

    url: str = ""


@dataclass(frozen=True, kw_only=True)
class ProjectSettings:
    """What `tilth.toml` may say."""

    name: str = ""
    catalogue: CatalogueSettings = field(default_factory=CatalogueSettings)
    media: FetchSettings = field(default_factory=FetchSettings)


class Project:
    """An open project.

    Attributes:
        root: the folder, absolute.
        settings: what `tilth.toml` says.
        catalogue: the open catalogue.
        runs: the folder of runs.
    """

    def __init__(self, root: Path, settings: ProjectSettings, catalogue: Catalogue) -> None:
        self.root = root
        self.settings = settings
        self.catalogue = catalogue
        self.runs = root / RUNS_FOLDER
        cache = MediaCache(root / CACHE_FOLDER, int(settings.media.cache_gb * 2**30))
        self._source = MediaSource(cache, settings.media, catalogue.content_hash_of)

    @classmethod
    def init(cls, root: Path, *, database_url: str | None = None) -> Project:
        """Make a project in a folder, which is made if it is missing.

        Args:
            database_url: PostgreSQL for a team; otherwise SQLite in ``tilth.db``.

        Raises:
            SettingsError: the folder is a project already, or the URL cannot be used.
            CatalogueError: the database cannot be reached.
        """
        root = root.resolve()
        if (root / SETTINGS_FILE).exists():
            raise SettingsError(
                "the folder is a project already", where=str(root), fix="go on with it: tilth info"
            )
        settings = ProjectSettings(
            name=root.name, catalogue=CatalogueSettings(url=database_url or "")
        )
        root.mkdir(parents=True, exist_ok=True)
        (root / RUNS_FOLDER).mkdir(exist_ok=True)
        catalogue = _join_or_create(_catalogue_url(root, settings))
        # Last, because this file is what makes the folder a project.
        with atomic_writer(root / SETTINGS_FILE) as stream:
            stream.write(_toml_of(settings).encode())
        return cls(root, settings, catalogue)

    @classmethod
    def open(cls, root: Path) -> Project:
        """Open the project in a folder.

        Raises:
            SettingsError: not a project, or `tilth.toml` says something unknown.
            CatalogueError: the catalogue is missing, busy, or of a newer release.
        """
        root = root.resolve()
        if not (root / SETTINGS_FILE).is_file():
            raise SettingsError(
                "not a project",
                where=str(root),
                expected=f"a folder that holds {SETTINGS_FILE}",
                fix=f"tilth init {root}",
            )
        path = root / SETTINGS_FILE
        settings = load_settings(ProjectSettings, values=read_toml(path), where=str(path))
        catalogue = Catalogue.open(_catalogue_url(root, settings))
        (root / RUNS_FOLDER).mkdir(exist_ok=True)
        return cls(root, settings, catalogue)

    def media_path(self, uri: str) -> Path:
        """The file of a medium.

        Args:
            uri: as the catalogue has it: relative to the project, absolute as imported, or a URL;
                with ``#frame=12`` a frame of a video. What is no file of its own is fetched, or
                taken out of its video, and kept in the project's cache.

        Raises:
            PathEscapeError: a relative path that leaves the project, or an absolute one that was
                never imported.
            MediaError: a remote file or a frame that cannot be had.
        """
        return self._local_file(uri) if is_plain(uri) else self._source.local(uri, self._local_file)

    def prefetch(
        self, uris: Iterable[str], *, advance: Callable[[int], object] | None = None
    ) -> tuple[Problem, ...]:
        """Bring remote media and frames of videos into the cache, several at a time.

        What cannot be had is reported. Media that are files already cost nothing; more than the
        cache holds is fetched for nothing.

        Args:
            advance: called with the number of media after each.
        """
        report = LabelReport(where="media")
        for error in self._source.prefetch(uris, self._local_file):
            if error is not None:
                report.add("picture that cannot be had", "kept, not read", [str(error)])
            if advance is not None:
                advance(1)
        return report.problems

    def _local_file(self, uri: str) -> Path:
        """The file of a uri that is a path."""
        if not uri or "\0" in uri:
            raise PathEscapeError("not a path", got=repr(uri))
        if uri.startswith("/"):
            if not self.catalogue.has_media(uri) and not self.catalogue.has_frames_of(uri):
                raise PathEscapeError(
                    "an absolute path that was never imported", where=uri, fix="tilth import"
                )
            return Path(uri)
        if "\\" in uri or _WINDOWS_DRIVE.match(uri):
            raise PathEscapeError("a path with a drive or backslashes", got=uri, expected="a/b.jpg")
        path = (self.root / uri).resolve()
        if not path.is_relative_to(self.root):
            raise PathEscapeError(
                "the path leaves the project",
                where=uri,
                expected=f"a file under {self.root}",
                got=str(path),
                fix="import media that lie elsewhere by their real folder",
            )
        return path

    def import_dataset(
        self,
        dataset: Dataset,
        *,
        task: str = "detection",
        origin: str = "",
        kind: TaskKind | None = None,
        allow_duplicates: bool = True,
        overwrite: bool = False,
        verify: bool = False,
        advance: Callable[[int], object] | None = None,
    ) -> ImportReport:
        """As `Catalogue.import_dataset`, with what only the files know.

        Paths inside the project become relative to it, so that it can be moved; sizes that the
        labels lack are read from the headers; with ``verify`` every picture is decoded and hashed
        now. A file that is missing or broken is a problem in the report, not an end. Where labels
        and catalogue disagree on a size, the file decides; what was measured before is forgotten.
        """
        dataset = replace(
            dataset,
            media=replace(dataset.media, uri=[self.relative_uri(uri) for uri in dataset.media.uri]),
        )
        media = dataset.media
        sized = [
            uri
            for uri, width, height in zip(
                media.uri, media.width.tolist(), media.height.tolist(), strict=True
            )
            if width > 0 and height > 0  # the headers of the others are read anyway
        ]
        # What cannot be had is reported by those who then ask for it; they do not wait again.
        remote = set(media.uri) if verify else set(media.uri).difference(sized)
        for _ in self._source.prefetch(
            (uri if verify else split_frame(uri)[0] for uri in media.uri if uri in remote),
            self._imported_file,
        ):
            pass
        dataset, unreadable = fill_sizes(dataset, self._imported_size)
        report = self.catalogue.import_dataset(
            dataset,
            task=task,
            origin=origin,
            kind=kind,
            allow_duplicates=allow_duplicates,
            overwrite=overwrite,
            size_of=self._size_of,
            advance=advance,
        )
        problems = [*report.problems, *unreadable]
        if verify:
            problems += verify_media(dataset, self._imported_path, self.catalogue, task)
        else:
            problems += find_files(sized, self._imported_file).problems(sized)
        return replace(report, problems=tuple(problems))

    def relative_uri(self, uri: str) -> str:
        """The uri under which the project keeps a path: relative where it lies inside."""
        if uri.startswith("/"):
            path = PurePosixPath(uri)
            if path.is_relative_to(self.root):
                return path.relative_to(self.root).as_posix()
        return uri

    def _imported_path(self, uri: str) -> Path:
        """As `media_path`, for an absolute path that the caller is about to import."""
        if is_plain(uri):
            return self._imported_file(uri)
        return self._source.local(uri, self._imported_file)

    def _imported_file(self, uri: str) -> Path:
        return Path(uri) if uri.startswith("/") else self._local_file(uri)

    def _imported_size(self, uri: str) -> tuple[int, int]:
        """Width and height from the header of a picture, or of a frame's video."""
        if split_frame(uri)[1] is not None:
            return self._source.frame_size(uri, self._imported_file)
        return read_size(self._imported_path(uri))

    def _size_of(self, uri: str) -> tuple[int, int] | None:
        try:
            return self._imported_size(uri)
        except MediaError:
            return None


def _catalogue_url(root: Path, settings: ProjectSettings) -> str:
    return settings.catalogue.url or f"sqlite:///{root / DATABASE_FILE}"


def _join_or_create(url: str) -> Catalogue:
    """A new catalogue, or the team's one when the server has it already."""
    if url.startswith("sqlite"):
        return Catalogue.create(url)
    try:
        return Catalogue.create(url)
    except CatalogueError as error:
        if error.message != "there is a catalogue already":
            raise
        return Catalogue.open(url)


def _toml_of(settings: ProjectSettings) -> str:
    text = f"name = {json.dumps(settings.name)}\n"  # a JSON string is a TOML string
    if settings.catalogue.url:
        text += f"\n[catalogue]\nurl = {json.dumps(settings.catalogue.url)}\n"
    return text
