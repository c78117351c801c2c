"""What is known of one labelled cloud: its figures, and on disk its labels until all are done.

A record is tied to the bytes of the message and to everything its labels depend on, so that a run
that was interrupted goes on with the records it finds, and never with those of another run.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import atomic_path
from sas_ros.point_labels import PointLabels

FORMAT_VERSION = 1
HISTOGRAM_BINS = 100
_METADATA_KEY = "sas_cloud_labels"


@dataclass(frozen=True)
class CloudFigures:
    """Figures of one labelled cloud; plain JSON values only.

    Attributes:
        topic: where it was recorded.
        number: counts the messages of that topic, from 0.
        time_ns: when it was recorded, ns.
        stamp_ns: its own stamp, ns.
        frame: its frame.
        sha256: of the message's bytes.
        points, finite_points, elements: of the cloud; elements are the student's voxels.
        up: unit vector in the cloud's frame.
        up_source: who said so, see `sas_ros.gravity.resolve_up`.
        labels: points per word, most first.
        objects: objects per word, most first.
        confidence: finite points by the confidence of their label, in 100 steps of 0.01.
    """

    topic: str
    number: int
    time_ns: int
    stamp_ns: int
    frame: str
    sha256: str
    points: int
    finite_points: int
    elements: int
    up: tuple[float, float, float]
    up_source: str
    labels: dict[str, int]
    objects: dict[str, int]
    confidence: tuple[int, ...]


@dataclass(frozen=True)
class BadMessage:
    """A message that could not be labelled, with the reason in a sentence.

    `passing` where the reason lies in the machine of the moment, not in the message: another run
    may label it.
    """

    topic: str
    number: int
    time_ns: int
    sha256: str
    reason: str
    passing: bool = False


Record = CloudFigures | BadMessage


def save_record(path: Path, key: str, record: Record, labels: PointLabels | None) -> None:
    """Write a record atomically; `labels` (N,) each, None for a bad message."""
    from safetensors.numpy import save_file

    kind = "labelled" if isinstance(record, CloudFigures) else "bad"
    content = {"format_version": FORMAT_VERSION, "key": key, kind: asdict(record)}
    tensors: dict[str, npt.NDArray[Any]] = {}
    if labels is not None:
        tensors = {
            "label": np.ascontiguousarray(labels.label, np.uint16),
            "confidence": np.ascontiguousarray(labels.confidence, np.float32),
            "instance": np.ascontiguousarray(labels.instance, np.uint32),
        }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {_METADATA_KEY: json.dumps(content)})


def load_record(path: Path, key: str) -> tuple[Record, PointLabels | None] | None:
    """The record at `path`; None where there is none, or one of other inputs, or a damaged one."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            content = json.loads((file.metadata() or {})[_METADATA_KEY])
            if content["format_version"] != FORMAT_VERSION or content["key"] != key:
                return None
            if "bad" in content:
                return BadMessage(**content["bad"]), None
            figures = figures_from(content["labelled"])
            labels = PointLabels(
                file.get_tensor("label").astype(np.uint32),
                file.get_tensor("confidence"),
                file.get_tensor("instance"),
            )
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None
    if any(len(v) != figures.points for v in (labels.label, labels.confidence, labels.instance)):
        return None
    return figures, labels


def figures_from(values: dict[str, Any]) -> CloudFigures:
    """Figures from their JSON object.

    Raises:
        SasError: a key is missing or unknown, or a value is of another kind.
    """
    try:
        x, y, z = (float(value) for value in values["up"])
        bins = tuple(int(count) for count in values["confidence"])
        figures = CloudFigures(**{**values, "up": (x, y, z), "confidence": bins})
        counts = [figures.number, figures.points, figures.finite_points, *bins]
        if len(bins) != HISTOGRAM_BINS or min(counts) < 0 or sum(bins) != figures.finite_points:
            raise ValueError("its counts contradict each other")
    except (KeyError, TypeError, ValueError) as error:
        raise SasError(f"The figures of a labelled cloud are damaged ({error}).") from error
    return figures
