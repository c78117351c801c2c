"""mIoU and mAcc against a count point by point, and against the published evaluation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_training.evaluation.metrics import NO_PREDICTION, Confusion, ConfusionMatrix

ids = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2, 255, -100]), st.sampled_from([-1, 0, 1, 2, 7, NO_PREDICTION])
    ),
    max_size=60,
)


def matrix_of(pairs: list[tuple[int, int]], names: tuple[str, ...]) -> ConfusionMatrix:
    matrix = ConfusionMatrix(names)
    truth = np.array([t for t, _ in pairs], dtype=np.int64)
    matrix.add(truth, np.array([p for _, p in pairs], dtype=np.int64))
    return matrix


@settings(deadline=None, derandomize=True)
@given(pairs=ids, cut=st.integers(0, 60))
def test_summary_equals_naive_counts(pairs: list[tuple[int, int]], cut: int) -> None:
    names = ("a", "b", "c")
    matrix = matrix_of(pairs[:cut], names)  # one matrix over all files
    matrix.merge(matrix_of(pairs[cut:], names))
    scored = [(t, p) for t, p in pairs if t in (0, 1, 2)]
    seen = [(t, p) for t, p in scored if p != NO_PREDICTION]
    ious, accuracies = [], []
    for c in range(3):
        hit = sum(t == c and p == c for t, p in scored)
        real = sum(t == c for t, _ in scored)
        missed = sum(t == c and p != c for t, p in seen)
        said = sum(p == c for _, p in scored)
        if real:
            ious.append(hit / (missed + said) if missed + said else 0.0)
            accuracies.append(hit / real)
    summary = matrix.summary()
    assert np.isclose(summary["miou_present"], np.mean(ious) if ious else 0)
    assert np.isclose(summary["miou_all"], sum(ious) / 3)
    assert np.isclose(summary["macc"], np.mean(accuracies) if accuracies else 0)
    assert np.isclose(summary["macc_all"], sum(accuracies) / 3)
    assert summary["points"] == len(scored)
    assert summary["without_prediction"] == len(scored) - len(seen)
    right = sum(t == p for t, p in scored)
    assert np.isclose(summary["accuracy"], right / len(scored) if scored else 0)
    present = [row["iou"] is not None for row in summary["per_class"].values()]
    assert present == [any(t == c for t, _ in scored) for c in range(3)]
    assert summary["classes_present"] == sum(present)


def published(
    truth: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], classes: int
) -> tuple[float, float]:
    """mIoU and mAcc of section 7.3 of the method reference, in float64, straight from its words:
    a 257 x 257 table of predictions against truth, rows and columns of no class cut off last."""
    table = np.zeros((257, 257), dtype=np.float64)
    for t, p in zip(truth, predicted, strict=True):
        if t != 255:
            table[p, t] += 1
    ious, accuracies = [], []
    inside = table[:classes, :classes]
    for c in range(classes):
        hit = table[c, c]
        union = inside[c].sum() + inside[:, c].sum() - hit
        ious.append(hit / union if union > 0 else 0.0)
        whole = table[:, c].sum()
        accuracies.append(hit / whole if whole > 0 else 0.0)
    return float(np.mean(ious)), float(np.mean(accuracies))


def test_it_is_the_published_evaluation() -> None:
    rng = np.random.default_rng(4)
    for classes in (16, 20, 21, 160):
        truth = rng.integers(0, classes - 2, 3000)  # the last two classes are absent
        predicted = np.where(rng.random(3000) < 0.4, truth, rng.integers(0, classes, 3000))
        predicted[rng.random(3000) < 0.2] = NO_PREDICTION
        truth[rng.random(3000) < 0.1] = 255
        matrix = ConfusionMatrix([str(number) for number in range(classes)])
        for part in (slice(0, 1000), slice(1000, None)):
            matrix.add(truth[part], predicted[part])
        summary = matrix.summary()
        miou, macc = published(truth, predicted, classes)
        assert abs(summary["miou_all"] - miou) < 1e-12
        assert abs(summary["macc_all"] - macc) < 1e-12
        assert summary["miou_present"] > summary["miou_all"]


def test_the_worst_confusions_are_shares_of_their_class() -> None:
    pairs = [(0, 0)] * 900 + [(0, 1)] * 100  # 10 % of a
    pairs += [(1, 2)] * 60 + [(1, 1)] * 40  # 60 % of b
    pairs += [(2, -1)] * 55 + [(2, 0)] * 45  # 55 % of c; too few are called a
    matrix = matrix_of([*pairs, *[(2, NO_PREDICTION)] * 10], ("a", "b", "c"))
    assert matrix.worst() == [
        Confusion("b", "c", 60, 0.6),
        Confusion("c", None, 55, 0.5),
        Confusion("a", "b", 100, 0.1),
    ]
    assert matrix.worst(1) == matrix.worst()[:1]
    assert ConfusionMatrix(("a",)).worst() == []
