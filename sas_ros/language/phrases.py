"""Phrases whose meaning is known: what people call the words of a vocabulary, and what is none.

A text encoder alone puts "ground" no nearer to "floor" than to "door", and "stairs" near to both. A
phrase with known meaning settles its neighbourhood, see `sas_ros.matching.same_meaning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.language.prompts import normalise_text

IntArray = npt.NDArray[np.int64]

_UNIT_TOLERANCE = 1e-2


@dataclass(frozen=True, eq=False)
class Phrases:
    """P phrases with what they mean, indices into the vocabulary they belong to; immutable.

    Attributes:
        texts: P texts.
        embeddings: (P, C) float32 unit rows, from the vocabulary's text encoder.
        meant: P sets of word indices; an empty one says that no word is meant ("elephant").

    Raises `SasError` when the parts do not fit together.
    """

    texts: tuple[str, ...]
    embeddings: npt.NDArray[np.float32]
    meant: tuple[frozenset[int], ...]
    # Words that are meant, phrases that mean them word after word, where each word's begin.
    _by_word: tuple[IntArray, IntArray, IntArray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        embeddings = np.array(self.embeddings, dtype=np.float32)
        count = len(self.texts)
        if embeddings.ndim != 2 or len(embeddings) != count or len(self.meant) != count:
            raise SasError(
                f"{count} phrases need as many meanings and embeddings, not {len(self.meant)} and "
                f"an array of {embeddings.shape}."
            )
        lengths = np.linalg.norm(embeddings, axis=1)
        if not (np.abs(lengths - 1.0) < _UNIT_TOLERANCE).all():
            raise SasError("Embeddings of phrases must be finite and of unit length.")
        embeddings.setflags(write=False)
        object.__setattr__(self, "texts", tuple(normalise_text(text) for text in self.texts))
        object.__setattr__(self, "embeddings", embeddings)
        object.__setattr__(self, "meant", tuple(frozenset(words) for words in self.meant))
        pairs = sorted((word, row) for row, words in enumerate(self.meant) for word in words)
        table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        words, starts = np.unique(table[:, 0], return_index=True)
        object.__setattr__(self, "_by_word", (words, table[:, 1], starts))

    def __len__(self) -> int:
        return len(self.texts)

    def nearest(
        self, texts: npt.NDArray[np.float32], words: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Cosines of `texts` (n, C) to the nearest phrase that means each of `words` words, (n, K),
        and to the nearest phrase of all, (n,); -1 where there is none."""
        cosines = texts @ self.embeddings.T
        nearest = np.full((len(texts), words), -1, dtype=np.float32)
        meant, rows, starts = self._by_word
        if len(rows):
            nearest[:, meant] = np.maximum.reduceat(cosines[:, rows], starts, axis=1)
        return nearest, cosines.max(axis=1, initial=-1)

    def other_than(self, text: npt.NDArray[np.float32], identical: float) -> Phrases:
        """The phrases whose cosine to `text` (C,) is below `identical`: to ask what they make of a
        phrase that is one of them."""
        kept = np.flatnonzero(self.embeddings @ text < identical)
        return Phrases(
            tuple(self.texts[k] for k in kept),
            self.embeddings[kept],
            tuple(self.meant[k] for k in kept),
        )

    def to_metadata(self) -> dict[str, Any]:
        """Everything but the embeddings, as plain JSON types."""
        return {"texts": list(self.texts), "meant": [sorted(words) for words in self.meant]}


def phrases_from_metadata(
    metadata: Any, embeddings: npt.NDArray[np.float32] | None, words: Sequence[str]
) -> Phrases:
    """Undo `Phrases.to_metadata`; raises `SasError` for entries of another kind, indices beyond
    `words`, or a bundle that lacks the embeddings."""
    texts = metadata.get("texts") if isinstance(metadata, dict) else None
    meant = metadata.get("meant") if isinstance(metadata, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise SasError('The phrases of the vocabulary need a list of text as their entry "texts".')
    fine = isinstance(meant, list) and all(
        isinstance(row, list)
        and all(type(index) is int and 0 <= index < len(words) for index in row)
        for row in meant
    )
    if not isinstance(meant, list) or not fine:
        raise SasError(
            'The entry "meant" of the vocabulary\'s phrases must be lists of word numbers below '
            f"{len(words)}."
        )
    if embeddings is None:
        raise SasError("The vocabulary names phrases, but their embeddings are missing.")
    return Phrases(tuple(texts), embeddings, tuple(frozenset(row) for row in meant))
