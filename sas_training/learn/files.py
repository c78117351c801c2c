"""The files between a recording and a student.

Every folder's name ends in a key of what its files are made of: settings, teachers and their
weights, and the recording's path with the sizes and times of its files. With another setting the
files lie in another folder; what is there already under the same key is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sas_training.distill.distilled import words_of
from sas_training.distill.feature_scenes import FEATURES_SUFFIX
from sas_training.distill.recipes import Recipe, load_recipe
from sas_training.fusion.projection import ProjectionSettings
from sas_training.jobs import key_of
from sas_training.learn.settings import LearnSettings, ProjectionChoice, TeacherChoice
from sas_training.scenes.reading import SceneSettings
from sas_training.superpoints.files import SUFFIX as SUPERPOINTS_SUFFIX
from sas_training.teachers.registry import weights_hash


@dataclass(frozen=True)
class Recording:
    """What is learned from.

    Attributes:
        kind: of the scenes, see `sas_training.scenes.kinds`.
        path: folder or file.
        reading: how.
        up: (x, y, z) where the user says what is up, in the frame of the scenes.
    """

    kind: str
    path: Path
    reading: SceneSettings
    up: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class LearnFiles:
    """Where everything lies under `run`.

    Attributes:
        recipe: of the distillation, with the changes.
        cloud_key: what the clouds depend on.
        said_keys: what each teacher's features depend on.
        table_key: of the capability table, "" without one.
        words_key: of the recipe's words and their texts, which may be a file's.
    """

    run: Path
    recording: Recording
    settings: LearnSettings
    recipe: Recipe
    cloud_key: str
    said_keys: tuple[str, ...]
    table_key: str
    words_key: str

    @staticmethod
    def plan(run: Path, recording: Recording, settings: LearnSettings) -> LearnFiles:
        """Look at recording, weights and recipe once.

        Raises:
            SasError: an unknown recipe, or a fusion with a word that is not the recipe's.
        """
        recipe = load_recipe(settings.recipe, settings.changes)
        path, scan = recording.path.resolve(), recording.reading.scan
        seen = [_state(path, run.resolve()), _state(scan, run.resolve()) if scan else []]
        reading = {key: str(value) for key, value in asdict(recording.reading).items()}
        cloud = key_of(recording.kind, str(path), seen, reading, recording.up)
        text = weights_hash([Path(settings.text_weights)]) if settings.text_weights else ""
        # Keys of the usual projection are those of before it could be chosen.
        usual = settings.projection == ProjectionChoice()
        more = [] if usual else [asdict(settings.projection)]
        said = [
            key_of(cloud, _teacher_parts(choice, recipe), text, *more)
            for choice in settings.teachers
        ]
        table = settings.fusion.table
        table_key = weights_hash([Path(table)]) if table else ""
        words = words_of(recipe.vocabulary.labels, recipe.vocabulary.prompt)
        if len(settings.teachers) > 1:
            settings.fusion.check_words(words.names)
        words_key = key_of(words.names, words.texts)
        return LearnFiles(
            run, recording, settings, recipe, cloud, tuple(said), table_key, words_key
        )

    @property
    def projection(self) -> ProjectionSettings:
        """Which points a frame of the recording shows."""
        return self.settings.projection.of(self.recording.kind)

    @property
    def cache(self) -> Path:
        """What teachers said about frames."""
        return self.run / "frames"

    def clouds(self) -> Path:
        return self.run / f"clouds-{self.cloud_key}"

    def cloud(self, scene: str) -> Path:
        return self.clouds() / f"{scene}.npz"

    def superpoints(self) -> Path:
        key = key_of(self.cloud_key, asdict(self.settings.superpoints))
        return self.run / f"superpoints-{key}"

    def superpoint_file(self, scene: str) -> Path:
        return self.superpoints() / f"{scene}{SUPERPOINTS_SUFFIX}"

    def said(self, teacher: int, scene: str) -> Path:
        """Point features of one teacher."""
        folder = f"said-{self.settings.teachers[teacher].called}-{self.said_keys[teacher]}"
        return self.run / folder / f"{scene}.safetensors"

    def shown(self, scene: str) -> Path:
        """Which points a frame shows."""
        choice = self.settings.projection
        usual = choice == ProjectionChoice()
        key = self.cloud_key if usual else key_of(self.cloud_key, asdict(choice))
        return self.run / f"shown-{key}" / f"{scene}.safetensors"

    def features(self) -> Path:
        """Folder of the fused features."""
        vocabulary, fusion = asdict(self.recipe.vocabulary), asdict(self.settings.fusion)
        fusion["measure"] = self.settings.fusion.scores
        key = key_of(self.said_keys, fusion, self.table_key, vocabulary, self.words_key)
        return self.run / f"features-{key}"

    def feature_file(self, scene: str) -> Path:
        return self.features() / f"{scene}{FEATURES_SUFFIX}"

    def training(self, scenes: Sequence[str], changes: Sequence[str]) -> Path:
        """Folder of the checkpoint of a distillation on these scenes with these changes."""
        parts = [self.features().name, self.superpoints().name, list(scenes), list(changes)]
        return self.run / f"training-{key_of(parts, self.recipe.to_dict())}"


def _teacher_parts(choice: TeacherChoice, recipe: Recipe) -> list[Any]:
    """What a teacher's features of given frames depend on."""
    weights = Path(choice.weights)
    about: Any = ""
    if choice.weights:
        about = weights_hash([weights]) if weights.is_file() else _state(weights, None)
    called = [*choice.program, *choice.captioner_program]
    programs = [_state(Path(part), None) for part in called if Path(part).is_file()]
    if choice.captioner_weights:
        programs.append(_state(Path(choice.captioner_weights), None))
    # Masks become features through the recipe's text encoder.
    # How long a program may take changes nothing that it says.
    chosen = {key: value for key, value in asdict(choice).items() if key != "captioner_timeout"}
    return [chosen, about, programs, recipe.vocabulary.text_encoder]


def _state(path: Path, without: Path | None) -> list[list[Any]]:
    """Name, size and time of a file, or of all files in a folder; not of those `without`, where
    we write, nor of configurations."""
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    if without is not None:
        found = [one for one in found if without not in one.resolve().parents]
    files = [one for one in found if one.is_file() and one.suffix != ".toml"]
    about = [(str(one.relative_to(path)), one.stat()) for one in files]
    return [[name, state.st_size, state.st_mtime_ns] for name, state in about]
