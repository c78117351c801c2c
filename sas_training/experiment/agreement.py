"""How well measured capabilities agree with true ones: ranks, differences and their signs.

Intervals come from a bootstrap over classes: each draw takes as many classes as there are, with
replacement, for all teachers alike. Two ways to measure are compared on the same draws, so that
what is hard about a class does not count.
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
Parts = list[tuple[Values, Values]]
"""Of each teacher or pair a value, and its (RESAMPLES,) values in the bootstrap."""
HEADLINES = ("spearman", "spearman_difference", "sign_agreement")


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


def sign_counts(measured: Values, true: Values) -> dict[str, int]:
    """How many of K differences (K,) are measured with the `right` sign, as no difference (`tied`)
    and with the `wrong` one; what truly does not differ is left out, as in `sign_agreement`."""
    differs, tied = true != 0, measured == 0
    right = np.sign(measured) == np.sign(true)
    return {
        "right": int(np.count_nonzero(differs & right)),
        "tied": int(np.count_nonzero(differs & tied)),
        "wrong": int(np.count_nonzero(differs & ~tied & ~right)),
    }


@dataclass(frozen=True)
class Figure:
    """A value with the ends of its bootstrap interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


def agreement(
    teachers: Sequence[str],
    measured: Values,
    true: Values,
    seed: int,
    known: npt.NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """All figures of one way to measure, plain JSON.

    Args:
        teachers: T names.
        measured, true: (T, K) capabilities of the same classes.
        seed: of the bootstrap.
        known: (T, K) whether a teacher has a word for a class at all; None: all do.

    Returns:
        `n` = K; `spearman`, the mean over teachers, `spearman_difference` and `sign_agreement`,
        means over pairs of teachers; each teacher on its own; and each pair, with the counts
        behind `sign_agreement` as `signs`, and the same once more of the classes that both
        teachers know as `known_to_both`, None where there are none.
    """
    pairs = list(combinations(range(len(teachers)), 2))
    parts = _parts(measured, true, seed)
    known = np.ones(true.shape, dtype=np.bool_) if known is None else known
    entries = {}
    for number, (a, b) in enumerate(pairs):
        both = np.array([a, b])
        entry: dict[str, Any] = {
            name: _mean(parts[name][number : number + 1]) for name in HEADLINES[1:]
        }
        entry["signs"] = sign_counts(measured[a] - measured[b], true[a] - true[b])
        shared = np.flatnonzero(known[both].all(axis=0))
        entry["known_to_both"] = None
        if len(shared):
            entry["known_to_both"] = _of_a_pair(
                measured[np.ix_(both, shared)], true[np.ix_(both, shared)], seed
            )
        entries[f"{teachers[a]} - {teachers[b]}"] = entry
    return {
        "n": int(true.shape[1]),
        **{name: _mean(parts[name]) for name in HEADLINES},
        "teachers": {
            name: _mean([one]) for name, one in zip(teachers, parts["spearman"], strict=True)
        },
        "pairs": entries,
    }


def agreement_step(before: Values, after: Values, true: Values, seed: int) -> dict[str, Any]:
    """What the second of two ways to measure has more than the first, of each of `HEADLINES`.

    Args:
        before, after, true: (T, K) capabilities of the same teachers and classes.
        seed: of the bootstrap; the same as of `agreement`.
    """
    first, second = (_parts(one, true, seed) for one in (before, after))
    return {
        name: _mean(
            [
                (two[0] - one[0], two[1] - one[1])
                for one, two in zip(first[name], second[name], strict=True)
            ]
        )
        for name in HEADLINES
    }


def _parts(measured: Values, true: Values, seed: int) -> dict[str, Parts]:
    """Of each of `HEADLINES` the values of the teachers, or of their pairs."""
    rng = np.random.default_rng((seed, 61))
    draws = rng.integers(true.shape[1], size=(RESAMPLES, true.shape[1]))

    def figures(rule: Callable[[Values, Values], Values], sides: Any) -> Parts:
        return [(rule(one, two), rule(one[draws], two[draws])) for one, two in sides]

    differences = [
        (measured[a] - measured[b], true[a] - true[b])
        for a, b in combinations(range(len(measured)), 2)
    ]
    return {
        "spearman": figures(spearman, list(zip(measured, true, strict=True))),
        "spearman_difference": figures(spearman, differences),
        "sign_agreement": figures(sign_agreement, differences),
    }


def _of_a_pair(measured: Values, true: Values, seed: int) -> dict[str, Any]:
    parts = _parts(measured, true, seed)
    return {
        "n": int(true.shape[1]),
        **{name: _mean(parts[name]) for name in HEADLINES[1:]},
        "signs": sign_counts(measured[0] - measured[1], true[0] - true[1]),
    }


def _mean(parts: Parts) -> Mapping[str, float]:
    values = np.mean([value for value, _ in parts])
    low, high = np.quantile(
        np.mean([drawn for _, drawn in parts], axis=0), ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    )
    return Figure(float(values), float(low), float(high)).to_json()
