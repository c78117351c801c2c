"""Phrases with known meaning: what they change about meaning, sizes, and the bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from students import untrained_student

from sas_ros.errors import SasError
from sas_ros.language.calibration import Calibration
from sas_ros.language.phrases import Phrases, phrases_from_metadata
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.matching import same_meaning, smallest_object
from sas_ros.student.bundle import StudentBundle

AXES = np.eye(6, dtype=np.float32)
CHAIR, SOFA, BED = 0, 1, 2


def unit(row: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(row / np.linalg.norm(row), dtype=np.float32)


SEATS = unit(AXES[3] + 0.3 * AXES[CHAIR])
STAIRS = unit(AXES[4] + 0.9 * AXES[BED])
CALIBRATION = Calibration(same_meaning_floor=0.5, same_meaning_margin=0.0)
PLAIN = Vocabulary(
    ("chair", "sofa", "bed"), AXES[:3], (True,) * 3, np.arange(9, dtype=np.uint8).reshape(3, 3)
)
PHRASES = Phrases(
    ("seats", "stairs"),
    np.stack([SEATS, STAIRS]),
    (frozenset({CHAIR, SOFA}), frozenset()),
)
KNOWING = replace(PLAIN, phrases=PHRASES)


def meant(text: npt.NDArray[np.float32], vocabulary: Vocabulary) -> list[int]:
    return [int(k) for k in same_meaning(unit(text), vocabulary, CALIBRATION).nonzero()[0]]


def test_a_phrase_gives_its_words_to_what_is_near_it() -> None:
    near = SEATS + 0.2 * AXES[5]
    assert meant(near, PLAIN) == []
    assert meant(near, KNOWING) == [CHAIR, SOFA]


def test_next_to_a_phrase_without_words_nothing_is_meant() -> None:
    near = STAIRS + 0.1 * AXES[5]
    assert meant(near, PLAIN) == [BED]
    assert meant(near, KNOWING) == []


def test_the_nearest_phrase_of_each_word_is_found() -> None:
    rng = np.random.default_rng(0)
    rows = np.stack([unit(row) for row in rng.normal(size=(30, 6)).astype(np.float32)])
    meanings = tuple(frozenset(rng.choice(5, rng.integers(0, 4)).tolist()) for _ in rows)
    phrases = Phrases(tuple(f"phrase {k}" for k in range(30)), rows, meanings)
    texts = np.stack([unit(row) for row in rng.normal(size=(4, 6)).astype(np.float32)])
    by_word, nearest = phrases.nearest(texts, 7)
    cosines = texts @ rows.T
    np.testing.assert_allclose(nearest, cosines.max(axis=1))
    for word in range(7):
        having = [k for k, words in enumerate(meanings) if word in words]
        expected = cosines[:, having].max(axis=1) if having else np.full(4, -1)
        np.testing.assert_allclose(by_word[:, word], expected)


def test_a_word_still_means_itself_alone() -> None:
    for word in (CHAIR, SOFA, BED):
        assert meant(AXES[word], KNOWING) == [word]


def test_an_added_label_means_what_the_phrases_of_the_students_words_say() -> None:
    other = KNOWING.with_labels(["seats"], SEATS[None])
    assert other.phrases is None
    competing = other.joined(KNOWING)
    for query, expected in ((AXES[CHAIR], [0, 1]), (SEATS, [0, 1, 2]), (AXES[BED], [3])):
        assert (
            same_meaning(query, competing, CALIBRATION, KNOWING).nonzero()[0].tolist() == expected
        )


def test_the_size_of_an_object_is_that_of_the_words_meant() -> None:
    sizes = replace(
        CALIBRATION, min_elements=7, word_elements=(("chair", 20), ("sofa", 90), ("bed", 200))
    )
    assert smallest_object(AXES[BED], sizes, KNOWING) == 200
    assert smallest_object(SEATS, sizes, KNOWING) == 20
    assert smallest_object(STAIRS, sizes, KNOWING) == 7
    assert smallest_object(AXES[BED], CALIBRATION, KNOWING) == CALIBRATION.min_elements


def test_sizes_survive_the_bundle_and_are_checked() -> None:
    calibration = Calibration(word_elements=(("bed", 200), ("chair", 3)))
    assert Calibration.from_metadata(calibration.to_metadata()) == calibration
    assert "word_elements" not in Calibration().to_metadata()
    for wrong in ([], {"bed": 0}, {"bed": "many"}, {"bed": True}):
        with pytest.raises(SasError, match="word_elements"):
            Calibration.from_metadata({**Calibration().to_metadata(), "word_elements": wrong})


def test_phrases_survive_the_bundle(tmp_path: Path) -> None:
    bundle = untrained_student(dim=6)
    bundle = replace(bundle, vocabulary=replace(bundle.vocabulary, phrases=PHRASES))
    bundle.save(tmp_path / "a.safetensors")
    read = StudentBundle.load(tmp_path / "a.safetensors").vocabulary.phrases
    assert read is not None and read.texts == PHRASES.texts and read.meant == PHRASES.meant
    assert np.array_equal(read.embeddings, PHRASES.embeddings)
    untrained_student(dim=6).save(tmp_path / "b.safetensors")
    assert StudentBundle.load(tmp_path / "b.safetensors").vocabulary.phrases is None


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"texts": "seats"}, "texts"),
        ({"texts": [1, 2]}, "texts"),
        ({"meant": [[0], [3]]}, "meant"),
        ({"meant": [[0], [True]]}, "meant"),
        ({"meant": "01"}, "meant"),
        ({"meant": [[0]]}, "2 phrases"),
    ],
)
def test_broken_phrases_are_refused_with_a_sentence(change: dict[str, Any], word: str) -> None:
    metadata = {**PHRASES.to_metadata(), **change}
    with pytest.raises(SasError, match=word):
        phrases_from_metadata(metadata, PHRASES.embeddings, PLAIN.names)


def test_phrases_need_their_embeddings() -> None:
    with pytest.raises(SasError, match="missing"):
        phrases_from_metadata(PHRASES.to_metadata(), None, PLAIN.names)
    with pytest.raises(SasError, match="unit length"):
        Phrases(("a",), 2 * AXES[:1], (frozenset(),))
    with pytest.raises(SasError, match="wide"):
        replace(PLAIN, phrases=Phrases(("a",), np.eye(1, 4, dtype=np.float32), (frozenset(),)))
