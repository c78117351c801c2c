"""What the experiment makes: one function for each kind of file, to be run in any process.

All take names and settings from `Files`, read what earlier ones have written and write theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sas_training.capability.table import CapabilityTable
from sas_training.distill.feature_scenes import FEATURES_SUFFIX
from sas_training.distill.recipes import Recipe
from sas_training.evaluation.labels import SCANNET20
from sas_training.experiment.capability import measure_capability
from sas_training.experiment.checks import Learned, checked_rooms, learned_in_room
from sas_training.experiment.files import FEATURES, Files, save_predictions
from sas_training.experiment.object_files import load_pictures, make_pictures
from sas_training.experiment.room_views import (
    cloud_path,
    make_cloud,
    make_superpoints,
    read_cloud,
    read_labels,
    read_views,
    room_name,
    superpoints_path,
)
from sas_training.experiment.rows import Fusing, point_features, predictions
from sas_training.experiment.settings import PAIR, TEACHERS
from sas_training.experiment.sources import in_text_space
from sas_training.experiment.students import SAME_AT_FIRST, StudentClasses, distil, recipe_of
from sas_training.experiment.words import Words, make_words
from sas_training.fusion.features import PointFeatures
from sas_training.fusion.projection import ProjectionSettings
from sas_training.jobs import followed
from sas_training.scenes.procedural.dataset import Extras, room_path, write_frames, write_room
from sas_training.scenes.procedural.frames import frame_path
from sas_training.superpoints import Superpoints
from sas_training.teachers.teacher import PixelTeacher


def make_room_files(files: Files, group: str, index: int) -> None:
    """A room's frames, and its scan where that is used; `begin_dataset` has made the folder
    ready."""
    write: Callable[..., object] = write_frames if group == "teaching" else write_room
    wanted = Extras(frames=files.frames(group))
    write(index, out=files.world(group), seed=files.world_seed(group), wanted=wanted)


def room_files(files: Files, group: str, index: int) -> tuple[Path, ...]:
    """What `make_room_files` makes, the last at the end."""
    world = files.world(group)
    frames = tuple(frame_path(world, index, number) for number in range(files.frames(group)))
    return frames if group == "teaching" else (*frames, room_path(world, index))


def make_cloud_files(files: Files, group: str, index: int) -> None:
    """A room's points, labels and superpoints."""
    clouds = files.clouds(group)
    if not cloud_path(clouds, index).exists():
        points, seed = files.settings.rooms.points, files.world_seed(group)
        make_cloud(files.world(group), index, clouds, points, seed)
    make_superpoints(clouds, index, files.settings.superpoints)


def make_word_file(files: Files) -> None:
    """Text vectors of all words that teachers say and of the classes."""
    from sas_ros.language.encoder import load_encoder

    settings = files.settings
    said = [word for one in settings.teachers.by_name.values() for word in one.said]
    make_words(load_encoder(settings.text_encoder), settings.prompt, said).save(files.words)


def teach(files: Files, name: str, seed: int) -> None:
    """A teacher; a training that was stopped goes on."""
    from sas_training.experiment.pictures import labelled_pictures
    from sas_training.experiment.teachers import TeacherFacts, save_teacher
    from sas_training.experiment.training import TeacherTraining

    settings, target = files.settings.teachers.by_name[name], files.teacher(name, seed)
    words = Words.load(files.words)
    texts = words.of(settings.said)
    pictures = labelled_pictures(
        files.world("teaching"), files.rooms("teaching"), files.frames("teaching")
    )
    # Teachers of one repetition begin and look at pictures differently.
    own = 100 * seed + TEACHERS.index(name)
    run = target.with_suffix(".checkpoint.pt")
    training = TeacherTraining(pictures, settings, texts, own, run)
    for _ in followed(training.steps(), settings.steps, training.step, name):
        pass
    outputs = training.network.kernel.shape[1]
    encoder = files.settings.text_encoder
    facts = TeacherFacts(
        name, settings.kind, settings.said, encoder, settings.width, settings.blur, outputs
    )
    save_teacher(target, training.network, facts)


def _teachers(files: Files, seed: int, words: Words) -> dict[str, PixelTeacher]:
    from sas_training.experiment.teachers import load_small_teacher

    found = {name: load_small_teacher(files.teacher(name, seed)) for name in TEACHERS}
    return {name: in_text_space(teacher, words) for name, teacher in found.items()}


def make_object_pictures(files: Files, name: str, seed: int) -> None:
    """The pictures of a class that capabilities are measured on in a repetition."""
    make_pictures(files.pictures(seed, name), name, files.settings.capability.images, seed)


def measure(files: Files, seed: int) -> None:
    """The capability table of a repetition."""
    words, images = Words.load(files.words), files.settings.capability.images
    pictures = (load_pictures(files.pictures(seed, name)) for name in SCANNET20.names)
    table = measure_capability(_teachers(files, seed, words), words, pictures, images, seed)
    table.save(files.capability(seed))


def _fusing(files: Files, seed: int) -> Fusing:
    settings = files.settings
    return Fusing(
        Words.load(files.words),
        CapabilityTable.load(files.capability(seed)),
        ProjectionSettings(settings.boundary, settings.occlusion),
        settings.tau,
        settings.capability.measure,
        seed,
    )


def predict_2d(files: Files, seeds: Sequence[int], index: int) -> None:
    """What the rows without students say about a held-out room, in repetitions that share their
    teachers."""
    features = _seen(files, seeds, "held_out", index)
    truth = read_labels(files.clouds("held_out"), index)
    for seed in seeds:
        said = predictions(features, _fusing(files, seed), truth)
        save_predictions(files.predictions_2d(seed, index), said)


def _seen(files: Files, seeds: Sequence[int], group: str, index: int) -> dict[str, PointFeatures]:
    """Features of a room's points, by teacher; the teachers of `seeds` are the same."""
    fusing = _fusing(files, seeds[0])
    views = read_views(files.world(group), index, files.frames(group))
    points, _ = read_cloud(files.clouds(group), index)
    teachers = _teachers(files, seeds[0], fusing.words)
    return point_features(points, views, teachers, fusing.projection, room_name(index))


def features_path(folder: Path, index: int) -> Path:
    """The features of a room in a folder of them."""
    return folder / f"{room_name(index)}{FEATURES_SUFFIX}"


def fused_path(files: Files, seed: int, which: str, index: int) -> Path:
    """The fused features of a room for students, of one of `FEATURES`."""
    return features_path(files.features(seed, which), index)


def fuse(files: Files, seeds: Sequence[int], index: int) -> None:
    """The fused features of a room for students, of repetitions that share their teachers."""
    features = _seen(files, seeds, "students", index)
    for seed in seeds:
        fusing = _fusing(files, seed)
        for which, names in zip(FEATURES, (PAIR, TEACHERS), strict=True):
            path = fused_path(files, seed, which, index)
            fusing.fused(features, names, "capability").save(path)


def distil_row(files: Files, row: str, seed: int) -> None:
    """The student of a row; a training that was stopped goes on.

    Until stage 2 is prepared `3d/self-distillation` does what `3d/superpoint` does, with the same
    seed: it begins with a checkpoint of that one.
    """
    from sas_training.distill.distiller import shared_epochs

    clouds, target = files.clouds("students"), files.student(row, seed)
    first, second = SAME_AT_FIRST
    copy = files.student(first, seed).with_suffix("") / "shared.pt"
    epochs = shared_epochs(recipe_of(second, files.settings.student, seed))
    distil(
        clouds / "clouds",
        files.features(seed, learned_from(row)),
        clouds / "superpoints",
        recipe_of(row, files.settings.student, seed),
        Words.load(files.words),
        target.with_suffix(""),
        target,
        keep=(epochs, copy) if row == first and epochs else None,
        begin=copy if row == second else None,
    )


def learned_from(row: str) -> str:
    """Which of `FEATURES` a row's student is told."""
    return FEATURES[1] if row == "3d/three-teachers" else FEATURES[0]


def compare(files: Files, row: str, seed: int) -> None:
    """What a student says in rooms of its own, against what it was told there and the truth."""
    features = files.features(seed, learned_from(row))
    recipe, words = recipe_of(row, files.settings.student, seed), Words.load(files.words)
    compared(files, files.student(row, seed), features, recipe, words).save(
        files.learned(row, seed)
    )


def compared(files: Files, student: Path, told: Path, recipe: Recipe, words: Words) -> Learned:
    """What a student that was told the features of a folder says in some rooms of its own."""
    says, clouds = StudentClasses(student), files.clouds("students")
    temperature, over = recipe.objective.teacher_temperature, recipe.objective.targets
    rooms = []
    for index in checked_rooms(files.rooms("students")):
        features = PointFeatures.load(features_path(told, index))
        said = says.of(*read_cloud(clouds, index))
        truth, owner = read_labels(clouds, index), None
        if over == "superpoint":
            owner = Superpoints.load(superpoints_path(clouds, index)).labels
        rooms.append(learned_in_room(features, said, truth, words, temperature, owner))
    return sum(rooms[1:], start=rooms[0])


def predict_3d(files: Files, row: str, seed: int) -> None:
    """What a student says about the held-out rooms."""
    rooms = range(files.rooms("held_out"))
    paths = [files.predictions_3d(row, seed, index) for index in rooms]
    predict_rooms(files, row, files.student(row, seed), paths)


def predict_rooms(files: Files, row: str, student: Path, paths: Sequence[Path]) -> None:
    """Write what a student says about each held-out room, as that of a row."""
    says, clouds = StudentClasses(student), files.clouds("held_out")
    for index, path in enumerate(paths):
        if not path.exists():
            save_predictions(path, {row: says.of(*read_cloud(clouds, index))})
