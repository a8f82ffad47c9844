"""A slow metric, learned so that it can be a loss: fit it, check it, use it.

\b
Example:
  tilth metric check scores.py:hausdorff --outputs outputs.npz
  tilth metric fit scores.py:hausdorff --outputs outputs.npz --inputs mask --to surrogate
  tilth metric use surrogate
"""

from __future__ import annotations

from tilth.cli import metric_check, metric_fit, metric_use

command = {
    "fit": metric_fit.command,
    "check": metric_check.command,
    "use": metric_use.command,
}
