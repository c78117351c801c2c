"""The few numbers that turn cosines into probabilities, found on training rooms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sas_ros.errors import SasError


@dataclass(frozen=True)
class Calibration:
    """How cosines become probabilities; stored in the student bundle, see `sas_ros.matching`.

    Attributes:
        temperature: logit scale, > 0: logits are `temperature * cosine`.
        threshold: probability (0, 1] an element needs to belong to the answer of a query.
        same_meaning_margin: >= 0: a word whose cosine to the query is within this of the best
            word's means the same as the query.
        same_meaning_floor: [-1, 1]: below this cosine to the query no word means the same.
        min_elements: >= 1: a connected piece of fewer elements is no object: what a student gets
            wrong lies mostly in small pieces.
        word_elements: (word, elements >= 1) of words whose objects need another number: what is
            called a bed and is no larger than a chair is none. Kept in alphabetical order.
    """

    temperature: float = 30.0
    threshold: float = 0.5
    same_meaning_margin: float = 0.1
    same_meaning_floor: float = 0.5
    min_elements: int = 1
    word_elements: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        for name, value in self._numbers().items():
            if not math.isfinite(value):
                raise SasError(f"The calibration's {name} is {value}; it must be a finite number.")
        if self.temperature <= 0:
            raise SasError(
                f"The calibration's temperature is {self.temperature}; it must be above 0."
            )
        if not 0 < self.threshold <= 1:
            raise SasError(
                f"The calibration's threshold is {self.threshold}; it must lie in (0, 1]."
            )
        if self.min_elements < 1:
            raise SasError(
                f"The calibration's min_elements is {self.min_elements}; it must be 1 or more."
            )
        object.__setattr__(self, "word_elements", tuple(sorted(self.word_elements)))
        for word, elements in self.word_elements:
            if elements < 1:
                raise SasError(
                    f"The calibration's word_elements of {word!r} is {elements}; it must be 1 or "
                    "more."
                )
        if self.same_meaning_margin < 0 or not -1 <= self.same_meaning_floor <= 1:
            raise SasError(
                "The calibration's same_meaning_margin must not be negative and its "
                "same_meaning_floor must lie in [-1, 1]; they are "
                f"{self.same_meaning_margin} and {self.same_meaning_floor}."
            )

    def elements_of(self, word: str) -> int:
        """Elements that an object called `word` needs."""
        return dict(self.word_elements).get(word, self.min_elements)

    def to_metadata(self) -> dict[str, Any]:
        """The fields as plain JSON; `word_elements` only where there are any."""
        words = {"word_elements": dict(self.word_elements)} if self.word_elements else {}
        return {**self._numbers(), **words}

    def _numbers(self) -> dict[str, float]:
        return {
            "temperature": float(self.temperature),
            "threshold": float(self.threshold),
            "same_meaning_margin": float(self.same_meaning_margin),
            "same_meaning_floor": float(self.same_meaning_floor),
            "min_elements": int(self.min_elements),
        }

    @staticmethod
    def from_metadata(metadata: Mapping[str, Any]) -> Calibration:
        """Undo `to_metadata`; raises `SasError` naming the entry that is missing or wrong."""
        values: dict[str, float] = {}
        for name in Calibration()._numbers():
            value = metadata.get(name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise SasError(f'The calibration needs a number as its entry "{name}".')
            if not abs(value) < 1e9:  # NaN, Infinity, or more digits than a float can hold
                raise SasError(f'The calibration needs a finite number as its entry "{name}".')
            values[name] = float(value)
        elements = int(values.pop("min_elements"))
        words = metadata.get("word_elements", {})
        if not isinstance(words, dict) or not all(type(count) is int for count in words.values()):
            raise SasError(
                'The entry "word_elements" of the calibration must give a whole number per word.'
            )
        return Calibration(**values, min_elements=elements, word_elements=tuple(words.items()))
