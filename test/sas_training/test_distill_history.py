"""The history of scenes: its equation, its files, and processes that die while they write."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_ros.errors import SasError
from sas_training.distill.history import History, SceneHistory

CLASSES = "0" * 64


def history(folder: Path, width: int = 3, precision: str = "float16") -> History:
    return History(folder, CLASSES, width, precision)


@given(st.integers(1, 12), st.floats(0, 0.99), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_updates_are_the_average_of_the_paper(updates: int, alpha: float, seed: int) -> None:
    """H <- a H + (1 - a) F on features; its products with text vectors, divided by 1 - a^n."""
    rng = np.random.default_rng(seed)
    features, texts = rng.normal(size=(updates, 5, 8)), rng.normal(size=(4, 8))
    averaged = np.zeros((5, 8))
    state = SceneHistory.empty(5, 4, "float32")
    for feature in features:
        averaged = alpha * averaged + (1 - alpha) * feature
        state = state.updated(np.arange(5), feature @ texts.T, alpha)
    expected = averaged @ texts.T / (1 - alpha**updates)
    np.testing.assert_allclose(state.scores, expected, rtol=1e-3, atol=1e-4)
    assert (state.updates == updates).all()


def test_without_correction_it_is_the_plain_average() -> None:
    state = SceneHistory(np.full((1, 2), 4.0, np.float32), np.ones(1, np.uint16))
    state = state.updated(np.array([0]), np.array([[8.0, 0.0]]), 0.75, corrected=False)
    assert state.scores.tolist() == [[5.0, 3.0]]


def test_points_keep_their_own_rows() -> None:
    state = SceneHistory.empty(4, 2, "float32")
    state = state.updated(np.array([2, 0]), np.array([[1.0, 5.0], [7.0, 2.0]]), 0.5)
    state = state.updated(np.array([2]), np.array([[9.0, 0.0]]), 0.5)
    assert state.updates.tolist() == [1, 0, 2, 0]
    # (0.25 * (1, 5) + 0.5 * (9, 0)) / 0.75
    np.testing.assert_allclose(state.scores[2], [19 / 3, 5 / 3], rtol=1e-6)
    assert state.scores[0].tolist() == [7.0, 2.0]
    assert state.labels(np.array([0, 1, 2, 3])).tolist() == [0, -1, 0, -1]


def test_superpoints_average_the_points_that_were_seen() -> None:
    scores = np.array([[4, 0], [0, 3], [0, 3], [9, 9], [0, 1]], np.float32)
    state = SceneHistory(scores, np.array([1, 1, 1, 0, 1], np.uint16))
    superpoint = np.array([0, 0, 0, 1, -1])
    np.testing.assert_allclose(state.superpoint_scores(superpoint), [[4 / 3, 2], [0, 0]])
    assert state.superpoint_labels(superpoint).tolist() == [1, -1]


def test_classes_of_means_are_those_of_averaged_features() -> None:
    """What is stored are products with the text vectors; the paper stores features."""
    rng = np.random.default_rng(3)
    features, texts = rng.normal(size=(6, 40, 16)), rng.normal(size=(5, 16))
    superpoint = rng.integers(7, size=40)
    state = SceneHistory.empty(40, 5, "float32")
    averaged = np.zeros((40, 16))
    for feature in features:
        averaged = 0.9 * averaged + 0.1 * feature
        state = state.updated(np.arange(40), feature @ texts.T, 0.9)
    means = np.stack([averaged[superpoint == q].mean(0) for q in range(7)])
    assert (state.labels(np.arange(40)) == (averaged @ texts.T).argmax(1)).all()
    assert (state.superpoint_labels(superpoint) == (means @ texts.T).argmax(1)).all()


def test_large_scores_stay_finite_in_half_precision() -> None:
    state = SceneHistory.empty(1, 2).updated(np.array([0]), np.array([[1e9, -1e9]]), 0.9)
    assert np.isfinite(state.scores).all() and state.labels(np.array([0])).tolist() == [0]


def test_files_are_by_step_and_go_back(tmp_path: Path) -> None:
    store = history(tmp_path)
    assert store.step_of("a") is None and not store.read("a", 2).updates.any()
    for step in (1, 4, 6):
        state = store.read("a", 2)
        store.write("a", step, state.updated(np.array([1]), np.full((1, 3), step), 0.5))
    store.write("a.b", 5, SceneHistory.empty(3, 3))  # a name that begins like another
    assert store.read("a", 2).updates.tolist() == [0, 3] and store.step_of("a.b") == 5
    assert store.read_at("a", 2, 4).updates.tolist() == [0, 2]
    with pytest.raises(SasError, match=r"a\.000000005\.safetensors is missing"):
        store.read_at("a", 2, 5)
    store.keep(5)  # a checkpoint of step 5 can only go back to the state of step 4
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.000000004.safetensors",
        "a.000000006.safetensors",
        "a.b.000000005.safetensors",
    ]
    (tmp_path / ".a.000000007-x.partial.safetensors").write_bytes(b"half")
    store.rewind(5)
    assert store.step_of("a") == 4 and store.read("a", 2).updates.tolist() == [0, 2]
    assert not list(tmp_path.glob(".*"))
    store.rewind(0)
    assert not list(tmp_path.iterdir())


def test_files_that_do_not_fit_are_sentences(tmp_path: Path) -> None:
    history(tmp_path).write("a", 1, SceneHistory.empty(2, 3))
    with pytest.raises(SasError, match="points are not those"):
        history(tmp_path).read("a", 5)
    with pytest.raises(SasError, match="float32"):
        history(tmp_path, precision="float32").read("a", 2)
    with pytest.raises(SasError, match="other classes"):
        History(tmp_path, "1" * 64, 3).read("a", 2)
    with pytest.raises(SasError, match="'int8'"):
        history(tmp_path, precision="int8")
    path = tmp_path / "a.000000001.safetensors"
    whole = path.read_bytes()
    for content in (b"", b"garbage", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(SasError, match="cannot be read"):
            history(tmp_path).read("a", 2)


def _train(folder: Path, steps: int, die_at: int) -> None:
    """A run without a network: each step updates a scene, every third one is a checkpoint. It dies
    (SIGKILL) before its `die_at`-th call that touches the disk."""
    calls = 0

    def counted(name: str) -> None:
        original = getattr(os, name)

        def call(*arguments: object, **keywords: object) -> object:
            nonlocal calls
            calls += 1
            if calls == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **keywords)

        setattr(os, name, call)

    for name in ("fsync", "replace", "unlink", "rename"):
        counted(name)
    store, checkpoint = history(folder / "history", precision="float32"), folder / "step.json"
    done = json.loads(checkpoint.read_text()) if checkpoint.exists() else 0
    store.rewind(done)
    for step in range(done, steps):
        scene = "ab"[step % 2]
        seen = np.random.default_rng(step).permutation(6)[:4]
        scores = np.random.default_rng(100 + step).normal(size=(4, 3))
        store.write(scene, step + 1, store.read(scene, 6).updated(seen, scores, 0.9))
        if step % 3 == 2:
            temporary = folder / "next.json"
            temporary.write_text(str(step + 1))
            os.replace(temporary, checkpoint)
            store.keep(step + 1)


def test_a_run_that_is_killed_anywhere_loses_and_doubles_nothing(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    assert _forked(whole, 30, 0) == 0
    expected = [history(whole / "history", precision="float32").read(s, 6) for s in "ab"]
    assert [int(state.updates.sum()) for state in expected] == [60, 60]
    rng = np.random.default_rng(0)
    deaths = 0
    for life in range(300):
        # The first lives die at every single call in turn, later ones soon: between two checkpoints
        # there are about ten.
        if _forked(broken, 30, life + 1 if life < 12 else int(rng.integers(3, 15))) == 0:
            break
        deaths += 1
    assert deaths >= 20 and json.loads((broken / "step.json").read_text()) == 30
    for scene, state in zip("ab", expected, strict=True):
        found = history(broken / "history", precision="float32").read(scene, 6)
        assert found.updates.tolist() == state.updates.tolist()
        assert found.scores.tobytes() == state.scores.tobytes()


def _forked(folder: Path, steps: int, die_at: int) -> int | None:
    """Exit code of the run in a process of its own."""
    process = multiprocessing.get_context("fork").Process(
        target=_train, args=(folder, steps, die_at)
    )
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode
