"""Heavy libraries wait until the moment they are used.

Rooms that must start fast reach a heavy module by its dotted name (`attribute`), so that choosing
it is what loads it; a library that belongs to an extra is asked for with `require`, whose error is
the command that installs it.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from tilth.errors import MissingExtraError

__all__ = ["attribute", "require"]


def require(module: str, *, extra: str) -> ModuleType:
    """Import ``module``, or say which extra brings it.

    Raises:
        MissingExtraError: the library, or one that it needs, is not installed.

    >>> require("json", extra="train").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if missing.partition(".")[0] == "tilth":  # a defect; no extra would mend it
            raise
        raise MissingExtraError(
            f"{missing} is not installed",
            expected=f"the extra '{extra}', which brings {missing}",
            fix=f"pip install 'tilth[{extra}]'",
        ) from error


def attribute(path: str, *, extra: str = "train") -> Any:
    """Load ``"package.module:name"``.

    Raises:
        MissingExtraError: a library that the module imports belongs to ``extra`` and is missing.

    >>> attribute("math:sqrt")(9.0)
    3.0
    """
    module, _, name = path.partition(":")
    return getattr(require(module, extra=extra), name)
