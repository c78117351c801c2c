"""The student in config/students: what README and docs claim of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sas_ros.gravity import resolve_up
from sas_ros.language.available import MINILM, encoder_available
from sas_ros.language.encoder import load_encoder
from sas_ros.language.vocabulary import distinct_colors
from sas_ros.nodes.words import words_for
from sas_ros.observation import Cloud, SourceHeader, Up
from sas_ros.query import MAX_INSTANCES, MIN_POINTS, QueryStatus, TextQuery, answer
from sas_ros.segmenter import Segmenter
from sas_ros.student.bundle import StudentBundle
from sas_ros.student.locate import find_student
from sas_training.evaluation.labels import SCANNET20
from sas_training.evaluation.scoring import evaluate

Z_UP = Up(np.array([0.0, 0.0, 1.0]), "parameter")
ROOMS = ("scene0000_00", "scene0006_00", "scene0010_00")
OPTICAL_FROM_BODY = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], dtype=np.float32)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(StudentBundle.load(find_student()), device="cpu")


def test_the_distilled_one_beside_it_says_what_it_is() -> None:
    path = find_student("indoor-tiny-distilled")
    assert path.stat().st_size <= 12_000_000
    bundle = StudentBundle.load(path)
    assert bundle.name == path.stem and len(bundle.vocabulary.names) == len(SCANNET20.names)
    assert bundle.provenance["supervision"] == "distilled from 2D teachers; no 3D labels"
    assert "no real scans" in bundle.provenance["data"]
    assert bundle.provenance["licence"] == "Apache-2.0"
    rng = np.random.default_rng(0)
    floor = np.column_stack([rng.uniform(0, 4, (8000, 2)), rng.normal(0, 0.005, 8000)])
    wall = np.column_stack([rng.uniform(0, 4, 8000), np.zeros(8000), rng.uniform(0, 2.5, 8000)])
    cloud = Cloud(np.vstack([floor, wall]).astype(np.float32), header=SourceHeader(0, "map"))
    segmenter = Segmenter(bundle, device="cpu")
    scene = segmenter.segment(cloud, Z_UP)
    label = segmenter.label(scene, bundle.vocabulary).label[scene.element_of_point]
    names = np.array([*bundle.vocabulary.names, ""])[
        np.minimum(label, len(bundle.vocabulary.names))
    ]
    assert (names[:8000] == "floor").mean() > 0.8
    assert (names[8000:] == "wall").mean() > 0.5


@pytest.fixture
def real_rooms(test_data: Path, tmp_path: Path) -> list[Path]:
    """The labelled rooms of the test data as .npz with ScanNet-20 ids."""
    files = []
    for room in ROOMS:
        vertices = np.load(test_data / "scannet_rooms" / f"{room}_vert.npy")
        nyu40 = np.load(test_data / "scannet_rooms" / f"{room}_sem_label.npy")
        labels = np.array([SCANNET20.from_nyu40(int(k)) for k in range(256)])[nyu40]
        files.append(tmp_path / f"{room}.npz")
        points, colors = vertices[:, :3].astype(np.float32), vertices[:, 3:6].astype(np.uint8)
        np.savez(files[-1], points=points, labels=labels, colors=colors)
    return files


def point_labels(segmenter: Segmenter, cloud: Cloud) -> npt.NDArray[np.int64]:
    scene = segmenter.segment(cloud, resolve_up(cloud))
    return segmenter.label(scene, segmenter.bundle.vocabulary).label[scene.element_of_point]


def test_it_is_small_and_says_where_it_comes_from(segmenter: Segmenter) -> None:
    assert find_student().stat().st_size <= 25_000_000
    bundle = segmenter.bundle
    assert bundle.name == "indoor-tiny" and bundle.vocabulary.names == SCANNET20.names
    assert "no distillation" in bundle.provenance["supervision"]
    assert "no real scans" in bundle.provenance["data"]
    assert bundle.provenance["licence"] == "Apache-2.0"


def test_it_means_something_on_real_rooms(segmenter: Segmenter, real_rooms: list[Path]) -> None:
    score = evaluate(segmenter, real_rooms, "scannet20", Z_UP)
    assert score["miou_present"] >= 0.3  # "floor by height, else wall" reaches 0.07
    assert score["per_class"]["floor"]["iou"] > 0.8
    assert score["per_class"]["chair"]["iou"] > 0.4


def test_labels_are_the_same_in_an_optical_frame(
    segmenter: Segmenter, real_rooms: list[Path]
) -> None:
    for path in real_rooms:
        points = np.load(path)["points"]
        plain = point_labels(segmenter, Cloud(points))
        header = SourceHeader(0, "camera_optical_frame")
        turned = point_labels(segmenter, Cloud(points @ OPTICAL_FROM_BODY.T, header=header))
        assert (plain == turned).mean() >= 0.95


def test_it_finds_the_chairs_of_an_office(segmenter: Segmenter, real_rooms: list[Path]) -> None:
    """Known words need no text encoder; what is not there is NOT_FOUND with alternatives."""
    cloud = Cloud(np.load(real_rooms[2])["points"])
    scene = segmenter.segment(cloud, Z_UP)
    bundle = segmenter.bundle

    def ask(word: str) -> QueryStatus:
        embedding = bundle.vocabulary.embedding(word)
        assert embedding is not None
        result = answer(
            scene,
            cloud,
            TextQuery(word),
            embedding,
            None,
            bundle.vocabulary,
            bundle.calibration,
            default_max_instances=MAX_INSTANCES,
            min_points=MIN_POINTS,
        )
        assert result.status == QueryStatus.OK or result.alternatives
        return result.status

    assert ask("chair") == QueryStatus.OK
    assert ask("bathtub") == QueryStatus.NOT_FOUND


@pytest.mark.skipif(encoder_available(MINILM) is not None, reason="needs the MiniLM encoder")
def test_a_label_that_is_a_synonym_takes_the_place_of_the_students_word(
    segmenter: Segmenter, real_rooms: list[Path]
) -> None:
    """After the vocabulary is set to "couch", sofas are couches, and both words find them."""
    bundle = segmenter.bundle
    embeddings = load_encoder(MINILM).encode(["couch"])
    labels = bundle.vocabulary.with_labels(["couch"], embeddings, colors=distinct_colors(1))
    words = words_for(labels, bundle.vocabulary, bundle.calibration)
    cloud = Cloud(np.load(real_rooms[0])["points"])
    scene = segmenter.segment(cloud, Z_UP)
    sofa = segmenter.label(scene, bundle.vocabulary).label == bundle.vocabulary.index("sofa")
    couch = words.to_labels(segmenter.label(scene, words.competing)).label == 0
    assert (couch & sofa).sum() / (couch | sofa).sum() > 0.8
    for row in (embeddings[0], bundle.vocabulary.embedding("sofa")):
        assert row is not None
        result = answer(
            scene,
            cloud,
            TextQuery("couch"),
            row,
            None,
            words.competing,
            bundle.calibration,
            default_max_instances=MAX_INSTANCES,
            min_points=MIN_POINTS,
            own=words.own,
        )
        assert result.status == QueryStatus.OK
