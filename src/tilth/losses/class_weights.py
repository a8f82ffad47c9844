"""Weights of the classes of an example: a label is believed less where another class is likelier.

Source: Kumar, Amid, 2021, Constrained Instance and Class Reweighting for Robust Learning under
    Label Noise, arXiv 2111.05428 (the authors' released program, google-research
    ciw_label_noise); Reed, Lee, Anguelov, Szegedy, Erhan, Rabinovich, 2014, Training Deep Neural
    Networks on Noisy Labels with Bootstrapping, arXiv 1412.6596 (what total variation comes to);
    Michelot, 1986, A finite algorithm for finding the projection of a point onto the canonical
    simplex of R^n, Journal of Optimization Theory and Applications 50(1) (classes that leave).
Follows: min over v of sum_k v_k l_k with D'(v, q) <= gamma -> `class_weights`; its value ->
    `class_weighted_losses`.
Symbols: losses_per_class = l_k = -log p_k; targets = q, a label's e_y or a mix; v = weights;
    gamma = radius; k* = class of the least loss, the predicted one; excess = l_k - l_k*.
Differs: closed forms and roots for the whole batch in place of a convex solver per mini-batch. Its
    closed form and its solver disagree about total variation by a factor of 2: here it is half the
    sum of differences, so that gamma is the mass that moves. ``"kl"`` is KL(q || v), as there;
    ``"anchored_kl"`` is KL(v || q smoothed), ours.
Checked by: `test_class_vectors_of_the_derivation`, `test_class_weights_match_a_numerical_solver`,
    `test_total_variation_is_hard_bootstrapping`, `test_kl_is_total_variation_of_another_radius`,
    `test_anchored_kl_tempers_the_prediction`
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import one_hot

from tilth.errors import DataError, SettingsError
from tilth.losses.batched_root import falling_root
from tilth.losses.index_range import refuse_outside
from tilth.losses.instance_weights import refuse_nonsense
from tilth.losses.reweighting_settings import ClassDivergence

__all__ = ["class_weighted_losses", "class_weights"]

# A class that is as good as impossible; its loss is infinite where a logit is.
LARGEST_LOSS = 1e38
# Of a temperature or shift over the largest excess of a row.
LOG_LOW, LOG_HIGH = -300.0, 80.0


def class_weights(
    losses_per_class: Float[Tensor, "n k"],
    targets: Int64[Tensor, "n"] | Float[Tensor, "n k"],
    *,
    divergence: ClassDivergence,
    gamma: float,
    smoothing: float = 0.1,
) -> Float[Tensor, "n k"]:
    """Weights on the simplex for each example, float32, without gradient.

    Args:
        losses_per_class: what the example would lose with each class as its label.
        targets: labels, or distributions over classes such as mixup makes.
        divergence: from target to weights. ``"tv"``: gamma is the mass that moves from the target
            to the predicted class (static hard bootstrapping with beta = 1 - gamma). ``"kl"``:
            KL(q || v); of a label, the same with mass 1 - exp(-gamma). ``"l2"``: the squared
            distance. ``"anchored_kl"``: KL(v || q_s), where q_s is the smoothed target; soft
            bootstrapping by tempered predictions. ``"none"``: the targets themselves.
        gamma: radius, 0 or more.
        smoothing: of ``"anchored_kl"``'s q_s, e: q (1 - e) + e / k.

    Raises:
        DataError: a label outside the classes, or a target that is no distribution.
        TrainingError: a loss that is not a number.

    >>> losses = -torch.tensor([[0.6, 0.25, 0.1, 0.05]]).log()
    >>> class_weights(losses, torch.tensor([2]), divergence="tv", gamma=0.1)
    tensor([[0.1000, 0.0000, 0.9000, 0.0000]])
    """
    if divergence not in ("none", "tv", "kl", "l2", "anchored_kl") or not gamma >= 0:
        raise SettingsError(
            "these class weights are not known",
            expected="none, tv, kl, l2 or anchored_kl, with gamma of 0 or more",
            got=f"{divergence!r} with gamma {gamma:g}",
        )
    losses = losses_per_class.detach().double().clamp(max=LARGEST_LOSS)
    whole = losses.sum(dim=1)
    refuse_nonsense(whole, torch.ones_like(whole, dtype=torch.bool))
    is_label = not targets.is_floating_point()
    wanted = _distributions(targets, losses.shape[1])
    if divergence == "tv" or (divergence == "kl" and is_label):
        mass = gamma if divergence == "tv" else -math.expm1(-gamma)
        weights = _moved_to_predicted(losses, wanted, min(mass, 1.0))
    elif divergence == "kl":
        weights = _within_kl(losses, wanted, gamma)
    elif divergence == "l2":
        weights = _within_distance(losses, wanted, gamma)
    elif divergence == "anchored_kl":
        anchors = wanted * (1 - smoothing) + smoothing / losses.shape[1]
        weights = _within_anchored_kl(losses, anchors, gamma)
    else:
        weights = wanted
    return weights.float()


def class_weighted_losses(
    losses_per_class: Float[Tensor, "n k"], weights: Float[Tensor, "n k"]
) -> Float[Tensor, "n"]:
    """sum_k v_k l_k, the inner loss; a class without weight may have an infinite one."""
    losses = losses_per_class.where(weights > 0, 0)
    return (weights * losses).sum(dim=1)


def _distributions(
    targets: Int64[Tensor, "n"] | Float[Tensor, "n k"], num_classes: int
) -> Float[Tensor, "n k"]:
    if not targets.is_floating_point():
        refuse_outside(targets, num_classes, "a label is not one of the classes")
        return one_hot(targets, num_classes).double()
    wrong = (targets < 0).any(dim=1) | ~((targets.sum(dim=1) - 1).abs() < 1e-2)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise DataError(
            "a target is no distribution over the classes",
            expected="numbers of 0 or more that sum to 1",
            got=str(targets[row].tolist()),
            where=f"row {row} of the batch",
        )
    wanted = targets.detach().double()
    return wanted / wanted.sum(dim=1, keepdim=True)


def _moved_to_predicted(
    losses: Float[Tensor, "n k"], wanted: Float[Tensor, "n k"], mass: float
) -> Float[Tensor, "n k"]:
    """Up to ``mass`` moves from the classes of the highest loss to the predicted one."""
    order = losses.argsort(dim=1, descending=True)
    ordered = wanted.gather(1, order)
    before = ordered.cumsum(dim=1) - ordered
    taken = (mass - before).clamp(min=0).minimum(ordered)
    weights = wanted - torch.zeros_like(wanted).scatter(1, order, taken)
    return weights.scatter_add(1, losses.argmin(dim=1, keepdim=True), taken.sum(1, keepdim=True))


def _within_kl(
    losses: Float[Tensor, "n k"], wanted: Float[Tensor, "n k"], gamma: float
) -> Float[Tensor, "n k"]:
    """KL(q || v) <= gamma for mixed targets.

    A class outside the target costs no divergence, so that the predicted one may take what a target
    without it can spare; where the target has it, or cannot spare anything, v ~ q / (l + mu).
    """
    excess = losses - losses.amin(dim=1, keepdim=True)
    is_wanted = wanted > 0
    has_predicted = (is_wanted & (excess == 0)).any(dim=1)
    logs = excess.log().where(is_wanted, 0)
    scale = (wanted * logs).sum(dim=1, keepdim=True) - gamma
    spared = (wanted.log() - logs + scale).exp().where(is_wanted, 0)
    rest = 1 - spared.sum(dim=1)
    predicted = losses.argmin(dim=1, keepdim=True)
    spared = spared.scatter_add(1, predicted, rest.unsqueeze(1))
    is_spared = (~has_predicted & (rest >= 0)).unsqueeze(1)
    return spared.where(is_spared, _shifted_inverse(losses, wanted, gamma))


def _shifted_inverse(
    losses: Float[Tensor, "n k"], wanted: Float[Tensor, "n k"], gamma: float
) -> Float[Tensor, "n k"]:
    """v ~ q / (l + mu), mu at KL(q || v) = gamma by a root.

    Of the classes that any row wants alone: two of however many, where labels are mixed.
    """
    widest = int((wanted > 0).sum(dim=1).max()) if len(wanted) else 0
    shares, classes = wanted.topk(widest, dim=1)
    is_wanted = shares > 0
    excess = losses.gather(1, classes)
    excess = excess - excess.masked_fill(~is_wanted, math.inf).amin(dim=1, keepdim=True)
    excess = _scaled(excess.where(is_wanted, 0))

    def reached(shifts: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        relative = excess.unsqueeze(1) / shifts.unsqueeze(2)
        mean_log = (shares.unsqueeze(1) * torch.log1p(relative)).sum(dim=2)
        # log(1 - lost), by whichever form keeps its digits.
        lost = (shares.unsqueeze(1) * (relative / (1 + relative))).sum(dim=2)
        left = (shares.unsqueeze(1) / (1 + relative)).sum(dim=2)
        return mean_log + torch.log1p(-lost).where(lost < 0.5, left.log())

    shift = falling_root(reached, gamma, log_low=LOG_LOW, log_high=LOG_HIGH, like=excess)
    weights = shares / (excess / shift.unsqueeze(1) + 1)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return torch.zeros_like(wanted).scatter(1, classes, weights)


def _within_distance(
    losses: Float[Tensor, "n k"], wanted: Float[Tensor, "n k"], gamma: float
) -> Float[Tensor, "n k"]:
    """||v - q||^2 <= gamma: from the target straight down the losses, as far as gamma lets it.

    A step that takes classes below 0 is too short: they leave for good, and the next one starts at
    the point of the remaining simplex that is nearest to the target. The support only shrinks along
    the way, so that a step over too many classes never goes beyond the solution.
    """
    excess = losses - losses.amin(dim=1, keepdim=True)
    stays = torch.ones_like(wanted, dtype=torch.bool)
    while True:
        count = stays.sum(dim=1, keepdim=True).clamp(min=1)
        kept = wanted.where(stays, 0)
        spare = (1 - kept.sum(dim=1, keepdim=True)) / count
        left = gamma - (wanted - kept).square().sum(dim=1, keepdim=True) - count * spare**2
        fall = _scaled(excess.where(stays, 0))
        fall = (fall.sum(dim=1, keepdim=True) / count - fall).where(stays, 0)
        length = fall.norm(dim=1, keepdim=True)
        pace = left.clamp(min=0).sqrt() / length.where(length > 0, 1)
        weights = (kept + spare + pace * fall).where(stays, 0)
        if not (leaves := weights < 0).any():
            return weights
        stays &= ~leaves


def _within_anchored_kl(
    losses: Float[Tensor, "n k"], anchors: Float[Tensor, "n k"], gamma: float
) -> Float[Tensor, "n k"]:
    """KL(v || q) <= gamma: v ~ q exp(-l / t), t by a root."""
    least = losses.masked_fill(anchors <= 0, math.inf).amin(dim=1, keepdim=True)
    excess = _scaled((losses - least).clamp(min=0))
    column = anchors.unsqueeze(2)

    def reached(temperatures: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        powers = excess.unsqueeze(1) / temperatures.unsqueeze(2)
        falls = torch.expm1(-powers)
        lost = (falls @ column).squeeze(2)
        mean = ((falls + 1).mul_(powers) @ column).squeeze(2) / (1 + lost)
        return -mean - torch.log1p(lost)

    root = falling_root(reached, gamma, log_low=LOG_LOW, log_high=LOG_HIGH, like=losses)
    weights = anchors * (-excess / root.unsqueeze(1)).exp()
    return weights / weights.sum(dim=1, keepdim=True)


def _scaled(excess: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Each row over its largest entry, so that one bracket holds the roots of all."""
    largest = excess.amax(dim=1, keepdim=True)
    return excess / largest.where(largest > 0, 1)
