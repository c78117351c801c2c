"""Stage 2 against method reference 6.7 written down once more, in float64, point by point.

Ours keeps products with text vectors and works on voxels; this keeps features and loops.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from encoders import HashEncoder
from teachers import write_scenes

from sas_training.distill.feature_batches import (
    BatchSettings,
    FeatureBatch,
    joined_samples,
    sample,
    whole_scene,
)
from sas_training.distill.feature_scenes import FeatureScenes
from sas_training.distill.history import History
from sas_training.distill.objectives import StudentFeatures
from sas_training.distill.scene_augment import AugmentSettings, distorted
from sas_training.distill.self_distillation import (
    class_scores,
    initial_state,
    pseudo_labels,
    remember,
    stage_two,
    stage_two_terms,
    variant,
)

WORDS = HashEncoder(6).encode([str(number) for number in range(5)]).astype(np.float64)
SETTINGS = BatchSettings(("one",), 0.5, (2.0, 3.5), 0.5, AugmentSettings(style="rooms"), True, 0, 5)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> FeatureScenes:
    folder = write_scenes(
        tmp_path_factory.mktemp("world"), WORDS.astype(np.float32), scenes=2, points=60
    )
    return FeatureScenes(folder)


def batch_of(scenes: FeatureScenes, seed: int, settings: BatchSettings = SETTINGS) -> FeatureBatch:
    rng = np.random.default_rng(seed)
    samples = [sample(scenes.load(number), settings, rng) for number in range(2)]
    return joined_samples(samples, settings, rng)


def student_of(batch: FeatureBatch, seed: int) -> StudentFeatures:
    generator = torch.Generator().manual_seed(seed)
    trunk = torch.randn(len(batch.coordinates), 4, generator=generator, dtype=torch.float64)
    return StudentFeatures(trunk * 3, torch.randn(4, 6, generator=generator, dtype=torch.float64))


class WrittenDown:
    """H of every point of every scene, as features."""

    def __init__(self, scenes: FeatureScenes, alpha: float, normalise: bool) -> None:
        self.alpha, self.normalise = alpha, normalise
        self.scenes = [scenes.load(number) for number in range(2)]
        self.sum = [np.zeros((len(scene.points), 6)) for scene in self.scenes]
        self.count = [np.zeros(len(scene.points), int) for scene in self.scenes]

    def see(self, batch: FeatureBatch, features: npt.NDArray[np.float64]) -> None:
        for number, part in enumerate(batch.parts):
            for point, voxel in zip(part.points, part.voxels, strict=True):
                feature = features[voxel]
                if self.normalise:
                    feature = feature / np.linalg.norm(feature)
                old = self.sum[number][point]
                self.sum[number][point] = self.alpha * old + (1 - self.alpha) * feature
                self.count[number][point] += 1

    def mean(self, number: int, point: int) -> npt.NDArray[np.float64]:
        return self.sum[number][point] / (1 - self.alpha ** self.count[number][point])

    def point_label(self, number: int, point: int) -> int:
        return int((WORDS @ self.mean(number, point)).argmax())

    def superpoint_label(self, number: int, name: int) -> int:
        members = np.flatnonzero(self.scenes[number].superpoint == name)
        seen = [self.mean(number, int(p)) for p in members if self.count[number][p]]
        return int((WORDS @ np.mean(seen, axis=0)).argmax())

    def losses(
        self, batch: FeatureBatch, features: npt.NDArray[np.float64], temperature: float, own: bool
    ) -> tuple[float, float]:
        points = superpoints = 0.0
        row = 0
        for number, part in enumerate(batch.parts):
            owners = self.scenes[number].superpoint[part.representative]
            rows = np.arange(row, row + len(owners))
            for voxel, point, name in zip(rows, part.representative, owners, strict=True):
                label = self.point_label(number, int(point))
                if not own:
                    label = self.superpoint_label(number, int(name))
                points += self.cross_entropy(features[voxel], label, temperature)
            for name in np.unique(owners):
                mean = features[rows[owners == name]].mean(axis=0)
                label = self.superpoint_label(number, int(name))
                superpoints += self.cross_entropy(mean, label, temperature)
            row += len(owners)
        return points, superpoints

    def cross_entropy(self, feature: npt.NDArray[np.float64], label: int, t: float) -> float:
        logits = WORDS @ feature / (np.linalg.norm(feature) if self.normalise else 1.0) / t
        return float(np.log(np.exp(logits).sum()) - logits[label])


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("normalise", [True, False])
def test_stage_two_is_what_the_method_says(
    scenes: FeatureScenes, tmp_path: Path, own: bool, normalise: bool
) -> None:
    settings = replace(
        variant("paper"),
        alpha=0.7,
        temperature=0.8,
        normalise=normalise,
        point_labels="own" if own else "superpoint",
        precision="float32",
    )
    texts = torch.from_numpy(WORDS)
    history = History(tmp_path, "words", 5, "float32")
    expected = WrittenDown(scenes, 0.7, normalise)
    for step in range(3):  # every time another crop, grid and student
        batch = batch_of(scenes, step)
        student = student_of(batch, 100 + step)
        features = student.wide().numpy()
        expected.see(batch, features)
        states = remember(
            history, batch, class_scores(student, texts, settings), step + 1, settings
        )
        labels = pseudo_labels(batch, states, settings)
        sums = stage_two(student, batch, labels, texts, settings)
        points, superpoints = expected.losses(batch, features, 0.8, own)
        assert sums["self_points"].item() == pytest.approx(points, rel=1e-6)
        assert sums["self_superpoints"].item() == pytest.approx(superpoints, rel=1e-6)
        terms = stage_two_terms(batch)
        assert terms == {"self_points": len(features), "self_superpoints": batch.superpoints}
        assert (labels.voxels >= 0).all() and (labels.superpoints >= 0).all()
    for number, scene in enumerate(expected.scenes):
        state = history.read(scene.name, len(scene.points))
        assert state.updates.tolist() == expected.count[number].tolist()


def test_histories_that_begin_with_a_pass_are_means_of_superpoints(scenes: FeatureScenes) -> None:
    settings = replace(variant("released"), precision="float32")
    plain = replace(SETTINGS, augment=AugmentSettings(style="none"), whole=1.0)
    scene = scenes.load(1)
    rng = np.random.default_rng(0)
    batch = joined_samples([sample(scene, plain, rng)], plain, rng)
    student = student_of(batch, 3)
    scores = class_scores(student, torch.from_numpy(WORDS), settings)
    state = initial_state(batch.parts[0], scores, settings)
    of_points = (student.wide().numpy() @ WORDS.T)[batch.parts[0].voxels]
    for name in range(int(scene.superpoint.max()) + 1):
        members = scene.superpoint == name
        wanted = of_points[members].mean(axis=0)
        np.testing.assert_allclose(state.scores[members], np.tile(wanted, (members.sum(), 1)), 1e-4)
    assert (state.updates == 1).all()


def labels_to_the_letter(
    averaged: npt.NDArray[np.float64], superpoint: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Equation 12: argmax of the products of H (N, C) and of its means over superpoints."""
    names = range(int(superpoint.max()) + 1)
    pooled = np.stack([averaged[superpoint == name].mean(axis=0) for name in names])
    return (averaged @ WORDS.T).argmax(axis=1), (pooled @ WORDS.T).argmax(axis=1)


@pytest.mark.parametrize("alpha", [0.5, 0.9, 0.99])
def test_the_literal_variant_has_the_labels_of_averaged_features(
    scenes: FeatureScenes, tmp_path: Path, alpha: float
) -> None:
    """H <- a H + (1 - a) F on features of any length, from zero on; crops see points unequally
    often. The default, of cosines and bias-corrected, labels some superpoints otherwise."""
    literal = replace(variant("literal"), alpha=alpha, precision="float32")
    default = replace(variant("paper"), alpha=alpha, precision="float32")
    assert not literal.normalise and not literal.bias_correction and literal.temperature == 1
    texts = torch.from_numpy(WORDS)
    loaded = [scenes.load(number) for number in range(2)]
    averaged = [np.zeros((len(scene.points), 6)) for scene in loaded]
    times = [np.zeros(len(scene.points), int) for scene in loaded]
    kept = {name: History(tmp_path / name, "words", 5, "float32") for name in ("ours", "other")}
    otherwise = 0
    for epoch in range(12):
        batch = batch_of(scenes, 50 + epoch)
        plain = student_of(batch, 500 + epoch)
        lengths = np.exp(np.random.default_rng(epoch).normal(0, 1, (len(plain.trunk), 1)))
        student = StudentFeatures(plain.trunk * torch.from_numpy(lengths), plain.kernel)
        features = student.wide().numpy()
        for number, part in enumerate(batch.parts):
            old = averaged[number][part.points]
            averaged[number][part.points] = alpha * old + (1 - alpha) * features[part.voxels]
            times[number][part.points] += 1
        states = {
            name: remember(
                kept[name], batch, class_scores(student, texts, settings), epoch + 1, settings
            )
            for name, settings in (("ours", literal), ("other", default))
        }
        found = pseudo_labels(batch, states["ours"], literal)
        usual = pseudo_labels(batch, states["other"], default)
        points, superpoints = [], []
        for number, part in enumerate(batch.parts):
            own, of_superpoints = labels_to_the_letter(averaged[number], loaded[number].superpoint)
            points.append(own[part.representative])
            superpoints.append(of_superpoints[part.superpoints])
        assert found.voxels.tolist() == np.concatenate(points).tolist()
        assert found.superpoints.tolist() == np.concatenate(superpoints).tolist()
        otherwise += int((found.superpoints != usual.superpoints).sum())
        logits = torch.from_numpy(features @ WORDS.T)
        wanted = torch.nn.functional.cross_entropy(logits, found.voxels, reduction="sum")
        sums = stage_two(student, batch, found, texts, literal)
        assert sums["self_points"].item() == pytest.approx(wanted.item(), rel=1e-6)
    for number, scene in enumerate(loaded):
        assert any(
            len(np.unique(times[number][scene.superpoint == name])) > 1
            for name in range(int(scene.superpoint.max()) + 1)
        )
    assert otherwise > 0


def test_as_many_voxels_count_as_are_asked_for(scenes: FeatureScenes, tmp_path: Path) -> None:
    """With `max_voxels` both new losses are of a sample of the voxels; all are remembered."""
    settings = replace(variant("released"), precision="float32")
    texts = torch.from_numpy(WORDS)
    whole = batch_of(scenes, 7)
    most = len(whole.coordinates) // 3
    batch = batch_of(scenes, 7, replace(SETTINGS, max_voxels=most))
    assert whole.drawn is None and torch.equal(whole.coordinates, batch.coordinates)
    assert batch_of(scenes, 7, replace(SETTINGS, max_voxels=3 * most + 3)).drawn is None
    assert batch.drawn is not None and len(batch.drawn.unique()) == len(batch.drawn) == most
    student = student_of(batch, 8)
    history = History(tmp_path, "words", 5, "float32")
    states = remember(history, batch, class_scores(student, texts, settings), 1, settings)
    for state, part in zip(states, batch.parts, strict=True):
        assert (state.updates[part.points] == 1).all()
    labels = pseudo_labels(batch, states, settings)
    sums, terms = stage_two(student, batch, labels, texts, settings), stage_two_terms(batch)
    rows = batch.drawn.numpy()
    features, owner = student.wide().numpy()[rows], batch.superpoint.numpy()[rows]
    names = np.unique(owner)
    means = np.stack([features[owner == name].mean(axis=0) for name in names])
    assert terms == {"self_points": most, "self_superpoints": len(names)}
    assert len(names) < batch.superpoints
    for key, rows_of, label in (
        ("self_points", features, labels.voxels[rows]),
        ("self_superpoints", means, labels.superpoints[names]),
    ):
        logits = torch.from_numpy(rows_of @ WORDS.T)
        wanted = torch.nn.functional.cross_entropy(logits, label, reduction="sum")
        assert sums[key].item() == pytest.approx(wanted.item(), rel=1e-6)


def test_histories_begin_turned_and_scaled_alone(scenes: FeatureScenes) -> None:
    """As the released code's first pass: neither bent nor mirrored; the same for the same seed."""
    points = np.random.default_rng(1).uniform(-2, 2, (40, 3)).astype(np.float32)
    points[:, 2] -= points[:, 2].min()
    rigid = AugmentSettings().rigid
    seen = distorted(points, None, np.zeros(40, int), rigid, np.random.default_rng(2)).points
    moves, *_ = np.linalg.lstsq(points.astype(np.float64), seen, rcond=None)
    scale = np.linalg.det(moves) ** (1 / 3)
    np.testing.assert_allclose(moves.T @ moves, scale**2 * np.eye(3), atol=1e-5)
    assert 0.9 <= scale <= 1.1 and abs(moves[0, 1]) > 0.01
    assert (rigid.elastic, rigid.flip, rigid.shift) == (0, 0, 0)
    assert AugmentSettings(style="rooms").rigid.style == "none"
    turned = replace(SETTINGS, augment=AugmentSettings())
    scene = scenes.load(0)
    one, again = (whole_scene(scene, turned, np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(one.coordinates, again.coordinates)
    assert not torch.equal(one.coordinates, whole_scene(scene, turned).coordinates)
    assert sorted(one.parts[0].points) == list(range(len(scene.points)))
