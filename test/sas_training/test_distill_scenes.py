"""Scenes with teachers' features to batches: files, augmentations, and who stands for a voxel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import HashEncoder
from teachers import box_room, noisy_teacher, write_scenes

from sas_ros.errors import SasError
from sas_training.distill.epoch_plan import EpochPlan
from sas_training.distill.feature_batches import (
    BatchSettings,
    FeatureBatches,
    joined_samples,
    sample,
    whole_scene,
)
from sas_training.distill.feature_scenes import FEATURES_SUFFIX, FeatureScenes
from sas_training.distill.scene_augment import (
    AugmentSettings,
    distorted,
    flipped_and_shifted,
    smooth_noise,
)
from sas_training.superpoints.files import SUFFIX

WORDS = HashEncoder().encode([str(number) for number in range(20)])
PLAIN = BatchSettings(
    ("one", "height"), 0.2, (0.0, 0.0), 1.0, AugmentSettings(style="none"), True, 0, 5
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_scenes(tmp_path / "scenes", WORDS)


def test_scenes_are_read_and_their_labels_are_not(folder: Path) -> None:
    scenes = FeatureScenes(folder)
    assert scenes.names == ("room-0", "room-1", "room-2", "room-3") and scenes.channels == 16
    assert scenes.teachers == ("noisy labels",)
    scene = scenes.load(2)
    places, labels, groups = box_room(2, 400)
    assert np.array_equal(scene.points, places) and np.array_equal(scene.superpoint, groups)
    seen = np.flatnonzero(scene.rows >= 0)
    assert 0 < len(seen) < len(places)
    said = (scene.features[scene.rows[seen]].astype(np.float32) @ WORDS.T).argmax(1)
    assert (said == labels[seen]).mean() > 0.99  # although the file's own labels say 7
    assert scenes.load(2) is scene  # kept
    assert FeatureScenes(folder, cache_mib=0).first(1).names == ("room-0",)


def test_kinds_of_files_may_lie_apart(folder: Path, tmp_path: Path) -> None:
    for suffix, name in ((FEATURES_SUFFIX, "f"), (SUFFIX, "s")):
        (tmp_path / name).mkdir()
        for path in folder.glob(f"*{suffix}"):
            path.rename(tmp_path / name / path.name)
    scenes = FeatureScenes(folder, tmp_path / "f", tmp_path / "s")
    assert len(scenes) == 4 and len(scenes.load(0).superpoint) == 1200
    with pytest.raises(SasError, match="no superpoints"):
        FeatureScenes(folder, tmp_path / "f")
    alone = FeatureScenes(folder, tmp_path / "f", superpoints_needed=False).load(0)
    assert np.array_equal(alone.superpoint, np.arange(1200))


def test_files_that_do_not_belong_together_are_sentences(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SasError, match="no scenes in"):
        FeatureScenes(tmp_path)
    places, labels, groups = box_room(0, 400)
    target = folder / f"room-0{FEATURES_SUFFIX}"
    rng = np.random.default_rng(0)
    noisy_teacher(labels[:900], groups[:900], WORDS, rng).save(target)
    with pytest.raises(SasError, match="about 1200 points"):
        FeatureScenes(folder)
    noisy_teacher(labels, groups, WORDS[:, :8], rng).save(target)
    with pytest.raises(SasError, match="16 numbers, those of room-0 8"):
        FeatureScenes(folder)
    noisy_teacher(labels, groups, WORDS, rng).save(target)
    np.savez(folder / "room-0.npz", points=places[::-1])
    with pytest.raises(SasError, match="other points"):
        FeatureScenes(folder).load(0)
    np.savez(folder / "room-0.npz", points=places[:-1])
    with pytest.raises(SasError, match="1199 points"):
        FeatureScenes(folder).load(0)
    np.savez(folder / "room-0.npz", points=np.full((1200, 3), np.nan))
    with pytest.raises(SasError, match="finite"):
        FeatureScenes(folder).load(0)
    (folder / "room-0.npz").write_bytes(b"PK cut off")
    with pytest.raises(SasError, match="no scene"):
        FeatureScenes(folder).load(0)
    target.write_bytes(target.read_bytes()[:50])
    with pytest.raises(SasError, match="cut off"):
        FeatureScenes(folder)
    target.unlink()
    with pytest.raises(SasError, match="no features"):
        FeatureScenes(folder)


def test_a_fingerprint_tells_scenes_apart(folder: Path, tmp_path: Path) -> None:
    first = FeatureScenes(folder).fingerprint()
    assert FeatureScenes(folder).fingerprint() == first
    write_scenes(folder, WORDS, wrong=0.3)
    assert FeatureScenes(folder).fingerprint() != first


@pytest.mark.parametrize("with_superpoints", [True, False])
def test_a_batch_says_where_everything_comes_from(folder: Path, with_superpoints: bool) -> None:
    settings = BatchSettings(
        **{**PLAIN.__dict__, "with_superpoints": with_superpoints, "crop": (2.0, 3.0), "whole": 0.0}
    )
    scenes = [FeatureScenes(folder).load(number) for number in (0, 1)]
    scenes[1].superpoint[:100] = -1
    rng = np.random.default_rng(1)
    batch = joined_samples([sample(scene, settings, rng) for scene in scenes], settings, rng)
    voxels = len(batch.coordinates)
    assert batch.inputs.shape == (voxels, 2) and set(batch.coordinates[:, 0].tolist()) == {0, 1}
    covered = np.concatenate([part.voxels for part in batch.parts])
    assert set(covered.tolist()) == set(range(voxels))
    representative = np.concatenate([part.representative for part in batch.parts])
    names = np.concatenate([part.superpoints for part in batch.parts])
    assert batch.superpoints == len(names)
    first = {}
    for number, part in enumerate(batch.parts):
        for point, voxel in zip(part.points.tolist(), part.voxels.tolist(), strict=True):
            first.setdefault(voxel, point)  # points ascend
            assert batch.coordinates[voxel, 0] == number
    assert [first[voxel] for voxel in range(voxels)] == representative.tolist()
    for voxel in range(voxels):
        scene = scenes[int(batch.coordinates[voxel, 0])]
        owner, dense = scene.superpoint[representative[voxel]], int(batch.superpoint[voxel])
        assert (dense == -1 and owner == -1) or names[dense] == owner
    rows = batch.target_rows.tolist()
    assert 0 < len(rows) < voxels and sorted(rows) == rows
    for place, voxel in enumerate(rows):
        scene = scenes[int(batch.coordinates[voxel, 0])]
        row = scene.rows[representative[voxel]]
        assert batch.targets.features[place].tolist() == scene.features[row].tolist()
    owners = batch.superpoint[batch.target_rows]
    assert bool(owners.min() >= 0) == with_superpoints
    if with_superpoints:  # the same partition, numbered without gaps
        pairs = set(zip(owners.tolist(), batch.targets.superpoint.tolist(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == batch.targets.superpoints


def test_crops_are_around_small_superpoints_as_often_as_around_large_ones(folder: Path) -> None:
    scene = FeatureScenes(folder).load(0)
    scene.superpoint[:] = 0
    scene.superpoint[np.argsort(np.linalg.norm(scene.points - [4, 4, 0], axis=1))[:10]] = 1
    settings = BatchSettings(**{**PLAIN.__dict__, "crop": (1.0, 1.0), "whole": 0.0})
    corner = 0
    for seed in range(40):
        points = scene.points[sample(scene, settings, np.random.default_rng(seed)).points]
        assert (np.ptp(points[:, :2], axis=0) <= 1.0).all()
        corner += bool((np.linalg.norm(points - [4, 4, 0], axis=1) < 0.3).any())
    assert 12 <= corner <= 32  # of 40; a hundredth of the points


def test_voxels_that_count_are_drawn(folder: Path) -> None:
    settings = BatchSettings(**{**PLAIN.__dict__, "max_voxels": 50})
    one = sample(FeatureScenes(folder).load(0), settings, np.random.default_rng(0))
    few = joined_samples([one], settings, np.random.default_rng(1))
    assert len(few.target_rows) == len(few.targets.features) == 50
    assert set(few.targets.superpoint.tolist()) == set(range(few.targets.superpoints))
    other = joined_samples([one], settings, np.random.default_rng(2))
    assert few.target_rows.tolist() != other.target_rows.tolist()


def test_every_scene_comes_once_in_a_pass_and_never_twice_in_a_batch() -> None:
    plan = EpochPlan(scenes=10, batch=4, repeats=2, seed=1)
    assert plan.steps == 6
    for first in range(0, 24, 3):
        batches = [plan.scenes_of(first + k) for k in range(3)]
        assert all(len(set(batch.tolist())) == 4 for batch in batches)
        assert set(np.concatenate(batches).tolist()) == set(range(10))
    assert plan.scenes_of(0).tolist() != plan.scenes_of(3).tolist()
    with pytest.raises(SasError, match="4 scenes cannot be made of 3"):
        EpochPlan(3, 4, 1, 0)


def test_samples_do_not_depend_on_who_loads_them(folder: Path) -> None:
    augment = AugmentSettings(style="reference")
    settings = BatchSettings(**{**PLAIN.__dict__, "augment": augment})
    plan = EpochPlan(4, 4, 1, 0)

    def coordinates(world: int, accumulate: int) -> torch.Tensor:
        parts = []
        for rank in range(world):
            batches = FeatureBatches(
                FeatureScenes(folder),
                plan,
                settings,
                steps=3,
                rank=rank,
                world=world,
                accumulate=accumulate,
            )
            parts += [batch.coordinates[:, 1:] for batch in batches[2]]
        return torch.cat(parts)

    alone = coordinates(1, 1)
    for world, accumulate in ((1, 2), (2, 1), (2, 2)):
        assert torch.equal(alone, coordinates(world, accumulate))
    with pytest.raises(SasError, match="shared evenly"):
        FeatureBatches(FeatureScenes(folder), plan, settings, steps=1, world=3)


def test_a_whole_scene_is_voxelised_as_it_is(folder: Path) -> None:
    scene = FeatureScenes(folder).load(0)
    batch = whole_scene(scene, PLAIN)
    assert np.array_equal(batch.parts[0].points, np.arange(1200))
    middle, low = scene.points.mean(axis=0), np.percentile(scene.points[:, 2], 1.5)
    cells = np.floor((scene.points - [middle[0], middle[1], low]) / 0.2)
    found = batch.coordinates.numpy()[batch.parts[0].voxels, 1:]
    assert (found == cells).mean() > 0.999  # up to rounding at edges


@pytest.mark.parametrize("style", ["reference", "rooms", "none"])
def test_augmentations_keep_rows_and_sizes(style: str) -> None:
    points, _, groups = box_room(0, 400)
    colors = np.full((len(points), 3), 90, np.uint8)
    settings = AugmentSettings(style=style)
    for seed in range(6):
        seen = distorted(points, colors, groups, settings, np.random.default_rng(seed))
        again = distorted(points, colors, groups, settings, np.random.default_rng(seed))
        assert np.array_equal(seen.points, again.points) and len(seen.rows) == len(seen.points)
        assert seen.points.dtype == np.float32 and (np.diff(seen.rows) > 0).all()
        before = points[seen.rows]
        a = np.linalg.norm(before[:-1] - before[1:], axis=1)
        b = np.linalg.norm(seen.points[:-1] - seen.points[1:], axis=1)
        assert np.corrcoef(a, b)[0, 1] > 0.9 and 0.7 < np.median(b / a) < 1.4


def test_noise_is_smooth_and_as_strong_as_two_rounds_of_averages_leave_it() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 12, (4000, 3))
    offsets = smooth_noise(points, 0.5, rng)
    near = smooth_noise(points, 0.5, np.random.default_rng(1))
    moved = smooth_noise(points + 1e-4, 0.5, np.random.default_rng(1))
    assert np.abs(near - moved).max() < 2e-3
    # Two rounds of three-tap means keep 19/81 of the variance an axis; interpolation takes more.
    assert 0.5 * (19 / 81) ** 1.5 < offsets.std() < (19 / 81) ** 1.5
    assert abs(offsets.mean()) < 0.05


def test_what_nobody_looks_at_is_not_read(folder: Path) -> None:
    """A pass over whole scenes needs no features: the same batch but for its targets."""
    scenes, unread = FeatureScenes(folder), FeatureScenes(folder)
    path = folder / f"room-1{FEATURES_SUFFIX}"
    full = whole_scene(scenes.load(1), PLAIN)
    from_memory = scenes.load(1, features=False)
    assert len(from_memory.features)  # what is there anyway is not read again
    path.rename(path.with_suffix(".away"))
    bare = unread.load(1, features=False)
    assert unread.load(1, features=False) is bare
    assert bare.features.shape == (0, 16) and (bare.rows == -1).all()
    batch = whole_scene(bare, PLAIN)
    assert torch.equal(batch.coordinates, full.coordinates)
    assert torch.equal(batch.inputs, full.inputs)
    assert torch.equal(batch.superpoint, full.superpoint)
    assert np.array_equal(batch.parts[0].representative, full.parts[0].representative)
    assert len(full.target_rows) and not len(batch.target_rows)
    path.with_suffix(".away").rename(path)
    assert len(unread.load(1).features)  # nor is it taken for the scene with its features


def test_flips_and_shifts_keep_the_grid() -> None:
    rng = np.random.default_rng(0)
    coordinates = np.c_[np.zeros(200), rng.integers(-9, 9, (200, 3))].astype(np.int32)
    settings = AugmentSettings()
    kinds = set()
    for seed in range(40):
        moved = flipped_and_shifted(coordinates, settings, np.random.default_rng(seed))
        before, after = coordinates[:, 1:], moved[:, 1:]
        assert (after >= 0).all() and (moved[:, 0] == 0).all()
        signs = [int(np.corrcoef(before[:, k], after[:, k])[0, 1].round()) for k in range(3)]
        assert signs[2] == 1 and set(signs) <= {-1, 1}
        assert (np.ptp(before, axis=0) == np.ptp(after, axis=0)).all()
        kinds.add(tuple(signs))
    assert len(kinds) == 4
    plain = AugmentSettings(style="rooms")
    assert np.array_equal(flipped_and_shifted(coordinates, plain, rng), coordinates)


def test_other_colours_reach_the_inputs(folder: Path) -> None:
    path = folder / "room-0.npz"
    places = np.load(path)["points"]
    np.savez(path, points=places, colors=np.full((len(places), 3), 255, np.uint8))
    names = ("one", "red", "coloured")
    settings = BatchSettings(**{**PLAIN.__dict__, "inputs": names})
    scenes = FeatureScenes(folder)
    white = whole_scene(scenes.load(0), settings).inputs
    assert torch.equal(white, torch.ones_like(white))
    assert whole_scene(scenes.load(1), settings).inputs[:, 1:].abs().max() == 0
    np.savez(path, points=places, colors=np.ones(3))
    with pytest.raises(SasError, match="colours"):
        FeatureScenes(folder).load(0)
