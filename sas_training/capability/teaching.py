"""Teachers of the command line or of a configuration of `sas learn`, ready to call pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.language.available import MINILM
from sas_ros.language.encoder import TextEncoder, load_encoder
from sas_training.alignment.aligned import AlignedTeacher
from sas_training.alignment.spacy_grammar import load_grammar
from sas_training.capability.class_maps import Caller
from sas_training.learn.loading import load_choice
from sas_training.learn.settings import TeacherChoice
from sas_training.teachers.cache import FrameCache
from sas_training.teachers.registry import TEACHERS
from sas_training.teachers.teacher import PixelTeacher, Teacher
from sas_training.vocabularies import Words

CLIPSEG = "clipseg"
"""The teacher that says nothing but the words it is given."""


def parse_teacher(text: str) -> TeacherChoice:
    """A teacher of the command line: `NAME`, `NAME:WEIGHTS`, or `TITLE=NAME:WEIGHTS`.

    Raises:
        SasError: no such teacher of images.
    """
    title, equals, rest = text.partition("=")
    if not equals:
        title, rest = "", text
    name, _, weights = rest.partition(":")
    if name not in TEACHERS or TEACHERS[name].gives == "points" or (equals and not title):
        known = [one.name for one in TEACHERS.values() if one.gives != "points"]
        raise SasError(
            f"{text!r} is no teacher; write NAME:WEIGHTS or TITLE=NAME:WEIGHTS with one of "
            f"{', '.join(known)}."
        )
    return TeacherChoice(name=name, title=title, weights=weights)


def load_callers(
    choices: Sequence[TeacherChoice],
    words: Words,
    *,
    encoder: str = "",
    encoder_weights: Path | None = None,
    device: str = "auto",
    look: int = 0,
    cache: Path | None = None,
) -> tuple[dict[str, Caller], dict[str, Any]]:
    """Load teachers, and embed the vocabulary in their space.

    Args:
        choices: which; of different titles. CLIPSeg without labels is asked for the vocabulary.
        words: the vocabulary.
        encoder: of text; "": that of the teachers of pixels, else MiniLM.
        encoder_weights: its file, where it needs one.
        device: "auto", "cpu" or "cuda".
        look: longest side in pixels of what teachers are shown; 0: images as they are.
        cache: folder where masks of mask teachers are kept; None: nowhere.

    Returns:
        title -> teacher, and for the record the name of the encoder, the words' texts, and
        `vectors_sha256`, which tells two files of weights of one name apart.

    Raises:
        SasError: two of one title, something missing, or a teacher of another text space.
    """
    choices = [
        replace(one, labels=words.names) if one.name == CLIPSEG and not one.labels else one
        for one in choices
    ]
    titles = [one.called for one in choices]
    if len(set(titles)) != len(titles):
        raise SasError(f"Teachers need different titles; there are {', '.join(titles)}.")
    if not choices:
        return {}, {}
    loaded = {one.called: load_choice(one, device) for one in choices}
    spaces = [one.text_encoder for one in loaded.values() if isinstance(one, PixelTeacher)]
    name = encoder or (spaces[0] if spaces else MINILM)
    for title, one in loaded.items():
        if isinstance(one, PixelTeacher) and one.text_encoder != name:
            raise SasError(
                f"The features of the teacher {title} lie in the space of {one.text_encoder}, "
                f"not of {name}; measure it in a run of its own."
            )
    texts: TextEncoder = load_encoder(name, weights=encoder_weights)
    rows = words.embedded(texts)
    callers = {
        choice.called: Caller(_aligned(choice, loaded[choice.called], texts, cache), rows, look)
        for choice in choices
    }
    about = {"encoder": name, "texts": [list(group) for group in words.texts]}
    return callers, {**about, "vectors_sha256": vectors_hash(rows)}


def vectors_hash(rows: npt.NDArray[np.float32]) -> str:
    """SHA-256 of word vectors (K, C) to two decimals, as little-endian float32.

    Two decimals, as `AlignedTeacher` takes them, so that hardly any rounding of another machine is
    in it; no negative zeros.
    """
    rounded = np.ascontiguousarray(rows.round(2) + 0.0, "<f4")
    return hashlib.sha256(rounded.tobytes()).hexdigest()


def _aligned(
    choice: TeacherChoice, teacher: Teacher, texts: TextEncoder, cache: Path | None
) -> PixelTeacher:
    if isinstance(teacher, PixelTeacher):
        return teacher
    kept = FrameCache(cache) if cache else None
    return AlignedTeacher(
        teacher, texts, choice.sentences, load_grammar(choice.grammar), cache=kept
    )
