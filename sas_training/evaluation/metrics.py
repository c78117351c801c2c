"""mIoU and mAcc from one confusion matrix over all files (method reference 7.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass
class ConfusionMatrix:
    """(K, K) int64 counts, rows are ground truth, columns predictions; grows by `add`."""

    names: Sequence[str]
    ignore_id: int = 255

    def __post_init__(self) -> None:
        size = len(self.names)
        # One more column holds predictions outside the label set: they are misses of their row.
        self.counts = np.zeros((size, size + 1), dtype=np.int64)

    def add(self, truth: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64]) -> None:
        """Count points: `truth` (N,) ids, those outside 0..K-1 are ignored; `predicted` (N,) ids,
        those outside 0..K-1 count as wrong."""
        size = len(self.names)
        scored = (truth >= 0) & (truth < size)
        columns = predicted[scored].copy()
        columns[(columns < 0) | (columns >= size)] = size
        index = truth[scored] * (size + 1) + columns
        self.counts += np.bincount(index, minlength=size * (size + 1)).reshape(size, size + 1)

    def summary(self) -> dict[str, Any]:
        """JSON-able figures: `miou_present` (mean over classes with ground truth), `miou_all` (mean
        over all classes, absent ones add 0), `macc` (over present classes), `per_class`."""
        size = len(self.names)
        truth = self.counts.sum(axis=1)
        hit = np.diag(self.counts)
        predicted = self.counts[:, :size].sum(axis=0)
        union = truth + predicted - hit
        iou = hit / np.maximum(union, 1)
        accuracy = hit / np.maximum(truth, 1)
        present = truth > 0
        return {
            "miou_present": float(iou[present].mean()) if present.any() else 0.0,
            "miou_all": float(iou.mean()),
            "macc": float(accuracy[present].mean()) if present.any() else 0.0,
            "points": int(truth.sum()),
            "per_class": {
                name: {
                    "iou": float(iou[i]) if present[i] else None,
                    "acc": float(accuracy[i]) if present[i] else None,
                    "points": int(truth[i]),
                }
                for i, name in enumerate(self.names)
            },
        }
