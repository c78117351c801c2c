"""The labels in force, and the student's other words, which compete with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sas_ros.language.calibration import Calibration
from sas_ros.language.vocabulary import UNLABELLED, Vocabulary
from sas_ros.matching import same_meaning
from sas_ros.observation import ElementLabels


@dataclass(frozen=True, eq=False)
class Words:
    """Immutable; swapped whole when the vocabulary changes.

    Attributes:
        labels: what label numbers mean; K words.
        competing: the labels, followed by the student's words that are not among them. Labels
            alone say nothing about floors and walls, which would then look like one of them.
        label_of: (len(competing),) int64 label number of each competing word: itself for a label,
            a label that means the same for another word, else `UNLABELLED`.
        own: the words the student was trained with, which decide what means the same.
        min_elements: elements an instance needs, from the student's calibration.
    """

    labels: Vocabulary
    competing: Vocabulary
    label_of: npt.NDArray[np.int64]
    own: Vocabulary
    min_elements: int = 1

    def to_labels(self, elements: ElementLabels) -> ElementLabels:
        """Turn indices into `competing` into label numbers."""
        return ElementLabels(self.label_of[elements.label], elements.confidence)


def words_for(labels: Vocabulary, own: Vocabulary, calibration: Calibration) -> Words:
    """The labels with the words of the student's `own` vocabulary around them."""
    competing = labels.joined(own)
    label_of = np.full(len(competing), UNLABELLED, np.int64)
    label_of[: len(labels)] = np.arange(len(labels))
    added = np.arange(len(labels), len(competing))
    # "couch" among the labels takes the points that the student calls sofa.
    means = np.stack([same_meaning(row, competing, calibration, own) for row in labels.embeddings])
    similar = labels.embeddings @ competing.embeddings.T
    closest = np.where(means, similar, -np.inf).argmax(axis=0)
    taken = means.any(axis=0)
    label_of[added] = np.where(taken, closest, UNLABELLED)[added]
    return Words(labels, competing, label_of, own, calibration.min_elements)
