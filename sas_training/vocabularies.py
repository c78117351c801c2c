"""Vocabularies for students that came without one: a label set or a list of words, embedded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import UNREADABLE
from sas_ros.language.encoder import TextEncoder
from sas_ros.language.prompts import apply_prompt, text_key
from sas_ros.language.vocabulary import Vocabulary, distinct_colors
from sas_training.evaluation.labels import LABEL_SETS, NUSCENES43, STUFF, LabelSet

WORD_SETS: dict[str, LabelSet] = {**LABEL_SETS, NUSCENES43.name: NUSCENES43}
"""Label sets that can be a vocabulary, by name."""


@dataclass(frozen=True, eq=False)
class Words:
    """Words without embeddings.

    Attributes:
        source: name of the label set or of the file.
        names: K words.
        texts: K groups of one or more texts that stand for the word, prompts already applied.
        colors: (K, 3) uint8 RGB.
    """

    source: str
    names: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    colors: npt.NDArray[np.uint8]

    def vocabulary(self, embeddings: npt.NDArray[np.float32]) -> Vocabulary:
        """With (K, C) unit embeddings; words of rooms and streets known as stuff are no things."""
        things = tuple(text_key(name) not in STUFF for name in self.names)
        return Vocabulary(self.names, embeddings, things, self.colors)

    def embedded(self, encoder: TextEncoder) -> npt.NDArray[np.float32]:
        """(K, C) float32 unit rows: of each word the mean direction of its texts."""
        flat = [text for group in self.texts for text in group]
        rows = encoder.encode(flat)
        starts = np.cumsum([0, *map(len, self.texts)])[:-1]
        return _unit(np.add.reduceat(rows, starts, axis=0))


def words_of_set(labels: LabelSet) -> Words:
    colors = np.array(labels.colors, dtype=np.uint8)
    return Words(labels.name, labels.names, labels.prompts, colors)


def read_words(name_or_path: str, prompt: str) -> Words:
    """A label set by name, or a text file: a word per line, `#` begins a comment.

    `WORD = TEXT` embeds TEXT as it stands instead of the word put into `prompt`.

    Raises:
        SasError: neither a set nor a readable UTF-8 file with at least one word.
    """
    if name_or_path in WORD_SETS:
        return words_of_set(WORD_SETS[name_or_path])
    path = Path(name_or_path)
    if not path.is_file():
        raise SasError(
            f"There is no label set {name_or_path!r} and no file of that name; known sets: "
            f"{', '.join(WORD_SETS)}."
        )
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SasError(f"The word list {path} cannot be read as UTF-8 text ({error}).") from error
    pairs = [line.split("#")[0].partition("=") for line in lines]
    entries = [(word.strip(), text.strip()) for word, _, text in pairs if word.strip() or text]
    if not entries:
        raise SasError(f"The word list {path} holds no word; write one per line.")
    names = tuple(word for word, _ in entries)
    texts = tuple((text or apply_prompt(prompt, word),) for word, text in entries)
    return Words(path.name, names, texts, distinct_colors(len(names)))


def words_named(names: tuple[str, ...], source: str) -> Words:
    """Words whose embeddings are there already."""
    return Words(source, names, tuple((name,) for name in names), distinct_colors(len(names)))


def read_embeddings(path: Path) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    """Names and unit embeddings (K, C) float32 of an embeddings file (docs/formats.md).

    Raises:
        SasError: not such a file, or rows without a direction.
    """
    path = Path(path)
    if not path.is_file():
        raise SasError(f"There are no embeddings at {path}.")
    names, rows = _read_safetensors(path) if path.suffix == ".safetensors" else _read_npz(path)
    if rows.ndim != 2 or rows.shape[0] != len(names) or not rows.size or rows.dtype.kind != "f":
        raise SasError(
            f"{path} names {len(names)} words but its embeddings are {rows.dtype} of shape "
            f"{rows.shape}; wanted is one row of real numbers per word."
        )
    rows = rows.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise SasError(f"The embedding of {names[bad[0]]!r} in {path} is zero or not finite.")
    return names, _unit(rows)


def pick_rows(
    words: Words, names: tuple[str, ...], rows: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """The rows of `words`, in their order; raises SasError naming the words that have none."""
    where = {text_key(name): row for row, name in enumerate(names)}
    missing = [name for name in words.names if text_key(name) not in where]
    if missing:
        raise SasError(
            f"The embeddings lack {', '.join(missing[:5])}"
            + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            + f" of the labels {words.source}; they have {', '.join(names[:5])}"
            + (", ..." if len(names) > 5 else "")
            + "."
        )
    return rows[[where[text_key(name)] for name in words.names]]


def _read_npz(path: Path) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            names, rows = file["names"], file["embeddings"]
    except UNREADABLE as error:
        raise SasError(
            f"{path} is no embeddings file: it must be an .npz with the arrays names (K,) text and "
            f"embeddings (K, C) ({error})."
        ) from error
    if names.dtype.kind != "U" or names.ndim != 1:
        raise SasError(f"The array names of {path} must be (K,) text, not {names.dtype}.")
    return tuple(str(name) for name in names), np.asarray(rows)


def _read_safetensors(path: Path) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = json.loads((file.metadata() or {}).get("names", "null"))
            rows = file.get_tensor("embeddings").float().numpy()
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise SasError(
            f"{path} is no embeddings file: it must hold the tensor embeddings (K, C) and the "
            f"metadata entry names, a JSON list ({error})."
        ) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SasError(f"The metadata entry names of {path} must be a JSON list of words.")
    return tuple(names), rows


def _unit(rows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    wide = rows.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(wide, dtype=np.float32)
