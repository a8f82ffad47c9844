"""The problems whose solutions the weights are, written out and given to general solvers."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linprog, minimize

SMOOTH = (
    "kl",
    "reverse_kl",
    "hellinger",
    "chi2",
    "neyman",
    "alpha",
    "tsallis",
    "renyi",
    "beta",
    "gamma",
)


def divergence(name, w, *, alpha):
    """From w to uniform weights, by its definition; torch, so that solvers get its gradient."""
    n = len(w)
    u = 1 / n
    if name == "kl":
        return torch.special.xlogy(w, w / u).sum()
    if name == "reverse_kl":
        return (u * (u / w).log()).sum()
    if name == "hellinger":
        return 2 * ((w.sqrt() - u**0.5) ** 2).sum()
    if name == "chi2":
        return ((w - u) ** 2 / u).sum() / 2
    if name == "neyman":
        return ((w - u) ** 2 / w).sum() / 2
    if name == "alpha":
        return ((w**alpha * u ** (1 - alpha)).sum() - 1) / (alpha * (alpha - 1))
    if name == "tsallis":
        return ((w**alpha * u ** (1 - alpha)).sum() - 1) / (alpha - 1)
    if name == "renyi":
        return (w**alpha * u ** (1 - alpha)).sum().log() / (alpha - 1)
    b = alpha - 1
    if name == "beta":
        return (w ** (1 + b) / b - (1 + 1 / b) * w * u**b + u ** (1 + b)).sum()
    assert name == "gamma"
    cross, own = (w * u**b).sum().log(), (w ** (1 + b)).sum().log()
    return own / (b * (1 + b)) - cross / b + np.log(n * u ** (1 + b)) / (1 + b)


def constrained(losses, divergence_of, radius, *, start=None, floor=0.0):
    """min w . losses on the simplex, ``divergence_of(w) <= radius``, by sequential programming."""
    n = len(losses)

    def value(w):
        return float(divergence_of(torch.tensor(w)))

    def slope(w):
        at = torch.tensor(w, requires_grad=True)
        return torch.autograd.grad(divergence_of(at), at)[0].numpy()

    def solved_from(start):
        return minimize(
            lambda w: w @ losses,
            start,
            jac=lambda w: losses,
            method="SLSQP",
            bounds=[(floor, 1)] * n,
            constraints=[
                {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(n)},
                {"type": "ineq", "fun": lambda w: radius - value(w), "jac": lambda w: -slope(w)},
            ],
            options={"maxiter": 500, "ftol": 1e-15},
        ).x

    # The solver gives up early here and there: the best of several beginnings is the answer.
    begin = np.full(n, 1 / n) if start is None else start
    leaning = np.exp(losses.min() - losses)
    starts = [begin] + [(1 - t) * begin + t * leaning / leaning.sum() for t in (0.1, 0.3, 0.6)]
    ends = [w for w in map(solved_from, starts) if abs(w.sum() - 1) < 1e-7]
    return min((w for w in ends if value(w) < radius + 1e-7), key=lambda w: w @ losses)


def share_programme(name, losses, *, delta=None, lam=None):
    """Total variation or CVaR as a linear programme, with a radius or with a price.

    Variables: w; and how much of it moves (half |w - u|, as w_i - u <= t_i), or the largest n w.
    """
    n = len(losses)
    extra = n if name == "tv" else 1
    cost = np.concatenate([losses, np.zeros(extra)])
    upper, bound = [], []
    for i in range(n):
        row = np.zeros(n + extra)
        row[i] = 1 if name == "tv" else n
        row[n + (i if name == "tv" else 0)] = -1
        upper.append(row)
        bound.append(1 / n if name == "tv" else 0.0)
    radius = np.concatenate([np.zeros(n), np.ones(extra)])
    if lam is not None:
        cost = cost + lam * radius
    else:
        upper.append(radius)
        bound.append(delta if name == "tv" else 1 / (1 - delta))
    equal = np.concatenate([np.ones(n), np.zeros(extra)])[None]
    done = linprog(cost, A_ub=np.array(upper), b_ub=bound, A_eq=equal, b_eq=[1.0])
    assert done.success
    return done.x[:n], done.fun
