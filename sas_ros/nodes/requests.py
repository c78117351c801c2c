"""Reading service requests: checked values out, or a sentence that says what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sas_ros.boxes import rotation_matrix
from sas_ros.errors import SasError
from sas_ros.language.prompts import normalise_text
from sas_ros.query import RegionOfInterest, TextQuery, check_text

MAX_LABELS = 1000


def read_query(request: Any) -> TextQuery:
    """Read a sas_msgs/srv/Query request; frames are checked later, against the snapshot.

    Raises:
        SasError: text, threshold, source or region cannot be answered as they are.
    """
    if request.source not in (request.SOURCE_LATEST, request.SOURCE_MAP):
        raise SasError(f"source {request.source} is unknown; use SOURCE_LATEST or SOURCE_MAP.")
    if request.source == request.SOURCE_MAP and request.set_target:
        raise SasError(
            "A target is held in the clouds, not on the map; set it with source SOURCE_LATEST."
        )
    threshold = float(request.threshold)
    if not 0.0 <= threshold <= 1.0:
        raise SasError(
            f"threshold must be a probability in (0, 1], or 0 for the node's default, "
            f"not {threshold:g}."
        )
    age = request.max_age
    if age.sec < 0:
        raise SasError("max_age must not be negative; 0 is no limit.")
    query = TextQuery(
        text=normalise_text(request.text),
        negatives=tuple(normalise_text(word) for word in request.negatives),
        threshold=threshold,
        max_instances=int(request.max_instances),
        roi=read_region(request) if request.roi_enabled else None,
    )
    # Control characters must be seen before normalising turns some of them into blanks.
    raw = TextQuery(text=request.text, negatives=tuple(request.negatives))
    reason = check_text(raw) or check_text(query)
    if reason:
        raise SasError(reason)
    return query


def read_region(request: Any) -> RegionOfInterest:
    """Read `roi_pose` and `roi_size`: centre in metres, box axes as columns, full lengths."""
    pose, size = request.roi_pose.pose, request.roi_size
    center = np.array([pose.position.x, pose.position.y, pose.position.z], np.float64)
    lengths = np.array([size.x, size.y, size.z], np.float64)
    if not np.isfinite(center).all():
        raise SasError("roi_pose.position must be finite.")
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise SasError("roi_size must hold three positive lengths in metres.")
    turn = pose.orientation
    try:
        rotation = rotation_matrix((turn.x, turn.y, turn.z, turn.w))
    except SasError as error:
        raise SasError(f"roi_pose.orientation: {error}") from None
    return RegionOfInterest(center, rotation, lengths)


def read_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Check a list of new labels and return them normalised.

    Raises:
        SasError: none, too many, one that is empty or no word, or one given twice.
    """
    if not labels:
        raise SasError("A vocabulary needs at least one label; the list is empty.")
    if len(labels) > MAX_LABELS:
        raise SasError(f"At most {MAX_LABELS} labels, not {len(labels)}.")
    names = tuple(normalise_text(label) for label in labels)
    seen: dict[str, str] = {}
    for raw, name in zip(labels, names, strict=True):
        if not name:
            raise SasError("A label is empty; remove it.")
        reason = check_text(TextQuery(text=raw))
        if reason:
            raise SasError(f"The label {name[:40]!r} cannot be used: {reason}")
        key = name.casefold()
        if key in seen:
            raise SasError(f"The label {name!r} is given twice; give every label once.")
        seen[key] = name
    return names
