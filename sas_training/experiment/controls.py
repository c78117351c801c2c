"""Students that are told something else than the teachers say: why rows are as they are.

All learn in the ablation's rooms for students, by the recipe of one of its rows and with the seeds
of its repetitions, and are measured in its held-out rooms. They are told the text vector of a class
at every point that has one:

- `truth`: of the true class;
- `spread`: the same, with the mean of the class vectors taken away from every text vector and
  lengths made one again, so that classes are no longer all alike; the student is asked by these;
- `noise`: at `NOISE` of the superpoints that of the class of some point of the room, drawn by
  chance: wrong, but not alike from one room to the next, so that a student can do better than it
  was told.

Self-distillation of students told `noise` has a history of one of these kinds:

- `training`: of what the student says in training;
- `whole`: of what it says about whole rooms, with averaged weights;
- `fixed`: one pass over whole rooms when stage 2 begins, averaged over superpoints, that then
  hardly moves, as in the released code.

Labels are read here, so that none of these students is a result of the method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sas_training.distill.recipes import Recipe
from sas_training.distill.self_distillation import SelfDistillation
from sas_training.experiment.checks import LEARNED_VERSION, checked_rooms
from sas_training.experiment.files import Files
from sas_training.experiment.making import compared, features_path, predict_rooms
from sas_training.experiment.room_views import read_labels, room_name, superpoints_path
from sas_training.experiment.stages import clouds_stage, rooms_stage, words_stage
from sas_training.experiment.students import COSINE, ROWS_3D, distil, recipe_of
from sas_training.experiment.words import Words
from sas_training.fusion.features import PointFeatures
from sas_training.jobs import Job, Stage, key_of
from sas_training.superpoints import Superpoints

VERSION = 1
"""Raised when the same settings begin to give other files."""

NOISE = 0.6
"""Share of the superpoints that are told the class of a point drawn by chance."""

PASSES = 4
"""Epochs from one pass over whole rooms to the next: an epoch is few steps here."""

_IGNORED = 255


@dataclass(frozen=True)
class Control:
    """A student.

    Attributes:
        name: of its row.
        of: row of the ablation whose recipe it has.
        told: `truth`, `spread` or `noise`.
        longer: times as many epochs, before and in stage 2.
        history: `training`, `whole` or `fixed`, where it has a stage 2.
    """

    name: str
    of: str
    told: str
    longer: int = 1
    history: str = "training"

    def recipe(self, base: Recipe, seed: int) -> Recipe:
        """Of a repetition; `base` is the experiment's."""
        own = recipe_of(self.of, base, seed)
        schedule = replace(own.schedule, epochs=self.longer * own.schedule.epochs)
        stage = own.self_distillation
        if stage.used:
            stage = replace(
                stage,
                history_epoch=self.longer * stage.history_epoch,
                start_epoch=self.longer * stage.start_epoch,
            )
            stage = with_history(stage, self.history)
        return replace(own, description=self.name, schedule=schedule, self_distillation=stage)


def with_history(stage: SelfDistillation, history: str) -> SelfDistillation:
    """A stage 2 with a history of another kind, that forgets as much in an epoch where it moves."""
    apart = stage.history_every if stage.views == "whole" else 1
    alpha = float(stage.alpha ** (1 / apart))  # of an epoch
    if history == "training":
        return replace(stage, views="training", history_every=1, alpha=round(alpha, 4))
    if history == "whole":
        every = round(alpha**PASSES, 4)
        return replace(stage, views="whole", history_every=PASSES, alpha=every)
    return replace(
        stage,
        views="training",
        history_every=1,
        history_epoch=stage.start_epoch,
        initialise=True,
        alpha=0.9999,
        bias_correction=False,
        precision="float32",
    )


CONTROLS = (
    Control("3d/noise", "3d/superpoint", "noise", longer=5),
    Control("3d/truth-longer", "3d/superpoint", "truth", longer=5),
    Control("3d/noise-self-distillation", "3d/self-distillation", "noise", longer=5),
    Control(
        "3d/noise-self-distillation-whole",
        "3d/self-distillation",
        "noise",
        longer=5,
        history="whole",
    ),
    Control(
        "3d/noise-self-distillation-fixed",
        "3d/self-distillation",
        "noise",
        longer=5,
        history="fixed",
    ),
    Control("3d/truth", "3d/superpoint", "truth"),
    Control("3d/truth-cosine", COSINE, "truth"),
    Control("3d/spread-cosine", COSINE, "spread"),
)
"""The longest come first, so that the end finds no process alone with one."""

SAME_AT_FIRST = tuple(one.name for one in CONTROLS if one.told == "noise")
"""Controls that do the same until the second of them prepares its stage 2, or longer."""

ABLATION_ROWS = ("2d/capability", "3d/superpoint", COSINE, "3d/self-distillation")
"""Rows of the ablation that the result repeats where they are all there."""

ROOMS = ("students", "held_out")
"""The groups of rooms that are needed."""

STEPS = (
    ("3d/superpoint", "3d/truth"),
    ("3d/truth", "3d/truth-longer"),
    ("3d/truth-cosine", "3d/truth"),
    ("3d/truth-cosine", "3d/spread-cosine"),
    ("3d/spread-cosine", "3d/truth"),
    ("3d/noise", "3d/noise-self-distillation"),
    ("3d/noise", "3d/noise-self-distillation-whole"),
    ("3d/noise", "3d/noise-self-distillation-fixed"),
    ("3d/noise-self-distillation", "3d/noise-self-distillation-whole"),
    ("3d/superpoint", "3d/self-distillation"),
)
"""What the result compares."""


@dataclass(frozen=True)
class ControlFiles:
    """Where everything lies, in the folder of the ablation.

    Attributes:
        ablation: files of the ablation; what is needed of it is made, and its rows are only read.
    """

    ablation: Files

    def words(self, told: str) -> Path:
        """The text vectors that a student is told and asked by."""
        if told != "spread":
            return self.ablation.words
        return self._folder / f"words-spread-{key_of(VERSION, self.ablation.words.stem)}.npz"

    def told(self, told: str, seed: int) -> Path:
        """Folder of the features that students are told."""
        clouds = self.ablation.clouds("students").name
        chance = [NOISE, seed] if told == "noise" else []
        key = key_of(VERSION, clouds, self.words(told).stem, told, chance)
        return self._folder / f"told-{told}-{key}"

    def student(self, control: Control, seed: int) -> Path:
        """Bundle of a student; its checkpoint is in the folder of the same name."""
        recipe = control.recipe(self.ablation.settings.student, seed).to_dict()
        rooms = self.ablation.rooms("students")
        key = key_of(self.told(control.told, seed).name, rooms, recipe)
        return self._of(seed) / f"{_short(control)}-{key}.safetensors"

    def predictions(self, control: Control, seed: int, index: int) -> Path:
        """What a student says about a held-out room."""
        key = key_of(self.student(control, seed).stem, self.ablation.clouds("held_out").name)
        return self._of(seed) / f"{_short(control)}-rooms-{key}" / f"{room_name(index)}.npz"

    def learned(self, control: Control, seed: int) -> Path:
        """What a student says in some rooms of its own, counted."""
        rooms = checked_rooms(self.ablation.rooms("students"))
        key = key_of(self.student(control, seed).stem, rooms, LEARNED_VERSION)
        return self._of(seed) / f"{_short(control)}-learned-{key}.npz"

    @property
    def _folder(self) -> Path:
        return self.ablation.run / "controls"

    def _of(self, seed: int) -> Path:
        return self._folder / f"seed-{seed}"

    def rows(self) -> dict[str, Callable[[int, int], Path]]:
        """Where the predictions of every row lie, as `pipeline.counts_of_rows` takes it."""
        return {control.name: partial(self.predictions, control) for control in CONTROLS}

    def finished(self) -> bool:
        """Whether the rows of the ablation are there too."""
        own = self.ablation
        rooms, seeds = range(own.rooms("held_out")), own.seeds.runs
        two = (own.predictions_2d(seed, index) for seed in seeds for index in rooms)
        three = (
            own.predictions_3d(row, seed, index)
            for row in ROWS_3D
            for seed in seeds
            for index in rooms
        )
        return all(path.is_file() for path in (*two, *three))


def _short(control: Control) -> str:
    return control.name.removeprefix("3d/")


def stages_of(files: ControlFiles) -> list[Stage]:
    """All files of the controls and the ablation's rooms, and what makes them; `begin_rooms`
    comes before."""
    own = files.ablation
    rooms, seeds = range(own.rooms("students")), own.seeds.runs
    told = {files.told(one.told, seed): (one.told, seed) for one in CONTROLS for seed in seeds}
    every = [(control, seed) for seed in seeds for control in CONTROLS]
    last = own.rooms("held_out") - 1

    def features(control: Control, seed: int) -> tuple[Path, ...]:
        folder = files.told(control.told, seed)
        return tuple(features_path(folder, index) for index in rooms)

    def before(control: Control, seed: int) -> tuple[Path, ...]:
        """What a training reads: the features, and perhaps the checkpoint of another one."""
        first = tuple(one for one in CONTROLS if one.name == SAME_AT_FIRST[0])
        others = first if control.name in SAME_AT_FIRST[1:] else ()
        return *features(control, seed), *(files.student(one, seed) for one in others)

    def heard(told: str, index: int) -> tuple[Path, ...]:
        return files.words(told), superpoints_path(own.clouds("students"), index)

    spread = Job(files.words("spread"), spread_words, (files,), (own.words,))
    held_out = tuple(
        superpoints_path(own.clouds("held_out"), index) for index in range(own.rooms("held_out"))
    )
    return [
        words_stage(own),
        *(of(own, group) for group in ROOMS for of in (rooms_stage, clouds_stage)),
        Stage("spread text vectors", [spread]),
        Stage(
            "what students are told",
            [
                Job(
                    features_path(folder, index),
                    tell,
                    (files, *what, index),
                    heard(what[0], index),
                )
                for folder, what in told.items()
                for index in rooms
            ],
        ),
        Stage(
            "students of controls",
            [
                Job(files.student(*one), distil_control, (files, *one), before(*one))
                for one in every
            ],
        ),
        Stage(
            "controls in held-out rooms",
            [
                Job(
                    files.predictions(*one, last),
                    predict,
                    (files, *one),
                    (files.student(*one), *held_out),
                )
                for one in every
            ],
        ),
        Stage(
            "controls in rooms of their own",
            [
                Job(files.learned(*one), compare, (files, *one), (files.student(*one),))
                for one in every
            ],
        ),
    ]


def spread_words(files: ControlFiles) -> None:
    """The ablation's text vectors without the mean of its classes."""
    words = Words.load(files.ablation.words)
    apart = words.vectors - words.classes.mean(axis=0)
    lengths = np.linalg.norm(apart, axis=1, keepdims=True)
    replace(words, vectors=apart / np.maximum(lengths, 1e-12)).save(files.words("spread"))


def tell(files: ControlFiles, told: str, seed: int, index: int) -> None:
    """What students of `told` are told about a room."""
    clouds = files.ablation.clouds("students")
    labels = read_labels(clouds, index)
    if told == "noise":
        owner = Superpoints.load(superpoints_path(clouds, index)).labels
        labels = with_noise(labels, owner, NOISE, np.random.default_rng((61, seed, index)))
    known = labels != _IGNORED
    features = Words.load(files.words(told)).classes[labels[known]].astype(np.float16)
    path = features_path(files.told(told, seed), index)
    PointFeatures(features, known, told, room_name(index)).save(path)


def with_noise(
    labels: npt.NDArray[np.int64],
    owner: npt.NDArray[np.integer],
    share: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Labels (N,), 255 ignored, where a share of the superpoints `owner` (N,) (-1: none) have, at
    all their points with a label, that of a point drawn by chance, which may be their own."""
    known = labels != _IGNORED
    if not known.any():
        return labels
    groups = int(owner.max(initial=-1)) + 1
    drawn = rng.choice(labels[known], size=groups)
    wrong = rng.random(groups) < share
    inside = known & (owner >= 0)
    inside[inside] = wrong[owner[inside]]
    result = labels.copy()
    result[inside] = drawn[owner[inside]]
    return result


def distil_control(files: ControlFiles, control: Control, seed: int) -> None:
    """The student of a control; a training that was stopped goes on, and one that was the same
    until then with a checkpoint of the other, where it is there."""
    from sas_training.distill.distiller import shared_epochs

    clouds, target = files.ablation.clouds("students"), files.student(control, seed)
    by_name, base = {one.name: one for one in CONTROLS}, files.ablation.settings.student
    first, second = (by_name[name] for name in SAME_AT_FIRST[:2])
    copy = files.student(first, seed).with_suffix("") / "shared.pt"
    epochs = shared_epochs(second.recipe(base, seed))
    distil(
        clouds / "clouds",
        files.told(control.told, seed),
        clouds / "superpoints",
        control.recipe(base, seed),
        Words.load(files.words(control.told)),
        target.with_suffix(""),
        target,
        keep=(epochs, copy) if control == first and epochs else None,
        begin=copy if control.name in SAME_AT_FIRST[1:] else None,
    )


def predict(files: ControlFiles, control: Control, seed: int) -> None:
    """What a student says about the held-out rooms."""
    rooms = range(files.ablation.rooms("held_out"))
    paths = [files.predictions(control, seed, index) for index in rooms]
    predict_rooms(files.ablation, control.name, files.student(control, seed), paths)


def compare(files: ControlFiles, control: Control, seed: int) -> None:
    """What a student says in rooms of its own, against what it was told there and the truth."""
    words = Words.load(files.words(control.told))
    recipe = control.recipe(files.ablation.settings.student, seed)
    student, told = files.student(control, seed), files.told(control.told, seed)
    compared(files.ablation, student, told, recipe, words).save(files.learned(control, seed))
