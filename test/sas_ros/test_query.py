"""Questions to a scene: what may be asked, what is found, and what is said when nothing is."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_ros import seen
from sas_ros.errors import SasError
from sas_ros.language.calibration import Calibration
from sas_ros.language.vocabulary import Vocabulary, distinct_colors
from sas_ros.observation import Cloud, SceneFeatures, SourceHeader, Up
from sas_ros.query import (
    MAX_NEGATIVES,
    QueryAnswer,
    QueryStatus,
    RegionOfInterest,
    TextQuery,
    answer,
    check_text,
    score_of_enough_points,
)

NAMES = ("floor", "chair", "table", "sofa")
WIDTH = 16
VOCABULARY = Vocabulary(
    NAMES, np.eye(4, WIDTH, dtype=np.float32), (False, True, True, True), distinct_colors(4)
)
ELEPHANT = np.eye(1, WIDTH, 9, dtype=np.float32)[0]
SIZE = 0.1


def room() -> tuple[SceneFeatures, Cloud]:
    """A floor of 4 m x 4 m, a chair at (1, 1), another at (3, 1), a table at (2, 3); no sofa.

    One point per element, in shuffled order; every eleventh is not finite.
    """
    parts = []
    for label, low, high in [
        (0, (0, 0, 0), (40, 40, 1)),
        (1, (8, 8, 2), (12, 12, 10)),
        (1, (28, 8, 2), (32, 12, 10)),
        (2, (15, 27, 2), (25, 33, 8)),
    ]:
        axes = [np.arange(a, b) for a, b in zip(low, high, strict=True)]
        cells = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        parts.append(np.column_stack([np.full(len(cells), label), cells]))
    cells = np.random.default_rng(0).permutation(np.concatenate(parts))
    label = cells[:, 0]
    positions = ((cells[:, 1:] + 0.5) * SIZE).astype(np.float32)
    features = torch.eye(4, WIDTH)[torch.from_numpy(label)]
    points = positions.copy()
    element = np.arange(len(points), dtype=np.int32)
    points[::11] = np.nan
    element[::11] = -1
    scene = SceneFeatures(
        features, positions, element, SourceHeader(), Up(np.array([0, 0, 1.0])), np.zeros(3), SIZE
    )
    return scene, Cloud(points)


SCENE, CLOUD = room()
CHAIRS = int((SCENE.features[:, 1] == 1).sum())


def ask(
    text: str = "chair",
    *,
    embedding: np.ndarray | None = None,
    default_threshold: float | None = None,
    **changes: object,
) -> QueryAnswer:
    vector = VOCABULARY.embedding(text) if embedding is None else embedding
    assert vector is not None
    return answer(
        SCENE,
        CLOUD,
        TextQuery(text, **changes),  # type: ignore[arg-type]
        vector,
        None,
        VOCABULARY,
        Calibration(temperature=20.0),
        default_threshold=default_threshold,
        default_max_instances=10,
        min_points=30,
    )


def test_objects_are_found() -> None:
    reply = ask("  Chair ")
    assert reply.status is QueryStatus.OK and reply.message == "" and reply.alternatives == ()
    assert len(reply.instances) == 2
    assert {instance.label for instance in reply.instances} == {"Chair"}
    centers = sorted(tuple(np.round(i.center, 1)) for i in reply.instances)
    assert centers == [(1.0, 1.0, 0.6), (3.0, 1.0, 0.6)]
    assert reply.best_score > 0.99
    assert reply.probability is not None and reply.probability.shape == (len(SCENE.positions),)
    assert set(reply.timing_ms) == {"match", "cluster"}
    assert all(ms >= 0 for ms in reply.timing_ms.values())


def test_absent_thing_names_what_is_there() -> None:
    reply = ask("elephant", embedding=ELEPHANT)
    assert reply.status is QueryStatus.NOT_FOUND and reply.instances == ()
    assert reply.best_score < 0.1
    assert {name for name, _ in reply.alternatives} == {"chair", "table"}
    assert re.fullmatch(
        r"No 'elephant' here \(best score 0\.0\d < 0\.50\); I do see (chair, table|table, chair)\.",
        reply.message,
    )


def test_absent_word_of_the_vocabulary() -> None:
    near_chair = VOCABULARY.embeddings[3] + 0.8 * VOCABULARY.embeddings[1]
    near_chair = near_chair / np.linalg.norm(near_chair)
    reply = ask("sofa", embedding=near_chair, threshold=0.999)
    assert reply.status is QueryStatus.NOT_FOUND
    assert reply.alternatives[0][0] == "chair"  # the most like it comes first
    scores = [score for _, score in reply.alternatives]
    assert scores == sorted(scores, reverse=True)
    assert ask("sofa").status is QueryStatus.NOT_FOUND


def test_stuff_is_named_only_where_there_are_no_things() -> None:
    corner = RegionOfInterest(np.array([0.3, 3.7, 0.0]), np.eye(3), np.array([1.0, 1.0, 1.0]))
    reply = ask("table", roi=corner)
    assert reply.status is QueryStatus.NOT_FOUND
    assert [name for name, _ in reply.alternatives] == ["floor"]
    assert reply.message.startswith("No 'table' in the region of interest")


def test_region_of_interest_limits_the_answer() -> None:
    angle = np.pi / 5
    turned = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]]
    )
    roi = RegionOfInterest(np.array([1.0, 1.0, 0.5]), turned, np.array([1.2, 1.2, 2.0]))
    reply = ask(roi=roi)
    (instance,) = reply.instances
    np.testing.assert_allclose(instance.center, (1, 1, 0.6), atol=0.05)
    assert reply.probability is not None
    inside = roi.contains(SCENE.positions.astype(np.float64))
    assert not reply.probability[~inside].any()
    nowhere = RegionOfInterest(np.array([50.0, 0, 0]), np.eye(3), np.ones(3))
    assert ask(roi=nowhere).message == "The region of interest holds no points of this cloud."


def test_region_of_interest_is_in_source_coordinates() -> None:
    origin = np.array([1.0e6, -2.0e6, 40.0])
    scene = SceneFeatures(
        SCENE.features,
        SCENE.positions,
        SCENE.element_of_point,
        SCENE.header,
        SCENE.up,
        origin,
        SIZE,
    )
    roi = RegionOfInterest(origin + np.array([1.0, 1.0, 0.5]), np.eye(3), np.array([1.2, 1.2, 2.0]))
    reply = answer(
        scene,
        Cloud(CLOUD.points, origin=origin),
        TextQuery("chair", roi=roi),
        VOCABULARY.embeddings[1],
        None,
        VOCABULARY,
        Calibration(),
        default_max_instances=5,
        min_points=30,
    )
    (instance,) = reply.instances
    np.testing.assert_allclose(instance.center - origin, (1, 1, 0.6), atol=0.05)


def test_threshold_of_the_query_comes_first() -> None:
    weak = VOCABULARY.embeddings[1] * 0.3 + ELEPHANT
    weak = (weak / np.linalg.norm(weak)).astype(np.float32)
    best = ask("something", embedding=weak).best_score
    assert ask("something", embedding=weak).status is QueryStatus.NOT_FOUND
    assert ask("something", embedding=weak, default_threshold=best / 2).status is QueryStatus.OK
    assert ask("something", embedding=weak, threshold=best / 2).status is QueryStatus.OK
    reply = ask("something", embedding=weak, threshold=best * 2, default_threshold=best / 2)
    assert reply.status is QueryStatus.NOT_FOUND


def test_number_of_instances_is_limited() -> None:
    assert len(ask(max_instances=1).instances) == 1


def test_scraps_are_no_objects() -> None:
    reply = answer(
        SCENE,
        CLOUD,
        TextQuery("chair"),
        VOCABULARY.embeddings[1],
        None,
        VOCABULARY,
        Calibration(),
        default_max_instances=5,
        min_points=CHAIRS * 2 // 3,  # more than one chair has, fewer than both
    )
    assert reply.status is QueryStatus.NOT_FOUND
    assert "too small to be an object" in reply.message
    assert "chair" not in {name for name, _ in reply.alternatives}


@settings(deadline=None, derandomize=True)
@given(seed=st.integers(0, 100_000), enough=st.integers(1, 30), levels=st.integers(1, 50))
def test_best_score_is_what_enough_points_reach(seed: int, enough: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    count = int(generator.integers(0, 40))
    probability = (generator.integers(0, levels, size=count) / levels).astype(np.float32)
    points = generator.integers(0, 4, size=count)
    each = np.sort(np.repeat(probability, points))[::-1]
    expected = float(each[enough - 1]) if len(each) >= enough else 0.0
    assert score_of_enough_points(probability, points, enough) == expected


@pytest.mark.parametrize("far", [0.0, 4000.0])  # metres: too many cells to count them all
def test_scattered_elements_are_no_sight(far: float) -> None:
    generator = np.random.default_rng(2)
    positions = generator.uniform(-2, 2, size=(500, 3)).astype(np.float32)
    positions[-1] += far
    labels = generator.integers(0, 4, size=500)
    cells = [tuple(cell) for cell in np.floor(positions / 0.5).astype(int).tolist()]
    counts = Counter(zip(labels.tolist(), cells, strict=True))
    expected = [max(n for (label, _), n in counts.items() if label == k) for k in range(4)]
    assert seen.densest(positions, labels, 4).tolist() == expected


def test_negatives_take_the_answer_away() -> None:
    reply = answer(
        SCENE,
        CLOUD,
        TextQuery("seat", negatives=("chair",)),
        (VOCABULARY.embeddings[1] * 0.8 + ELEPHANT * 0.6).astype(np.float32),
        VOCABULARY.embeddings[[1]],
        VOCABULARY,
        Calibration(),
        default_max_instances=5,
        min_points=30,
    )
    assert reply.status is QueryStatus.NOT_FOUND


def test_a_cloud_that_is_not_the_scenes_is_refused() -> None:
    with pytest.raises(SasError, match="points"):
        answer(
            SCENE,
            Cloud(CLOUD.points[:-1]),
            TextQuery("chair"),
            VOCABULARY.embeddings[1],
            None,
            VOCABULARY,
            Calibration(),
            default_max_instances=5,
            min_points=30,
        )


BOX = RegionOfInterest(np.zeros(3), np.eye(3), np.ones(3))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (TextQuery(""), "empty"),
        (TextQuery(" \t\n "), "empty"),
        (TextQuery("\u200b\u200d"), "empty"),
        (TextQuery("chair" * 2000), "10000 bytes"),
        (TextQuery("椅" * 334), "1002 bytes"),
        (TextQuery("cha\x00ir"), r"U\+0000"),
        (TextQuery("chair\x1b[31m"), r"U\+001B"),
        (TextQuery("\ud800"), "Unicode"),
        (TextQuery("chair", negatives=("sofa", "")), "negative 2 is empty"),
        (TextQuery("chair", negatives=("x",) * (MAX_NEGATIVES + 1)), "negatives"),
        (TextQuery("chair", threshold=1.5), "threshold"),
        (TextQuery("chair", threshold=-0.1), "threshold"),
        (TextQuery("chair", threshold=float("nan")), "threshold"),
        (TextQuery("chair", max_instances=-1), "negative"),
        (TextQuery("chair", roi=RegionOfInterest(np.zeros(3), np.eye(3), np.zeros(3))), "above 0"),
        (TextQuery("chair", roi=RegionOfInterest(np.zeros(2), np.eye(3), np.ones(3))), "3 numbers"),
        (
            TextQuery("chair", roi=RegionOfInterest(np.zeros(3), 2 * np.eye(3), np.ones(3))),
            "unit length",
        ),
        (
            TextQuery("chair", roi=RegionOfInterest(np.full(3, np.inf), np.eye(3), np.ones(3))),
            "finite",
        ),
    ],
)
def test_what_cannot_be_asked(query: TextQuery, words: str) -> None:
    sentence = check_text(query)
    assert sentence is not None and re.search(words, sentence)
    assert sentence[0].isupper() and sentence.endswith((".", "it.", "for."))
    assert sentence.isprintable()
    reply = answer(
        SCENE,
        CLOUD,
        query,
        VOCABULARY.embeddings[1],
        None,
        VOCABULARY,
        Calibration(),
        default_max_instances=5,
        min_points=30,
    )
    assert reply.status is QueryStatus.INVALID and reply.message == sentence
    assert reply.instances == () and reply.probability is None


@pytest.mark.parametrize(
    "text", ["chair", "椅子", "стул", "كرسي", "कुर्सी", "a b\tc", "chaise é", "🪑", "x" * 1000]
)
def test_any_script_is_legal(text: str) -> None:
    assert check_text(TextQuery(text, negatives=("soffà",), threshold=1.0, roi=BOX)) is None


@settings(deadline=None, derandomize=True)
@given(text=st.text(max_size=400))
def test_every_text_gets_a_verdict(text: str) -> None:
    sentence = check_text(TextQuery(text))
    assert sentence is None or (sentence.endswith(".") and sentence.isprintable())


@settings(deadline=None, derandomize=True, max_examples=25)
@given(seed=st.integers(0, 100_000), threshold=st.floats(0.05, 1.0))
def test_answers_hold_together(seed: int, threshold: float) -> None:
    generator = np.random.default_rng(seed)
    embedding = generator.normal(size=WIDTH) + 2 * VOCABULARY.embeddings[seed % 4]
    embedding = (embedding / np.linalg.norm(embedding)).astype(np.float32)
    reply = ask("thing", embedding=embedding, threshold=threshold)
    assert reply.probability is not None
    seen = np.concatenate([np.empty(0, np.uint32), *(i.point_indices for i in reply.instances)])
    assert len(np.unique(seen)) == len(seen)
    elements = SCENE.element_of_point[seen]
    assert (elements >= 0).all() and (reply.probability[elements] >= threshold).all()
    assert 0 <= reply.best_score <= 1
    if reply.status is QueryStatus.OK:
        assert reply.best_score >= threshold - 1e-6 and reply.message == ""
    else:
        assert reply.status is QueryStatus.NOT_FOUND and reply.message.endswith(".")
