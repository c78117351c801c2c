"""The losses of distillation against the equations written down once more, in float64 loops."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sas_ros.errors import SasError
from sas_training.distill.objectives import (
    ObjectiveSettings,
    StudentFeatures,
    Targets,
    cross_entropy,
    group_means,
    stage_one,
    stage_one_terms,
)

Array = npt.NDArray[np.float64]


def cosine(a: Array, b: Array) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def class_distribution(feature: Array, texts: Array, temperature: float) -> Array:
    logits = np.array([cosine(feature, text) / temperature for text in texts])
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def distance(student: Array, teacher: Array, texts: Array, settings: ObjectiveSettings) -> float:
    if settings.distance == "cosine":
        return 1 - cosine(student, teacher)
    wanted = class_distribution(teacher, texts, settings.teacher_temperature)
    own = class_distribution(student, texts, settings.temperature)
    return float(-sum(w * np.log(p) for w, p in zip(wanted, own, strict=True)))


def written_down(
    features: Array, targets: Array, owner: Array, texts: Array, settings: ObjectiveSettings
) -> dict[str, float]:
    """Method reference 6.5, sums over i and q."""
    count = len(features)
    if settings.targets == "pixel":
        each = [distance(features[i], targets[i], texts, settings) for i in range(count)]
        return {"points": sum(each)}
    mean_targets, mean_features = {}, {}
    for q in set(owner.tolist()):
        members = [i for i in range(count) if owner[i] == q]
        mean_targets[q] = sum(targets[i] for i in members) / len(members)
        mean_features[q] = sum(features[i] for i in members) / len(members)
    points = [distance(features[i], mean_targets[owner[i]], texts, settings) for i in range(count)]
    pieces = [distance(mean_features[q], mean_targets[q], texts, settings) for q in mean_targets]
    return {"points": sum(points), "superpoints": sum(pieces)}


def example(seed: int = 0) -> tuple[StudentFeatures, Array, Array, Array]:
    """30 voxels, trunk 5 wide, features 12 wide of any length, 7 superpoints, 4 words."""
    rng = np.random.default_rng(seed)
    trunk = torch.tensor(rng.normal(size=(30, 5)), requires_grad=True)
    kernel = torch.tensor(rng.normal(size=(5, 12)), requires_grad=True)
    targets = rng.normal(size=(30, 12)) * rng.uniform(0.1, 3, (30, 1))
    owner = np.concatenate([np.arange(7), rng.integers(7, size=23)])
    texts = rng.normal(size=(4, 12)) + 2.0  # all alike, as text vectors are
    return (
        StudentFeatures(trunk, kernel),
        targets,
        owner,
        texts / np.linalg.norm(texts, axis=1, keepdims=True),
    )


@pytest.mark.parametrize("targets", ["pixel", "superpoint"])
@pytest.mark.parametrize("distance_name", ["cosine", "contrastive"])
def test_stage_one_is_what_the_equations_say(targets: str, distance_name: str) -> None:
    settings = ObjectiveSettings(targets, distance_name, 0.3, 0.2)
    student, wanted, owner, texts = example()
    given = Targets(torch.from_numpy(wanted), torch.from_numpy(owner), 7)
    sums = stage_one(student, given, torch.from_numpy(texts), settings)
    features = student.wide().detach().numpy()
    expected = written_down(features, wanted, owner, texts, settings)
    assert sums.keys() == expected.keys() == stage_one_terms(given, settings).keys()
    for name, value in expected.items():
        assert sums[name].item() == pytest.approx(value, rel=1e-12)
    counts = stage_one_terms(given, settings)
    assert counts["points"] == 30 and counts.get("superpoints", 7) == 7


@pytest.mark.parametrize("distance_name", ["cosine", "contrastive"])
def test_gradients_are_those_of_the_wide_features(distance_name: str) -> None:
    settings = ObjectiveSettings("superpoint", distance_name)
    student, wanted, owner, texts = example(1)
    given = Targets(torch.from_numpy(wanted), torch.from_numpy(owner), 7)
    words = torch.from_numpy(texts)
    narrow = stage_one(student, given, words, settings)
    features = student.wide()
    means = torch.stack([features[torch.from_numpy(owner == q)].mean(0) for q in range(7)])
    aims = torch.stack([given.features[torch.from_numpy(owner == q)].mean(0) for q in range(7)])

    def total(f: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if distance_name == "cosine":
            return (1 - torch.nn.functional.cosine_similarity(f, t)).sum()
        unit = torch.nn.functional.normalize
        soft = torch.softmax(unit(t) @ words.T / settings.teacher_temperature, 1)
        return -(soft * torch.log_softmax(unit(f) @ words.T / settings.temperature, 1)).sum()

    wide = total(features, aims[torch.from_numpy(owner)]) + total(means, aims)
    inputs = [student.trunk, student.kernel]
    for a, b in zip(
        torch.autograd.grad(narrow["points"] + narrow["superpoints"], inputs),
        torch.autograd.grad(wide, inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("normalise", [True, False])
def test_cross_entropy_is_what_its_definition_says(normalise: bool) -> None:
    student, _, _, texts = example(2)
    labels = np.arange(30) % 5 - 1  # -1 adds nothing
    loss = cross_entropy(student, torch.from_numpy(labels), torch.from_numpy(texts), 0.7, normalise)
    expected = 0.0
    for feature, label in zip(student.wide().detach().numpy(), labels, strict=True):
        if label >= 0:
            scale = np.linalg.norm(feature) if normalise else 1.0
            logits = texts @ feature / scale / 0.7
            expected += np.log(np.exp(logits).sum()) - logits[label]
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_means_leave_out_what_is_in_no_group() -> None:
    values = torch.tensor([[1.0], [3.0], [10.0]])
    group = torch.tensor([1, 1, -1])
    student = StudentFeatures(values, torch.ones(1, 1))
    assert student.means(group, 3).trunk.flatten().tolist() == [0.0, 2.0, 0.0]
    assert group_means(values, torch.tensor([0, 0, 0]), 1).item() == pytest.approx(14 / 3)


def test_a_target_without_direction_has_the_cosine_zero() -> None:
    student = StudentFeatures(torch.ones(2, 3), torch.eye(3))
    cosines = student.cosines(torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    assert cosines.tolist() == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targets": "voxel"}, "'voxel'"),
        ({"distance": "euclid"}, "'euclid'"),
        ({"temperature": 0.0}, "temperature"),
        ({"max_voxels": -1}, "max_voxels"),
    ],
)
def test_settings_that_mean_nothing_are_sentences(changes: dict, words: str) -> None:
    with pytest.raises(SasError, match=words):
        ObjectiveSettings(**changes)
