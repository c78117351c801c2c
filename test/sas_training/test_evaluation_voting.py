"""The released evaluation's voting: what is turned, what is summed, and `--voting released`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from students import NAMES, untrained_student

from sas_ros.memory import pass_bytes
from sas_ros.observation import Up
from sas_ros.segmenter import Segmenter
from sas_training.cli import main
from sas_training.evaluation.labelled import AnnotatedScan
from sas_training.evaluation.labels import SCANNET20
from sas_training.evaluation.released_voting import RELEASED_VOTES, released_predictions

Z_UP = Up(np.array([0.0, 0.0, 1.0]), "parameter")
WALL, FLOOR = (SCANNET20.id_of(name) for name in NAMES[:2])


def scan_of(points: np.ndarray) -> AnnotatedScan:
    return AnnotatedScan(points.astype(np.float32), np.zeros(len(points), dtype=np.int64))


def rod(count: int = 401, length: float = 4.0) -> AnnotatedScan:
    """Points along x, so that the voxels at its ends show how it was turned and scaled."""
    return scan_of(np.c_[np.linspace(0, length, count), np.zeros((count, 2))])


def test_each_vote_is_turned_and_scaled_but_not_bent_or_mirrored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    segmenter = Segmenter(untrained_student(), device="cpu")
    size, seen = segmenter.bundle.voxel_size, []
    forward = segmenter.engine.forward

    def recorded(coordinates: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        seen.append(coordinates[:, 1:].numpy() * size)
        return forward(coordinates, inputs)

    monkeypatch.setattr(segmenter.engine, "forward", recorded)
    scan = scan_of(np.r_[rod().points, [[np.nan, 0, 0]]])
    predict = released_predictions(segmenter, "scannet20", Z_UP)
    labels = predict("a/room.npz", scan)
    assert len(seen) == RELEASED_VOTES == 5
    assert labels[-1] == -1 and (labels[:-1] >= 0).all()
    angles = []
    for places in seen:
        steps = places - places.mean(axis=0)
        _, sizes, axes = np.linalg.svd(steps, full_matrices=False)
        along = steps @ axes[0]
        assert 3.6 - 2 * size < np.ptp(along) < 4.4 + 2 * size
        assert sizes[1] < 0.05 * sizes[0]  # still a straight rod
        assert abs(axes[0, 2]) < np.sin(2 * np.pi / 64) + 0.03
        angles.append(np.arctan2(axes[0, 1], axes[0, 0]) % np.pi)
    assert np.ptp(angles) > 0.3
    first = [places.copy() for places in seen]
    seen.clear()
    predict("b/room.npz", scan)
    assert all(np.array_equal(*pair) for pair in zip(first, seen, strict=True))
    seen.clear()
    released_predictions(segmenter, "scannet20", Z_UP, seed=1)("b/room.npz", scan)
    assert not np.array_equal(first[0], seen[0])


def test_products_of_any_length_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three votes for a wall, two twice as long for a floor: no majority, and no unit vectors."""
    segmenter = Segmenter(untrained_student(), device="cpu")
    words = torch.tensor(segmenter.bundle.vocabulary.embeddings)
    basis = torch.linalg.pinv(words)  # (C, K): a feature whose product with one word alone is 1
    votes = iter([0, 1, 0, 1, 0])

    def forward(coordinates: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        word = next(votes)
        return (1.0 + word) * basis[:, word].expand(len(coordinates), -1)

    monkeypatch.setattr(segmenter.engine, "forward", forward)
    labels = released_predictions(segmenter, "scannet20", Z_UP)("room.npz", rod())
    assert labels.tolist() == [FLOOR] * 401 and next(votes, None) is None


def test_tiles_say_what_the_whole_says(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = untrained_student()
    scan = scan_of(np.random.default_rng(0).uniform(0, [8, 8, 2], (40_000, 3)))
    passes: list[int] = []

    def labels(memory_budget: float) -> np.ndarray:
        segmenter = Segmenter(bundle, device="cpu", memory_budget=memory_budget)
        basis = torch.linalg.pinv(torch.tensor(bundle.vocabulary.embeddings))

        def forward(coordinates: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
            passes.append(len(coordinates))
            return basis.T[(coordinates[:, 1] // 3 + coordinates[:, 2] // 2) % 4]

        monkeypatch.setattr(segmenter.engine, "forward", forward)
        return released_predictions(segmenter, "scannet20", Z_UP)("room.npz", scan)

    whole = labels(0)
    assert len(passes) == RELEASED_VOTES and len(np.unique(whole)) == 4
    passes.clear()
    small = (pass_bytes(bundle.network().config, 12_000, 4) + 1) / 2**20
    assert np.array_equal(labels(small), whole)
    assert len(passes) > RELEASED_VOTES and max(passes) <= 12_000


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 3, (2000, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", points=points, labels=rng.integers(0, 7, 2000))
    untrained_student().save(tmp_path / "tiny.safetensors")
    student = ["--student", str(tmp_path / "tiny.safetensors"), "--device", "cpu"]
    return ["evaluate", str(tmp_path / "a.npz"), *student]


def test_released_voting_is_said_and_comes_out_again(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for more in ([], [], ["--seed", "3"]):
        assert main([*command, "--voting", "released", "--json", *more]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1] and found[0]["votes"] == RELEASED_VOTES
    said = found[0]["protocol"]
    assert (said["votes"], said["voting"], said["seed"]) == (RELEASED_VOTES, "released", 0)
    assert found[2]["protocol"]["seed"] == 3 and found[2]["points"] == found[0]["points"] == 2000
    assert main([*command, "--voting", "released"]) == 0
    assert "votes 5, voting released" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    usual = json.loads(capsys.readouterr().out)["protocol"]
    assert (usual["votes"], usual["voting"], usual["seed"]) == (1, "symmetric", None)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--votes", "4"], "its own five votes"),
        (["--queries"], "its own five votes"),
        (["--features", "x.pt"], "no student runs, so no --student, --device, --voting"),
    ],
)
def test_released_voting_is_for_labels_alone(
    more: list[str], sentence: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--voting", "released", *more]) == 2
    assert sentence in capsys.readouterr().err
