"""What a person wants to see of a result: a room in class colours, an answer with its boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sas_ros.language.vocabulary import Vocabulary
from sas_ros.observation import Cloud
from sas_ros.pictures import Box, render_cloud

UNLABELLED_COLOR = (90, 90, 90)
FOUND_COLORS = ((235, 60, 40), (245, 150, 20), (230, 60, 160), (150, 60, 220), (40, 120, 235))
"""Colours of the first, second, … object of an answer; they repeat."""

_LEGEND_ENTRIES = 14
_SHORT_TEXT = 12  # characters that fit beside a box; longer text stands in the legend only


def label_picture(
    points: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    vocabulary: Vocabulary,
    up: npt.NDArray[np.float64],
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8: the cloud in class colours, with a legend of the classes that are there.

    Args:
        points: (N, 3) metres; rows that are not finite are left out.
        labels: (N,) vocabulary indices; ids outside the vocabulary are grey.
        up: (3,) unit.
    """
    shown = np.isfinite(points).all(axis=1)
    points, labels = points[shown], labels[shown]
    known = (labels >= 0) & (labels < len(vocabulary))
    colors = np.full((len(points), 3), UNLABELLED_COLOR, dtype=np.uint8)
    colors[known] = vocabulary.colors[labels[known]]
    counts = np.bincount(labels[known].astype(np.int64), minlength=len(vocabulary))
    order = [int(k) for k in np.argsort(-counts, kind="stable") if counts[k]]
    legend = [(vocabulary.names[k], _rgb(vocabulary.colors[k])) for k in order[:_LEGEND_ENTRIES]]
    return render_cloud(points, colors, up=up, legend=legend)


def answer_picture(
    cloud: Cloud,
    up: npt.NDArray[np.float64],
    asked: str,
    found: Sequence[tuple[str, npt.NDArray[np.integer], Box]],
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8: the cloud in muted colours, what was found in bright ones, with boxes.

    Args:
        cloud: the cloud that was asked.
        up: (3,) unit.
        asked: what was asked; shown where nothing was found.
        found: per object the text it answers, the indices of its points, and its box labelled with
            its score, best first.
    """
    grey = np.full((len(cloud.points), 3), 150, dtype=np.uint8)
    if cloud.colors is not None:
        luminance = cloud.colors.astype(np.float64) @ (0.299, 0.587, 0.114)
        grey = np.repeat((90 + 0.45 * luminance).astype(np.uint8)[:, None], 3, axis=1)
    boxes = []
    legend: list[tuple[str, tuple[int, int, int]]] = []
    for number, (text, indices, box) in enumerate(found):
        color = FOUND_COLORS[number % len(FOUND_COLORS)]
        grey[indices] = color
        whole = f"{text} {box.label}"
        label = whole if len(text) <= _SHORT_TEXT else box.label
        boxes.append(Box(box.center, box.rotation, box.size, color, label))
        if number < len(FOUND_COLORS):
            legend.append((whole, color))
    if not found:
        legend.append((f"no {asked}", (150, 150, 150)))
    shown = cloud.valid
    return render_cloud(cloud.points[shown], grey[shown], up=up, boxes=boxes, legend=legend)


def _rgb(color: npt.NDArray[np.uint8]) -> tuple[int, int, int]:
    return int(color[0]), int(color[1]), int(color[2])
