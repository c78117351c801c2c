"""mIoU and mAcc from one confusion matrix over all files (method reference 7.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

NO_PREDICTION = 256
"""The prediction of a point that was not seen by any camera, where only cameras are evaluated."""

RARE_POINTS = 50
"""A confusion of fewer points is not named among the worst."""


@dataclass(frozen=True)
class Confusion:
    """Points of one class that were called another.

    Attributes:
        truth: name of their class.
        predicted: what they were called; None for a word outside the label set.
        points: how many.
        share: of all points of their class, 0..1.
    """

    truth: str
    predicted: str | None
    points: int
    share: float


class ConfusionMatrix:
    """Counts of points; grows by `add`.

    Attributes:
        names: K class names.
        counts: (K, K + 1) int64, rows are the true classes, columns the predicted ones. The last
            column holds predictions outside the label set: they are misses of their row.
        without: (K,) int64 points per true class that have no prediction (`NO_PREDICTION`).
    """

    def __init__(self, names: Sequence[str]) -> None:
        size = len(names)
        self.names = tuple(names)
        self.counts = np.zeros((size, size + 1), dtype=np.int64)
        self.without = np.zeros(size, dtype=np.int64)

    def add(self, truth: IntArray, predicted: IntArray) -> None:
        """Count points: `truth` (N,) ids, those outside 0..K-1 are ignored; `predicted` (N,) ids,
        `NO_PREDICTION` where there is none, all others outside 0..K-1 count as wrong."""
        size = len(self.names)
        scored = (truth >= 0) & (truth < size)
        rows, columns = truth[scored], predicted[scored]
        without = columns == NO_PREDICTION
        self.without += np.bincount(rows[without], minlength=size)
        rows, columns = rows[~without], columns[~without]
        columns = np.where((columns < 0) | (columns >= size), size, columns)
        index = rows * (size + 1) + columns
        self.counts += np.bincount(index, minlength=size * (size + 1)).reshape(size, size + 1)

    def merge(self, other: ConfusionMatrix) -> None:
        """Add the counts of another matrix of the same classes."""
        self.counts += other.counts
        self.without += other.without

    def summary(self) -> dict[str, Any]:
        """JSON-able figures.

        Returns:
            `miou_present` and `macc` are means over the classes with ground truth, `miou_all` and
            `macc_all` over all classes, to which absent ones add 0; `accuracy` is that of all
            points. `per_class` has IoU = TP / (TP + FP + FN) and accuracy = TP / points, None
            where a class is absent. `points` are those with a true class, `without_prediction`
            those of them that nothing was predicted for: they count as wrong in the accuracies
            and are left out of every IoU, as in the published evaluation of 2D features.
        """
        size = len(self.names)
        counted = self.counts.sum(axis=1)
        truth = counted + self.without
        hit = np.diag(self.counts)
        union = counted + self.counts[:, :size].sum(axis=0) - hit
        iou = hit / np.maximum(union, 1)
        accuracy = hit / np.maximum(truth, 1)
        present = truth > 0
        return {
            "miou_present": float(iou[present].mean()) if present.any() else 0.0,
            "miou_all": float(iou.mean()),
            "macc": float(accuracy[present].mean()) if present.any() else 0.0,
            "macc_all": float(accuracy.mean()),
            "accuracy": float(hit.sum() / max(int(truth.sum()), 1)),
            "classes_present": int(present.sum()),
            "points": int(truth.sum()),
            "without_prediction": int(self.without.sum()),
            "per_class": {
                name: {
                    "iou": float(iou[i]) if present[i] else None,
                    "acc": float(accuracy[i]) if present[i] else None,
                    "points": int(truth[i]),
                }
                for i, name in enumerate(self.names)
            },
        }

    def worst(self, most: int = 10) -> list[Confusion]:
        """The confusions that take the largest share of their true class, at most `most` of at
        least `RARE_POINTS` points each; points without a prediction are none."""
        size = len(self.names)
        truth = self.counts.sum(axis=1) + self.without
        wrong = self.counts.copy()
        np.fill_diagonal(wrong, 0)
        rows, columns = np.nonzero(wrong >= RARE_POINTS)
        share = wrong[rows, columns] / truth[rows]
        order = np.lexsort((columns, rows, -share))[:most]
        return [
            Confusion(
                truth=self.names[rows[k]],
                predicted=None if columns[k] == size else self.names[columns[k]],
                points=int(wrong[rows[k], columns[k]]),
                share=float(share[k]),
            )
            for k in order
        ]
