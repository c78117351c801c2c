"""`sas bench query`: a question to a scene against one read of the scene's features."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.matching import match_words, query_sides
from sas_ros.observation import Cloud, SceneFeatures, SourceHeader, Up
from sas_ros.query import MAX_INSTANCES, MIN_POINTS, QueryStatus, TextQuery, answer
from sas_ros.student.bundle import StudentBundle
from sas_ros.word_scores import scene_scores, word_scores
from sas_training.bench.student import room_surface
from sas_training.bench.timing import alternate, machine

Float32Array = npt.NDArray[np.float32]


def bench_query(bundle: StudentBundle, elements: int, rounds: int) -> dict[str, Any]:
    """Questions to a generated room of about `elements` elements, one point each.

    Returns medians in seconds over `rounds` (at least 5) rounds in which all take turns:
        match_s: probabilities for a new text, embedded before, against the kept vocabulary.
        match_word_s: the same for a word of the vocabulary.
        direct_s: the alternative: the features times all words and the text, and a softmax.
        answer_found_s, answer_not_found_s: a whole answer with objects and boxes, or with what was
            seen instead.
        prepare_s: the vocabulary's part, once per scene.
        read_s, product_s: one sum over the features, one product of them with a vector.
    and `floor_s`, the quicker of the last two, `ratio_to_floor` of `match_s`, `direct_to_floor`,
    `elements`, `feature_dim` and `timing.machine`.
    """
    scene, cloud = furnished_room(bundle, elements)
    features, vocabulary, calibration = scene.features, bundle.vocabulary, bundle.calibration
    present, absent = _texts(bundle)
    vector = torch.from_numpy(present)
    scores = scene_scores(scene, vocabulary, calibration.temperature)

    def ask(embedding: Float32Array, expected: QueryStatus) -> None:
        reply = answer(
            scene,
            cloud,
            TextQuery("something"),
            embedding,
            None,
            vocabulary,
            calibration,
            default_max_instances=MAX_INSTANCES,
            min_points=MIN_POINTS,
        )
        assert elements < 10_000 or reply.status == expected

    def direct() -> Float32Array:
        words, others = query_sides(present, vocabulary, None, calibration)
        columns = torch.from_numpy(np.concatenate([words, others]))
        logits = (features @ columns.T).mul_(calibration.temperature)
        return np.asarray(torch.softmax(logits, dim=1)[:, : len(words)].sum(dim=1).numpy())

    seconds = alternate(
        {
            "match_s": lambda: match_words(scores, present, None, calibration),
            "match_word_s": lambda: match_words(
                scores, vocabulary.embeddings[0], None, calibration
            ),
            "direct_s": direct,
            "answer_found_s": lambda: ask(present, QueryStatus.OK),
            "answer_not_found_s": lambda: ask(absent, QueryStatus.NOT_FOUND),
            "prepare_s": lambda: word_scores(features, vocabulary, calibration.temperature),
            "read_s": features.sum,
            "product_s": lambda: torch.mv(features, vector),
        },
        max(rounds, 5),
    )
    floor = min(seconds["read_s"], seconds["product_s"])
    return {
        **seconds,
        "floor_s": floor,
        "ratio_to_floor": seconds["match_s"] / floor,
        "direct_to_floor": seconds["direct_s"] / floor,
        "elements": len(features),
        "feature_dim": bundle.feature_dim,
        **machine(),
    }


def furnished_room(bundle: StudentBundle, elements: int) -> tuple[SceneFeatures, Cloud]:
    """A room of about `elements` elements whose features lie near the words of what is there:
    floor, walls and a dozen boxes of five kinds. Always the same for the same arguments."""
    cells = room_surface(elements).numpy()[:, 1:]
    rng = np.random.default_rng(0)
    vocabulary = bundle.vocabulary
    things = np.flatnonzero(vocabulary.things)[:5]
    stuff = np.flatnonzero(~np.array(vocabulary.things))
    region = (cells[:, :2] // max(8, int(np.ptp(cells[:, 0])) // 6)).sum(axis=1)
    word = things[region % len(things)] if len(things) else np.zeros(len(cells), np.int64)
    if len(stuff):
        word[(cells[:, :2] == 0).any(axis=1)] = stuff[0]
        word[cells[:, 2] == 0] = stuff[-1]
    embeddings = vocabulary.embeddings
    ideal = _unit(embeddings - embeddings.mean(axis=0)) if len(vocabulary) > 1 else embeddings
    noise = rng.standard_normal((len(cells), vocabulary.dim), dtype=np.float32)
    features = _unit(ideal[word] + (0.7 / vocabulary.dim**0.5) * noise)
    size = bundle.voxel_size
    points = ((cells + 0.5) * size).astype(np.float32)
    up = Up(np.array([0.0, 0.0, 1.0]), "bench")
    element = np.arange(len(points), dtype=np.int32)
    scene = SceneFeatures(
        torch.from_numpy(features), points, element, SourceHeader(), up, np.zeros(3), size
    )
    return scene, Cloud(points)


def _texts(bundle: StudentBundle) -> tuple[Float32Array, Float32Array]:
    """(C,) embeddings of a new text for a thing that is in the room, and of one for nothing."""
    rng = np.random.default_rng(1)
    strange = _unit(rng.standard_normal((1, bundle.feature_dim), dtype=np.float32))
    things = np.flatnonzero(bundle.vocabulary.things)
    word = bundle.vocabulary.embeddings[things[0] if len(things) else 0]
    return _unit(word + 0.5 * strange)[0], strange[0]


def _unit(rows: Float32Array) -> Float32Array:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))
