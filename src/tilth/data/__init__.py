"""Records in one catalogue, whatever format they came in. This room never loads torch.

May import: ops' neighbours below it (config, lazy, seeding, errors), NumPy, SQLAlchemy, OpenCV.
To add a label format: one file in `formats/`, one line in the table `formats.FORMATS`.

Frames, text and folders are opened by `from_frame`, `from_parquet`, `from_csv` and
`from_directory`, which load what they need when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tilth.data.directories import from_directory as from_directory
    from tilth.data.directories import images_from_directory as images_from_directory
    from tilth.data.directories import texts_from_directory as texts_from_directory
    from tilth.data.frame_dataset import FrameDataset as FrameDataset
    from tilth.data.frames import from_frame as from_frame
    from tilth.data.streaming import from_csv as from_csv
    from tilth.data.streaming import from_parquet as from_parquet
    from tilth.data.vocabulary import Vocabulary as Vocabulary

_OPENERS = {
    "FrameDataset": "tilth.data.frame_dataset",
    "Vocabulary": "tilth.data.vocabulary",
    "from_csv": "tilth.data.streaming",
    "from_directory": "tilth.data.directories",
    "from_frame": "tilth.data.frames",
    "from_parquet": "tilth.data.streaming",
    "images_from_directory": "tilth.data.directories",
    "texts_from_directory": "tilth.data.directories",
}

__all__ = [*_OPENERS]


def __getattr__(name: str) -> Any:
    if name not in _OPENERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_OPENERS[name]), name)
