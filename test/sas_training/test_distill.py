"""Training: the loss against its definition, batches, and a run that is cut off and goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import HashEncoder

from sas_ros.errors import SasError
from sas_ros.student.minkunet import MinkUNetConfig
from sas_training.distill.augment import (
    AugmentConfig,
    crop_around,
    distort,
    recolour,
    thin_out,
)
from sas_training.distill.dataset import LabelledScans, SampleConfig, voxel_kinds, voxel_labels
from sas_training.distill.losses import scaled_cosine_logits
from sas_training.distill.phrases import calibration_phrases
from sas_training.distill.trainer import TrainConfig, Trainer
from sas_training.distill.words import CLUTTER, FINER, KINDS, SYNONYMS, WordBank
from sas_training.evaluation.labelled import read_labelled
from sas_training.evaluation.labels import SCANNET20

TINY = MinkUNetConfig(6, 16, 8, (8,) * 8, (1,) * 8)


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    """Three boxes with a bed: floor, walls and a block, as `sas world make` lays them out."""
    folder = tmp_path / "world" / "rooms"
    folder.mkdir(parents=True)
    for number in range(3):
        rng = np.random.default_rng(number)
        floor = np.c_[rng.uniform(0, 4, (3000, 2)), np.zeros(3000)]
        wall = np.c_[rng.uniform(0, 4, 3000), np.zeros(3000), rng.uniform(0, 2.4, 3000)]
        bed = rng.uniform([1, 1, 0], [3, 2, 0.5], (3000, 3))
        points = np.concatenate([floor, wall, bed]).astype(np.float32)
        labels = np.repeat([1, 0, 3], 3000).astype(np.uint8)
        labels[:50] = 255
        np.savez(folder / f"room-{number:06d}.npz", points=points, labels=labels)
    return folder.parent


def scans(rooms: Path, steps: int = 12) -> LabelledScans:
    config = SampleConfig(voxel_size=0.2, scans_per_step=2)
    return LabelledScans(rooms, SCANNET20, config, steps=steps, seed=3)


def test_logits_equal_the_cosines_of_the_wide_features() -> None:
    generator = torch.Generator().manual_seed(0)
    trunk = torch.randn(40, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    kernel = torch.randn(6, 32, dtype=torch.float64, generator=generator, requires_grad=True)
    texts = torch.nn.functional.normalize(
        torch.randn(5, 32, dtype=torch.float64, generator=generator), dim=1
    )
    direct = 30 * torch.nn.functional.normalize(trunk @ kernel, dim=1) @ texts.t()
    narrow = scaled_cosine_logits(trunk, kernel, texts, 30)
    torch.testing.assert_close(narrow, direct)
    weight = torch.randn(40, 5, dtype=torch.float64, generator=generator)
    for a, b in zip(
        torch.autograd.grad((narrow * weight).sum(), [trunk, kernel]),
        torch.autograd.grad((direct * weight).sum(), [trunk, kernel]),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_voxels_take_the_majority_and_ignore_what_is_mostly_ignored() -> None:
    inverse = np.array([0, 0, 0, 1, 1, 1, 2])
    labels = np.array([2, 2, 5, 255, 255, 3, 4])
    assert voxel_labels(inverse, labels, 20, 3).tolist() == [2, 255, 4]


def test_batches_depend_on_seed_and_step_only(rooms: Path) -> None:
    first, again = scans(rooms), scans(rooms)
    later, same = first[5], again[5]
    assert torch.equal(later.coordinates, same.coordinates)
    assert torch.equal(later.inputs, same.inputs) and torch.equal(later.labels, same.labels)
    assert not torch.equal(first[4].coordinates, later.coordinates)
    assert set(later.coordinates[:, 0].tolist()) == {0, 1}
    assert later.inputs.shape == (len(later.labels), 6)


def test_distortions_keep_the_order_and_the_size_of_things() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform([0, 0, 0], [4, 4, 2.4], (2000, 3)).astype(np.float32)
    config = AugmentConfig()
    for seed in range(5):
        moved = distort(points, config, np.random.default_rng(seed))
        before = np.linalg.norm(points[:-1] - points[1:], axis=1)
        after = np.linalg.norm(moved[:-1] - moved[1:], axis=1)
        assert np.corrcoef(before, after)[0, 1] > 0.9
        assert 0.75 < np.median(after / before) < 1.3
    kept = thin_out(points, config, np.random.default_rng(1))
    assert 0 < len(kept) < len(points) and (np.diff(kept) > 0).all()
    inside = crop_around(points, np.array([2.0, 2.0, 0]), 2.0)
    assert (np.abs(points[inside, :2] - 2.0) < 1.0).all()


def test_a_cut_off_run_goes_on_to_the_same_weights(rooms: Path, tmp_path: Path) -> None:
    words = WordBank(SCANNET20, HashEncoder(), "{}")
    config = TrainConfig(steps=12, workers=0, checkpoint_every=100, warmup=2)

    def trainer(run: str) -> Trainer:
        return Trainer(scans(rooms), words, TINY, config, tmp_path / run)

    whole = trainer("whole")
    assert list(whole.steps()) == list(range(1, 13))
    cut = trainer("cut")
    for step in cut.steps():
        if step == 5:
            break  # as Ctrl-C does: the generator is closed, a checkpoint is written
    del cut
    resumed = trainer("cut")
    assert resumed.step == 5
    assert list(resumed.steps()) == list(range(6, 13))
    for key, value in whole.averaged.state_dict().items():
        torch.testing.assert_close(resumed.averaged.state_dict()[key], value, msg=key)


def test_voxels_take_the_finer_name_of_what_they_are_labelled() -> None:
    inverse = np.array([0, 0, 0, 1, 1, 2])
    labels = np.array([2, 2, 5, 255, 255, 4])
    kinds = np.array([7, 7, 9, 30, 30, -1])
    majority = voxel_labels(inverse, labels, 20, 3)
    assert voxel_kinds(inverse, labels, kinds, majority).tolist() == [7, 30, -1]


def test_repainting_keeps_the_shades_of_an_object_and_what_lies_in_range() -> None:
    rng = np.random.default_rng(0)
    colors = rng.integers(40, 200, (600, 3)).astype(np.uint8)
    objects = np.repeat([3, 3 + 256, 255], 200)
    points = np.zeros((600, 3), np.float32)  # one place, one light
    calm = AugmentConfig(repainted=0.0)
    wild = AugmentConfig(repainted=1.0)
    for seed in range(4):
        same = recolour(points, colors, objects, calm, np.random.default_rng(seed))
        other = recolour(points, colors, objects, wild, np.random.default_rng(seed))
        assert same.shape == (600, 3) and same.dtype == np.float32
        assert same.min() >= 0 and same.max() <= 255
        brightness = [values.mean(axis=1) for values in (colors, same)]
        assert np.corrcoef(*brightness)[0, 1] > 0.7  # one light for everything
        shifts = [
            np.ptp([(values - colors)[objects == k].mean() for k in np.unique(objects)])
            for values in (same, other)
        ]
        assert shifts[1] > shifts[0]  # each object its own paint


def test_batches_hold_the_colours_of_the_scans_or_none(rooms: Path) -> None:
    for path in (rooms / "rooms").glob("*.npz"):
        stored = dict(np.load(path))
        colors = np.where(stored["labels"][:, None] == 3, [255, 0, 0], [0, 0, 255])
        np.savez(path, **stored, colors=colors.astype(np.uint8))

    def batch(**changes: float) -> object:
        augment = AugmentConfig(repainted=0.0, **changes)
        config = SampleConfig(voxel_size=0.2, scans_per_step=2, augment=augment)
        return LabelledScans(rooms, SCANNET20, config, steps=3, seed=1)[0]

    without, coloured = batch(colourless=1.0), batch(colourless=0.0)
    assert not without.inputs[:, 2:].any()  # type: ignore[attr-defined]
    red, blue, flag = coloured.inputs[:, [2, 4, 5]].T  # type: ignore[attr-defined]
    bed = coloured.labels == 3  # type: ignore[attr-defined]
    assert (flag == 1).all()
    assert (red - blue)[bed].median() > 0.5 > -0.5 > (red - blue)[~bed].median()


def test_classes_are_taken_apart_into_their_finer_names(rooms: Path, tmp_path: Path) -> None:
    words = WordBank(SCANNET20, HashEncoder(), "{}")
    plain = words.ask(np.random.default_rng(0), finer=False)
    assert plain.row_of_class.tolist() == list(range(20)) and (plain.row_of_kind < 0).all()
    for seed in range(20):
        asked = words.ask(np.random.default_rng(seed), finer=True)
        used = np.concatenate([asked.row_of_class, asked.row_of_kind])
        used = used[used >= 0]
        assert sorted(used) == list(range(len(asked.texts)))  # every row means one thing
        for number, name in enumerate(SCANNET20.names):
            kinds = [KINDS.index(kind) for kind in FINER.get(name, ())]
            apart = asked.row_of_class[number] < 0
            assert ((asked.row_of_kind[kinds] >= 0) == apart).all()
            assert kinds or not apart
        for kind in np.flatnonzero(asked.row_of_kind >= 0):
            assert np.array_equal(asked.texts[asked.row_of_kind[kind]], words.kinds[kind])
    assert len(set(KINDS)) == len(KINDS) and not set(CLUTTER) & set(SCANNET20.names)


def test_things_without_a_class_are_learned_where_a_step_names_them(tmp_path: Path) -> None:
    """A lamp is ignored as a class; asked for by name it is told from the boxes beside it."""
    folder = tmp_path / "world" / "rooms"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    boxes = [rng.uniform([1 + 2 * k, 1, 0], [1.6 + 2 * k, 1.6, 0.6 + k], (2000, 3)) for k in (0, 1)]
    floor = np.c_[rng.uniform(0, 4, (3000, 2)), np.zeros(3000)]
    np.savez(
        folder / "room-000000.npz",
        points=np.concatenate([*boxes, floor]).astype(np.float32),
        labels=np.repeat([255, 255, 1], [2000, 2000, 3000]).astype(np.uint8),
        instances=np.repeat([1, 2, 0], [2000, 2000, 3000]).astype(np.uint16),
        names=np.array(["structure", "box", "lamp"]),
    )
    data = LabelledScans(
        folder.parent, SCANNET20, SampleConfig(voxel_size=0.2, whole=1.0), steps=1, seed=0
    )
    batch = data[0]
    named = {KINDS[kind] for kind in batch.kinds[batch.labels == 255].tolist() if kind >= 0}
    assert named == {"box", "lamp"}
    assert (batch.kinds[batch.labels == 1] == -1).all()
    words = WordBank(SCANNET20, HashEncoder(), "{}")
    trainer = Trainer(data, words, TINY, TrainConfig(steps=1, workers=0), tmp_path / "run")
    asked = words.ask(np.random.default_rng(1), finer=True)
    targets, weights = trainer._targets(batch, asked)
    for name in ("box", "lamp"):
        of_it = batch.kinds == KINDS.index(name)
        assert (targets[of_it] == asked.row_of_kind[KINDS.index(name)]).all()
        assert (weights[of_it] == 0.5).all()
    assert (targets[batch.labels == 1] == asked.row_of_class[1]).all()


def test_training_lowers_the_loss(rooms: Path, tmp_path: Path) -> None:
    words = WordBank(SCANNET20, HashEncoder(), "{}")
    config = TrainConfig(steps=80, workers=0, warmup=5, learning_rate=1e-2, finer=0.0)
    trainer = Trainer(scans(rooms, 80), words, TINY, config, tmp_path / "run")
    losses = [trainer.loss for _ in trainer.steps()]
    assert losses[-1] < 0.8 * losses[0]  # a running mean, which lags behind


def test_a_checkpoint_of_other_settings_is_refused(rooms: Path, tmp_path: Path) -> None:
    words = WordBank(SCANNET20, HashEncoder(), "{}")
    run = tmp_path / "run"
    first = Trainer(scans(rooms), words, TINY, TrainConfig(steps=1, workers=0), run)
    list(first.steps())
    with pytest.raises(SasError, match="other settings"):
        Trainer(scans(rooms), words, TINY, TrainConfig(steps=2, workers=0), run)
    finer = LabelledScans(rooms, SCANNET20, SampleConfig(voxel_size=0.1), steps=12, seed=3)
    with pytest.raises(SasError, match="other settings"):
        Trainer(finer, words, TINY, TrainConfig(steps=1, workers=0), run)
    prompted = WordBank(SCANNET20, HashEncoder(), "a {} here")
    with pytest.raises(SasError, match="other settings"):
        Trainer(scans(rooms), prompted, TINY, TrainConfig(steps=1, workers=0), run)


def test_missing_rooms_and_arrays_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(SasError, match="sas world make"):
        LabelledScans(tmp_path, SCANNET20, SampleConfig(), steps=1, seed=0)
    np.savez(tmp_path / "a.npz", points=np.zeros((2, 3), np.float32))
    with pytest.raises(SasError, match="labels"):
        read_labelled(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", points=np.zeros((2, 3), np.float32), labels=np.zeros(3))
    with pytest.raises(SasError, match="3 labels"):
        read_labelled(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", points=np.zeros((2, 3)), labels=np.array(["a", "b"]))
    with pytest.raises(SasError, match="numbers"):
        read_labelled(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", points=np.full((2, 3), np.nan), labels=np.zeros(2))
    with pytest.raises(SasError, match="finite"):
        read_labelled(tmp_path / "d.npz")


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 cut off", b"\x93NUMPY"])
def test_damaged_files_are_sentences(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.npz"
    path.write_bytes(content)
    with pytest.raises(SasError, match="no labelled scan"):
        read_labelled(path)


def test_labels_of_any_kind_of_number_are_read(tmp_path: Path) -> None:
    points = np.zeros((3, 3))
    for labels in (np.array([1, 2, 255], np.uint32), np.array([[1.0], [2.0], [np.nan]])):
        np.savez(tmp_path / "x.npz", points=points, labels=labels)
        assert read_labelled(tmp_path / "x.npz")[1].tolist() == [1, 2, 255]


def test_words_belong_to_the_label_set() -> None:
    assert set(SYNONYMS) == set(SCANNET20.names)
    for phrase, classes in calibration_phrases():
        assert phrase and set(classes) <= set(SCANNET20.names)
    words = WordBank(SCANNET20, HashEncoder(), "{}")
    draws = {words.draw(np.random.default_rng(seed)).tobytes() for seed in range(5)}
    assert len(draws) == 5 and words.names.shape == (20, 16)
