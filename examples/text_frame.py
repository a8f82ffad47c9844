"""From a data frame of `index, label, unstructured_text` to a trained text classifier.

The frame is the one that people ask about: a label and a sentence in each row. Three rows teach
nothing, so `many_rows` makes three thousand in their manner: likes and dislikes, in words whose
order matters ("i used to like tea but now i hate it"). The ten lines to copy are in `main`.

    python examples/text_frame.py            some ten seconds on one core
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pandas as pd

from tilth.data import from_frame
from tilth.recipes.classify import ClassifyResult, train_classifier

ASKED = [
    (1, 1, "i like ice cream"),
    (2, 0, "i don't like ice cream"),
    (3, 1, "i'm a little teapot and i'm happy"),
]
THINGS = ["ice cream", "tea", "my new kettle", "the rain in april", "this teapot", "old maps"]
THINGS += ["the train to work", "early mornings", "your cooking", "the seaside", "that film"]
THINGS += ["running", "this soup", "the neighbour's dog", "spreadsheets", "cold coffee"]
WHO = ["i", "we", "my family", "both of us", "everyone here"]
LIKE = ["like", "love", "enjoy", "adore", "can't get enough of", "am happy with", "would recommend"]
DISLIKE = ["hate", "dislike", "can't stand", "avoid", "am tired of", "regret", "complain about"]
NEGATED = ["don't", "do not", "never", "no longer", "can't say i"]
AROUND = ["", "", "honestly, ", "to be fair, ", "well, ", "as you know, ", "after a long week "]


def many_rows(count: int, *, seed: int = 0) -> pd.DataFrame:
    """``count`` rows in the manner of the three; about one label in thirty is wrong, as in life."""
    draw = random.Random(seed)
    rows = list(ASKED)
    while len(rows) < count:
        label, sentence = _sentence(draw)
        if draw.random() < 1 / 30:
            label = 1 - label
        rows.append((len(rows) + 1, label, sentence))
    return pd.DataFrame(rows, columns=["index", "label", "unstructured_text"])


def _sentence(draw: random.Random) -> tuple[int, str]:
    likes, clause = _clause(draw)
    kind = draw.random()
    if kind < 0.25:  # what is said last is what is meant
        meant, last = _clause(draw)
        clause, likes = f"{clause}, but {last}", meant
    elif kind < 0.4:
        verb, other = draw.choice([(LIKE, DISLIKE), (DISLIKE, LIKE)])
        thing = draw.choice(THINGS)
        clause = f"i used to {draw.choice(verb)} {thing} but now i {draw.choice(other)} it"
        likes = other is LIKE
    return int(likes), draw.choice(AROUND) + clause


def _clause(draw: random.Random) -> tuple[bool, str]:
    likes, negated = draw.random() < 0.55, draw.random() < 0.35
    verb = draw.choice(LIKE if likes else DISLIKE)
    thing = draw.choice(THINGS)
    no = f"{draw.choice(NEGATED)} " if negated else ""
    return likes != negated, f"{draw.choice(WHO)} {no}{verb} {thing}"


def main(run_dir: Path, *, rows: int = 3000) -> ClassifyResult:
    """Train on such a frame, and classify sentences that it does not have."""
    frame = many_rows(rows)

    data = from_frame(frame, text="unstructured_text", label="label", index="index")
    done = train_classifier(data, run_dir=run_dir)
    print(f"held-out rows right: {done.scores.accuracy:.1%}")
    print(f"always the most frequent label: {done.scores.majority_accuracy:.1%}")
    print(f"report: {done.report}")

    new = pd.DataFrame({"unstructured_text": ["we don't enjoy cold tea", "i never hate the rain"]})
    chances = done.classifier.probabilities(done.classifier.rows(new))
    for sentence, (_, happy) in zip(new["unstructured_text"], chances, strict=True):
        print(f"{sentence}: {happy:.0%} label 1")
    return done


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder) / "run")
