"""What the experiment is: one TOML file per scale in `config/experiment/`, typed here.

Every figure of a result follows from this file, one of its two groups of seeds and the code:
choices are made on the seeds of development and measured once on the final ones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sas_ros.errors import SasError
from sas_ros.language.prompts import check_prompt
from sas_training.distill.optimiser import check_optimiser
from sas_training.distill.recipes import Recipe, VocabularySettings, preset_of
from sas_training.distill.tables import config_folders, read_toml, settings_from
from sas_training.distill.words import class_text
from sas_training.evaluation.labels import SCANNET20
from sas_training.superpoints import SuperpointSettings

KINDS = ("pixels", "masks")
SCALES = ("tiny", "small", "full")
SEED_GROUPS = ("development", "final")


@dataclass(frozen=True)
class TeacherSettings:
    """One 2D network, and what it is taught.

    Attributes:
        kind: "pixels" gives features in the space of the text encoder, "masks" gives regions with
            words of a closed list.
        known: classes it is taught; what shows another is left out of its training. Empty: all.
        words: what it calls the classes of `known`, in their order; empty: by their names.
        noisy: classes of which a share `noise` of the objects carries the name of another of them,
            for each class always the same one: what a wrongly labelled data set does.
        noise: that share, 0 to 1.
        blur: it sees means of blur x blur pixels of its picture.
        steps, batch, learning_rate: of its training.
        optimiser: one of `sas_training.distill.optimiser.OPTIMISERS`.
        width: channels of its first layer.
    """

    kind: str = "pixels"
    known: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    noisy: tuple[str, ...] = ()
    noise: float = 0.0
    blur: int = 1
    steps: int = 1000
    batch: int = 8
    learning_rate: float = 2e-3
    optimiser: str = "adamw"
    width: int = 24

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SasError(f"The kind {self.kind!r} is unknown; known are {', '.join(KINDS)}.")
        check_optimiser(self.optimiser)
        for name in (*self.known, *self.noisy):
            if name not in SCANNET20.names:
                raise SasError(f"{name!r} is no class; known are {', '.join(SCANNET20.names)}.")
        if self.words and len(self.words) != len(self.classes):
            raise SasError(
                f"There are {len(self.words)} words for {len(self.classes)} known classes."
            )
        if not 0 <= self.noise <= 1:
            raise SasError(f"A share of {self.noise:g} wrong objects is not in 0 to 1.")
        if self.noise and len(self.noisy) < 2:
            raise SasError("Noise needs two classes or more that can be mixed up.")
        if self.blur not in (1, 2, 4):
            raise SasError(f"The blur must be 1, 2 or 4 pixels, not {self.blur}.")
        for name in ("steps", "batch", "width"):
            if getattr(self, name) < 1:
                raise SasError(f"The {name} of a teacher must be 1 or more.")
        if not 0 < self.learning_rate < 1:
            raise SasError(f"A learning rate of {self.learning_rate:g} is not in 0 to 1.")

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes it is taught, in the order of its outputs."""
        return self.known or SCANNET20.names

    @property
    def said(self) -> tuple[str, ...]:
        """What it calls them, in the same order."""
        return self.words or tuple(class_text(name) for name in self.classes)


@dataclass(frozen=True)
class TeachersSettings:
    """The teachers by name; the first two are fused, the third joins them in the last row.

    At least one is of each kind.
    """

    surfaces: TeacherSettings = field(default_factory=TeacherSettings)
    objects: TeacherSettings = field(default_factory=lambda: TeacherSettings(kind="masks"))
    distant: TeacherSettings = field(default_factory=lambda: TeacherSettings(blur=4))

    def __post_init__(self) -> None:
        kinds = {teacher.kind for teacher in self.by_name.values()}
        if kinds != set(KINDS):
            raise SasError("One teacher at least must be of each kind, pixels and masks.")

    @property
    def by_name(self) -> dict[str, TeacherSettings]:
        return {name: getattr(self, name) for name in TEACHERS}


TEACHERS = ("surfaces", "objects", "distant")
PAIR = TEACHERS[:2]


@dataclass(frozen=True)
class RoomsSettings:
    """How many rooms there are of each group, and how they are looked at.

    Attributes:
        teaching, teaching_frames: labelled frames the teachers learn from.
        students: rooms without labels the students learn from.
        held_out: rooms that everything is measured in.
        frames: of each room of the two groups before.
        points: of each of these rooms.
    """

    teaching: int = 80
    teaching_frames: int = 6
    students: int = 40
    held_out: int = 24
    frames: int = 20
    points: int = 30_000

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise SasError(f"{name} must be 1 or more, not {value}.")


@dataclass(frozen=True)
class CapabilitySettings:
    """The pictures that capabilities are measured on.

    Attributes:
        images: of each class.
        measure: `macro` (paper) or `micro` (released code).
    """

    images: int = 20
    measure: str = "macro"

    def __post_init__(self) -> None:
        if self.images < 1:
            raise SasError("Capabilities need a picture or more of each class.")
        if self.measure not in ("macro", "micro"):
            raise SasError(f"{self.measure!r} is no measure; use macro or micro.")


@dataclass(frozen=True)
class SeedSettings:
    """Where chance begins.

    Attributes:
        world: of the rooms; different for development and final.
        runs: of teachers, capability pictures and students: each is a repetition of the whole.
    """

    world: int = 1
    runs: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        if not self.runs or len(set(self.runs)) != len(self.runs):
            raise SasError("Repetitions need seeds, each of them once.")
        if min(self.world, *self.runs) < 0:
            raise SasError("Seeds are 0 or more.")


@dataclass(frozen=True)
class ExperimentSettings:
    """The whole experiment.

    Attributes:
        text_encoder, prompt: of every word.
        teachers_once: all repetitions share the teachers of the first; what comes after them is
            repeated, as with teachers that somebody else has trained.
        tau: temperature of the fusion by capability.
        boundary, occlusion: what counts as seen, see `ProjectionSettings`.
        student: recipe of the distillation; the rows change its objective and its last part.
        development, final: seeds to choose settings with, and to measure with, once.
    """

    scale: str = "tiny"
    text_encoder: str = "minilm-l6-v2"
    prompt: str = "a {} in a scene"
    teachers_once: bool = False
    tau: float = 0.05
    boundary: int = 3
    occlusion: float = 0.1
    rooms: RoomsSettings = field(default_factory=RoomsSettings)
    teachers: TeachersSettings = field(default_factory=TeachersSettings)
    capability: CapabilitySettings = field(default_factory=CapabilitySettings)
    superpoints: SuperpointSettings = field(default_factory=SuperpointSettings)
    student: Recipe = field(
        default_factory=lambda: Recipe(vocabulary=VocabularySettings(text_encoder="minilm-l6-v2"))
    )
    development: SeedSettings = field(default_factory=SeedSettings)
    final: SeedSettings = field(default_factory=lambda: SeedSettings(2, (2,)))

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        if self.development.world == self.final.world:
            raise SasError("The rooms of development and the final ones need different seeds.")
        if set(self.development.runs) & set(self.final.runs):
            raise SasError("The repetitions of development and the final ones share a seed.")
        words = self.student.vocabulary
        if (words.text_encoder, words.prompt) != (self.text_encoder, self.prompt):
            raise SasError("The student's text encoder and prompt must be those of the experiment.")
        if not self.student.self_distillation.used:
            raise SasError("The recipe of the student needs self-distillation: a row is about it.")

    def seeds(self, group: str) -> SeedSettings:
        """The seeds of a group of `SEED_GROUPS`."""
        if group not in SEED_GROUPS:
            raise SasError(f"{group!r} are no seeds; use {' or '.join(SEED_GROUPS)}.")
        chosen: SeedSettings = getattr(self, group)
        return chosen

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def load_settings(scale_or_path: str) -> ExperimentSettings:
    """Read the settings of a scale, or a TOML file; raises SasError for a mistake in it."""
    path = _find(scale_or_path)
    tables, base = read_toml(path), ExperimentSettings()
    student = tables.get("student")
    if isinstance(student, dict):
        stage = preset_of(student, f"{path}, table student")
        if stage.used:  # one that is not is refused below, with the file's name
            base = replace(base, student=replace(base.student, self_distillation=stage))
    return settings_from(base, tables, str(path))


def _find(scale_or_path: str) -> Path:
    path = Path(scale_or_path)
    if path.suffix == ".toml":
        return path
    for folder in config_folders("experiment"):
        candidate = folder / f"{scale_or_path}.toml"
        if candidate.is_file():
            return candidate
    raise SasError(
        f"There is no experiment of the scale {scale_or_path!r}; use {', '.join(SCALES)}, or the "
        "path of a .toml file."
    )
