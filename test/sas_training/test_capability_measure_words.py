"""A table records which vectors its words had: those of other weights have another hash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from encoders import HashEncoder

from sas_training.capability import teaching
from sas_training.capability.teaching import load_callers, vectors_hash
from sas_training.learn.settings import TeacherChoice
from sas_training.vocabularies import Words

WORDS = Words("", ("bed", "chair"), (("a bed",), ("a chair", "a seat")), np.zeros((2, 3), np.uint8))


class OtherWeights(HashEncoder):
    """Of the same name and width; every text gets the vector of another."""

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return super().encode([f"{text}!" for text in texts])


class Rounding(HashEncoder):
    """The same on a machine that rounds differently."""

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return super().encode(texts) * np.float32(1 + 1e-7)


class Pixels:
    """A teacher of pixels that nobody asks."""

    text_encoder, channels = "hash", 16


def recorded(monkeypatch: pytest.MonkeyPatch, encoder: HashEncoder, words: Words) -> Any:
    monkeypatch.setattr(teaching, "load_choice", lambda choice, device: Pixels())
    monkeypatch.setattr(teaching, "PixelTeacher", Pixels)
    monkeypatch.setattr(teaching, "load_encoder", lambda name, weights: encoder)
    return load_callers([TeacherChoice("lseg")], words, encoder="hash")[1]


def test_other_weights_of_an_encoder_have_another_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    about = recorded(monkeypatch, HashEncoder(), WORDS)
    assert (about["encoder"], about["texts"]) == ("hash", [["a bed"], ["a chair", "a seat"]])
    assert about["vectors_sha256"] == vectors_hash(WORDS.embedded(HashEncoder()))
    assert len(about["vectors_sha256"]) == 64
    assert recorded(monkeypatch, Rounding(), WORDS) == about
    other = recorded(monkeypatch, OtherWeights(), WORDS)
    assert other["encoder"] == about["encoder"] and other["texts"] == about["texts"]
    assert other["vectors_sha256"] != about["vectors_sha256"]


def test_a_hash_is_of_two_decimals_and_of_every_word() -> None:
    rows = np.array([[0.604, -0.001], [0.0, 1.0]], np.float32)
    same = np.array([[0.6, 0.0], [-0.0, 1.0]], np.float32)
    assert vectors_hash(rows) == vectors_hash(same) != vectors_hash(rows[::-1])
    assert vectors_hash(rows) != vectors_hash(rows[:1])
