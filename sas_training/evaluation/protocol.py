"""The words of the published evaluations: the prompts of a label set, embedded (reference 7.2).

Every class is "a NAME in a scene", the left-over class the bare word "other". nuScenes has several
names a class: a point is compared with all 43, and the class of the best one is its class.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.language.available import MINILM
from sas_ros.language.encoder import TextEncoder, check_encoder, load_encoder
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.student.published import TEXT_ENCODERS, save_weights_command
from sas_training.evaluation.labels import LabelSet
from sas_training.vocabularies import Words, pick_rows, read_embeddings

MINILM_WIDTH = 384
"""Numbers of the sentence embeddings that the students made here are trained with."""


@dataclass(frozen=True, eq=False)
class ProtocolWords:
    """What points are compared with.

    Attributes:
        vocabulary: T words, at least one a class.
        to_class: (T,) class id of each word.
        source: where the embeddings come from, for the report.
    """

    vocabulary: Vocabulary
    to_class: npt.NDArray[np.int64]
    source: str


def prompts_of(labels: LabelSet) -> tuple[Words, npt.NDArray[np.int64]]:
    """The prompts of a label set, each a word of its own, and the class id (T,) of each.

    Where every class has one prompt, the words are called as the classes are, else as what is put
    into the prompt.
    """
    to_class = np.repeat(labels.ids, [len(group) for group in labels.prompts]).astype(np.int64)
    single = len(to_class) == len(labels)
    names = labels.names if single else tuple(w for group in labels.prompt_names for w in group)
    texts = tuple((text,) for group in labels.prompts for text in group)
    colors = np.array(labels.colors, dtype=np.uint8)[to_class]
    return Words(labels.name, names, texts, colors), to_class


def embedded_prompts(
    labels: LabelSet,
    width: int,
    *,
    embeddings: Path | None = None,
    encoder: str | None = None,
    weights: Path | None = None,
) -> ProtocolWords:
    """The prompts of a label set in the space of features of `width` numbers.

    Args:
        embeddings: a file with a row for each word of `prompts_of` (docs/formats.md); the words may
            also be called as what is put into the prompt, "other" for ScanNet's last class.
        encoder: name of the text encoder otherwise; None: the one that features of this width
            usually belong to.
        weights: its local weights, where it has none of its own.

    Raises:
        SasError: the file lacks a word, or its rows or the encoder's are of another width; an
            encoder that is not installed or has no weights.
    """
    words, to_class = prompts_of(labels)
    if embeddings is not None:
        names, rows = read_embeddings(embeddings)
        if rows.shape[1] != width:
            raise SasError(
                f"The embeddings in {embeddings} have {rows.shape[1]} numbers, but the features "
                f"have {width}; they come from different text encoders."
            )
        chosen = pick_rows(_as_called(words, labels, names), names, rows)
        return ProtocolWords(words.vocabulary(chosen), to_class, f"read from {embeddings.name}")
    name = encoder or _usual_encoder(width)
    return embedded_with(labels, _load(name, weights), width)


def embedded_with(labels: LabelSet, encoder: TextEncoder, width: int) -> ProtocolWords:
    """The prompts of a label set, embedded by `encoder`; raises SasError where its vectors are not
    as wide as the features."""
    check_encoder(encoder.name, width, encoder)
    words, to_class = prompts_of(labels)
    vocabulary = words.vocabulary(words.embedded(encoder))
    return ProtocolWords(vocabulary, to_class, f"computed with {encoder.name}")


def _as_called(words: Words, labels: LabelSet, given: tuple[str, ...]) -> Words:
    """The words, each called as it is in the file: by its own name, or by its prompt name."""
    known = {name.casefold() for name in given}
    prompt_names = [word for group in labels.prompt_names for word in group]
    called = tuple(
        name if name.casefold() in known else word
        for name, word in zip(words.names, prompt_names, strict=True)
    )
    return Words(words.source, called, words.texts, words.colors)


def _usual_encoder(width: int) -> str:
    usual = {MINILM_WIDTH: MINILM, **TEXT_ENCODERS}
    if width not in usual:
        raise SasError(
            f"Features of {width} numbers belong to no text encoder that is known here; say which "
            "with --text-encoder, or give --embeddings FILE."
        )
    return usual[width]


def _load(name: str, weights: Path | None) -> TextEncoder:
    try:
        return load_encoder(name, weights=weights)
    except SasError as error:
        command = save_weights_command(name)
        advice = f" Where there is a network, this saves its weights: {command}" if command else ""
        raise SasError(
            "The prompts of the label set must be embedded by the text encoder with its weights "
            "(--text-encoder NAME --text-weights FILE), or be given with embeddings (--embeddings "
            f"FILE). {error}{advice}"
        ) from error
