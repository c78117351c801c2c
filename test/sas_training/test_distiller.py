"""The loop of distillation: it learns, goes on bit for bit after any death, keeps its promises."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from distillation import (
    TEXTS,
    WORDS,
    ThinNetwork,
    make_distiller,
    small_recipe,
    stage_two,
    train_until_killed,
)
from teachers import box_room, write_scenes

from sas_ros.errors import SasError
from sas_ros.student.inputs import FLOOR_PERCENTILE
from sas_ros.student.minkunet import MinkUNet
from sas_training.distill.distiller import Distiller
from sas_training.distill.feature_scenes import FeatureScenes
from sas_training.distill.history import History
from sas_training.distill.optimisation import Trunk
from sas_training.distill.overfit import overfit
from sas_training.distill.parallel import Processes
from sas_training.distill.recipes import Recipe
from sas_training.distill.run_folder import CHECKPOINT, RunFolder
from sas_training.distill.self_distillation import VIEWS, variant
from sas_training.distill.stages import Texts

CPU = Processes(torch.device("cpu"))
POINTS = 450
"""Of a scene."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(
        tmp_path_factory.mktemp("world") / "scenes", WORDS, points=POINTS // 3, wrong=0.1
    )


def released(**changes: object) -> Recipe:
    stage = replace(variant("released"), start_epoch=2, history_epoch=2, **changes)
    return small_recipe(stage=stage)


def bytes_of(trainer: Distiller) -> dict[str, bytes]:
    return {name: v.numpy().tobytes() for name, v in trainer.student.state_dict().items()}


@pytest.mark.parametrize("distance", ["cosine", "contrastive"])
def test_training_lowers_every_loss(scenes: Path, tmp_path: Path, distance: str) -> None:
    recipe = small_recipe(
        {"epochs": 10, "learning_rate": 1e-2},
        {"distance": distance, "temperature": 0.2, "teacher_temperature": 0.1},
        # Statistics of norms, which an evaluation needs, take more steps than these to be right.
        stage_two(start_epoch=4, history_epoch=3, views="training"),
        style="none",
    )
    with RunFolder(tmp_path) as run:
        steps = list(make_distiller(scenes, run, recipe, checkpoint_every=50).steps())
    assert [step.number for step in steps] == list(range(1, 21))
    assert set(steps[7].losses) == {"points", "superpoints"}
    assert set(steps[8].losses) == {"points", "superpoints", "self_points", "self_superpoints"}
    assert steps[8].epoch == 4 and steps[0].voxels > 100
    for name in steps[8].losses:
        early = np.mean([step.losses[name] for step in steps[8:12]])
        late = np.mean([step.losses[name] for step in steps[-4:]])
        assert late < early
    assert steps[-1].losses["points"] < 0.8 * steps[0].losses["points"]
    assert steps[-1].learning_rate == pytest.approx(1e-5)
    assert steps[8].loss == pytest.approx(sum(steps[8].losses.values()))


def test_pixel_targets_do_without_superpoints(scenes: Path, tmp_path: Path) -> None:
    with RunFolder(tmp_path) as run:
        recipe = small_recipe({"epochs": 1}, {"targets": "pixel"})
        steps = list(make_distiller(scenes, run, recipe).steps())
    assert set(steps[0].losses) == {"points"}


@pytest.mark.parametrize("kind", ["whole", "training", "released"])
def test_a_run_that_is_killed_anywhere_ends_with_the_same_bytes(
    scenes: Path, tmp_path: Path, kind: str
) -> None:
    """SIGKILL before calls that write, flush, rename or remove, one by one and by chance."""
    if kind == "released":
        stage = replace(variant("released"), start_epoch=1, history_epoch=1)
    else:
        stage = stage_two(start_epoch=1, history_epoch=0, views=kind)
    recipe = small_recipe({"epochs": 3, "ema": 0.9}, stage=stage)
    assert killed(scenes, tmp_path / "whole", recipe, 0) == 0
    rng = np.random.default_rng(0)
    deaths = 0
    for life in range(60):
        die_at = (2, 7, 14, 3, 21, 11)[life] if life < 6 else int(rng.integers(15, 60))
        if killed(scenes, tmp_path / "broken", recipe, die_at) == 0:
            break
        deaths += 1
    assert deaths >= 4
    finished = []
    for name in ("whole", "broken"):
        with RunFolder(tmp_path / name) as run:
            trainer = make_distiller(scenes, run, recipe)
            assert trainer.step == trainer.total == 6
            finished.append(bytes_of(trainer))
            store = History(run.history, TEXTS.classes_hash, 20)
            finished.append(
                {
                    f"room-{k}": store.read(f"room-{k}", POINTS).scores.tobytes()
                    + store.read(f"room-{k}", POINTS).updates.tobytes()
                    for k in range(4)
                }
            )
            assert not list(run.path.glob(".*")) and not list(run.history.glob(".*"))
    assert finished[0] == finished[2] and finished[1] == finished[3]
    assert any(any(value) for value in finished[1].values())


def killed(scenes: Path, run: Path, recipe: Recipe, die_at: int) -> int | None:
    process = multiprocessing.get_context("fork").Process(
        target=train_until_killed, args=(scenes, run, recipe, die_at)
    )
    process.start()
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode


def train_and_tell(scenes: Path, run: Path, recipe: Recipe, last: int, told: Connection) -> None:
    """Train and tell the number of every step; after step `last`, wait for the end."""
    torch.set_num_threads(1)
    with RunFolder(run) as folder:
        for step in make_distiller(scenes, folder, recipe).steps():
            told.send(step.number)
            if step.number == last:
                signal.pause()


def test_a_run_killed_at_any_time_goes_on(scenes: Path, tmp_path: Path) -> None:
    """The same, dying between any two instructions, but always between two steps that are named."""
    recipe = small_recipe({"epochs": 4}, stage=stage_two())
    rng = np.random.default_rng(1)
    begun = []
    for first, last in ((1, 3), (1, 7), (4, 7), (7, 7)):
        hear, tell = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(
            target=train_and_tell, args=(scenes, tmp_path / "broken", recipe, last, tell)
        )
        process.start()
        tell.close()
        number = hear.recv()
        begun.append(number - 1)
        while number < first:
            number = hear.recv()
        process.join(float(rng.uniform(0, 0.3)))  # anywhere from here to the wait after `last`
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        while hear.poll():
            try:
                number = hear.recv()
            except EOFError:
                break
        assert first <= number <= last < 8
    # Checkpoints are of steps 3, 6 and 8: the third life has told step 4 before it was killed.
    assert begun[0] == 0 and begun[3] in (3, 6)
    for name in ("whole", "broken"):
        assert killed(scenes, tmp_path / name, recipe, 0) == 0
    found = []
    for name in ("whole", "broken"):
        with RunFolder(tmp_path / name) as run:
            trainer = make_distiller(scenes, run, recipe)
            assert trainer.step == trainer.total == 8
            found.append(bytes_of(trainer))
    assert found[0] == found[1]


def test_leaving_the_loop_writes_a_checkpoint(scenes: Path, tmp_path: Path) -> None:
    with RunFolder(tmp_path) as run:
        for step in make_distiller(scenes, run, small_recipe(), checkpoint_every=50).steps():
            if step.number == 5:
                break
        assert make_distiller(scenes, run, small_recipe()).step == 5


def test_parts_of_a_batch_add_up(scenes: Path, tmp_path: Path) -> None:
    """With fixed norms, accumulated parts give the gradients of the whole batch."""
    gradients, losses = [], []
    for accumulate in (1, 2, 4):
        recipe = small_recipe(
            {"batch": 4, "accumulate": accumulate, "clip": 0.0},
            stage=stage_two(start_epoch=0, history_epoch=0),
            norms="frozen",
        )
        with RunFolder(tmp_path / str(accumulate)) as run:
            trainer = make_distiller(scenes, run, recipe)
            losses.append(next(trainer.steps()).losses)
            gradients.append([p.grad.clone() for p in trainer.network.parameters()])
    assert len(losses[0]) == 4
    for other_losses, other in zip(losses[1:], gradients[1:], strict=True):
        assert other_losses == pytest.approx(losses[0], rel=1e-5)
        for a, b in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_frozen_norms_keep_their_statistics(scenes: Path, tmp_path: Path) -> None:
    recipe = small_recipe({"epochs": 1}, norms="frozen")
    torch.manual_seed(9)
    start = MinkUNet(recipe.network.config(16))
    start.bn0.bn.running_mean.fill_(0.25)
    with RunFolder(tmp_path) as run:
        trainer = make_distiller(scenes, run, recipe, start=start)
        assert torch.equal(trainer.network.final.kernel, start.final.kernel)
        list(trainer.steps())
        assert (trainer.network.bn0.bn.running_mean == 0.25).all()
        assert not torch.equal(trainer.network.final.kernel, start.final.kernel)


def test_history_is_of_points_whatever_the_grid(scenes: Path, tmp_path: Path) -> None:
    """Every point of every scene is remembered once a pass, and the released variant begins with
    the same scores on a superpoint."""
    for views in VIEWS:
        recipe = small_recipe(stage=stage_two(views=views))
        with RunFolder(tmp_path / views) as run:
            list(make_distiller(scenes, run, recipe).steps())
            store = History(run.history, TEXTS.classes_hash, 20)
            for number in range(4):
                state = store.read(f"room-{number}", POINTS)
                assert (state.updates == 3).all() and (state.scores != 0).any(axis=1).all()
    begun = released(alpha=0.0)
    with RunFolder(tmp_path / "b") as run:
        trainer = make_distiller(scenes, run, begun, checkpoint_every=50)
        for step in trainer.steps():
            if step.number == 4:
                break
        trainer.network.eval()
        own = range(4)
        loaded = FeatureScenes(scenes)
        trainer._stages.fill_history(loaded, own, trainer.batch_settings, 4)
        state = History(run.history, TEXTS.classes_hash, 20).read("room-1", POINTS)
        groups = box_room(1, POINTS // 3)[2]
        for group in range(3):
            assert len(np.unique(state.scores[groups == group], axis=0)) == 1
        assert len(np.unique(state.scores, axis=0)) == groups.max() + 1


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_history_is_what_the_exported_student_says_about_whole_scenes(
    scenes: Path, tmp_path: Path, ema: float
) -> None:
    """Passes are before steps 2 and 6 (epochs 1 and 3 of two steps each); between them it stays."""
    stage = stage_two(history_every=2, precision="float32")
    recipe = small_recipe({"epochs": 4, "ema": ema}, stage=stage)
    texts = torch.from_numpy(WORDS)
    said, states = [], []
    with RunFolder(tmp_path) as run:
        trainer = make_distiller(scenes, run, recipe, checkpoint_every=50)
        store = History(run.history, TEXTS.classes_hash, 20, "float32")
        for step in trainer.steps():
            if step.number in (2, 6):
                said.append(_cosines(trainer.student, FeatureScenes(scenes).load(1).points, texts))
            if step.number >= 3:
                states.append(store.read("room-1", POINTS))
    assert [int(state.updates[0]) for state in states] == [1, 1, 1, 1, 2, 2]
    np.testing.assert_allclose(states[3].scores, said[0], atol=1e-5)
    a = stage.alpha
    both = (a * (1 - a) * said[0] + (1 - a) * said[1]) / (1 - a**2)
    np.testing.assert_allclose(states[5].scores, both, atol=1e-5)
    assert np.abs(said[1] - said[0]).max() > 1e-3


def _cosines(
    student: MinkUNet, points: npt.NDArray[np.float32], texts: torch.Tensor
) -> npt.NDArray[np.float32]:
    """(N, K) of points with words, each by its voxel of 25 cm, computed the long way."""
    from sas_ros.sparse import CoordinateManager, SparseTensor

    middle = points.mean(axis=0)
    middle[2] = np.percentile(points[:, 2], FLOOR_PERCENTILE)
    cells, voxel = np.unique(np.floor((points - middle) / 0.25), axis=0, return_inverse=True)
    voxel = voxel.reshape(-1)
    grid = torch.nn.functional.pad(torch.from_numpy(cells).int(), (1, 0))
    heights = (cells[:, 2] + 0.5) * 0.25
    inputs = np.stack([np.ones(len(cells)), heights], axis=1).astype(np.float32)
    copy = MinkUNet(student.config)
    copy.load_state_dict(student.state_dict())
    copy.eval()
    with torch.no_grad():
        wide = copy(SparseTensor(torch.from_numpy(inputs), CoordinateManager(grid))).features
    cosines = torch.nn.functional.normalize(wide, dim=1) @ texts.t()
    return np.asarray(cosines.numpy()[voxel])


def test_the_released_second_stage_has_its_own_losses_and_rate(
    scenes: Path, tmp_path: Path
) -> None:
    with RunFolder(tmp_path) as run:
        steps = list(make_distiller(scenes, run, released()).steps())
    assert set(steps[3].losses) == {"points", "superpoints"}
    assert set(steps[4].losses) == {"self_points", "self_superpoints"}
    assert steps[4].learning_rate == steps[0].learning_rate > steps[3].learning_rate


def test_half_precision_is_near_single(scenes: Path, tmp_path: Path) -> None:
    first = {}
    for precision in ("float32", "float16", "bfloat16"):
        with RunFolder(tmp_path / precision) as run:
            trainer = make_distiller(scenes, run, small_recipe({"precision": precision}))
            first[precision] = next(trainer.steps())
            assert all(p.dtype == torch.float32 for p in trainer.network.parameters())
            assert all(p.grad is not None for p in trainer.network.parameters())
    a = first["float32"]
    for b in (first["float16"], first["bfloat16"]):
        assert a.losses == pytest.approx(b.losses, rel=0.05) and a.losses != b.losses


def test_a_trunk_in_half_precision_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from sas_ros.sparse import CoordinateManager, SparseTensor

    torch.manual_seed(0)
    network = MinkUNet(ThinNetwork("tiny", ("one",)).config(4))
    coordinates = torch.nn.functional.pad(torch.randint(0, 9, (60, 3)).unique(dim=0), (1, 0))
    x = SparseTensor(torch.ones(len(coordinates), 1), CoordinateManager(coordinates.int()))
    assert Trunk(network, torch.bfloat16).features(x).trunk.dtype == torch.float32
    seen = []
    monkeypatch.setattr(
        MinkUNet, "trunk", lambda self, x: seen.append(self.conv0p1s1.kernel.dtype) or x
    )
    Trunk(network, torch.bfloat16).features(x)
    assert seen == [torch.bfloat16] and network.conv0p1s1.kernel.dtype == torch.float32


def test_a_scene_is_learned_by_heart(scenes: Path, tmp_path: Path) -> None:
    with RunFolder(tmp_path) as run:
        loaded = FeatureScenes(scenes)
        recipe = small_recipe({"epochs": 1})
        steps = list(overfit(loaded, TEXTS, recipe, run, CPU, 80, rate=4e-2))
        assert steps[-1].learned and steps[-1].loss < 0.05 and len(steps) < 80
        assert not steps[0].learned
    with RunFolder(tmp_path / "few") as run:
        assert not list(overfit(loaded, TEXTS, recipe, run, CPU, 2))[-1].learned
    with pytest.raises(SasError, match="torchrun"):
        next(overfit(loaded, TEXTS, recipe, run, Processes(torch.device("cpu"), 0, 2), 2))


def test_what_does_not_fit_is_a_sentence(scenes: Path, tmp_path: Path) -> None:
    with RunFolder(tmp_path) as run:
        list(make_distiller(scenes, run, small_recipe({"epochs": 1})).steps())
        with pytest.raises(SasError, match="other settings"):
            make_distiller(scenes, run, small_recipe({"epochs": 2}))
        with pytest.raises(SasError, match="Another process"), RunFolder(tmp_path):
            pass
        (tmp_path / CHECKPOINT).write_bytes(b"cut off")
        with pytest.raises(SasError, match="cannot be read"):
            make_distiller(scenes, run, small_recipe({"epochs": 1}))
    with RunFolder(tmp_path / "new") as run:
        with pytest.raises(SasError, match="another architecture"):
            start = MinkUNet(ThinNetwork("tiny", ("one",)).config(16))
            make_distiller(scenes, run, small_recipe(), start=start)
        with pytest.raises(SasError, match="different text encoders"):
            Distiller(FeatureScenes(scenes), Texts(WORDS[:, :8], WORDS), small_recipe(), run, CPU)
        wild = small_recipe({"learning_rate": 10.0, "schedule": "constant", "clip": 0.0})
        with pytest.raises(SasError, match="lower the learning rate"):
            trainer = make_distiller(scenes, run, wild)
            for _ in trainer.steps():
                with torch.no_grad():
                    trainer.network.final.kernel.fill_(float("nan"))


def test_a_forked_process_does_not_hold_the_folder(tmp_path: Path) -> None:
    """A batch worker may outlive a run that was killed; the next run must not wait for it."""
    (ready, say_ready), (ended, end) = os.pipe(), os.pipe()
    with RunFolder(tmp_path):
        child = os.fork()
        if child == 0:
            os.close(end)
            os.write(say_ready, b"!")
            os.read(ended, 1)
            os._exit(0)
        assert os.read(ready, 1) == b"!"
        with pytest.raises(SasError, match="Another process"), RunFolder(tmp_path):
            pass
    try:
        with RunFolder(tmp_path):
            pass
    finally:
        os.close(end)
        assert os.waitpid(child, 0)[1] == 0
        for one in (ready, say_ready, ended):
            os.close(one)
