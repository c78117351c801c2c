"""The words a student labels with, and where they lie in the space of its text encoder."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.language.phrases import Phrases, phrases_from_metadata
from sas_ros.language.prompts import normalise_text, text_key

UNLABELLED = 65535
"""The label id on the wire of a point without a label; ids below it are vocabulary indices."""

_UNIT_TOLERANCE = 1e-2
_GOLDEN_TURN = 0.618033988749895


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A list of words with their text embeddings; immutable, its arrays are read-only copies.

    Attributes:
        names: K distinct words (letter case and white space do not distinguish).
        embeddings: (K, C) float32, unit rows, from the text encoder of the student.
        things: K flags: True for countable objects (instances are made of them), False for stuff
            such as walls and floors.
        colors: (K, 3) uint8 RGB for pictures and visualisation.
        version: counts up whenever the vocabulary of a running node changes.
        phrases: what people say for these words, where that is known; stays behind when a
            vocabulary gets other words.

    Raises `SasError` when the parts do not fit together.
    """

    names: tuple[str, ...]
    embeddings: npt.NDArray[np.float32]
    things: tuple[bool, ...]
    colors: npt.NDArray[np.uint8]
    version: int = 1
    phrases: Phrases | None = None
    _index: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        names = tuple(normalise_text(name) for name in self.names)
        if not names:
            raise SasError("A vocabulary needs at least one name; the list is empty.")
        if len(names) > UNLABELLED:
            raise SasError(
                f"A vocabulary holds at most {UNLABELLED} names, because label ids have 16 bits; "
                f"this one has {len(names)}."
            )
        index: dict[str, int] = {}
        for position, name in enumerate(names):
            if not name:
                raise SasError(f"Name {position} of the vocabulary is empty; remove it.")
            earlier = index.setdefault(text_key(name), position)
            if earlier != position:
                raise SasError(
                    f"The vocabulary has {name!r} twice (names {earlier} and {position}); "
                    "remove one of them."
                )
        embeddings = np.array(self.embeddings, dtype=np.float32)
        if embeddings.ndim != 2 or len(embeddings) != len(names) or embeddings.shape[1] == 0:
            raise SasError(
                f"A vocabulary of {len(names)} names needs embeddings of shape "
                f"({len(names)}, C), not {embeddings.shape}."
            )
        # `not (x < tolerance)` is also true for NaN, which plain comparison would let through.
        lengths = np.linalg.norm(embeddings, axis=1)
        wrong = np.flatnonzero(~(np.abs(lengths - 1.0) < _UNIT_TOLERANCE))
        if len(wrong):
            raise SasError(
                f"The embedding of {names[wrong[0]]!r} has length {lengths[wrong[0]]:.3f}; "
                "vocabulary embeddings must be finite and of unit length."
            )
        # Rows of unit length stay bit for bit, so that a bundle survives loading and saving.
        rough = np.abs(lengths - 1.0) > 1e-6
        embeddings[rough] /= lengths[rough, None]
        colors = np.array(self.colors, dtype=np.uint8)
        if colors.shape != (len(names), 3):
            raise SasError(
                f"A vocabulary of {len(names)} names needs colours of shape ({len(names)}, 3), "
                f"not {colors.shape}."
            )
        if len(self.things) != len(names):
            raise SasError(
                f"A vocabulary of {len(names)} names needs as many thing flags, "
                f"not {len(self.things)}."
            )
        if self.phrases is not None and self.phrases.embeddings.shape[1] != embeddings.shape[1]:
            raise SasError("The phrases of a vocabulary need embeddings as wide as its words'.")
        embeddings.setflags(write=False)
        colors.setflags(write=False)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "embeddings", embeddings)
        object.__setattr__(self, "things", tuple(bool(thing) for thing in self.things))
        object.__setattr__(self, "colors", colors)
        object.__setattr__(self, "version", int(self.version))
        object.__setattr__(self, "_index", index)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def dim(self) -> int:
        """Width C of the embeddings."""
        return int(self.embeddings.shape[1])

    def index(self, name: str) -> int | None:
        """Position of `name`, whatever its letter case and white space; None when not there."""
        return self._index.get(text_key(name))

    def embedding(self, name: str) -> npt.NDArray[np.float32] | None:
        """(C,) float32 embedding of `name`, or None when the vocabulary does not have it."""
        position = self.index(name)
        return None if position is None else self.embeddings[position]

    def with_labels(
        self,
        names: Sequence[str],
        embeddings: npt.NDArray[np.float32],
        *,
        things: Sequence[bool] | None = None,
        colors: npt.NDArray[np.uint8] | None = None,
    ) -> Vocabulary:
        """Return the next version of the vocabulary, with other words.

        Words that were here keep their colour and thing flag; new ones are things and get colours
        that differ from all others, unless `things` or `colors` say otherwise. Raises `SasError`
        when `embeddings` (K, C) has another width than this vocabulary, or does not fit `names`.
        """
        vectors = np.asarray(embeddings)
        if vectors.ndim == 2 and vectors.shape[1] != self.dim:
            raise SasError(
                f"The new labels have embeddings of width {vectors.shape[1]}, but the student's "
                f"text encoder gives {self.dim}; embed them with the student's encoder."
            )
        known = [self.index(name) for name in names]
        if things is None:
            things = [True if k is None else self.things[k] for k in known]
        if colors is None:
            kept = {i: self.colors[k] for i, k in enumerate(known) if k is not None}
            colors = distinct_colors(len(names), kept=kept)
        return Vocabulary(tuple(names), vectors, tuple(things), colors, self.version + 1)

    def joined(self, other: Vocabulary) -> Vocabulary:
        """Return this vocabulary followed by the words of `other` that it lacks; same version.

        Labels set by a user alone say nothing about floors and walls, which would then look like
        one of them: joined with the words the student was trained with, those compete again.
        Indices of this vocabulary keep their meaning; larger ones are the added words.
        """
        if other.dim != self.dim:
            raise SasError(
                f"Vocabularies of width {self.dim} and {other.dim} come from different text "
                "encoders and cannot be joined."
            )
        added = [k for k, name in enumerate(other.names) if self.index(name) is None]
        return Vocabulary(
            self.names + tuple(other.names[k] for k in added),
            np.concatenate([self.embeddings, other.embeddings[added]]),
            self.things + tuple(other.things[k] for k in added),
            np.concatenate([self.colors, other.colors[added]]),
            self.version,
        )

    def to_metadata(self) -> dict[str, Any]:
        """Everything but the embeddings, as plain JSON types."""
        metadata = {
            "names": list(self.names),
            "things": list(self.things),
            "colors": self.colors.tolist(),
            "version": self.version,
        }
        if self.phrases is not None:
            metadata["phrases"] = self.phrases.to_metadata()
        return metadata

    @staticmethod
    def from_metadata(
        metadata: Mapping[str, Any],
        embeddings: npt.NDArray[np.float32],
        phrase_embeddings: npt.NDArray[np.float32] | None = None,
    ) -> Vocabulary:
        """Undo `to_metadata`; raises `SasError` naming the entry that is missing or wrong."""
        names = _checked(metadata, "names", list)
        if not all(isinstance(name, str) for name in names):
            raise SasError('The entry "names" of the vocabulary must hold text only.')
        things = _checked(metadata, "things", list)
        version = _checked(metadata, "version", int)
        colors = _colors_from_json(_checked(metadata, "colors", list), len(names))
        phrases = None
        if "phrases" in metadata:
            phrases = phrases_from_metadata(metadata["phrases"], phrase_embeddings, names)
        flags = tuple(map(bool, things))
        return Vocabulary(tuple(names), embeddings, flags, colors, version, phrases)


def _checked(metadata: Mapping[str, Any], key: str, kind: type) -> Any:
    if not isinstance(metadata, Mapping) or key not in metadata:
        raise SasError(f'The vocabulary metadata lacks the entry "{key}".')
    value = metadata[key]
    if not isinstance(value, kind):
        raise SasError(
            f'The entry "{key}" of the vocabulary must be a {kind.__name__}, '
            f"not a {type(value).__name__}."
        )
    return value


def _colors_from_json(rows: list[Any], count: int) -> npt.NDArray[np.uint8]:
    fine = len(rows) == count and all(
        isinstance(row, list)
        and len(row) == 3
        and all(isinstance(value, int) and 0 <= value <= 255 for value in row)
        for row in rows
    )
    if not fine:
        raise SasError(
            f'The entry "colors" of the vocabulary must be {count} rows of three numbers 0 to 255.'
        )
    return np.array(rows, dtype=np.uint8).reshape(count, 3)


def distinct_colors(
    count: int, *, kept: Mapping[int, npt.NDArray[np.uint8]] | None = None
) -> npt.NDArray[np.uint8]:
    """Return (count, 3) uint8 RGB colours, all different; rows in `kept` are taken as given.

    The hue turns by the golden ratio, so neighbours in the list are far apart on the colour wheel,
    while saturation and value cycle through a few steps. Always the same for the same arguments.
    """
    colors = np.zeros((count, 3), dtype=np.uint8)
    taken: set[tuple[int, int, int]] = {(0, 0, 0)}  # black means unlabelled
    for row, color in (kept or {}).items():
        colors[row] = color
        taken.add((int(color[0]), int(color[1]), int(color[2])))
    step = 0
    for row in range(count):
        if kept and row in kept:
            continue
        while True:
            hue = (0.02 + step * _GOLDEN_TURN) % 1.0
            saturation = (0.75, 0.45, 0.95)[step % 3]
            value = (0.95, 0.75, 0.55)[(step // 3) % 3]
            step += 1
            rgb = colorsys.hsv_to_rgb(hue, saturation, value)
            red, green, blue = (round(255 * channel) for channel in rgb)
            if (red, green, blue) not in taken:
                break
        taken.add((red, green, blue))
        colors[row] = (red, green, blue)
    return colors
