"""Found objects against annotated ones: AP25, AP50, box errors, splits and merges.

As on ScanNet's benchmark: found objects of a class, of all scans together, are ranked by
confidence; each takes the free true object of its scan and class that it overlaps most, if the IoU
of their points is above the threshold; it is right then, else wrong. AP is the area under precision
over recall, where precision is the best one at this recall or a higher one. A wrong one is not
counted when more than the threshold's share of it lies on points nobody annotated. Means are over
the classes that have a true object.

Three differences: points that nobody annotated (clutter, a quarter to 40 % of a room) are left out
of the IoU, as they are of the mIoU; a found object can take one true object only, also at IoUs
below one half; the smallest true object has `SMALLEST_OBJECT` points, because the scans are thinned
out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]

SMALLEST_OBJECT = 50
"""Points of the smallest true object; points of smaller ones count as not annotated."""

THRESHOLDS = (0.25, 0.5)

CLUSTERINGS = ("objects", "dbscan")
"""How objects are made of labels: the robot's own way, and what it is compared with."""

_MOST = 0.5  # this share of an object decides where it belongs, for splits and merges
_FRAGMENT = 0.1  # smaller parts of a true object are crumbs, not a second object


@dataclass(frozen=True, eq=False)
class Objects:
    """Objects of one scan, no point in two of them.

    Attributes:
        of_point: (N,) int64 number of the object each point belongs to, from 0; -1 for none.
        classes: (k,) int64 class of each object.
        centers: (k, 3) float64 metres, centres of the boxes, all in one frame.
        sizes: (k, 3) float64 metres: longer horizontal, other horizontal, vertical side.
        confidence: (k,) float64, any scale; of found objects only.
        given: (k, 6) float64 metres, centre and sizes of the boxes that came with the scan, NaN
            where an object has none; of true objects only, None for a scan without boxes.
    """

    of_point: IntArray
    classes: IntArray
    centers: Float64Array
    sizes: Float64Array
    confidence: Float64Array = field(default_factory=lambda: np.zeros(0))
    given: Float64Array | None = None


@dataclass
class _ClassRecord:
    """What was counted for one class; `hits` per threshold are (confidence, right)."""

    true: int = 0
    split: int = 0
    merged: int = 0
    hits: dict[float, list[tuple[float, bool]]] = field(
        default_factory=lambda: {threshold: [] for threshold in THRESHOLDS}
    )
    center_errors: list[float] = field(default_factory=list)
    size_errors: list[float] = field(default_factory=list)


@dataclass
class _GivenRecord:
    """Errors against boxes that came with the scans: of found objects, and of true ones."""

    found: list[tuple[float, float]] = field(default_factory=list)
    true: list[tuple[float, float]] = field(default_factory=list)

    def figures(self) -> dict[str, Any] | None:
        if not self.true:
            return None
        result: dict[str, Any] = {"boxes": len(self.true)}
        for prefix, pairs in (("", self.found), ("true_", self.true)):
            result[f"{prefix}center_error_m"] = _median([center for center, _ in pairs])
            result[f"{prefix}size_error_m"] = _median([size for _, size in pairs])
        return result


def annotated(
    labels: IntArray, instances: IntArray, scored: npt.NDArray[np.bool_]
) -> tuple[IntArray, IntArray, npt.NDArray[np.bool_]]:
    """True objects of one scan from class (N,) and instance id (N,) of each point, 0 = no instance.

    An object is the points that share instance and class. `scored` (K,) says which classes have
    objects.

    Returns:
        (N,) number of each point's object or -1, (k,) class of each object, and (N,) bool: the
        points of which nobody said what they are. These have no class, or a class with objects but
        no instance, or belong to an object below `SMALLEST_OBJECT` points.
    """
    known = (labels >= 0) & (labels < len(scored))
    countable = known & scored[np.where(known, labels, 0)]
    rows = np.flatnonzero(countable & (instances > 0))
    pairs, member = np.unique(
        np.column_stack([instances[rows], labels[rows]]), axis=0, return_inverse=True
    )
    member = member.reshape(-1)
    large = np.bincount(member, minlength=len(pairs)) >= SMALLEST_OBJECT
    number = np.where(large, np.cumsum(large) - 1, -1)
    of_point = np.full(len(labels), -1, dtype=np.int64)
    of_point[rows] = number[member]
    return of_point, pairs[large, 1].astype(np.int64), ~known | (countable & (of_point < 0))


class InstanceScores:
    """Counts over scans; grows by `add`.

    Args:
        names: K class names.
        scored: (K,) bool: the classes that have objects.
    """

    def __init__(self, names: Sequence[str], scored: npt.NDArray[np.bool_]) -> None:
        self.names = tuple(names)
        self.scored = scored
        self._records = [_ClassRecord() for _ in self.names]
        self._given = _GivenRecord()

    def add(self, true: Objects, found: Objects, unknown: npt.NDArray[np.bool_]) -> None:
        """Compare the objects of one scan; `unknown` (N,) bool as from `annotated`."""
        shape = (len(found.classes), len(true.classes))
        both = (found.of_point >= 0) & (true.of_point >= 0) & ~unknown
        index = found.of_point[both] * shape[1] + true.of_point[both]
        common = np.bincount(index, minlength=shape[0] * shape[1]).reshape(shape)
        found_points = _sizes(found.of_point[~unknown], shape[0])
        true_points = _sizes(true.of_point[~unknown], shape[1])
        all_points = _sizes(found.of_point, shape[0])
        unknown_share = 1 - found_points / np.maximum(all_points, 1)
        union = found_points[:, None] + true_points[None, :] - common
        iou = common / np.maximum(union, 1)
        for number in np.flatnonzero(self.scored):
            record = self._records[number]
            mine = np.flatnonzero(found.classes == number)
            mine = mine[np.argsort(-found.confidence[mine], kind="stable")]
            theirs = np.flatnonzero(true.classes == number)
            record.true += len(theirs)
            part = common[np.ix_(mine, theirs)]
            inside = part > _MOST * found_points[mine][:, None]
            fragment = inside & (part >= _FRAGMENT * true_points[theirs][None, :])
            record.split += int((fragment.sum(axis=0) > 1).sum())
            swallowed = part > _MOST * true_points[theirs][None, :]
            record.merged += int((swallowed.sum(axis=1) > 1).sum())
            for threshold in THRESHOLDS:
                partner = _match(iou[np.ix_(mine, theirs)], threshold)
                right = partner >= 0
                counted = right | (unknown_share[mine] <= threshold)
                confidence = found.confidence[mine]
                record.hits[threshold] += [
                    (float(confidence[row]), bool(right[row])) for row in np.flatnonzero(counted)
                ]
                if threshold == THRESHOLDS[0]:
                    one, other = mine[right], theirs[partner[right]]
                    errors = _box_errors(found, one, _boxes(true)[other])
                    record.center_errors += [center for center, _ in errors]
                    record.size_errors += [size for _, size in errors]
                    if true.given is not None:
                        self._given.found += _box_errors(found, one, true.given[other])
                        self._given.true += _box_errors(true, theirs, true.given[theirs])

    def summary(self) -> dict[str, Any]:
        """JSON-able figures: `ap25`, `ap50` (means over classes with a true object), `true`,
        `found`, `split`, `merged` (sums), `center_error_m`, `size_error_m` (medians over objects
        matched at IoU 0.25; the size error is the mean over the three sides), and the same for
        each class in `per_class`. `given_boxes` has the same errors against boxes that came with
        the scans, and those of our boxes around the true points (`true_center_error_m`,
        `true_size_error_m`). None stands for what is not defined.
        """
        per_class = {
            self.names[number]: _figures(self._records[number])
            for number in np.flatnonzero(self.scored)
        }
        present = [row for row in per_class.values() if row["true"]]
        records = [self._records[number] for number in np.flatnonzero(self.scored)]
        return {
            **{
                key: float(np.mean([row[key] for row in present])) if present else None
                for key in ("ap25", "ap50")
            },
            **{
                key: sum(row[key] for row in per_class.values())
                for key in ("true", "found", "split", "merged")
            },
            "center_error_m": _median([e for record in records for e in record.center_errors]),
            "size_error_m": _median([e for record in records for e in record.size_errors]),
            "given_boxes": self._given.figures(),
            "per_class": per_class,
        }


def _figures(record: _ClassRecord) -> dict[str, Any]:
    low, high = (average_precision(record.hits[t], record.true) for t in THRESHOLDS)
    return {
        "ap25": low,
        "ap50": high,
        "true": record.true,
        "found": len(record.hits[THRESHOLDS[0]]),
        "split": record.split,
        "merged": record.merged,
        "center_error_m": _median(record.center_errors),
        "size_error_m": _median(record.size_errors),
    }


def average_precision(hits: Sequence[tuple[float, bool]], true: int) -> float | None:
    """Area under precision over recall of found objects (confidence, right); None without truth."""
    if true == 0:
        return None
    ranked = sorted(hits, key=lambda hit: -hit[0])
    right = np.array([hit for _, hit in ranked], dtype=np.bool_)
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best_from_here[right].sum() / true)


def _match(iou: Float64Array, threshold: float) -> IntArray:
    """(f,) true object that each found one takes, the first row first, or -1; `iou` is (f, t)."""
    partner = np.full(len(iou), -1, dtype=np.int64)
    free = iou.copy()
    for row in range(len(iou) if iou.shape[1] else 0):
        best = int(np.argmax(free[row]))
        if free[row, best] > threshold:
            partner[row] = best
            free[:, best] = -1.0
    return partner


def _boxes(objects: Objects) -> Float64Array:
    return np.column_stack([objects.centers, objects.sizes])


def _box_errors(objects: Objects, rows: IntArray, boxes: Float64Array) -> list[tuple[float, float]]:
    """Centre and mean size error, metres, of the objects in `rows` (r,) against `boxes` (r, 6),
    without those of which there is no box."""
    change = _boxes(objects)[rows] - boxes
    change = change[np.isfinite(change).all(axis=1)]
    center = np.linalg.norm(change[:, :3], axis=1)
    size = np.abs(change[:, 3:]).mean(axis=1)
    return list(zip(center.tolist(), size.tolist(), strict=True))


def _sizes(of_point: IntArray, count: int) -> IntArray:
    return np.bincount(of_point[of_point >= 0], minlength=count).astype(np.int64)


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None
