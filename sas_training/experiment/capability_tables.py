"""What a link has measured: a capability table, or nothing, which is a result too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import atomic_write
from sas_training.capability.table import CapabilityTable, Measurement
from sas_training.experiment.capability_files import VOCABULARY
from sas_training.experiment.settings import TEACHERS

KIND, FORMAT_VERSION = "sas_nothing_measured", 1


@dataclass(frozen=True)
class Nothing:
    """Of a link all of whose images were left out.

    Attributes:
        rejected: class -> reason -> images left out for it.
    """

    rejected: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """A sentence."""
        counts = total(self.rejected)
        why = ", ".join(f"{name}: {count}" for name, count in counts.items())
        return f"All {sum(counts.values())} images were left out ({why})."

    def save(self, path: Path) -> None:
        """Write it where the table would be, as JSON, atomically."""
        content = {"kind": KIND, "format_version": FORMAT_VERSION, "rejected": self.rejected}
        atomic_write(path, (json.dumps(content, indent=2) + "\n").encode())


Measured = CapabilityTable | Nothing


def total(rejected: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Reason -> images of all classes, the most frequent first."""
    counts: dict[str, int] = {}
    for reasons in rejected.values():
        for name, count in reasons.items():
            counts[name] = counts.get(name, 0) + count
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def load_measured(path: Path) -> Measured:
    """Read what a link has measured; raises SasError for a file that is neither."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        content = None  # said by the reader of tables
    if not isinstance(content, dict) or content.get("kind") != KIND:
        return CapabilityTable.load(path)
    rejected: Any = content.get("rejected")
    if content.get("format_version") != FORMAT_VERSION or not _are_counts(rejected):
        raise SasError(f"{path} is damaged; remove it.")
    return Nothing(rejected)


def _are_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(one, dict) and all(type(count) is int for count in one.values())
        for one in value.values()
    )


def completed(measured: Measured) -> CapabilityTable:
    """A table with all words: what could not be measured gives no teacher more than another."""
    if isinstance(measured, Nothing):
        flat = np.full((len(TEACHERS), len(VOCABULARY)), 0.5)
        return CapabilityTable(TEACHERS, VOCABULARY, flat, pooled=flat)
    missing = [name for name in VOCABULARY if name not in measured.classes]
    if not missing:
        return measured

    def with_mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        level = np.full((len(measured.teachers), len(missing)), float(values.mean()))
        return np.concatenate([values, level], axis=1)

    return CapabilityTable(
        teachers=measured.teachers,
        classes=(*measured.classes, *missing),
        scores=with_mean(measured.scores),
        pooled=None if measured.pooled is None else with_mean(measured.pooled),
        made=Measurement(notes={**measured.made.notes, "not measured": missing}),
    )
