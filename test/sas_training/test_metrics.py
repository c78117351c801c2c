"""mIoU against a count point by point."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_training.evaluation.metrics import ConfusionMatrix

ids = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 255]), st.sampled_from([-1, 0, 1, 2, 7])), max_size=60
)


@settings(deadline=None, derandomize=True)
@given(pairs=ids, cut=st.integers(0, 60))
def test_summary_equals_naive_counts(pairs: list[tuple[int, int]], cut: int) -> None:
    matrix = ConfusionMatrix(("a", "b", "c"))
    for part in (pairs[:cut], pairs[cut:]):  # one matrix over all files
        truth = np.array([t for t, _ in part], dtype=np.int64)
        predicted = np.array([p for _, p in part], dtype=np.int64)
        matrix.add(truth, predicted)
    scored = [(t, p) for t, p in pairs if t != 255]
    ious, accuracies = [], []
    for c in range(3):
        hit = sum(t == c and p == c for t, p in scored)
        real = sum(t == c for t, _ in scored)
        said = sum(p == c for _, p in scored)
        if real:
            ious.append(hit / (real + said - hit))
            accuracies.append(hit / real)
    summary = matrix.summary()
    assert np.isclose(summary["miou_present"], np.mean(ious) if ious else 0)
    assert np.isclose(summary["miou_all"], sum(ious) / 3)
    assert np.isclose(summary["macc"], np.mean(accuracies) if accuracies else 0)
    assert summary["points"] == len(scored)
    present = [row["iou"] is not None for row in summary["per_class"].values()]
    assert present == [any(t == c for t, _ in scored) for c in range(3)]
