"""What `sas learn` does between a recording and a student, as one TOML file.

recipe = "procedural-small"                 # of sas distill, by name or path
text_weights = "clip.safetensors"           # of the recipe's text encoder, where it needs some
changes = ["schedule.epochs=20"]            # to the recipe

[[teachers]]
name = "lseg"                               # as in the registry of teachers
weights = "demo_e200.ckpt"                  # relative to this file

[[teachers]]
name = "program"
program = ["/opt/seem/bin/python", "seem_plugin.py"]
sentences = "noun"                          # of masks: alignment via text
captioner = "program"                       # of masks; or blip, florence-2, none
captioner_program = ["/opt/tap/bin/python", "tap_plugin.py"]
captioner_timeout = 3600.0                  # seconds of a call of that program, 0 for none
settings = { timeout = "3600" }             # the teacher's own

[fusion]                                    # of two teachers and more
rule = "released"
table = "capability.json"
measure = "micro"                           # pooled scores, as this rule has it unless it is set
other = "otherfurniture"                    # the word that this rule treats apart

[projection]                                # which points a frame shows
version = "released"                        # of the data set's constants, or paper
occlusion = 0.05                            # instead of theirs

[superpoints]
min_size = 20
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sas_ros.errors import SasError
from sas_training.alignment.captioners import CAPTIONERS
from sas_training.alignment.sentences import MODES
from sas_training.capability.certainty import CERTAINTIES
from sas_training.capability.table import MEASURES
from sas_training.distill.tables import read_toml, settings_from
from sas_training.fusion.capability_fusion import RULES, FusionSettings
from sas_training.fusion.constants import VERSIONS
from sas_training.fusion.projection import ProjectionSettings
from sas_training.scenes.fusing import projection_of
from sas_training.superpoints.surfaces import SuperpointSettings
from sas_training.teachers.registry import TeacherOptions

PRECOMPUTED = "precomputed"
"""The teacher that has looked already: its features of points are there."""
NORMALISE = {"rule": None, "always": True, "never": False}
"""Whether features are scaled to unit length before they are fused: None leaves it to the rule."""
OTHER = FusionSettings().other
"""The word that is treated apart unless another is named; a vocabulary need not have it."""


@dataclass(frozen=True)
class TeacherChoice:
    """A teacher, and how it is loaded; see `TeacherOptions`.

    Attributes:
        name: in the registry; "precomputed": `weights` is a folder of features of the scenes'
            points, ours or as published.
        title: what its features are called, and a capability table calls it; "": `name`.
        weights: file or folder, "" for none.
        sentences: of teachers of masks: how a mask becomes a sentence, one of `MODES`.
        captioner, captioner_weights, captioner_program: of teachers of masks: who says a sentence
            about each, see `load_captioner`.
        captioner_timeout: seconds for one call of a captioner that is a program, 0 for none.
        grammar: what finds the noun of a caption, see `load_grammar`.
        settings: (name, value) pairs of the teacher's own.
    """

    name: str = ""
    title: str = ""
    weights: str = ""
    model: str = ""
    program: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    sentences: str = "label"
    captioner: str = "none"
    captioner_weights: str = ""
    captioner_program: tuple[str, ...] = ()
    captioner_timeout: float = 0.0
    grammar: str = "word-lists"
    settings: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.sentences not in MODES:
            raise SasError(f"sentences must be {' or '.join(MODES)}, not {self.sentences!r}.")
        if self.captioner not in CAPTIONERS:
            raise SasError(f"captioner must be {' or '.join(CAPTIONERS)}, not {self.captioner!r}.")
        if not 0 <= self.captioner_timeout < math.inf:
            raise SasError(f"captioner_timeout is 0 seconds or more, not {self.captioner_timeout}.")

    @property
    def called(self) -> str:
        return self.title or self.name

    @property
    def looks(self) -> bool:
        """Whether it can be asked about images."""
        return self.name != PRECOMPUTED

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
        certainty: how the table is read, one of `CERTAINTIES`.
        measure: which scores of the table, `macro` or `micro`; "": micro for the rule "released",
            as in the released code, and macro, the paper's, for others.
        other: the word that rule "released" leaves to the first teacher and a table need not have;
            "" for none.
        normalise: one of `NORMALISE`.
    """

    rule: str = "addition"
    table: str = ""
    tau: float = 0.05
    certainty: str = "mean"
    measure: str = ""
    other: str = OTHER
    normalise: str = "rule"

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise SasError(f"The rule {self.rule!r} is unknown; known are {', '.join(RULES)}.")
        if self.rule in ("capability", "released") and not self.table:
            raise SasError(f'The rule {self.rule!r} needs a table: `table = "capability.json"`.')
        if self.certainty not in CERTAINTIES:
            raise SasError(f"certainty is {' or '.join(CERTAINTIES)}, not {self.certainty!r}.")
        if self.measure not in ("", *MEASURES):
            raise SasError(f"measure is {' or '.join(MEASURES)}, not {self.measure!r}.")
        if self.normalise not in NORMALISE:
            raise SasError(f"normalise is {' or '.join(NORMALISE)}, not {self.normalise!r}.")
        _ = self.settings  # which refuses values that do not go together

    @property
    def scores(self) -> str:
        """Its measure by name."""
        return self.measure or ("micro" if self.rule == "released" else "macro")

    @property
    def settings(self) -> FusionSettings:
        """As the fusion takes them."""
        return FusionSettings(
            rule=self.rule,
            tau=self.tau,
            normalise=NORMALISE[self.normalise],
            other=self.other,
            measure=self.scores,
            certainty=self.certainty,
        )

    def check_words(self, names: Sequence[str]) -> None:
        """Raise SasError where `other` is none of the vocabulary's words, but was chosen or is
        needed."""
        if self.other not in ("", OTHER, *names):
            raise SasError(
                f"other = {self.other!r} of the fusion is none of the recipe's words, which are "
                f"{', '.join(names)}."
            )
        if self.rule == "released" and self.other and self.other not in names:
            raise SasError(
                f'The fusion "released" leaves points that its first teacher calls {self.other!r} '
                "to that teacher alone, and the recipe's words lack it. Say which of them stands "
                'for it, as other = "otherfurniture", or do without: other = "".'
            )


@dataclass(frozen=True)
class ProjectionChoice:
    """Which points a frame shows.

    Attributes:
        version: `paper` or `released`, of the constants of the recording's data set.
        occlusion: share of the measured depth by which a point may lie off it, in the place of
            theirs; below 0: theirs.
        boundary: pixels at the edge of an image that show nothing; below 0: theirs.
    """

    version: str = "paper"
    occlusion: float = -1.0
    boundary: int = -1

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            raise SasError(f"version is {' or '.join(VERSIONS)}, not {self.version!r}.")
        if not self.occlusion < 1:
            raise SasError(f"occlusion is a share below 1, not {self.occlusion:g}.")

    def of(self, kind: str) -> ProjectionSettings:
        """For scenes of a kind."""
        own = projection_of(kind, self.version)
        return ProjectionSettings(
            own.boundary if self.boundary < 0 else self.boundary,
            own.occlusion if self.occlusion < 0 else self.occlusion,
        )


@dataclass(frozen=True)
class LearnSettings:
    """Everything but the recording.

    Attributes:
        teachers: one or more, of different titles.
        recipe, changes: of the distillation, see `sas_training.distill.recipes`.
        projection: which points a frame shows.
        sums_gib: memory for the sums of features, GiB; where a scene's need more, its frames are
            walked through several times.
        text_weights: file of the weights of the recipe's text encoder; "" for one that has its own.
        keep_pixels: keep what teachers of pixels say about frames, in `frames` of the run, which is
            79 MB for an image of 320 x 240; masks are always kept, and features of points.
        fewest_steps: of the optimiser: where a recording has few scenes, an epoch passes over them
            several times, and a batch is not larger than there are scenes.
        fewest_seen: share of a scene's points that some teacher must have said something about; a
            scene with less teaches nothing and is left out.
    """

    teachers: tuple[TeacherChoice, ...] = ()
    fusion: FusionChoice = field(default_factory=FusionChoice)
    projection: ProjectionChoice = field(default_factory=ProjectionChoice)
    superpoints: SuperpointSettings = field(default_factory=lambda: SuperpointSettings(min_size=20))
    recipe: str = "procedural-small"
    text_weights: str = ""
    changes: tuple[str, ...] = ()
    keep_pixels: bool = True
    fewest_steps: int = 500
    fewest_seen: float = 0.01
    sums_gib: float = 4.0

    def __post_init__(self) -> None:
        titles = [one.called for one in self.teachers]
        if not titles or len(set(titles)) != len(titles) or "" in titles:
            raise SasError(
                "Learning needs teachers of different names, each in a table [[teachers]]; there "
                f"are {', '.join(map(repr, titles)) or 'none'}. Give two of one kind titles."
            )
        if not 0 <= self.fewest_seen <= 1:
            raise SasError(f"fewest_seen is a share from 0 to 1, not {self.fewest_seen:g}.")
        if not 0 < self.sums_gib < math.inf:
            raise SasError(f"sums_gib is above 0, not {self.sums_gib:g}.")


def load_settings(path: Path) -> LearnSettings:
    """Read a configuration; paths in it are relative to it.

    Raises:
        SasError: no such file, unknown keys, values of another kind, files that are not there.
    """
    tables = read_toml(path)
    teachers = _teachers(path, tables.pop("teachers", []))
    # The base must be complete: of no teachers there are no settings.
    base = LearnSettings(teachers or (TeacherChoice("none"),))
    settings = settings_from(base, tables, str(path))
    if not teachers:
        raise SasError(f"{path} names no teacher; each is a table [[teachers]] with a name.")
    home = path.parent
    fusion = replace(settings.fusion, table=_file(settings.fusion.table, home, str(path)))
    recipe = _beside(settings.recipe, home)
    text = _file(settings.text_weights, home, str(path))
    return replace(settings, teachers=teachers, fusion=fusion, recipe=recipe, text_weights=text)


def load_teachers(path: Path) -> tuple[TeacherChoice, ...]:
    """The teachers of a configuration alone, whatever else is in it; see `load_settings`."""
    teachers = _teachers(path, read_toml(path).get("teachers", []))
    if not teachers:
        raise SasError(f"{path} names no teacher; each is a table [[teachers]] with a name.")
    return teachers


def _teachers(path: Path, given: object) -> tuple[TeacherChoice, ...]:
    """Teachers of their tables, the paths in them as they are from here."""
    if not isinstance(given, list) or not all(isinstance(one, Mapping) for one in given):
        raise SasError(f"{path}: each teacher is a table of its own, [[teachers]].")
    found = []
    for number, table in enumerate(given, start=1):
        where, home = f"{path}, teacher {number}", path.parent
        one = _teacher(table, where)
        found.append(
            replace(
                one,
                weights=_file(one.weights, home, where),
                program=tuple(_beside(part, home) for part in one.program),
                captioner_weights=_file(one.captioner_weights, home, where),
                captioner_program=tuple(_beside(part, home) for part in one.captioner_program),
            )
        )
    return tuple(found)


def _teacher(table: Mapping[str, Any], where: str) -> TeacherChoice:
    own = table.get("settings", {})
    if not isinstance(own, Mapping) or not all(isinstance(v, str) for v in own.values()):
        raise SasError(f'{where}: settings must be a table of texts, as {{ timeout = "3600" }}.')
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
    """The path of a file beside the configuration, or the text as it is where there is none.

    Links stay links: that of an environment's Python is what makes it see its packages.
    """
    path = home / Path(name).expanduser()
    return str(path.absolute()) if path.is_file() else name
