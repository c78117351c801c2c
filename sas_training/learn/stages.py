"""The stages between a recording and a student, one function and one file each.

Each reads files and writes one, whole or not at all: a run that is cut off goes on with the file
that is missing.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sas_ros.errors import SasError
from sas_ros.files import atomic_path
from sas_ros.gravity import resolve_up, rotation_to_z_up
from sas_ros.language.encoder import TextEncoder, load_encoder
from sas_ros.observation import Cloud, Up
from sas_training.alignment.aligned import AlignedTeacher
from sas_training.alignment.spacy_grammar import load_grammar
from sas_training.capability.table import CapabilityTable
from sas_training.distill.distilled import embed, words_of
from sas_training.fusion.capability_fusion import fuse_teachers
from sas_training.fusion.features import PointFeatures
from sas_training.fusion.multiview import UNREADABLE
from sas_training.learn.ahead import look_ahead
from sas_training.learn.files import LearnFiles
from sas_training.learn.loading import load_choice
from sas_training.learn.settings import TeacherChoice
from sas_training.learn.shown import SHOWN, shown_source
from sas_training.scenes.fusing import FrameSource, fuse_scene, teacher_source
from sas_training.scenes.kinds import open_scenes
from sas_training.scenes.scene import Scene
from sas_training.superpoints import Superpoints, cloud_superpoints, mesh_superpoints, points_hash
from sas_training.teachers.cache import FrameCache
from sas_training.teachers.precomputed import PrecomputedPoints
from sas_training.teachers.registry import pick_device
from sas_training.teachers.teacher import PixelTeacher, Teacher


def read_scene(files: LearnFiles, name: str) -> Scene:
    """A scene of the recording, in its own frame."""
    recording = files.recording
    return open_scenes(recording.kind, recording.path, recording.reading).named(name)


def make_cloud(files: LearnFiles, name: str) -> None:
    """The scene's points, turned so that z is up, with how it was turned."""
    scene = read_scene(files, name)
    up = Up(scene.up, "data set") if scene.up is not None else None
    if files.recording.up is not None or up is None:
        up = resolve_up(Cloud(scene.points, scene.colors), files.recording.up)
    turn = rotation_to_z_up(up.direction)
    arrays: dict[str, Any] = {
        "points": (scene.points @ turn.T).astype(np.float32),
        "rotation": turn,
        "up_from": np.array(up.source),
    }
    if scene.colors is not None:
        arrays["colors"] = scene.colors
    if scene.faces is not None:
        arrays["faces"] = scene.faces
    with atomic_path(files.cloud(name)) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **arrays)


def make_superpoints(files: LearnFiles, name: str) -> None:
    """Superpoints of a cloud of `make_cloud`."""
    with np.load(files.cloud(name), allow_pickle=False) as stored:
        points, faces = stored["points"], stored["faces"] if "faces" in stored else None
    settings = files.settings.superpoints
    if faces is None:
        labels, source = cloud_superpoints(points, settings), "cloud"
    else:
        labels, source = mesh_superpoints(points, faces, settings), "mesh"
    Superpoints(labels, settings, source, points_hash(points)).save(files.superpoint_file(name))


def make_said(files: LearnFiles, name: str, missing: Sequence[int], device: str) -> None:
    """What the teachers of those numbers say about a scene's points, in one walk over its frames.

    The file of the last one that looks at images is written last.
    """
    choices = files.settings.teachers
    for number in missing:
        if not choices[number].looks:
            _take_over(files, number, name)
    asked = [number for number in missing if choices[number].looks]
    if not asked:
        return
    cache = FrameCache(files.cache)
    teachers = {number: teacher_of(files, number, cache, device) for number in asked}
    sources = [_source(files, number, teacher, cache) for number, teacher in teachers.items()]
    scene = read_scene(files, name)
    look_ahead(scene.frames, list(teachers.values()))
    fused = fuse_scene(
        scene,
        [*sources, shown_source()],
        files.projection,
        device=pick_device(device),
        memory=round(files.settings.sums_gib * 2**30),
    )
    fused.features[SHOWN].save(files.shown(name))
    # Why a frame cannot be read is among the scene's own reasons.
    projected = {why: count for why, count in fused.skipped.items() if why != UNREADABLE}
    skipped = dict(Counter(scene.frames.skipped.counts) + Counter(projected))
    facts = {
        "frames": len(scene.frames),
        "used": fused.used,
        "skipped": skipped,
        "silent": {source.name: fused.silent[source.name] for source in sources},
        "walks": fused.walks,
    }
    if skipped:
        told = ", ".join(f"{why} ({count})" for why, count in skipped.items())
        warnings.warn(f"{name}: frames were skipped: {told}.", RuntimeWarning, stacklevel=1)
    for number, source in zip(asked, sources, strict=True):
        features = fused.features[source.name]
        features = replace(features, settings={**features.settings, "frames": facts})
        features.save(files.said(number, name))


def _take_over(files: LearnFiles, number: int, name: str) -> None:
    """Features that are there already, as those of a teacher of this run."""
    choice = files.settings.teachers[number]
    if not choice.weights:
        raise SasError(
            f"The teacher {choice.called} needs the folder of its features: weights = FOLDER."
        )
    with np.load(files.cloud(name), allow_pickle=False) as stored:
        points = len(stored["points"])
    found = PrecomputedPoints(Path(choice.weights), choice.called).features(name, points)
    replace(found, teacher=choice.called, scene=name).save(files.said(number, name))


def teacher_of(files: LearnFiles, number: int, cache: FrameCache, device: str) -> PixelTeacher:
    """A teacher of the configuration: one of pixels as it is, one of masks as an `AlignedTeacher`.

    Raises:
        SasError: something that it needs is missing, or its features lie in another space than that
            of the recipe's words.
    """
    choice, recipe = files.settings.teachers[number], files.recipe
    loaded = _loaded(choice, device)
    space = recipe.vocabulary.text_encoder
    if isinstance(loaded, PixelTeacher):
        if loaded.text_encoder != space:
            raise SasError(
                f"The features of the teacher {choice.called} lie in the space of "
                f"{loaded.text_encoder}, the recipe's words in that of {space}; choose another "
                'recipe, or change it: changes = ["vocabulary.text_encoder=..."].'
            )
        return loaded
    grammar = load_grammar(choice.grammar)
    return AlignedTeacher(loaded, text_encoder(files), choice.sentences, grammar, cache=cache)


def _source(
    files: LearnFiles, number: int, teacher: PixelTeacher, cache: FrameCache
) -> FrameSource:
    """A teacher as fusion asks it."""
    # Masks are small and kept as such; what is painted from them is quick to make again.
    kept = cache if files.settings.keep_pixels and not isinstance(teacher, AlignedTeacher) else None
    return teacher_source(teacher, files.settings.teachers[number].called, kept)


@lru_cache(maxsize=8)
def _loaded(choice: TeacherChoice, device: str) -> Teacher:
    """The teacher; loaded once a process, since weights may take minutes to read."""
    return load_choice(choice, device)


def make_features(files: LearnFiles, name: str, device: str = "cpu") -> None:
    """The teachers' features as one."""
    said = [
        PointFeatures.load(files.said(number, name))
        for number in range(len(files.settings.teachers))
    ]
    fused_of(files, said, device).save(files.feature_file(name))


def fused_of(
    files: LearnFiles, said: Sequence[PointFeatures], device: str = "cpu"
) -> PointFeatures:
    """Features of all teachers, in their order, as one; of one teacher its own."""
    if len(said) == 1:
        return said[0]
    choice, vocabulary = files.settings.fusion, files.recipe.vocabulary
    words = words_of(vocabulary.labels, vocabulary.prompt)
    return fuse_teachers(
        said,
        embed(words, text_encoder(files), None),
        words.names,
        CapabilityTable.load(Path(choice.table)) if choice.table else None,
        choice.settings,
        device=pick_device(device),
    )


def text_encoder(files: LearnFiles) -> TextEncoder:
    """The recipe's; loaded once a process. Raises `SasError` where its weights are missing."""
    return _encoder(files.recipe.vocabulary.text_encoder, files.settings.text_weights)


@lru_cache(maxsize=2)
def _encoder(name: str, weights: str) -> TextEncoder:
    return load_encoder(name, weights=Path(weights) if weights else None)
