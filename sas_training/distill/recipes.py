"""Recipes of distillation: everything that decides a run but its data, as typed settings.

A recipe is a TOML file; those that come along are in `config/distill/`. Every key is one of the
fields below, in the table of its dataclass; what is left out keeps the value it has here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sas_ros.errors import SasError
from sas_ros.language.prompts import check_prompt
from sas_ros.student.inputs import INPUTS
from sas_ros.student.minkunet import MinkUNetConfig, minkunet14a, minkunet18a, minkunet34c
from sas_training.distill.objectives import ObjectiveSettings
from sas_training.distill.optimiser import OPTIMISERS
from sas_training.distill.scene_augment import AugmentSettings
from sas_training.distill.self_distillation import VARIANTS, SelfDistillation, variant
from sas_training.distill.tables import config_folders, read_toml, read_value, settings_from
from sas_training.distill.trainer import TINY_PLANES

FOLDER = "distill"
_FAMILIES = {"minkunet14a": minkunet14a, "minkunet18a": minkunet18a, "minkunet34c": minkunet34c}
FAMILIES = (*_FAMILIES, "tiny")
NORMS = ("batch", "frozen")
SCHEDULES = ("linear", "poly", "constant")
PRECISIONS = ("float32", "float16", "bfloat16")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise SasError(f"{name} must lie in {low:g} to {high:g}, not {value:g}.")


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise SasError(f"{name} {value!r} is unknown; known are {', '.join(known)}.")


@dataclass(frozen=True)
class NetworkSettings:
    """The student.

    Attributes:
        family: one of `FAMILIES`; "tiny" has the widths of the shipped indoor student.
        inputs: input channels, see `sas_ros.student.inputs.INPUTS`; the paper's are three ones.
        norms: "batch" is ordinary batch norm (over all processes on GPUs); "frozen" keeps its
            running statistics as they are, for going on from a trained student.
    """

    family: str = "minkunet18a"
    inputs: tuple[str, ...] = ("one", "one", "one")
    norms: str = "batch"

    def __post_init__(self) -> None:
        _one_of("family", self.family, FAMILIES)
        _one_of("norms", self.norms, NORMS)
        for name in self.inputs:
            _one_of("the input", name, INPUTS)
        if not self.inputs:
            raise SasError("inputs must name at least one channel.")

    def config(self, channels: int) -> MinkUNetConfig:
        """The shape of a network with features of `channels` numbers."""
        inputs = len(self.inputs)
        if self.family == "tiny":
            return MinkUNetConfig(inputs, channels, TINY_PLANES[0], TINY_PLANES, (1,) * 8)
        return _FAMILIES[self.family](inputs, channels)


@dataclass(frozen=True)
class VocabularySettings:
    """The words of the student, and whose space its features lie in.

    Attributes:
        labels: a label set (`scannet20`, `matterport21`, `nuscenes16`, `nuscenes43`) or a text file
            with a word per line.
        text_encoder: as in student bundles.
        prompt: template the words are put into. With "a {} in a scene" a label set has the
            sentences it is evaluated with.
    """

    labels: str = "scannet20"
    text_encoder: str = "open_clip:ViT-B-32-quickgelu"
    prompt: str = "a {} in a scene"

    def __post_init__(self) -> None:
        check_prompt(self.prompt)


@dataclass(frozen=True)
class ScheduleSettings:
    """How long, how much at a time, and how hard.

    Attributes:
        epochs: passes over the scenes, each of `repeats` passes; the released code has 5 of them.
        batch: scenes per step, over all processes and accumulated parts.
        accumulate: parts that a process makes its share of a batch in, one after the other.
        optimiser: one of `sas_training.distill.optimiser.OPTIMISERS`.
        schedule: "linear" from `learning_rate` to `final_learning_rate`; "poly" times
            (1 - progress) to the `power`; or "constant".
        warmup: steps in which the learning rate rises from zero.
        clip: longest gradient; 0 none.
        ema: weight of the past in averaged weights, which are then exported; 0 none.
        precision: numbers of the network: "float16" with scaled gradients, or "bfloat16"; weights
            are kept in float32.
    """

    epochs: int = 100
    repeats: int = 1
    batch: int = 12
    accumulate: int = 1
    optimiser: str = "adam"
    learning_rate: float = 1e-4
    final_learning_rate: float = 1e-5
    schedule: str = "linear"
    power: float = 0.9
    warmup: int = 0
    weight_decay: float = 0.0
    clip: float = 0.0
    ema: float = 0.0
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name in ("epochs", "repeats", "batch", "accumulate"):
            _within(name, getattr(self, name), 1, 1_000_000)
        _one_of("optimiser", self.optimiser, OPTIMISERS)
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("precision", self.precision, PRECISIONS)
        _within("learning_rate", self.learning_rate, 1e-9, 10)
        _within("final_learning_rate", self.final_learning_rate, 0, self.learning_rate)
        _within("power", self.power, 0.01, 10)
        _within("warmup", self.warmup, 0, 1_000_000)
        _within("weight_decay", self.weight_decay, 0, 1)
        _within("clip", self.clip, 0, 1e6)
        _within("ema", self.ema, 0, 0.999999)
        if self.batch % self.accumulate:
            raise SasError(f"A batch of {self.batch} scenes has no {self.accumulate} equal parts.")


@dataclass(frozen=True)
class SampleSettings:
    """How scenes become samples. Lengths in metres.

    Attributes:
        voxel_size: edge of a voxel.
        crop: shortest and longest side of the square that is cut out of a scene, around a point of
            a random superpoint; 0 and 0: no crop.
        whole: share of samples that are not cropped.
    """

    voxel_size: float = 0.02
    crop: tuple[float, float] = (0.0, 0.0)
    whole: float = 0.2

    def __post_init__(self) -> None:
        _within("voxel_size", self.voxel_size, 0.001, 10)
        _within("crop", self.crop[0], 0, 1e4)
        _within("crop", self.crop[1], self.crop[0], 1e4)
        _within("whole", self.whole, 0, 1)


@dataclass(frozen=True)
class Recipe:
    """One run of distillation but for its data; see the parts.

    Attributes:
        description: one line, for people.
        seed: of every random choice.
    """

    description: str = ""
    seed: int = 0
    network: NetworkSettings = field(default_factory=NetworkSettings)
    vocabulary: VocabularySettings = field(default_factory=VocabularySettings)
    samples: SampleSettings = field(default_factory=SampleSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    self_distillation: SelfDistillation = field(default_factory=lambda: variant("paper"))

    def __post_init__(self) -> None:
        _within("seed", self.seed, 0, 2**31)
        stage = self.self_distillation
        if stage.used and stage.start_epoch > self.schedule.epochs:
            raise SasError(
                f"Self-distillation begins after epoch {stage.start_epoch}, but there are only "
                f"{self.schedule.epochs}; change one of them, or set variant to none."
            )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def recipe_from(tables: Mapping[str, Any], where: str) -> Recipe:
    """A recipe of the tables of a TOML file; raises SasError, see `settings_from`."""
    return settings_from(Recipe(self_distillation=preset_of(tables, where)), tables, where)


def preset_of(tables: Mapping[str, Any], where: str) -> SelfDistillation:
    """What the values of stage 2 begin as in a recipe's tables: the variant that is named there.

    Raises:
        SasError: there is no such variant.
    """
    stage = tables.get("self_distillation", {})
    name = stage.get("variant", "paper") if isinstance(stage, Mapping) else "paper"
    if name not in VARIANTS:
        raise SasError(
            f"{where}, table self_distillation: the variant {name!r} is unknown; known are "
            f"{', '.join(VARIANTS)}."
        )
    return variant(name)


def load_recipe(name_or_path: str, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe by name ("scannet") or path, with some values changed.

    Args:
        changes: texts `table.key=value` or `key=value`, values as in TOML.

    Raises:
        SasError: no such recipe (lists those that were found), or a mistake in it.
    """
    path = find_recipe(name_or_path)
    tables = read_toml(path)
    for change in changes:
        _change(tables, change)
    return recipe_from(tables, str(path))


def find_recipe(name_or_path: str) -> Path:
    """The path of a recipe; raises SasError that lists those found when there is none."""
    path = Path(name_or_path).expanduser()
    if path.suffix == ".toml" or path.is_file():
        if path.is_file():
            return path
        raise SasError(f"There is no recipe at {path}.")
    known: list[str] = []
    for folder in config_folders(FOLDER):
        candidate = folder / f"{name_or_path}.toml"
        if candidate.is_file():
            return candidate
        known += sorted(found.stem for found in folder.glob("*.toml"))
    raise SasError(
        f"There is no recipe called {name_or_path!r}; found: "
        f"{', '.join(dict.fromkeys(known)) or 'none'}. Give a name or the path of a .toml file."
    )


def _change(tables: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    *path, last = key.strip().split(".")
    if not equals or not last or not all(path):
        raise SasError(f"A change is written table.key=value, not {change!r}.")
    table = tables
    for part in path:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise SasError(f"In the change {change!r}, {part} is no table.")
        table = inner
    table[last] = read_value(text.strip())
