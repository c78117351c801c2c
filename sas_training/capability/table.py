"""The capability table: how well each teacher knows each class, and how that was measured.

Score S_m[j] of teacher m for class j is the foreground IoU of its masks on images that show j.
Paper and released code differ: the paper takes the mean of the images' IoU (`macro`, its equations
3 and 4), the code divides the pooled intersection by the pooled union (`micro`). A table may hold
both; the paper's is the default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import atomic_write

FORMAT_VERSION = 1
KIND = "sas_capability_table"
MEASURES = ("macro", "micro")
ARRAYS = ("scores", "pooled", "intervals", "pooled_intervals")
"""Entries with a line per class; all but the first may be missing."""


@dataclass(frozen=True)
class Measurement:
    """How a table was made.

    Attributes:
        prompts: templates with one `{}` for the class that images were made or found with.
        seeds: of the images.
        models: what did what -> model, for example `images`, `masks` and one for each teacher.
        images_per_class: m.
        notes: anything else, plain JSON, for people.
    """

    prompts: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    images_per_class: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class CapabilityTable:
    """Scores of teachers for classes; immutable, its arrays are read-only copies.

    Attributes:
        teachers: T distinct names.
        classes: K distinct names.
        scores: (T, K) float64 in 0 to 1, mean over images of the IoU (`macro`).
        made: how they were measured.
        pooled: (T, K) float64 in 0 to 1, pooled over images (`micro`), or None.
        intervals: (T, K, 2) float64, lower and upper end of a bootstrap interval of `scores`, or
            None.
        pooled_intervals: the same of `pooled`, or None, as in tables of before there were any.
        level: confidence of the intervals.

    Raises `SasError` when the parts do not fit together.
    """

    teachers: tuple[str, ...]
    classes: tuple[str, ...]
    scores: npt.NDArray[np.float64]
    made: Measurement = field(default_factory=Measurement)
    pooled: npt.NDArray[np.float64] | None = None
    intervals: npt.NDArray[np.float64] | None = None
    pooled_intervals: npt.NDArray[np.float64] | None = None
    level: float = 0.95

    def __post_init__(self) -> None:
        for what, names in (("teacher", self.teachers), ("class", self.classes)):
            if not names:
                raise SasError(f"A capability table needs at least one {what}.")
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice or not all(name and isinstance(name, str) for name in names):
                raise SasError(
                    f"A capability table needs a different name for every {what}"
                    + (f"; it has {twice[0]!r} twice." if twice else ", none of them empty.")
                )
        shape = (len(self.teachers), len(self.classes))
        self._put("scores", self.scores, shape)
        if self.pooled is not None:
            self._put("pooled", self.pooled, shape)
        for name in ("intervals", "pooled_intervals"):
            given = getattr(self, name)
            if given is None:
                continue
            ends = self._put(name, given, (*shape, 2))
            if (ends[..., 0] > ends[..., 1]).any():
                raise SasError("An interval of the capability table ends below its beginning.")
        if self.pooled_intervals is not None and self.pooled is None:
            raise SasError("A capability table has intervals of pooled scores, but not these.")
        if not 0 < self.level < 1:
            raise SasError(f"The level of intervals lies between 0 and 1, not {self.level:g}.")
        if self.made.images_per_class < 0:
            raise SasError("A capability table cannot be made of fewer than 0 images per class.")
        for prompt in self.made.prompts:
            if prompt.count("{}") != 1:
                raise SasError(f"The prompt {prompt!r} needs exactly one {{}} for the class.")

    def _put(
        self, name: str, values: npt.NDArray[np.float64], shape: tuple[int, ...]
    ) -> npt.NDArray[np.float64]:
        own = np.array(values, dtype=np.float64)
        if own.shape != shape:
            raise SasError(
                f"The {name} of a capability table with {shape[0]} teachers and {shape[1]} classes "
                f"have the shape {shape}, not {own.shape}."
            )
        wrong = np.argwhere(~((own >= 0) & (own <= 1)))
        if len(wrong):
            row, column = wrong[0][:2]
            raise SasError(
                f"The {name} of {self.teachers[row]!r} for {self.classes[column]!r} are "
                f"{own[tuple(wrong[0])]:g}; capabilities lie in 0 to 1."
            )
        own.setflags(write=False)
        object.__setattr__(self, name, own)
        return own

    def aligned(
        self,
        teachers: Sequence[str],
        classes: Sequence[str],
        *,
        measure: str = "macro",
        absent: float | None = None,
    ) -> npt.NDArray[np.float64]:
        """Scores (len(teachers), len(classes)) float64 in the given order.

        Args:
            teachers: names in the table.
            classes: names of a vocabulary.
            measure: `macro` (paper) or `micro` (released code).
            absent: score of a class that the table does not have, such as `other`, which released
                tables give 0; None: such a class is an error.

        Raises:
            SasError: a teacher or class that is not there, or a measure that is not.
        """
        values = self.of_measure(measure).scores
        rows = self._rows(teachers)
        missing = [name for name in classes if name not in self.classes]
        if missing and absent is None:
            raise SasError(
                f"The capability table has no score for {missing[0]!r} ({len(missing)} of "
                f"{len(classes)} classes are missing); measure them, or say which score absent "
                "classes get."
            )
        result = np.full((len(teachers), len(classes)), 0.0 if absent is None else absent)
        at = {name: position for position, name in enumerate(self.classes)}
        for row, own in enumerate(values[rows]):
            for column, name in enumerate(classes):
                if name in at:
                    result[row, column] = own[at[name]]
        return result

    def of_measure(self, measure: str) -> CapabilityTable:
        """The table with the scores of a measure, and their intervals, in the place of `scores`.

        Raises:
            SasError: a measure that is not, or that the table does not have.
        """
        if measure not in MEASURES:
            raise SasError(f"{measure!r} is no measure; known are {', '.join(MEASURES)}.")
        if measure == "macro":
            return self
        if self.pooled is None:
            raise SasError("This capability table has no pooled (micro) scores; use macro.")
        return replace(self, scores=self.pooled, intervals=self.pooled_intervals)

    def of_teachers(self, teachers: Sequence[str]) -> CapabilityTable:
        """The table of these teachers alone, in the given order.

        Raises:
            SasError: a teacher that is not there.
        """
        rows = self._rows(teachers)
        kept = {name: getattr(self, name) for name in ARRAYS}
        own: dict[str, Any] = {
            name: None if values is None else values[rows] for name, values in kept.items()
        }
        return replace(self, teachers=tuple(teachers), **own)

    def _rows(self, teachers: Sequence[str]) -> list[int]:
        unknown = [name for name in teachers if name not in self.teachers]
        if unknown:
            raise SasError(
                f"The capability table does not know the teacher {unknown[0]!r}; it has "
                f"{', '.join(self.teachers)}."
            )
        return [self.teachers.index(name) for name in teachers]

    def to_json(self) -> str:
        """The file's text: a line per class, numbers exact."""
        head = {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "teachers": list(self.teachers),
            "made": {
                "prompts": list(self.made.prompts),
                "seeds": list(self.made.seeds),
                "models": dict(self.made.models),
                "images_per_class": self.made.images_per_class,
                "notes": dict(self.made.notes),
            },
            "level": self.level,
        }
        try:
            text = json.dumps(head, indent=2, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise SasError(
                f"The notes of a capability table must be plain JSON: {error}."
            ) from None
        blocks = [text.removesuffix("\n}")]
        for name in ARRAYS:
            values = getattr(self, name)
            if values is not None:
                lines = [
                    f"    {json.dumps(word, ensure_ascii=False)}: {json.dumps(row)}"
                    for word, row in zip(self.classes, values.swapaxes(0, 1).tolist(), strict=True)
                ]
                blocks.append(f'  "{name}": {{\n' + ",\n".join(lines) + "\n  }")
        return ",\n".join(blocks) + "\n}\n"

    def save(self, path: Path) -> None:
        """Write the table as JSON, atomically."""
        atomic_write(Path(path), self.to_json().encode())

    @staticmethod
    def load(path: Path) -> CapabilityTable:
        """Read and validate a table.

        Raises:
            SasError: no such file, no JSON, another kind or format, or an entry that is missing, of
                a wrong kind or does not fit.
        """
        path = Path(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SasError(f"There is no capability table at {path}.") from None
        except (OSError, ValueError, RecursionError) as error:
            raise SasError(f"{path} is no readable JSON file ({error}).") from error
        if not isinstance(content, dict) or content.get("kind") != KIND:
            raise SasError(f"{path} is no capability table; it lacks the entry kind = {KIND}.")
        version = content.get("format_version")
        if version != FORMAT_VERSION or isinstance(version, bool):
            raise SasError(
                f"{path} has capability table format {version!r}; this version reads "
                f"{FORMAT_VERSION}. Update sas_ros, or measure again."
            )
        try:
            return _from_json(content)
        except SasError as error:
            raise SasError(f"{path} is damaged. {error}") from error


def _from_json(content: dict[str, Any]) -> CapabilityTable:
    made = _entry(content, "made", dict)
    scores = _entry(content, "scores", dict)
    teachers = _texts(content, "teachers")
    classes = tuple(scores)
    tables = {
        name: _matrix(
            name,
            _entry(content, name, dict),
            classes,
            (len(teachers), 2) if name.endswith("intervals") else (len(teachers),),
        )
        for name in ARRAYS
        if name in content
    }
    seeds = _entry(made, "seeds", list)
    if not all(type(seed) is int for seed in seeds):
        raise SasError("The entry 'seeds' is missing or of a wrong kind.")
    models = _entry(made, "models", dict)
    if not all(isinstance(model, str) for model in models.values()):
        raise SasError("The entry 'models' is missing or of a wrong kind.")
    return CapabilityTable(
        teachers=teachers,
        classes=classes,
        scores=tables["scores"],
        made=Measurement(
            prompts=_texts(made, "prompts"),
            seeds=tuple(seeds),
            models=models,
            images_per_class=_entry(made, "images_per_class", int),
            notes=_entry(made, "notes", dict),
        ),
        pooled=tables.get("pooled"),
        intervals=tables.get("intervals"),
        pooled_intervals=tables.get("pooled_intervals"),
        # However many digits there are: out of range is said further on.
        level=float(max(min(_entry(content, "level", (int, float)), 2.0), -2.0)),
    )


def _entry(content: Mapping[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:
    value = content.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise SasError(f"The entry {key!r} is missing or of a wrong kind.")
    return value


def _texts(content: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = _entry(content, key, list)
    if not all(isinstance(value, str) for value in values):
        raise SasError(f"The entry {key!r} is missing or of a wrong kind.")
    return tuple(values)


def _matrix(
    name: str, rows: Mapping[str, Any], classes: tuple[str, ...], shape: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """(T, K) or (T, K, 2) from a list per class."""
    if rows.keys() != set(classes):
        raise SasError(f"The classes of {name} are not those of scores.")
    columns = []
    for word in classes:
        try:
            column = np.array(rows[word])
        except ValueError:  # lists of different lengths
            column = np.array(None)
        if column.shape != shape or column.dtype.kind not in "fi":
            raise SasError(f"The {name} of {word!r} are not one entry for each teacher.")
        columns.append(column.astype(np.float64))
    if not columns:
        return np.zeros((shape[0], 0, *shape[1:]))
    return np.stack(columns, axis=1)
