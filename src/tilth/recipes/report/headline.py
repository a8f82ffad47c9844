"""What an experiment showed, in words that its spread allows.

The question of the experiment is not whether training helps but whether *balanced* pictures help
more than as many random ones. So the last word compares "rebalanced" with the control "random".

A difference counts only where the seeds of the two arms do not overlap at all: every seed of one
lies above every seed of the other. With three seeds an arm, chance alone gives that order in one
of twenty experiments (one of C(6, 3)), in a direction named beforehand; with fewer seeds it means
less, and with one it means nothing, which is what the words then say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tilth.recipes.experiment import Arm, ExperimentResult

__all__ = ["Comparison", "Headline", "compare", "headline"]

Verdict = Literal["better", "worse", "within the spread", "one seed", "not measured"]


@dataclass(frozen=True)
class Comparison:
    """The AP50 of ``after`` against that of ``before``.

    Attributes:
        difference: of the means, as a fraction; None where either was not measured.
        verdict: "better" or "worse" only where the seeds of the two arms do not overlap.
    """

    before: Arm
    after: Arm
    difference: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Headline:
    """The first lines of the report.

    Attributes:
        change: before to after, one sentence.
        judgement: rebalanced against the random control, one or two sentences.
        whole: first arm to last arm; None where fewer than two were run.
        control: rebalanced against random; None where either was not run.
    """

    change: str
    judgement: str
    whole: Comparison | None
    control: Comparison | None


def compare(before: Arm, after: Arm) -> Comparison:
    """Compare two arms by AP50 over their seeds."""
    old, new = before.ap50, after.ap50
    if old.mean is None or new.mean is None:
        return Comparison(before, after, None, "not measured")
    verdict: Verdict = "within the spread"
    if min(old.runs, new.runs) < 2:
        verdict = "one seed"
    elif new.lies_above(old):
        verdict = "better"
    elif old.lies_above(new):
        verdict = "worse"
    return Comparison(before, after, new.mean - old.mean, verdict)


def headline(result: ExperimentResult) -> Headline:
    """The headline of ``result``; held-out arms only, the optimistic protocol proves nothing."""
    arms = result.held_out_arms
    last = result.arm("rebalanced") or (arms[-1] if arms else None)
    whole = compare(arms[0], last) if last is not None and arms[0] is not last else None
    random, rebalanced = result.arm("random"), result.arm("rebalanced")
    control = compare(random, rebalanced) if random and rebalanced else None
    return Headline(_change(whole), _judgement(control), whole, control)


def _change(whole: Comparison | None) -> str:
    if whole is None:
        return "Fewer than two ways of training were compared."
    names = f'From "{whole.before.label}" to "{whole.after.label}"'
    if whole.difference is None:
        return f"{names}, the change in mAP50 could not be measured."
    if abs(whole.difference) < 0.0005:
        return f"{names}, mAP50 did not change."
    verb = "rose" if whole.difference > 0 else "fell"
    return f"{names}, mAP50 {verb} by {100 * abs(whole.difference):.1f} points."


def _judgement(control: Comparison | None) -> str:
    if control is None:
        return "There is no random-augmentation control, so balance itself was not put to the test."
    if control.difference is None:
        return "Rebalancing and the random control could not be compared: an AP50 is missing."
    points = _points(control.difference)
    if control.verdict == "better":
        return (
            "Balancing by cluster beats as many random augmentations by more than the spread: "
            f"{points}, every seed above every seed of the control."
        )
    if control.verdict == "worse":
        return (
            "Balancing by cluster is worse than as many random augmentations by more than the "
            f"spread: {points}, every seed below every seed of the control."
        )
    if control.verdict == "one seed":
        return (
            f"Balancing by cluster differs from as many random augmentations by {points}, but an "
            "arm has only one seed: no spread, so nothing can be concluded."
        )
    return (
        "Balancing by cluster and as many random augmentations cannot be told apart here: "
        f"{points}, within the spread of the seeds."
    )


def _points(difference: float) -> str:
    sign = "+" if difference >= 0 else "\N{MINUS SIGN}"
    return f"{sign}{100 * abs(difference):.1f} points"
