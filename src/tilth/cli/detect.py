"""Everything about detectors, from training to export.

The verbs are those of NVIDIA TAO. `tilth train` and `tilth evaluate` are short for
`tilth detect train` and `tilth detect evaluate`.

\b
Example:
  tilth detect train --name first --set train.steps=500
  tilth detect evaluate --run first
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tilth.cli import (
    detect_anchors,
    detect_export,
    detect_infer,
    detect_prune,
    detect_spec,
    evaluate,
    train,
)


def _in_full(function: Callable[..., Any], short: str) -> Callable[..., Any]:
    """The same command, whose examples say ``tilth detect`` before the verb."""

    @functools.wraps(function)
    def same(**values: Any) -> Any:
        return function(**values)

    same.__doc__ = (function.__doc__ or "").replace(f"tilth {short}", f"tilth detect {short}")
    return same


command = {
    "anchors": detect_anchors.command,
    "train": _in_full(train.command, "train"),
    "evaluate": _in_full(evaluate.command, "evaluate"),
    "infer": detect_infer.command,
    "prune": detect_prune.command,
    "export": detect_export.command,
    "spec": detect_spec.command,
}
