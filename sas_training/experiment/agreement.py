"""How well measured capabilities agree with true ones: ranks, differences and their signs.

Intervals come from a bootstrap over classes: each draw takes as many classes as there are, with
replacement, for all teachers alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
RESAMPLES = 2000

Values = npt.NDArray[np.float64]


def spearman(measured: Values, true: Values) -> Values:
    """(...) rank correlation over the last axis of two arrays (..., K); equal values share their
    mean rank, and 0 where one side is constant."""
    from scipy.stats import rankdata

    first, second = (rankdata(one, axis=-1) for one in (measured, true))
    first, second = (one - one.mean(axis=-1, keepdims=True) for one in (first, second))
    size = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
    return np.asarray((first * second).sum(axis=-1) / np.where(size > 0, size, 1.0))


def sign_agreement(measured: Values, true: Values) -> Values:
    """(...) share of the K differences (..., K) on whose sign both agree.

    What truly does not differ is left out; what is measured not to differ, but does, is half right.
    """
    differs = true != 0
    right = np.where(measured == 0, 0.5, np.sign(measured) == np.sign(true))
    return np.asarray((right * differs).sum(axis=-1) / np.maximum(differs.sum(axis=-1), 1))


@dataclass(frozen=True)
class Figure:
    """A value with the ends of its bootstrap interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


def agreement(teachers: Sequence[str], measured: Values, true: Values, seed: int) -> dict[str, Any]:
    """All figures of one way to measure, plain JSON.

    Args:
        teachers: T names.
        measured, true: (T, K) capabilities of the same classes.
        seed: of the bootstrap.

    Returns:
        `n` = K; `spearman`, the mean over teachers, `spearman_difference` and `sign_agreement`,
        means over pairs of teachers; and each teacher and pair on its own.
    """
    rng = np.random.default_rng((seed, 61))
    draws = rng.integers(true.shape[1], size=(RESAMPLES, true.shape[1]))
    pairs = list(combinations(range(len(teachers)), 2))

    def figures(rule: Callable[[Values, Values], Values], parts: Any) -> list[tuple[Any, Any]]:
        return [(rule(one, two), rule(one[draws], two[draws])) for one, two in parts]

    single = figures(spearman, [(measured[t], true[t]) for t in range(len(teachers))])
    differences = [(measured[a] - measured[b], true[a] - true[b]) for a, b in pairs]
    ranks, signs = figures(spearman, differences), figures(sign_agreement, differences)
    names = [f"{teachers[a]} - {teachers[b]}" for a, b in pairs]
    return {
        "n": int(true.shape[1]),
        "spearman": _mean(single),
        "spearman_difference": _mean(ranks),
        "sign_agreement": _mean(signs),
        "teachers": {name: _mean([one]) for name, one in zip(teachers, single, strict=True)},
        "pairs": {
            name: {"spearman_difference": _mean([rank]), "sign_agreement": _mean([sign])}
            for name, rank, sign in zip(names, ranks, signs, strict=True)
        },
    }


def _mean(parts: Sequence[tuple[Any, Any]]) -> Mapping[str, float]:
    values = np.mean([value for value, _ in parts])
    low, high = np.quantile(
        np.mean([drawn for _, drawn in parts], axis=0), ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    )
    return Figure(float(values), float(low), float(high)).to_json()
