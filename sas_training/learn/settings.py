"""What `sas learn` does between a recording and a student, as one TOML file.

recipe = "procedural-small"                 # of sas distill, by name or path
changes = ["schedule.epochs=20"]            # to the recipe

[[teachers]]
name = "lseg"                               # as in the registry of teachers
weights = "demo_e200.ckpt"                  # relative to this file

[[teachers]]
name = "program"
program = ["/opt/seem/bin/python", "seem_plugin.py"]
sentences = "noun"                          # of masks: alignment via text
settings = { batch = "4" }                  # the teacher's own

[fusion]                                    # of two teachers and more
rule = "capability"
table = "capability.json"

[superpoints]
min_size = 20
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sas_ros.errors import SasError
from sas_training.alignment.sentences import MODES
from sas_training.distill.tables import read_toml, settings_from
from sas_training.fusion.capability_fusion import RULES
from sas_training.superpoints.surfaces import SuperpointSettings
from sas_training.teachers.registry import TeacherOptions


@dataclass(frozen=True)
class TeacherChoice:
    """A teacher, and how it is loaded; see `TeacherOptions`.

    Attributes:
        name: in the registry.
        title: what its features are called, and a capability table calls it; "": `name`.
        weights: file or folder, "" for none.
        sentences: of teachers of masks: how a mask becomes a sentence, one of `MODES`.
        settings: (name, value) pairs of the teacher's own.
    """

    name: str = ""
    title: str = ""
    weights: str = ""
    model: str = ""
    program: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    sentences: str = "label"
    settings: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.sentences not in MODES:
            raise SasError(f"sentences must be {' or '.join(MODES)}, not {self.sentences!r}.")

    @property
    def called(self) -> str:
        return self.title or self.name

    def options(self, device: str) -> TeacherOptions:
        """As the registry takes them."""
        return TeacherOptions(
            weights=Path(self.weights) if self.weights else None,
            model=self.model,
            program=self.program,
            labels=self.labels,
            device=device,
            settings=dict(self.settings),
        )


@dataclass(frozen=True)
class FusionChoice:
    """How teachers become one; not looked at where there is one.

    Attributes:
        rule: one of `RULES`; "capability" and "released" need a table.
        table: a capability table, "" for none.
        tau: temperature of the softmax over teachers.
    """

    rule: str = "addition"
    table: str = ""
    tau: float = 0.05

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise SasError(f"The rule {self.rule!r} is unknown; known are {', '.join(RULES)}.")
        if self.rule in ("capability", "released") and not self.table:
            raise SasError(f'The rule {self.rule!r} needs a table: `table = "capability.json"`.')


@dataclass(frozen=True)
class LearnSettings:
    """Everything but the recording.

    Attributes:
        teachers: one or more, of different titles.
        recipe, changes: of the distillation, see `sas_training.distill.recipes`.
        fewest_steps: of the optimiser: where a recording has few scenes, an epoch passes over them
            several times, and a batch is not larger than there are scenes.
        fewest_seen: share of a scene's points that some teacher must have said something about; a
            scene with less teaches nothing and is left out.
    """

    teachers: tuple[TeacherChoice, ...] = ()
    fusion: FusionChoice = field(default_factory=FusionChoice)
    superpoints: SuperpointSettings = field(default_factory=lambda: SuperpointSettings(min_size=20))
    recipe: str = "procedural-small"
    changes: tuple[str, ...] = ()
    fewest_steps: int = 500
    fewest_seen: float = 0.01

    def __post_init__(self) -> None:
        titles = [one.called for one in self.teachers]
        if not titles or len(set(titles)) != len(titles) or "" in titles:
            raise SasError(
                "Learning needs teachers of different names, each in a table [[teachers]]; there "
                f"are {', '.join(map(repr, titles)) or 'none'}. Give two of one kind titles."
            )
        if not 0 <= self.fewest_seen <= 1:
            raise SasError(f"fewest_seen is a share from 0 to 1, not {self.fewest_seen:g}.")


def load_settings(path: Path) -> LearnSettings:
    """Read a configuration; paths in it are relative to it.

    Raises:
        SasError: no such file, unknown keys, values of another kind, files that are not there.
    """
    tables = read_toml(path)
    given = tables.pop("teachers", [])
    if not isinstance(given, list) or not all(isinstance(one, Mapping) for one in given):
        raise SasError(f"{path}: each teacher is a table of its own, [[teachers]].")
    where = [f"{path}, teacher {number}" for number in range(1, len(given) + 1)]
    teachers = tuple(_teacher(one, name) for one, name in zip(given, where, strict=True))
    # The base must be complete: of no teachers there are no settings.
    base = LearnSettings(teachers or (TeacherChoice("none"),))
    settings = settings_from(base, tables, str(path))
    if not teachers:
        raise SasError(f"{path} names no teacher; each is a table [[teachers]] with a name.")
    home = path.parent
    fusion = replace(settings.fusion, table=_file(settings.fusion.table, home, str(path)))
    teachers = tuple(
        replace(
            one,
            weights=_file(one.weights, home, name),
            program=tuple(_beside(part, home) for part in one.program),
        )
        for one, name in zip(teachers, where, strict=True)
    )
    recipe = _beside(settings.recipe, home)
    return replace(settings, teachers=teachers, fusion=fusion, recipe=recipe)


def _teacher(table: Mapping[str, Any], where: str) -> TeacherChoice:
    own = table.get("settings", {})
    if not isinstance(own, Mapping) or not all(isinstance(v, str) for v in own.values()):
        raise SasError(f'{where}: settings must be a table of texts, as {{ batch = "4" }}.')
    rest = {key: value for key, value in table.items() if key != "settings"}
    choice = settings_from(TeacherChoice(), rest, where)
    if not choice.name:
        raise SasError(f"{where} has no name.")
    return replace(choice, settings=tuple(sorted(own.items())))


def _file(name: str, home: Path, where: str) -> str:
    if not name:
        return ""
    path = home / Path(name).expanduser()
    if not path.exists():
        raise SasError(f"{where}: {path} is not there.")
    return str(path.resolve())


def _beside(name: str, home: Path) -> str:
    """The path of a file beside the configuration, or the text as it is where there is none."""
    path = home / Path(name).expanduser()
    return str(path.resolve()) if path.is_file() else name
