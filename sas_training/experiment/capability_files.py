"""Where the files of the experiment about capabilities lie, and what all its parts are made of."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sas_ros.errors import SasError
from sas_training.capability.class_maps import Caller
from sas_training.capability.pseudo_masks import RejectionRule
from sas_training.distill.words import class_text
from sas_training.evaluation.labels import SCANNET20
from sas_training.experiment.capability_settings import CapabilityExperiment
from sas_training.experiment.files import Files
from sas_training.experiment.settings import TEACHERS
from sas_training.experiment.sources import in_text_space
from sas_training.experiment.words import Words
from sas_training.jobs import key_of
from sas_training.priors.saving import read_report
from sas_training.scenes.procedural.manifest import WORLD_VERSION

VERSION = 1
"""Raised when the same settings begin to give other files."""
TRUTH_VERSION = 2
"""The same of the counts in held-out rooms."""
ROWS_VERSION = 2
"""The same of the fusions in held-out rooms."""

_FIRST_RULE = {"least_score": 0.7, "least_inside": 0.5, "shares": (0.005, 0.95)}
"""The rule of rejection that keys without one stand for."""

VOCABULARY = tuple(class_text(name) for name in SCANNET20.names)

LINKS = {
    "truth": "true images, true masks",
    "sam": "true images, SAM on points of the true masks",
    "attention": "true images, attention, SAM",
    "coarse": "generated images, attention alone",
    "generated": "generated images, attention, SAM",
}
"""The chain: from everything true to the whole of `sas capability`, the last."""
WHOLE = "generated"


@dataclass(frozen=True)
class CapabilityRun:
    """The parts of a run.

    Attributes:
        run: folder of its files.
        settings: of the experiment.
        ablation: files of the ablation whose teachers are measured.
        priors: folder of `sas world train-priors`.
    """

    run: Path
    settings: CapabilityExperiment
    ablation: Files
    priors: Path

    @property
    def seed(self) -> int:
        """The ablation's repetition whose teachers are measured: its first."""
        return self.ablation.seeds.runs[0]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in ScanNet-20 of what the priors have been shown."""
        shown = read_report(self.priors)["settings"]["pictures"]["classes"]
        return tuple(str(name) for name in shown) or SCANNET20.names

    def _key(self) -> str:
        about = {**self.settings.to_dict(), "frames": 0, "chances": 0}
        teachers = [self.ablation.teacher(name, self.seed).stem for name in TEACHERS]
        rule = asdict(RejectionRule())
        changed = [rule] if self.settings.reject and rule != _FIRST_RULE else []
        return key_of(VERSION, about, read_report(self.priors)["weights"], teachers, *changed)

    @property
    def pictures(self) -> Path:
        """Folder of true pictures: images, masks and coarse masks of their attention."""
        return self.run / f"true-{self._key()}"

    def link(self, name: str) -> Path:
        """Folder of `sas capability` for one of `LINKS`; both of generated images share one."""
        return self.run / f"{WHOLE if name == 'coarse' else name}-{self._key()}"

    def table(self, name: str) -> Path:
        """What one of `LINKS` has measured, see `capability_tables`."""
        return self.run / f"table-{name}-{self._key()}.json"

    def truth(self, index: int) -> Path:
        """Counts of the teachers in the frames of a held-out room."""
        teachers = [self.ablation.teacher(name, self.seed).stem for name in TEACHERS]
        world = self.ablation.world("held_out").name
        key = key_of(TRUTH_VERSION, teachers, world, self.settings.frames)
        return self.run / f"frames-{key}" / f"room-{index:06d}.npz"

    def rows(self, index: int, tables: tuple[Path, ...], known: list[list[float]]) -> Path:
        """Predictions of the fusions in a held-out room; `known` is the table that is no file."""
        contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in tables]
        own, settings = self.ablation, self.ablation.settings
        about = [settings.tau, settings.boundary, settings.occlusion, settings.capability.measure]
        rooms = own.clouds("held_out").name
        key = key_of(ROWS_VERSION, contents, known, about, rooms, self.settings.chances)
        return self.run / f"rows-{key}" / f"room-{index:06d}.npz"

    def check(self) -> None:
        """Raise SasError where the ablation or the priors are missing, or of other rooms."""
        world = read_report(self.priors).get("world_version")
        if world != WORLD_VERSION:
            known = "an unknown version" if world is None else f"version {world}"
            raise SasError(
                f"The priors in {self.priors} have learned from rooms of {known} of the world, and "
                f"the rooms here are of version {WORLD_VERSION}. Train them again with this "
                "version's `sas world train-priors`, or use the version of sas_ros that made them."
            )
        needed = [self.ablation.teacher(name, self.seed) for name in TEACHERS]
        for path in [self.ablation.words, *needed, self.ablation.capability(self.seed)]:
            if not path.is_file():
                raise SasError(
                    f"{path} is missing: this experiment measures the teachers of a run of "
                    "`sas experiment ablation`. Make one of the same scale and seeds first."
                )

    def callers(self) -> dict[str, Caller]:
        """The three teachers, as `sas capability` asks them."""
        words = Words.load(self.ablation.words)
        return {
            name: Caller(teacher, np.asarray(words.classes), self.settings.look)
            for name, teacher in self.teachers(words).items()
        }

    def teachers(self, words: Words) -> dict[str, Any]:
        """The three teachers in text space."""
        from sas_training.experiment.teachers import load_small_teacher

        paths = {name: self.ablation.teacher(name, self.seed) for name in TEACHERS}
        return {name: in_text_space(load_small_teacher(p), words) for name, p in paths.items()}
