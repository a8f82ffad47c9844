"""Labels ranked by how far a robust loss believed them in training: no judge, no label held back.

A run with ``robust.reweighting`` leaves the mean weight of every training row in
``instance_weights.parquet``. A weight says nothing of what is right in place of a wrong label, and
nothing of how many are wrong: it ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tilth.curate.class_ranks import rank_within_class
from tilth.curate.label_folds import same_values
from tilth.data.project import Project
from tilth.errors import DataError
from tilth.recipes.run_names import existing_run
from tilth.recipes.table_files import read_table, write_table

__all__ = ["rank_by_weights", "weight_ranking"]

WEIGHTS_FILE = "instance_weights.parquet"


def rank_by_weights(root: Path, run: str, *, outputs: Sequence[Path] = ()) -> dict[str, Any]:
    """All training rows of a run, the least believed of each class first.

    Args:
        outputs: files that the ranking is written to, as their suffixes say.

    Raises:
        DataError: the run kept no weights.
    """
    path = existing_run(Project.open(root), run) / WEIGHTS_FILE
    if not path.is_file():
        raise DataError(
            "the run kept no weights of its rows",
            where=str(path.parent),
            expected=WEIGHTS_FILE,
            fix="train with a robust loss that weighs examples and keeps their weights: see "
            "[robust] of 'tilth train classify'",
        )
    ranking = weight_ranking(read_table(path))
    for output in outputs:
        write_table(ranking, output)
    return {
        "run": run,
        "rows": len(ranking),
        "errors": ranking.to_pylist(),
        "weights": path,
        "written": [str(output) for output in outputs],
    }


def weight_ranking(weights: pa.Table) -> pa.Table:
    """The rows with ``quality``, 0 to 1 within their class, low first; unseen rows are left out.

    Args:
        weights: columns ``row``, ``label``, ``weight`` and ``seen``.

    Raises:
        DataError: a column is missing.

    >>> columns = {"row": [4, 9], "label": ["a", "a"], "weight": [1.5, 0.2], "seen": [3, 3]}
    >>> weight_ranking(pa.table(columns))["row"].to_pylist()
    [9, 4]
    """
    missing = {"row", "label", "weight", "seen"} - set(weights.column_names)
    if missing:
        raise DataError("the table holds no weights of rows", expected=", ".join(sorted(missing)))
    values = weights["weight"].to_numpy().astype(np.float64)
    codes = same_values(weights["label"].to_pylist())
    quality = rank_within_class(values, codes)
    known = np.flatnonzero(~np.isnan(quality))
    order = known[np.lexsort((values[known], quality[known]))]
    found = weights.take(pa.array(order)).append_column("quality", pa.array(quality[order]))
    return found.add_column(0, "rank", pa.array(np.arange(1, len(order) + 1)))
