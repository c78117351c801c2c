"""Two processes that train together against one that trains alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from distillation import WORDS, make_distiller, small_recipe, stage_two, train_together
from teachers import write_scenes

from sas_ros.errors import SasError
from sas_ros.sparse import CoordinateManager, SparseBatchNorm, SparseTensor
from sas_ros.student.minkunet import MinkUNet, MinkUNetConfig
from sas_training.distill.parallel import Processes, joined, synchronise_norms
from sas_training.distill.recipes import Recipe
from sas_training.distill.run_folder import RunFolder


def both_stages(accumulate: int, norms: str = "frozen", epochs: int = 1) -> Recipe:
    """All four losses from the first step on; clipping off, so that gradients can be compared."""
    return small_recipe(
        {"batch": 4, "accumulate": accumulate, "clip": 0.0, "epochs": epochs},
        stage=stage_two(start_epoch=0, history_epoch=0),
        norms=norms,
    )


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rooms of very different sizes, so that shares of a batch are unequal."""
    folder = tmp_path_factory.mktemp("world") / "scenes"
    write_scenes(folder, WORDS, scenes=4, points=200)
    return write_scenes(folder, WORDS, scenes=2, points=80)


@pytest.fixture(scope="module")
def trained(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process, and two, leave behind."""
    folder = tmp_path_factory.mktemp("trained")
    train_together(0, 1, "", scenes, folder, {"alone": both_stages(1)})
    recipes = {
        "pair1": both_stages(1),
        "pair2": both_stages(2),
        "norms": both_stages(1, norms="batch", epochs=2),
    }
    meet = f"file://{folder}/meet"
    torch.multiprocessing.spawn(train_together, (2, meet, scenes, folder, recipes), nprocs=2)
    return folder


@pytest.mark.parametrize("name", ["pair1", "pair2"])
def test_two_processes_are_one(trained: Path, name: str) -> None:
    """First step, norms frozen: the same loss and gradients to 1e-5, whole and in parts."""
    alone = torch.load(trained / "alone-0.pt", weights_only=True)
    assert set(alone["losses"]) == {"points", "superpoints", "self_points", "self_superpoints"}
    for rank in range(2):
        found = torch.load(trained / f"{name}-{rank}.pt", weights_only=True)
        assert found["losses"] == pytest.approx(alone["losses"], abs=1e-5)
        assert found["voxels"] == alone["voxels"]
        for a, b in zip(found["gradients"], alone["gradients"], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_processes_end_with_the_same_network(scenes: Path, trained: Path) -> None:
    """Ordinary batch norm on CPUs: statistics are averaged, so that replicas stay equal, and the
    run goes on from the one checkpoint."""
    a, b = (torch.load(trained / f"norms-{k}.pt", weights_only=True)["weights"] for k in (0, 1))
    assert all(torch.equal(a[name], b[name]) for name in a)
    with RunFolder(trained / "norms-0") as run:
        trainer = make_distiller(scenes, run, both_stages(1, norms="batch", epochs=2))
        assert trainer.step == 2
        assert all(torch.equal(a[k], v) for k, v in trainer.network.state_dict().items())


def test_norms_over_processes_keep_their_names() -> None:
    torch.manual_seed(0)
    network = MinkUNet(MinkUNetConfig(1, 4, 4, (4,) * 8, (1,) * 8))
    names = list(network.state_dict())
    coordinates = torch.nn.functional.pad(torch.randint(0, 9, (60, 3)).unique(dim=0), (1, 0))
    x = SparseTensor(torch.ones(len(coordinates), 1), CoordinateManager(coordinates.int()))
    before = network.eval()(x).features
    synchronise_norms(network)
    assert list(network.state_dict()) == names
    assert not any(isinstance(module, SparseBatchNorm) for module in network.modules())
    torch.testing.assert_close(network.eval()(x).features, before)


def test_environments_that_do_not_fit_are_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(SasError, match="WORLD_SIZE"), joined("cpu"):
        pass
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(SasError, match="torchrun"), joined("cpu"):
        pass


def test_alone_nothing_is_exchanged() -> None:
    alone = Processes(torch.device("cpu"))
    values = torch.ones(3)
    assert alone.first and alone.sum(values) is values
    alone.wait()
