"""Where everything of a run of the experiment lies, and the small files that are its own.

What a file is made of is in its name, as a key (`jobs.key_of`): other settings lie beside it, and
nothing that is out of date is ever taken for new.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import atomic_path
from sas_training.experiment.checks import LEARNED_VERSION, checked_rooms
from sas_training.experiment.room_views import room_name
from sas_training.experiment.settings import TEACHERS, ExperimentSettings, SeedSettings
from sas_training.experiment.students import recipe_of
from sas_training.jobs import key_of
from sas_training.scenes.procedural.manifest import WORLD_VERSION

VERSION = 1
"""Raised when the same settings begin to give other files."""

GROUPS = ("teaching", "students", "held_out")
FEATURES = ("two", "three")
"""Fused features that students learn from: of the pair, and of all teachers."""


@dataclass(frozen=True)
class Files:
    """The paths of a run with one group of seeds.

    Attributes:
        run: folder of everything.
        settings: of the experiment.
        seeds: one of its groups.
    """

    run: Path
    settings: ExperimentSettings
    seeds: SeedSettings

    def rooms(self, group: str) -> int:
        """How many rooms a group of `GROUPS` has."""
        count: int = getattr(self.settings.rooms, group)
        return count

    def frames(self, group: str) -> int:
        """Frames of each of its rooms."""
        rooms = self.settings.rooms
        return rooms.teaching_frames if group == "teaching" else rooms.frames

    def world_seed(self, group: str) -> int:
        """Seed of its rooms: no two groups share one."""
        return 10 * self.seeds.world + GROUPS.index(group)

    @property
    def words(self) -> Path:
        settings = self.settings
        key = key_of(settings.text_encoder, settings.prompt, self._teachers_known())
        return self.run / f"words-{key}.npz"

    def _teachers_known(self) -> list[list[str]]:
        by_name = self.settings.teachers.by_name
        return [list(one.said) for one in by_name.values()]

    def world(self, group: str) -> Path:
        """Folder of `sas world make`."""
        return self.run / f"world-{group}-{self._world_key(group)}"

    def _world_key(self, group: str) -> str:
        return key_of(VERSION, WORLD_VERSION, self.world_seed(group), self.frames(group))

    def clouds(self, group: str) -> Path:
        """Folder of the points, labels and superpoints of its rooms."""
        points, cut = self.settings.rooms.points, asdict(self.settings.superpoints)
        key = key_of(self._world_key(group), self.rooms(group), points, cut)
        return self.run / f"clouds-{group}-{key}"

    def teacher(self, name: str, seed: int) -> Path:
        """Weights of a teacher of a repetition, or of all."""
        seed = self.seeds.runs[0] if self.settings.teachers_once else seed
        return self._of(seed) / f"teacher-{name}-{self._teacher_key(name, seed)}.safetensors"

    def _teacher_key(self, name: str, seed: int) -> str:
        about = asdict(self.settings.teachers.by_name[name])
        rooms = self.rooms("teaching")
        return key_of(self._world_key("teaching"), rooms, about, name, seed, self.words.stem)

    def pictures(self, seed: int, name: str) -> Path:
        """The pictures of single objects of a class that capabilities are measured on."""
        key = key_of(VERSION, WORLD_VERSION, self.settings.capability.images)
        return self._of(seed) / f"objects-{key}" / f"{name.replace(' ', '-')}.npz"

    def capability(self, seed: int) -> Path:
        """The table of a repetition."""
        key = key_of(self._teacher_keys(seed), seed, self.settings.capability.images)
        return self._of(seed) / f"capability-{key}.json"

    def _teacher_keys(self, seed: int) -> list[str]:
        return [self.teacher(name, seed).stem for name in TEACHERS]

    def predictions_2d(self, seed: int, index: int) -> Path:
        """What the rows without students say about a held-out room."""
        return self._of(seed) / f"rows-{self._fusion_key(seed, 'held_out')}" / _npz(index)

    def _fusion_key(self, seed: int, group: str) -> str:
        s = self.settings
        return key_of(
            self.clouds(group).name,
            self.capability(seed).stem,
            [s.tau, s.boundary, s.occlusion, s.capability.measure],
        )

    def features(self, seed: int, which: str) -> Path:
        """Folder of the fused features, one of `FEATURES`, of the rooms for students."""
        return self._of(seed) / f"features-{which}-{self._fusion_key(seed, 'students')}"

    def student(self, row: str, seed: int) -> Path:
        """Bundle of a row's student; its checkpoint is in the folder of the same name."""
        recipe = recipe_of(row, self.settings.student, seed).to_dict()
        key = key_of(self._fusion_key(seed, "students"), self.rooms("students"), recipe)
        return self._of(seed) / f"student-{row.removeprefix('3d/')}-{key}.safetensors"

    def predictions_3d(self, row: str, seed: int, index: int) -> Path:
        """What a student says about a held-out room."""
        key = key_of(self.student(row, seed).stem, self.clouds("held_out").name)
        name = f"student-{row.removeprefix('3d/')}-rooms-{key}"
        return self._of(seed) / name / _npz(index)

    def learned(self, row: str, seed: int) -> Path:
        """What a student says in some of the rooms that it learned from, counted."""
        rooms = checked_rooms(self.rooms("students"))
        key = key_of(self.student(row, seed).stem, rooms, LEARNED_VERSION)
        return self._of(seed) / f"student-{row.removeprefix('3d/')}-learned-{key}.npz"

    def _of(self, seed: int) -> Path:
        return self.run / f"seed-{seed}"


def _npz(index: int) -> str:
    return f"{room_name(index)}.npz"


def save_predictions(path: Path, rows: dict[str, npt.NDArray[np.int64]]) -> None:
    """Write predicted classes (N,) by row, atomically."""
    small: dict[str, Any] = {name: values.astype(np.int16) for name, values in rows.items()}
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **small)


def load_predictions(path: Path) -> dict[str, npt.NDArray[np.int64]]:
    """Read a file of `save_predictions`; raises SasError for anything else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name].astype(np.int64) for name in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise SasError(f"{path} holds no predictions: {error}; remove it.") from error
