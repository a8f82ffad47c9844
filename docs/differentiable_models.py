"""Write `docs/reference/differentiable-models.md` from the table of estimators itself.

`tests/contracts/test_differentiable_page.py` holds the page current.
"""

from __future__ import annotations

import inspect
from pathlib import Path

from tilth.losses.differentiable.covariance_kernels import KINDS
from tilth.losses.differentiable.estimator_mlp import ACTIVATIONS
from tilth.losses.differentiable.estimator_transform import FUNCTIONS
from tilth.losses.differentiable.estimators import TABLE, Twin
from tilth.losses.differentiable.kernel_functions import KERNELS
from tilth.losses.differentiable.model_files import PICKLED, READERS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "differentiable-models.md"

HEAD = """# Models that can be a loss

Written by `make docs` from the table that the code reads; do not edit.

`tilth.losses.differentiable.as_differentiable(model, sample=inputs)` makes a frozen torch module of
a fitted model, with a gradient to its inputs, and says which way it took (`.way`, `.description`)
and how far it is off (`.max_error`, `.r2`). Ways, best first:

| way | for | how good |
| --- | --- | --- |
| as it is | torch modules, `.pt2`, Keras 3 on the torch backend | it is the model |
| exact | the estimators below, ONNX graphs | checked against the model on the sample |
| smooth | trees, their ensembles, neighbours | R2 on the sample; below 0.8 refused |
| distilled | anything that answers, given a sample | R2 on inputs kept from it; below 0.8 refused |
| finite differences | anything that answers | the model is asked two times a feature and row |
"""


def page() -> str:
    """The text of `docs/reference/differentiable-models.md`."""
    lines = [HEAD]
    parts = {
        "Exact": [twin for twin in TABLE if not twin.is_smooth and not twin.is_composite],
        "As exact as their parts": [twin for twin in TABLE if twin.is_composite],
        "Smooth": [twin for twin in TABLE if twin.is_smooth],
    }
    for title, twins in parts.items():
        lines += [f"## {title}", "", "| outputs of | classes of scikit-learn | how |"]
        lines += ["| --- | --- | --- |", *_rows(twins), ""]
    activations = ", ".join(f"`{name}`" for name in ACTIVATIONS)
    functions = ", ".join(f"`numpy.{one.__name__}`" for one in FUNCTIONS if one is not None)
    lines += [
        "## Settings that are known",
        "",
        f"- activations of perceptrons: {activations}",
        f"- kernels by name: {', '.join(f'`{name}`' for name in KERNELS)}",
        f"- kernels of Gaussian processes: {', '.join(f'`{name}`' for name in KINDS)}",
        f"- functions of `FunctionTransformer`: none at all, {functions}",
        "",
        "Any other setting is named in the error, with the step of the pipeline that it stands in.",
        "",
        "## Files",
        "",
        f"Read: {', '.join(f'`{suffix}`' for suffix in READERS)} and folders of TensorFlow's "
        "SavedModel.",
        f"Refused, because they run the code they hold: {', '.join(f'`{s}`' for s in PICKLED)}.",
    ]
    return "\n".join(lines) + "\n"


def _rows(twins: list[Twin]) -> list[str]:
    """One a builder; the methods that share it stand together."""
    methods: dict[tuple[object, str], list[str]] = {}
    for twin in twins:
        methods.setdefault((twin.build, twin.names), []).append(twin.method)
    rows = []
    for (build, names), asked in methods.items():
        told = (inspect.getdoc(build) or "").partition("\n")[0].replace("|", "\\|")
        classes = ", ".join(f"`{name}`" for name in names.split())
        rows.append(f"| {', '.join(f'`{one}`' for one in asked)} | {classes} | {told} |")
    return rows


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
