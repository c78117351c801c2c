"""`sas train` in two processes against one that sees what both of them see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import HashEncoder
from labelled_rooms import (
    TINY,
    Joined,
    kept_norms,
    labelled_scans,
    train_by_labels,
    what_is_left,
    write_rooms,
)

from sas_ros.errors import SasError
from sas_training.distill.trainer import TrainConfig, Trainer
from sas_training.distill.words import WordBank
from sas_training.evaluation.labels import SCANNET20

if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("this PyTorch has no gloo", allow_module_level=True)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rooms(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def trained(rooms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    meet = f"file://{folder}/meet"
    torch.multiprocessing.spawn(train_by_labels, (2, meet, rooms, folder), nprocs=2)
    return folder


def test_two_processes_are_one_that_sees_all_scans(
    rooms: Path, trained: Path, tmp_path: Path
) -> None:
    both = Joined([labelled_scans(rooms, 2, 4, rank, 2) for rank in (0, 1)])
    words = WordBank(SCANNET20, HashEncoder(), "{}")
    config = TrainConfig(steps=2, workers=0, warmup=1)
    alone = what_is_left(kept_norms(Trainer(both, words, TINY, config, tmp_path)))
    for rank in (0, 1):
        found = torch.load(trained / f"kept-{rank}.pt", weights_only=True)
        assert found["loss"] == pytest.approx(alone["loss"], abs=1e-5)
        assert torch.equal(found["counts"], alone["counts"])
        for a, b in zip(found["gradients"], alone["gradients"], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["kept", "plain"])
def test_processes_end_with_the_same_student(rooms: Path, trained: Path, name: str) -> None:
    first, second = (
        torch.load(trained / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1)
    )
    for kind in ("weights", "averaged"):
        assert all(torch.equal(first[kind][key], value) for key, value in second[kind].items())
    # The one checkpoint is that of both, and of nobody who trains alone.
    words = WordBank(SCANNET20, HashEncoder(), "{}")
    config = TrainConfig(steps=2, workers=0, warmup=1)
    again = Trainer(labelled_scans(rooms, 2, 4, 1, 2), words, TINY, config, trained / name)
    assert again.step == 2
    assert all(torch.equal(first["weights"][k], v) for k, v in again.network.state_dict().items())
    with pytest.raises(SasError, match="other settings"):
        Trainer(labelled_scans(rooms, 2, 4), words, TINY, config, trained / name)


def test_processes_see_other_scans_of_the_same_kinds(rooms: Path) -> None:
    ours, theirs = (labelled_scans(rooms, 40, 4, rank, 2) for rank in (0, 1))
    sizes = np.array([[len(one[step].labels) for one in (ours, theirs)] for step in range(40)])
    assert (sizes[:, 0] != sizes[:, 1]).any()
    assert all(int(ours[step].coordinates[:, 0].max()) == 1 for step in range(5))  # two of four
    assert np.corrcoef(sizes.T)[0, 1] > 0.3  # whole rooms meet whole rooms
    again = labelled_scans(rooms, 40, 4, 1, 2)[7]
    assert torch.equal(again.coordinates, theirs[7].coordinates)


def test_scans_that_cannot_be_shared_are_a_sentence(rooms: Path) -> None:
    with pytest.raises(SasError, match="3 scans a step cannot be shared by 2 processes"):
        labelled_scans(rooms, 1, 3, 0, 2)
