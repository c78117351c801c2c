"""Training: the loss against its definition, batches, and a run that is cut off and goes on."""

from __future__ import annotations

import ast
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from encoders import HashEncoder
from labelled_rooms import TINY, labelled_scans, write_rooms
from students import untrained_student

from sas_ros.errors import SasError
from sas_ros.language.available import MINILM, encoder_available
from sas_ros.language.encoder import load_encoder
from sas_ros.sparse import CoordinateManager, SparseTensor
from sas_ros.student.inputs import INPUTS
from sas_ros.student.minkunet import MinkUNet, MinkUNetConfig
from sas_training.commands.train import origin_of
from sas_training.distill.augment import (
    AugmentConfig,
    crop_around,
    distort,
    recolour,
    thin_out,
)
from sas_training.distill.dataset import (
    Batch,
    LabelledScans,
    SampleConfig,
    voxel_kinds,
    voxel_labels,
)
from sas_training.distill.feature_scenes import read_points
from sas_training.distill.losses import scaled_cosine_logits
from sas_training.distill.parallel import Processes
from sas_training.distill.phrases import ABSENT, MEANT, calibration_phrases
from sas_training.distill.trainer import TrainConfig, Trainer
from sas_training.distill.words import CLUTTER, FINER, KINDS, SYNONYMS, WordBank
from sas_training.evaluation.labelled import read_labelled, read_objects
from sas_training.evaluation.labels import MATTERPORT21, SCANNET20
from sas_training.scenes import procedural
from sas_training.scenes.procedural import catalogue, clutter, wall_things


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    return write_rooms(tmp_path / "world")


def scans(rooms: Path, steps: int = 12) -> LabelledScans:
    return labelled_scans(rooms, steps)


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


def test_words_do_not_depend_on_the_number_of_threads() -> None:
    """Else a run would take itself for another one when it goes on with more threads."""
    why_not = encoder_available(MINILM)
    if why_not is not None:
        pytest.skip(why_not)
    before, prints = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            words = WordBank(SCANNET20, load_encoder(MINILM), "{}")  # a new one: texts are cached
            prints.append(words.fingerprint())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert prints[0] == prints[1] == prints[2]


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


def spoiled(trainer: Trainer, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the third step go wrong: before the weights are touched, or between them and their
    mean."""
    calls = iter(range(100))
    if how == "interrupted":
        update = trainer._average.update_parameters

        def interrupted(network: torch.nn.Module) -> None:
            if next(calls) == 2:
                raise KeyboardInterrupt
            update(network)

        monkeypatch.setattr(trainer._average, "update_parameters", interrupted)
    else:

        def lost(*arguments: Any) -> torch.Tensor:
            logits = scaled_cosine_logits(*arguments)
            if next(calls) == 2:  # finite, unless its gradient is what is lost
                return logits * np.nan if how == "loss" else (logits - logits.detach()).sqrt()
            return logits

        monkeypatch.setattr("sas_training.distill.trainer.scaled_cosine_logits", lost)


def test_nothing_is_kept_of_a_step_that_goes_wrong(
    rooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = WordBank(SCANNET20, HashEncoder(), "{}")
    config = TrainConfig(steps=4, workers=0, checkpoint_every=2, warmup=1)

    def trainer(run: str) -> Trainer:
        return Trainer(scans(rooms, 4), words, TINY, config, tmp_path / run)

    whole = trainer("whole")
    list(whole.steps())
    wanted = whole.averaged.state_dict()
    for how in ("interrupted", "loss", "gradient"):
        first = trainer(how)
        with monkeypatch.context() as patch:
            spoiled(first, how, patch)
            with pytest.raises(KeyboardInterrupt if how == "interrupted" else SasError):
                list(first.steps())
        if how != "interrupted":
            assert all(value.isfinite().all() for value in first.network.state_dict().values())
        again = trainer(how)
        assert again.step == 2 and list(again.steps()) == [3, 4]
        for key, value in again.averaged.state_dict().items():
            torch.testing.assert_close(value, wanted[key], msg=f"{how}: {key}")


@pytest.mark.filterwarnings("ignore:.*which is a no-op")
def test_what_is_counted_stays_on_the_cpu(
    rooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = WordBank(SCANNET20, HashEncoder(), "{}")
    config = TrainConfig(steps=1, workers=0)
    first = Trainer(scans(rooms), words, TINY, config, tmp_path)
    list(first.steps())
    # A device that holds no numbers: enough to see where things are put.
    nowhere = Processes(torch.device("meta"))
    again = Trainer(scans(rooms), words, TINY, config, tmp_path, processes=nowhere)
    assert next(again.network.parameters()).device.type == "meta"
    assert torch.equal(again._counts, first._counts)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_run_on_a_gpu_goes_on(rooms: Path, tmp_path: Path) -> None:
    words = WordBank(SCANNET20, HashEncoder(), "{}")
    config, gpu = TrainConfig(steps=4, workers=0), Processes(torch.device("cuda"))
    for first in (1, 2):
        trainer = Trainer(scans(rooms, 4), words, TINY, config, tmp_path / "run", processes=gpu)
        for step in trainer.steps():
            if step == 2 * first:
                break
    assert trainer.step == 4


def test_a_damaged_checkpoint_is_a_sentence(rooms: Path, tmp_path: Path) -> None:
    words = WordBank(SCANNET20, HashEncoder(), "{}")
    (tmp_path / "run").mkdir()
    for content in (b"", b"garbage", b"PK\x03\x04 cut off"):
        (tmp_path / "run" / "checkpoint.pt").write_bytes(content)
        with pytest.raises(SasError, match="cannot be read"):
            Trainer(scans(rooms), words, TINY, TrainConfig(steps=1), tmp_path / "run")


def test_other_files_of_the_same_names_are_another_run(rooms: Path) -> None:
    before = scans(rooms).fingerprint()
    assert scans(rooms).fingerprint() == before
    # What a writer leaves behind that is killed is no scan.
    (rooms / "rooms" / ".room-000009-abc.partial.npz").write_bytes(b"cut off")
    assert scans(rooms).fingerprint() == before and scans(rooms).counts == (3, 0)
    (rooms / "world.json").write_text('{"world": 3, "seed": 1}')
    signed = scans(rooms).fingerprint()
    assert signed != before
    (rooms / "world.json").write_text('{"world": 4, "seed": 1}')
    assert scans(rooms).fingerprint() not in (before, signed)
    (rooms / "world.json").unlink()
    path = rooms / "rooms" / "room-000001.npz"
    path.write_bytes(path.read_bytes() + b"more")
    assert scans(rooms).fingerprint() != before


def test_a_student_says_what_is_known_about_its_data(rooms: Path) -> None:
    def origin(start: dict[str, str] | None = None) -> dict[str, str]:
        student = None if start is None else replace(untrained_student(), provenance=start)
        return origin_of(rooms, scans(rooms).counts, student)

    unsigned = origin()
    assert "3 labelled scans" in unsigned["data"] and "not stated" in unsigned["licence"]
    assert not any("no real" in text or "no dist" in text for text in unsigned.values())
    (rooms / "world.json").write_text('{"world": 3, "seed": 7}')
    ours = origin()
    assert "no real scans" in ours["data"] and "seed 7" in ours["data"]
    assert "no distillation" in ours["supervision"] and ours["licence"] == "Apache-2.0"
    assert origin(ours) == ours
    other = origin({"supervision": "CLIP", "data": "ScanNet", "licence": "MIT"})
    assert other["supervision"].endswith("before that: CLIP")
    assert other["data"].endswith("before that: ScanNet") and "not stated" in other["licence"]
    assert not any("no real" in text or "no dist" in text for text in other.values())


def test_a_run_goes_on_only_from_the_student_it_was_started_from(
    rooms: Path, tmp_path: Path
) -> None:
    words = WordBank(SCANNET20, HashEncoder(), "{}")
    config = TrainConfig(steps=1, workers=0)
    list(Trainer(scans(rooms), words, TINY, config, tmp_path, "abc").steps())
    assert Trainer(scans(rooms), words, TINY, config, tmp_path, "abc").step == 1
    for other in ("", "abd"):
        with pytest.raises(SasError, match="other settings"):
            Trainer(scans(rooms), words, TINY, config, tmp_path, other)


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
    calm = AugmentConfig(repainted=0.0, patches=0)
    wild = AugmentConfig(repainted=1.0, patches=0)
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

    def batch(colourless: float) -> Batch:
        augment = AugmentConfig(repainted=0.0, patches=0, colourless=colourless)
        config = SampleConfig(voxel_size=0.2, scans_per_step=2, augment=augment)
        return LabelledScans(rooms, SCANNET20, config, steps=3, seed=1)[0]

    without, coloured = batch(1.0), batch(0.0)
    assert not without.inputs[:, 2:].any()
    red, blue, flag = coloured.inputs[:, [2, 4, 5]].T
    bed = coloured.labels == 3
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


def test_a_student_learns_to_see_colours_from_one_that_does_not(
    rooms: Path, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    blind = MinkUNet(MinkUNetConfig(2, 16, 8, (8,) * 8, (1,) * 8)).eval()
    words = WordBank(SCANNET20, HashEncoder(), "{}")
    trainer = Trainer(scans(rooms), words, TINY, TrainConfig(steps=1, workers=0), tmp_path / "a")
    trainer.start_from(blind, ("height", "one"), INPUTS)
    batch = scans(rooms)[0]
    manager = CoordinateManager(batch.coordinates)
    seeing = trainer.network.eval()
    with torch.no_grad():
        before = blind(SparseTensor(batch.inputs[:, [1, 0]].contiguous(), manager)).features
        after = seeing(SparseTensor(batch.inputs, CoordinateManager(batch.coordinates))).features
    torch.testing.assert_close(after, before)
    with pytest.raises(SasError, match="sees height"):
        trainer.start_from(blind, ("height", "one"), ("one",))
    with pytest.raises(SasError, match="another architecture"):
        trainer.start_from(blind)


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


def test_a_damaged_compressed_file_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    points = np.random.default_rng(0).normal(size=(2000, 3))
    np.savez_compressed(path, points=points, labels=np.zeros(2000))
    content = bytearray(path.read_bytes())
    content[100:140] = bytes(40)  # in the midst of the compressed points
    path.write_bytes(content)
    with pytest.raises(zlib.error), np.load(path) as file:
        file["points"]
    with pytest.raises(SasError, match="no labelled scan"):
        read_labelled(path)
    with pytest.raises(SasError, match="no scene"):
        read_points(path)


def test_a_class_that_the_label_set_does_not_have_is_a_sentence(tmp_path: Path) -> None:
    points = np.zeros((5, 3), np.float32)
    path = tmp_path / "a.npz"
    np.savez(path, points=points, labels=np.array([0, 19, 255, -1, -100]))
    assert read_labelled(path)[1].tolist() == [0, 19, 255, 255, 255]
    np.savez(path, points=points, labels=np.array([0, 19, 255, 20, 1]))
    with pytest.raises(SasError, match="the class 20, but scannet20 has classes 0 to 19"):
        read_labelled(path)
    assert read_labelled(path, MATTERPORT21)[1].tolist() == [0, 19, 255, 20, 1]


@pytest.mark.parametrize(
    ("stored", "seen"),
    [
        (np.array([0.0, 0.5, 1.0]), [0, 128, 255]),
        (np.array([0.0, 128.0, 255.0]), [0, 128, 255]),
        (np.array([0, 128, 255], np.uint8), [0, 128, 255]),
        (np.array([0, 32768, 65535], np.uint16), [0, 128, 255]),
        (np.array([0.0, np.nan, 1.0]), None),
        (np.array([0.0, -0.5, 1.0]), None),
        (np.array([0.0, 300.0, 1.0]), None),
    ],
)
def test_colours_of_any_range_are_read(
    tmp_path: Path, stored: np.ndarray, seen: list[int] | None
) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, points=np.zeros((3, 3)), labels=np.zeros(3), colors=np.tile(stored, (3, 1)))
    if seen is None:
        with pytest.raises(SasError, match="must hold colours"):
            read_objects(path)
        return
    colors = read_objects(path).colors
    assert colors is not None and colors.tolist() == [seen] * 3


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


def test_no_text_means_two_things() -> None:
    """Things without a class are no synonyms of one: the world ignores what is called so."""
    meanings: dict[str, set[frozenset[str]]] = {}

    def means(texts: Iterable[str], *classes: str) -> None:
        for text in texts:
            # Nobody asks for "otherfurniture": to a vocabulary its things are no class either.
            meant = frozenset(classes) - {"otherfurniture"}
            meanings.setdefault(text.casefold(), set()).add(meant)

    for table in (SYNONYMS, FINER):
        for name, texts in table.items():
            means((*texts, name), name)
    for names, texts in MEANT.items():
        means(texts, *names)
    means(CLUTTER)
    means(ABSENT)
    assert {text: sets for text, sets in meanings.items() if len(sets) > 1} == {}
    assert len(set(ABSENT)) == len(ABSENT)


STRUCTURE = {"ceiling", "built-in structure", "rug", "rail", "curtain rod", "shower glass", "tap"}
STRUCTURE |= {"cable", "leaning board"}
"""What the world names and no student is taught: parts of rooms and of things with a class, whose
names people say for the thing (a tap is a sink), rugs, which are floor or nothing, cables, which no
voxel of 8 cm can show, and what leans at walls, which nobody calls so."""
ISLAND = "kitchen island"  # its block is a cabinet there; people mean the counter


def test_finer_names_are_those_of_the_world() -> None:
    rng = np.random.default_rng(0)
    made: dict[str, set[int]] = {}
    makers = {maker for table in clutter.ON_TOP.values() for maker, _ in table}
    makers |= {maker for maker, _ in (*clutter.FLOOR, *clutter.LARGE)}
    pieces = [catalogue.make(name, rng) for name in catalogue.SIZES for _ in range(4)]
    pieces += [maker(rng) for maker in sorted(makers, key=lambda m: m.__name__) for _ in range(12)]
    pieces += [wall_things.wall_clutter(rng) for _ in range(60)]
    for piece in pieces:
        for part in piece.parts:
            made.setdefault(part.name, set()).add(part.label)
    for name, labels in made.items():
        for label in labels - {255}:
            owner = SCANNET20.names[label]
            assert name in (*FINER.get(owner, ()), owner, ISLAND), (name, owner)
        if 255 in labels:
            assert name in CLUTTER or name in STRUCTURE, name
    written, texts = names_in_the_source()
    known = {*KINDS, *SCANNET20.names, *STRUCTURE, ISLAND}
    assert (written | made.keys()) - known == set()
    assert set(KINDS) - texts == set()


def names_in_the_source() -> tuple[set[str], set[str]]:
    """Names that pieces and parts are given where they are written down, and all texts at all."""
    written, texts = set(), set()
    for file in Path(procedural.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else None
            called = node.func.id if isinstance(node.func, ast.Name) else called
            place = {"Piece": 0, "thing": 0, "add_other": 2}.get(called or "")
            if place is not None and place < len(node.args):
                name = node.args[place]
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    written.add(name.value)
    return written, texts
