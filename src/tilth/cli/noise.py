"""Wrong labels: find them in a set, or make them for an experiment.

\b
Example:
  tilth noise find reviews.csv --text body --label stars
  tilth noise find --boxes first --split val
  tilth noise inject train.csv --label label --kind pair_flip --rate 0.2 --output noisy.csv
"""

from __future__ import annotations

from tilth.cli import noise_find, noise_inject

command = {
    "find": noise_find.command,
    "inject": noise_inject.command,
}
