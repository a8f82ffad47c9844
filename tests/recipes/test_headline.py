"""The headline says no more than the spread allows, in every case."""

from __future__ import annotations

import math

import pytest
from made_up_result import made_up_arm

from tilth.recipes.experiment import ExperimentResult
from tilth.recipes.report.headline import compare, headline


def result_of(random: list[float | None], rebalanced: list[float | None]) -> ExperimentResult:
    arms = [
        made_up_arm("pretrained", [0.5]),
        made_up_arm("random", random),
        made_up_arm("rebalanced", rebalanced),
    ]
    return ExperimentResult(title="t", arms=arms)


@pytest.mark.parametrize(
    ("random", "rebalanced", "verdict", "words"),
    [
        ([0.60, 0.62], [0.66, 0.64], "better", "beats as many random augmentations"),
        ([0.66, 0.64], [0.60, 0.62], "worse", "is worse than as many random augmentations"),
        ([0.60, 0.65], [0.64, 0.67], "within the spread", "cannot be told apart"),
        ([0.60, 0.62], [0.62, 0.64], "within the spread", "cannot be told apart"),
        ([0.60], [0.70], "one seed", "nothing can be concluded"),
        ([0.60, 0.61], [None, math.nan], "not measured", "an AP50 is missing"),
    ],
)
def test_the_judgement_follows_the_spread(random, rebalanced, verdict, words) -> None:
    found = headline(result_of(random, rebalanced))
    assert found.control is not None
    assert found.control.verdict == verdict
    assert words in found.judgement
    # No sentence but "better" may claim a win.
    assert ("beats" in found.judgement) == (verdict == "better")


def test_points_are_differences_of_means() -> None:
    found = headline(result_of([0.60, 0.62], [0.70, 0.72]))
    assert "+10.0 points" in found.judgement
    assert found.change.endswith("mAP50 rose by 21.0 points.")
    assert "\N{MINUS SIGN}10.0 points" in headline(result_of([0.7, 0.72], [0.6, 0.62])).judgement


@pytest.mark.parametrize(
    ("after", "words"),
    [(0.4, "fell by 10.0 points"), (0.5, "did not change"), (None, "could not be measured")],
)
def test_a_loss_or_a_standstill_is_said(after: float | None, words: str) -> None:
    assert words in headline(result_of([0.5], [after])).change


def test_missing_arms_are_said() -> None:
    only = ExperimentResult(title="t", arms=[made_up_arm("raw", [0.5])])
    assert "Fewer than two" in headline(only).change
    assert "no random-augmentation control" in headline(only).judgement
    assert "Fewer than two" in headline(ExperimentResult(title="t")).change


def test_the_optimistic_protocol_is_never_the_headline() -> None:
    from made_up_result import made_up_result

    found = headline(made_up_result(examples=[]))
    assert found.whole is not None
    assert (found.whole.before.name, found.whole.after.name) == ("pretrained", "rebalanced")


def test_comparison_turns_round() -> None:
    low, high = made_up_arm("random", [0.1, 0.2]), made_up_arm("rebalanced", [0.3, 0.4])
    there, back = compare(low, high), compare(high, low)
    assert (there.verdict, back.verdict) == ("better", "worse")
    assert there.difference == pytest.approx(-back.difference)
