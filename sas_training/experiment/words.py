"""The text vectors of the experiment, made once and read by every job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import atomic_path
from sas_ros.language.encoder import TextEncoder
from sas_ros.language.prompts import apply_prompt
from sas_training.distill.words import class_text
from sas_training.evaluation.labels import SCANNET20

_PROBE = "a chair in a scene"
"""A sentence that alignment through text tells encoders apart by."""


@dataclass(frozen=True, eq=False)
class Words:
    """Words, as sentences of one prompt, with their vectors: a `TextEncoder` of these alone.

    Attributes:
        name: of the text encoder.
        prompt: template that words are put into.
        texts: W different sentences.
        vectors: (W, C) float32 unit rows.
    """

    name: str
    prompt: str
    texts: tuple[str, ...]
    vectors: npt.NDArray[np.float32]

    @property
    def dim(self) -> int:
        """Width C of the vectors."""
        return int(self.vectors.shape[1])

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """(len(texts), C) vectors of sentences; raises SasError for one that is not there."""
        unknown = [text for text in texts if text not in self.texts]
        if unknown:
            raise SasError(f"There is no text vector of {unknown[0]!r}; start the run anew.")
        rows = [self.texts.index(text) for text in texts]
        return self.vectors[np.array(rows, dtype=np.int64)]

    def of(self, words: Sequence[str]) -> npt.NDArray[np.float32]:
        """(len(words), C) vectors of words put into the prompt."""
        return self.encode([apply_prompt(self.prompt, word) for word in words])

    @property
    def classes(self) -> npt.NDArray[np.float32]:
        """(20, C) of the classes that everything is measured with."""
        return self.of([class_text(name) for name in SCANNET20.names])

    def save(self, path: Path) -> None:
        """Write the file atomically."""
        with atomic_path(path) as temporary, open(temporary, "wb") as stream:
            texts = np.array([self.name, self.prompt, *self.texts], dtype=np.str_)
            np.savez(stream, texts=texts, vectors=self.vectors)

    @staticmethod
    def load(path: Path) -> Words:
        """Read a file of `save`; raises SasError for anything else."""
        try:
            with np.load(path, allow_pickle=False) as file:
                texts, vectors = file["texts"], file["vectors"]
        except (OSError, KeyError, ValueError, EOFError) as error:
            raise SasError(f"{path} holds no text vectors: {error}.") from error
        if vectors.ndim != 2 or len(vectors) + 2 != len(texts) or not np.isfinite(vectors).all():
            raise SasError(f"The text vectors in {path} are damaged; remove the file.")
        name, prompt, *sentences = (str(text) for text in texts)
        return Words(name, prompt, tuple(sentences), vectors)


def make_words(encoder: TextEncoder, prompt: str, words: Sequence[str]) -> Words:
    """Embed the class names and other words, each once."""
    classes = [class_text(name) for name in SCANNET20.names]
    sentences = [apply_prompt(prompt, word) for word in (*classes, *words)]
    texts = tuple(dict.fromkeys([_PROBE, *sentences]))
    return Words(encoder.name, prompt, texts, encoder.encode(texts))
