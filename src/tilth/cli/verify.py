"""The pass of `tilth import --verify`: every picture is decoded once, and its bytes are hashed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilth.errors import MediaError

if TYPE_CHECKING:
    from tilth.data.project import Project

__all__ = ["verify_media"]


def verify_media(project: Project, task: str, *, progress: bool) -> int:
    """Decode and hash every picture of the task; how many there are.

    Raises:
        MediaError: pictures that cannot be decoded; the hashes of all others are kept.
    """
    from rich.console import Console
    from rich.progress import track

    from tilth.data.images import content_hash, decode_image

    media = project.catalogue.read(task).media
    console = Console(stderr=True)
    hashes: dict[int, str] = {}
    broken: list[MediaError] = []
    for row in track(
        range(len(media)), "decoding", console=console, disable=not progress, transient=True
    ):
        path = project.media_path(media.uri[row])
        try:
            data = path.read_bytes()
            decode_image(data, where=str(path))
        except MediaError as error:
            broken.append(error)
        except OSError as error:
            broken.append(MediaError("the picture cannot be read", where=str(path), got=str(error)))
        else:
            hashes[int(media.id[row])] = content_hash(data)
    project.catalogue.set_content_hashes(list(hashes), list(hashes.values()))
    if broken:
        raise MediaError(
            f"{len(broken)} of {len(media)} pictures cannot be used",
            where="; ".join(f"{error.where}: {error.message}" for error in broken[:5]),
            fix="replace them and import again; the labels are in the catalogue already",
        )
    return len(media)
