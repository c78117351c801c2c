"""The scans that a score is asked for: files, or the scenes of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sas_training.evaluation.label_files import LabelSet
from sas_training.evaluation.labelled import AnnotatedScan
from sas_training.evaluation.scoring import expand, read_files


@dataclass(frozen=True, eq=False)
class GivenScans:
    """Scans whose names are known before any of them is read.

    Attributes:
        names: of all of them; of files their paths.
        files: the files; empty for scenes.
        scans: names and scans, read one after the other.
    """

    names: tuple[str, ...]
    files: list[Path]
    scans: Callable[[], Iterator[tuple[str, AnnotatedScan]]]

    @staticmethod
    def of_files(paths: Sequence[Path], labels: LabelSet) -> GivenScans:
        """Files and what folders hold; raises SasError where nothing is there."""
        files = expand(list(paths))
        return GivenScans(tuple(map(str, files)), files, lambda: read_files(files, labels))

    @staticmethod
    def of_scenes(kind: str, path: Path, labels: LabelSet, only: Path | None) -> GivenScans:
        """Scenes of a data set or recording.

        Args:
            kind: one of `sas_training.scenes.kinds.KINDS`.
            path: its folder or file.
            labels: the classes wanted.
            only: a file that names those to read, one per line; None: all.

        Raises:
            SasError: no such kind, a folder that is none of that kind, a list that names nothing.
        """
        from sas_training.evaluation.foreign import read_names, scans_of
        from sas_training.scenes.kinds import open_scenes
        from sas_training.scenes.reading import SceneSettings

        several = kind.startswith("matterport") and labels.name.startswith("matterport")
        scenes = open_scenes(kind, path, SceneSettings(labels=labels.name if several else ""))
        names = scenes.names if only is None else read_names(only)
        return GivenScans(names, [], lambda: scans_of(scenes, labels, names))
