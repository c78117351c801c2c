"""What a labelled bag must show for a check in CI to pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sas_ros.errors import SasError
from sas_ros.language.prompts import text_key
from sas_ros.query import MIN_POINTS


@dataclass(frozen=True)
class Expectation:
    """A word, and the share of all finite points that must have it; 0: an object's worth of points
    in some cloud."""

    name: str
    share: float = 0.0


@dataclass(frozen=True)
class Gates:
    """What was asked for; None where nothing was.

    Attributes:
        expected: words that must be there.
        least_confident: share of the finite points whose label reaches `confidence`.
        confidence: 0 to 1, in steps of 0.01; 1 means the last step, from 0.99.
        most_bad: messages that may be bad.
    """

    expected: tuple[Expectation, ...] = ()
    least_confident: float | None = None
    confidence: float = 0.5
    most_bad: int | None = None


@dataclass(frozen=True)
class GateResult:
    """One gate: what was wanted, what was found, and the sentence about it."""

    gate: str
    wanted: float
    found: float
    passed: bool
    sentence: str


def parse_expectation(text: str, names: Sequence[str]) -> Expectation:
    """Read `WORD` or `WORD:SHARE`, a word of the vocabulary `names`.

    Raises:
        SasError: another word, or no share in (0, 1]; names the words there are.
    """
    word, _, number = text.partition(":")
    known = {text_key(name): name for name in names}
    name = known.get(text_key(word))
    if name is None:
        raise SasError(
            f"--expect {text!r}: the student has no word {word!r}; it has {', '.join(names)}."
        )
    if not number:
        return Expectation(name)
    try:
        share = float(number)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise SasError(f"--expect {text!r}: the share must be a number above 0 and up to 1.")
    return Expectation(name, share)


def judge(
    gates: Gates, totals: Mapping[str, Any], histogram: Sequence[int]
) -> tuple[GateResult, ...]:
    """Compare what was found with what was asked for.

    Args:
        totals: of the report, see `BagReport.totals`.
        histogram: finite points by confidence in equal steps, or empty.
    """
    results = []
    for wanted in gates.expected:
        row = totals["labels"].get(wanted.name, {"share": 0.0, "most_in_one_cloud": 0})
        if wanted.share:
            found, least, unit = float(row["share"]), wanted.share, "of all finite points"
        else:
            found, least = float(row["most_in_one_cloud"]), float(MIN_POINTS)
            unit = "points in the cloud that shows most of it"
        sentence = f"{wanted.name} has {found:g} {unit}; {least:g} are asked for."
        results.append(GateResult(f"expect {wanted.name}", least, found, found >= least, sentence))
    if gates.least_confident is not None:
        start = min(round(gates.confidence * len(histogram)), max(len(histogram) - 1, 0))
        share = round(sum(histogram[start:]) / max(sum(histogram), 1), 6)
        sentence = (
            f"{share:g} of the finite points have a label of confidence {gates.confidence:g} or "
            f"more; {gates.least_confident:g} is asked for."
        )
        passed = share >= gates.least_confident and bool(histogram)
        results.append(GateResult("fail below", gates.least_confident, share, passed, sentence))
    if gates.most_bad is not None:
        bad = int(totals["bad"])
        sentence = f"{bad} messages could not be labelled; {gates.most_bad} may be."
        results.append(
            GateResult(
                "max bad", float(gates.most_bad), float(bad), bad <= gates.most_bad, sentence
            )
        )
    return tuple(results)
