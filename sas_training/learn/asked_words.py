"""The words that teachers are asked for in a report, and how true labels become these words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.language.prompts import text_key
from sas_ros.language.vocabulary import Vocabulary
from sas_training.distill.distilled import embed, words_of
from sas_training.evaluation.foreign import classes_of
from sas_training.evaluation.labels import LABEL_SETS, LabelSet
from sas_training.evaluation.metrics import NO_PREDICTION, ConfusionMatrix, IntArray
from sas_training.learn.files import LearnFiles
from sas_training.learn.stages import text_encoder
from sas_training.scenes.scene import IGNORED, Scene

_MOST_WORDS = 6


@dataclass(frozen=True, eq=False)
class AskedWords:
    """What pixels and points are asked for.

    Attributes:
        vocabulary: the K words with their text features.
        labels: the label set they are, if they are one.
        numbers: number of a label in the data -> word, for data whose labels have no set.
    """

    vocabulary: Vocabulary
    labels: LabelSet | None = None
    numbers: Mapping[int, int] = field(default_factory=dict)

    @staticmethod
    def of(files: LearnFiles, words: str = "", numbers: Path | None = None) -> AskedWords:
        """The words of a label set or file, "" for the recipe's.

        Raises:
            SasError: no such set or file, or numbers that stand for none of the words.
        """
        chosen = words or files.recipe.vocabulary.labels
        found = words_of(chosen, files.recipe.vocabulary.prompt)
        vocabulary = found.vocabulary(embed(found, text_encoder(files), None))
        known = {} if numbers is None else read_numbers(numbers, vocabulary.names)
        return AskedWords(vocabulary, LABEL_SETS.get(chosen), known)

    def truth(self, scene: Scene, given: npt.NDArray[Any] | None) -> IntArray | None:
        """Labels of points or pixels, of any shape, as words, -1 where ignored.

        None where there are no labels, or of a set from which these words do not follow.
        """
        if given is None:
            return None
        given = given.astype(np.int64)
        if self.numbers:
            found = np.full(given.shape, -1, dtype=np.int64)
            for number, word in self.numbers.items():
                found[given == number] = word
            return found
        if self.labels is None:
            return None
        try:
            found = classes_of(scene, given, self.labels)
        except SasError:
            return None
        return np.where(found == IGNORED, -1, found)


def read_numbers(path: Path, names: tuple[str, ...]) -> dict[int, int]:
    """What the numbers of labels stand for: lines `NUMBER = WORD`, `#` begins a comment.

    Args:
        path: UTF-8 text.
        names: the words there are.

    Raises:
        SasError: no such file, a line that is not like that, or a word that is none of `names`.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SasError(f"The list of label numbers {path} cannot be read ({error}).") from error
    places = {text_key(name): place for place, name in enumerate(names)}
    found: dict[int, int] = {}
    for count, line in enumerate(lines, start=1):
        number, _, word = line.split("#")[0].partition("=")
        if not (number.strip() or word.strip()):
            continue
        if not number.strip().isdecimal() or not word.strip() or int(number) in found:
            raise SasError(
                f"{path}, line {count}: {line.strip()!r} is not NUMBER = WORD, each number once."
            )
        if text_key(word) not in places:
            raise SasError(
                f"{path}, line {count}: {word.strip()!r} is none of the words that are asked for; "
                f"they are {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}."
            )
        found[int(number)] = places[text_key(word)]
    if not found:
        raise SasError(f"The list of label numbers {path} is empty.")
    return found


class Tally:
    """What was said about pixels or points so far, and how much of it is right.

    Attributes:
        shown: how many there were to say something about.
        said: of how many something was said.
        counts: (K,) how often each word was said.
        scored: how many have a true word.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.counts = np.zeros(len(names), dtype=np.int64)
        self.shown = self.said = self.scored = 0
        self._matrix = ConfusionMatrix(names)

    def add(
        self, labels: IntArray, shown: npt.NDArray[np.bool_], truth: IntArray | None = None
    ) -> None:
        """Count pixels or points (N,).

        Args:
            labels: the word of each, -1 where nothing was said.
            shown: whether an image shows it. Silence about what is shown is wrong; what no image
                shows is left out of the IoU, as in the published evaluation of 2D features.
            truth: the true word of each, -1 where unknown.
        """
        self.shown += int(shown.sum())
        said = labels[labels >= 0]
        self.said += len(said)
        self.counts += np.bincount(said, minlength=len(self.names))
        if truth is not None:
            self.scored += int((truth >= 0).sum())
            self._matrix.add(truth, np.where(shown, labels, NO_PREDICTION))

    def facts(self) -> dict[str, Any]:
        """JSON-able: `shown`, `silent` (share of these), `words` (shares of what was said, the
        commonest), `figures` (`ConfusionMatrix.summary`, None without true words)."""
        order = np.argsort(-self.counts, kind="stable")[:_MOST_WORDS]
        words = {self.names[k]: self.counts[k] / self.said for k in order if self.counts[k]}
        return {
            "shown": self.shown,
            "silent": 1 - self.said / self.shown if self.shown else 0.0,
            "words": {word: float(share) for word, share in words.items()},
            "figures": self._matrix.summary() if self.scored else None,
        }
