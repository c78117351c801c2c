"""The list of queries, how answers are judged, and the two verbs that live on it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from encoders import HashEncoder
from students import student_of

from sas_ros.errors import SasError
from sas_ros.instances import ObjectInstance
from sas_ros.language.available import MINILM, encoder_available
from sas_ros.language.calibration import Calibration
from sas_ros.language.encoder import load_encoder
from sas_ros.language.vocabulary import Vocabulary, distinct_colors
from sas_ros.observation import Cloud, SceneFeatures, Up
from sas_ros.query import QueryAnswer, QueryStatus
from sas_ros.segmenter import Segmenter
from sas_ros.student.bundle import StudentBundle
from sas_ros.student.locate import find_student
from sas_ros.student.minkunet import MinkUNet, MinkUNetConfig
from sas_training.cli import main
from sas_training.distill.calibrate import (
    ABSENT_FOUND_GOAL,
    SIZES,
    FoundObjects,
    Sized,
    best_of,
    harder_scan,
    with_sizes,
)
from sas_training.distill.export import Recipe, export_student
from sas_training.distill.phrases import calibration_phrases, known_phrases
from sas_training.distill.words import SYNONYMS, WordBank
from sas_training.evaluation.labelled import read_objects
from sas_training.evaluation.labels import SCANNET20
from sas_training.evaluation.queries import EXACT, Question, find_queries, read_queries
from sas_training.evaluation.queries_asked import Verdict, ask, embed_questions, judge

Z_UP = Up(np.array([0.0, 0.0, 1.0]), "parameter")
WALL, FLOOR, BED, CHAIR, TABLE = (
    SCANNET20.id_of(name) for name in ("wall", "floor", "bed", "chair", "table")
)


def student() -> StudentBundle:
    """Untrained, with the 20 classes as its words and an encoder that is a hash."""
    bundle = student_of(MinkUNetConfig(2, 32, 8, (8,) * 8, (1,) * 8))
    words = Vocabulary(
        SCANNET20.names,
        HashEncoder(32).encode(SCANNET20.names),
        (True,) * len(SCANNET20),
        distinct_colors(len(SCANNET20)),
    )
    return replace(bundle, vocabulary=words, text_encoder="hash")


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    """Two scans of 4 m x 4 m: a floor, a bed, a clutter without a label; a chair in the second."""
    folder = tmp_path / "world" / "rooms"
    folder.mkdir(parents=True)
    for number in range(2):
        rng = np.random.default_rng(number)
        floor = np.c_[rng.uniform(0, 4, (6000, 2)), np.zeros(6000)]
        bed = rng.uniform([0.5, 0.5, 0.4], [2.4, 1.5, 0.5], (3000, 3))
        chair = rng.uniform([3, 3, 0.3], [3.6, 3.6, 0.4], (600 if number else 5, 3))
        clutter = rng.uniform([0, 3, 0.3], [0.5, 3.5, 0.5], (300, 3))
        parts = (floor, FLOOR), (bed, BED), (chair, CHAIR), (clutter, 255)
        labels = np.concatenate([np.full(len(points), label) for points, label in parts])
        points = np.concatenate([points for points, _ in parts]).astype(np.float32)
        np.savez(folder / f"room-{number}.npz", points=points, labels=labels.astype(np.uint8))
    return folder.parent


class KnowingSegmenter:
    """Gives every element of 10 cm the embedding of `sees(true label of its first point)`."""

    def __init__(self, bundle: StudentBundle, truth: dict[int, npt.NDArray[np.int64]]) -> None:
        self.bundle, self.truth, self.scans = bundle, truth, 0

    def segment(self, cloud: Cloud, up: Up) -> SceneFeatures:
        self.scans += 1
        cells, first, inverse = np.unique(
            np.floor(cloud.points / 0.1), axis=0, return_index=True, return_inverse=True
        )
        labels = self.truth[len(cloud.points)][first]
        labels = np.where(labels == 255, FLOOR, labels)
        return SceneFeatures(
            features=torch.from_numpy(self.bundle.vocabulary.embeddings[labels]),
            positions=((cells + 0.5) * 0.1).astype(np.float32),
            element_of_point=inverse.reshape(-1).astype(np.int32),
            header=cloud.header,
            up=up,
            origin=cloud.origin,
            element_size=0.1,
        )


# ------------------------------------------------------------------------------------- the list
def test_the_list_that_comes_along_covers_kinds_and_classes() -> None:
    questions = read_queries(find_queries(SCANNET20), SCANNET20)
    kinds = Counter(question.kind for question in questions)
    assert len(questions) >= 150
    assert {EXACT, "taught", "synonym", "plural", "hypernym", "finer", "part"} <= set(kinds)
    assert {"description", "language", "nothing", "unnamed"} <= set(kinds)
    assert min(kinds.values()) >= 10
    asked = frozenset[int]().union(*(question.classes for question in questions))
    assert asked == set(range(len(SCANNET20)))
    for question in questions:
        assert bool(question.classes) == (question.kind not in ("nothing", "unnamed")), question
    assert {q.text for q in questions if q.kind == EXACT} == set(SCANNET20.names[:-1])


def test_no_student_is_calibrated_with_what_it_is_measured_with() -> None:
    taught = {text.casefold() for texts in SYNONYMS.values() for text in texts}
    phrases = {text.casefold() for text, _ in calibration_phrases()}
    assert len(phrases) == len(calibration_phrases())
    for question in read_queries(find_queries(SCANNET20), SCANNET20):
        text = question.text.casefold()
        assert (text in taught) == (question.kind == "taught"), question
        assert question.kind in (EXACT, "taught") or text not in phrases, question


def test_cells_with_commas_comments_and_a_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(
        "\ufeff# a comment\n\nquery,kind,classes\n"
        '"bed, please",description, bed \n  # another\nseats,hypernym,chair; sofa\nUFO,nothing,\n',
        encoding="utf-8",
    )
    assert read_queries(path, SCANNET20) == (
        Question("bed, please", "description", frozenset({BED})),
        Question("seats", "hypernym", frozenset({CHAIR, SCANNET20.id_of("sofa")})),
        Question("UFO", "nothing", frozenset()),
    )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "must begin with"),
        ("text,kind,classes\n", "must begin with"),
        ("query,kind,classes\n", "holds no query"),
        ("query,kind,classes\nbed,exact\n", "Line 2 .*2 cells"),
        ("query,kind,classes\nbed,exact,bed,chair\n", "4 cells"),
        ("query,kind,classes\nbed,exact,bad\n", "'bad' is no class"),
        ("query,kind,classes\nbed,,bed\n", "no kind"),
        ("query,kind,classes\n,exact,bed\n", "empty"),
        ("query,kind,classes\nbed,exact,bed\n BED ,exact,bed\n", "Line 3 .*line 2 already"),
        (b"query,kind,classes\nb\xff,exact,bed\n", "UTF-8"),
    ],
)
def test_a_broken_list_is_refused_with_a_sentence(
    tmp_path: Path, content: str | bytes, complaint: str
) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SasError, match=complaint):
        read_queries(path, SCANNET20)
    with pytest.raises(SasError, match="cannot be read"):
        read_queries(tmp_path / "none.csv", SCANNET20)


# ----------------------------------------------------------------------------------- judgement
def answer_of(*pieces: range) -> QueryAnswer:
    zeros = np.zeros(3)
    instances = tuple(
        ObjectInstance(
            label="x",
            score=1.0,
            elements=np.arange(1),
            point_indices=np.array(piece, dtype=np.uint32),
            center=zeros,
            orientation=np.array([0.0, 0, 0, 1]),
            size=zeros,
            centroid=zeros,
            support_height=0.0,
        )
        for piece in pieces
    )
    return QueryAnswer(QueryStatus.OK if pieces else QueryStatus.NOT_FOUND, instances=instances)


def test_an_answer_is_right_when_most_of_what_it_marks_is_wanted() -> None:
    truth = np.repeat([CHAIR, TABLE, 255], 100)
    chairs, nothing = truth == CHAIR, np.zeros(300, np.bool_)
    assert judge(answer_of(range(100)), chairs, truth) == (Verdict.HIT, 1.0)
    assert judge(answer_of(range(50), range(100, 150)), chairs, truth)[0] == Verdict.HIT
    assert judge(answer_of(range(50), range(100, 151)), chairs, truth)[0] == Verdict.WRONG
    assert judge(answer_of(range(50)), chairs, truth)[1] == pytest.approx(0.5)
    assert judge(answer_of(range(100), range(200, 300)), chairs, truth) == (Verdict.HIT, 1.0)
    assert judge(answer_of(range(200, 300)), chairs, truth) == (Verdict.WRONG, 0.0)
    assert judge(answer_of(), chairs, truth) == (Verdict.MISSED, 0.0)
    assert judge(answer_of(), nothing, truth)[0] == Verdict.QUIET
    assert judge(answer_of(range(200, 210)), nothing, truth)[0] == Verdict.FALSE


def test_a_student_that_knows_everything_makes_no_mistake(rooms: Path) -> None:
    files = sorted((rooms / "rooms").glob("*.npz"))
    scans = [np.load(path) for path in files]
    truth = {len(scan["points"]): scan["labels"].astype(np.int64) for scan in scans}
    bundle = replace(student(), calibration=Calibration(temperature=40.0))
    questions = (
        Question("bed", EXACT, frozenset({BED})),
        Question("chair", EXACT, frozenset({CHAIR})),
        Question("toilet", EXACT, frozenset({SCANNET20.id_of("toilet")})),
        Question("UFO", "nothing", frozenset()),
    )
    embeddings = embed_questions(questions, bundle, HashEncoder(32))
    assert np.array_equal(embeddings[0], bundle.vocabulary.embeddings[BED])
    with pytest.raises(SasError, match="'UFO' is no word"):
        embed_questions(questions, bundle, None)
    segmenter = KnowingSegmenter(bundle, truth)
    report = ask(segmenter, files, questions, embeddings, Z_UP, SCANNET20)  # type: ignore[arg-type]
    assert segmenter.scans == 2
    summary = report.summary(SCANNET20)
    # The five points of a chair in the first scan are too few to ask for it.
    assert summary["kinds"][EXACT]["there"] == 3 and summary["kinds"][EXACT]["hit_rate"] == 1.0
    assert summary["kinds"][EXACT]["mean_iou"] > 0.8
    assert summary["all"]["absent"] == 4 and summary["all"]["false_rate"] == 0.0
    assert summary["classes_absent"]["absent"] == 2 and summary["classes_none"]["absent"] == 2
    assert summary["kinds"]["nothing"]["hit_rate"] is None
    assert [row["query"] for row in summary["queries"]] == ["bed", "chair", "toilet", "UFO"]

    # Beds that have to be larger than this one are no longer found.
    large = replace(bundle.calibration, word_elements=(("bed", 10_000),))
    segmenter.bundle = replace(bundle, calibration=large)
    report = ask(segmenter, files, questions, embeddings, Z_UP, SCANNET20)  # type: ignore[arg-type]
    assert [tally.failures for tally in report.tallies] == [2, 0, 0, 0]

    # One that takes the bed for a toilet: the bed is missed, the toilet a false find.
    toilet = SCANNET20.id_of("toilet")
    wrong = {size: np.where(labels == BED, toilet, labels) for size, labels in truth.items()}
    segmenter = KnowingSegmenter(bundle, wrong)
    report = ask(segmenter, files, questions, embeddings, Z_UP, SCANNET20)  # type: ignore[arg-type]
    assert [tally.failures for tally in report.tallies] == [2, 0, 2, 0]
    assert report.total().verdicts[Verdict.MISSED] == 2
    assert report.total().verdicts[Verdict.FALSE] == 2


@pytest.mark.skipif(encoder_available(MINILM) is not None, reason="needs the MiniLM encoder")
def test_the_shipped_student_answers_in_real_rooms(test_data: Path, tmp_path: Path) -> None:
    files = []
    for room in ("scene0000_00", "scene0006_00"):
        stem = test_data / "scannet_rooms" / room
        vertices = np.load(f"{stem}_vert.npy")
        points, colors = vertices[:, :3].astype(np.float32), vertices[:, 3:6].astype(np.uint8)
        labels = np.array([SCANNET20.from_nyu40(k) for k in range(256)])
        labels = labels[np.load(f"{stem}_sem_label.npy")]
        files.append(tmp_path / f"{room}.npz")
        np.savez(files[-1], points=points, colors=colors, labels=labels)
    bundle = StudentBundle.load(find_student())
    questions = read_queries(find_queries(SCANNET20), SCANNET20)
    embeddings = embed_questions(questions, bundle, load_encoder(bundle.text_encoder))
    report = ask(Segmenter(bundle, device="cpu"), files, questions, embeddings, Z_UP, SCANNET20)
    whole = report.total().summary()
    assert whole["hit_rate"] >= 0.36 and whole["false_rate"] <= 0.10
    assert report.of_kind("nothing").summary()["false_rate"] <= 0.05


# ------------------------------------------------------------------------------------ the verbs
def test_the_verb_prints_a_table_and_json(
    rooms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, queries = tmp_path / "s.safetensors", tmp_path / "list.csv"
    student().save(bundle)
    queries.write_text("query,kind,classes\nbed,exact,bed\ntoilet,exact,toilet\n")
    command = ["evaluate-queries", "--student", str(bundle), "--queries", str(queries)]
    assert main([*command, str(rooms / "rooms")]) == 0
    printed = capsys.readouterr().out
    assert "asked 2 queries in 2 scans" in printed and "worst queries" in printed
    assert main([*command, "--json", str(rooms / "rooms")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["all"]["there"] == 2 and result["all"]["absent"] == 2
    assert len(result["files"]) == 2 and result["queries"][0]["classes"] == ["bed"]
    # Words beyond the vocabulary need its encoder, which does not exist here.
    queries.write_text("query,kind,classes\ncouch,synonym,sofa\n")
    assert main([*command, str(rooms / "rooms")]) == 2
    assert "text encoder" in capsys.readouterr().err


def test_a_bundle_is_calibrated_anew(
    rooms: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = HashEncoder(32)
    monkeypatch.setattr("sas_ros.language.encoder.load_encoder", lambda *_, **__: encoder)
    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    student().save(old)
    before = old.read_bytes()
    command = ["calibrate", "--student", str(old), "--data", str(rooms), "-o", str(new)]
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert old.read_bytes() == before
    first, second = StudentBundle.load(old), StudentBundle.load(new)
    assert all(torch.equal(first.weights[key], value) for key, value in second.weights.items())
    assert np.array_equal(first.vocabulary.embeddings, second.vocabulary.embeddings)
    phrases = second.vocabulary.phrases
    assert phrases is not None and "couch" in phrases.texts and "bed" not in phrases.texts
    sizes = dict(second.calibration.word_elements)
    assert set(sizes) == set(SCANNET20.names) and set(sizes.values()) <= set(SIZES)
    assert second.provenance["metrics"]["calibration"] == second.calibration.to_metadata()
    assert printed["held_out_rooms"] == 2 and 0 <= printed["absent_words_found"] <= 1
    assert printed["goal_reached"] is (printed["absent_words_found"] <= ABSENT_FOUND_GOAL)
    # Again the same bytes, and a student with other words is refused.
    again = tmp_path / "again.safetensors"
    assert main([*command[:-1], str(again)]) == 0
    assert again.read_bytes() == new.read_bytes()
    # One room has no other half to measure on: every share would be 0.
    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(sorted((rooms / "rooms").glob("*.npz"))[0], one)
    command[4] = str(one)
    assert main([*command[:-1], str(tmp_path / "none.safetensors")]) == 2
    assert "at least 2 rooms" in capsys.readouterr().err
    command[4] = str(rooms)
    other = student_of(MinkUNetConfig(2, 32, 8, (8,) * 8, (1,) * 8))
    replace(other, text_encoder="hash").save(old)
    assert main([*command[:-1], str(tmp_path / "none.safetensors")]) == 2
    assert "not the classes" in capsys.readouterr().err
    assert not (tmp_path / "none.safetensors").exists()


def test_a_trained_network_is_calibrated_when_it_is_exported(rooms: Path, tmp_path: Path) -> None:
    encoder = HashEncoder(32)
    torch.manual_seed(0)
    recipe = Recipe(
        name="exported",
        labels=SCANNET20,
        words=WordBank(SCANNET20, encoder, "{}"),
        text_encoder="hash",
        prompt="{}",
        inputs=("one", "height"),
        voxel_size=0.08,
    )
    network = MinkUNet(MinkUNetConfig(2, 32, 8, (8,) * 8, (1,) * 8))
    path = tmp_path / "exported.safetensors"
    assert export_student(path, network, recipe, {"steps": 0}, encoder, None) == {}
    assert StudentBundle.load(path).vocabulary.phrases is None
    metrics = export_student(path, network, recipe, {"steps": 0}, encoder, rooms)
    bundle = StudentBundle.load(path)
    assert bundle.provenance == {"steps": 0, "metrics": metrics}
    assert bundle.vocabulary.phrases is not None and bundle.calibration.word_elements


def test_phrases_about_words_that_a_student_lacks_are_left_out() -> None:
    words = ("chair", "sofa", "Bed")
    vocabulary = Vocabulary(
        words, HashEncoder(32).encode(words), (True,) * 3, distinct_colors(len(words))
    )
    phrases, kept = known_phrases(vocabulary, HashEncoder(32), "{}")
    meanings = dict(zip(kept.texts, kept.meant, strict=True))
    assert meanings["couch"] == {1} and meanings["seating"] == {0, 1} and meanings["car"] == set()
    assert meanings["sleeping place"] == {2} and "bookcase" not in meanings
    assert set(phrases.texts) - set(kept.texts) == {"chair", "sofa", "bed"}


# ------------------------------------------------------------------------------- sizes of words
def group(largest: npt.NDArray[np.int64], there: npt.NDArray[np.bool_]) -> FoundObjects:
    """Each word's largest piece (S, K); it is right where the word is there."""
    found = largest[..., None] >= np.array(SIZES)
    return FoundObjects(there, ~there, found, found & there[..., None])


def test_each_word_gets_the_size_that_tells_its_objects_from_mistakes() -> None:
    rng = np.random.default_rng(0)
    scans = 60
    there = rng.random((scans, 2)) < 0.5
    true = np.c_[rng.integers(300, 600, scans), rng.integers(12, 60, scans)]
    wrong = np.c_[rng.integers(0, 90, scans), rng.integers(0, 8, scans)]
    rooms = group(np.where(there, true, wrong), there)
    calibration, share, right = with_sizes(Calibration(), [rooms], ("bed", "sink"))
    bed, sink = calibration.elements_of("bed"), calibration.elements_of("sink")
    assert 64 < bed <= 256 and 4 < sink <= 12
    assert share <= ABSENT_FOUND_GOAL and right > 0.9
    assert calibration.temperature == Calibration().temperature


def test_the_most_right_answers_win_among_those_that_are_seldom_false() -> None:
    often = Sized(Calibration(threshold=0.5), ABSENT_FOUND_GOAL + 0.01, 0.9)
    good = Sized(Calibration(threshold=0.6), ABSENT_FOUND_GOAL, 0.6)
    silent = Sized(Calibration(threshold=0.7), 0.0, 0.1)
    assert best_of([often, good, silent]) is good
    worse = often._replace(absent_found=0.5)
    assert best_of([worse, often]) is often


def test_rooms_to_calibrate_with_are_painted_and_bent_but_keep_their_labels(rooms: Path) -> None:
    path = sorted((rooms / "rooms").glob("*.npz"))[0]
    plain, harder = read_objects(path, SCANNET20), harder_scan(path, SCANNET20)
    assert np.array_equal(plain.labels, harder.labels)
    assert np.abs(plain.points - harder.points).mean() > 0.05
    again = harder_scan(path, SCANNET20)
    assert np.array_equal(harder.points, again.points)
    if plain.colors is not None and harder.colors is not None and again.colors is not None:
        assert not np.array_equal(plain.colors, harder.colors)
        assert np.array_equal(harder.colors, again.colors)


def test_what_sizes_are_worth_is_measured_on_other_scans() -> None:
    """The first half has small mistakes and wants small sizes; the second shows large mistakes."""
    there = np.array([[True], [True], [False], [False]])
    rooms = group(np.array([[300], [300], [10], [250]]), there)
    _, share, _ = with_sizes(Calibration(), [rooms], ("bed",))
    assert share == 0.5


def test_false_finds_are_kept_to_the_goal_at_the_cost_of_finding_less() -> None:
    """Mistakes as large as the objects: only asking for more than most of both have helps."""
    rng = np.random.default_rng(1)
    there = rng.random((400, 1)) < 0.5
    rooms = group(rng.integers(0, 200, (400, 1)), there)
    calibration, share, _ = with_sizes(Calibration(), [rooms], ("picture",))
    assert share <= ABSENT_FOUND_GOAL
    assert calibration.elements_of("picture") >= 160
