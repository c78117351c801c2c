"""Features of points that somebody else has made: OpenScene's and SAS's published files, and ours.

They belong to scenes, not to images, so this is no teacher that looks at anything; it stands in for
one after multi-view fusion.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from sas_ros.errors import SasError
from sas_ros.files import whole_files
from sas_training.fusion.features import PointFeatures
from sas_training.fusion.openscene import read_openscene
from sas_training.teachers.registry import TeacherOptions


class PrecomputedPoints:
    """A folder of point features, one scene after the other.

    For the scene NAME these are looked for, in this order: `NAME.safetensors` (ours), `NAME.pt`
    and `NAME_0.pt`, `NAME_1.pt` ... `_9` (OpenScene's; several are parts of one scene, SAS
    publishes one, `_0`).

    Args:
        folder: with the files.
        teacher: what the features are said to come from; files of ours say it themselves.
        channels: width C they must have; None: any.

    Raises `SasError` when there is no such folder.
    """

    def __init__(self, folder: Path, teacher: str, channels: int | None = None) -> None:
        self.folder, self.teacher, self.channels = Path(folder), teacher, channels
        if not self.folder.is_dir():
            raise SasError(f"There is no folder of point features at {self.folder}.")

    def features(self, scene: str, points: int | None = None) -> PointFeatures:
        """Features of the scene.

        Args:
            scene: its name, as the files have it.
            points: how many points it has; None: whatever the file says.

        Raises:
            SasError: no such file, damaged, or of another number of points or channels.
        """
        ours = self.folder / f"{scene}.safetensors"
        found = PointFeatures.load(ours) if ours.is_file() else self.published(scene)
        if points is not None and found.points != points:
            raise SasError(
                f"The features of {scene!r} in {self.folder} are for {found.points} points, but "
                f"the scene has {points}; they were made from another version of it."
            )
        if self.channels is not None and found.channels != self.channels:
            raise SasError(
                f"The features of {scene!r} in {self.folder} have {found.channels} channels, but "
                f"{self.channels} are wanted; they belong to another text encoder."
            )
        return found

    def published(self, scene: str) -> PointFeatures:
        """Features of the scene's `.pt` files, whether or not there is a file of ours.

        Raises:
            SasError: no such file, or damaged.
        """
        one = self.folder / f"{scene}.pt"
        pattern = re.compile(re.escape(scene) + r"_(\d)\.pt")
        numbered = {path: pattern.fullmatch(path.name) for path in self.folder.iterdir()}
        parts = sorted((int(match[1]), path) for path, match in numbered.items() if match)
        paths = [one] if one.is_file() else [path for _, path in parts]
        if not paths:
            raise SasError(
                f"There are no features of the scene {scene!r} in {self.folder}; looked for were "
                f"{scene}.safetensors, {scene}.pt and {scene}_0.pt."
            )
        return merged([read_openscene(path, self.teacher, scene) for path in paths])


def merged(parts: Sequence[PointFeatures]) -> PointFeatures:
    """Parts of one scene as one; of a point in several, the first part's features.

    Raises `SasError` when they are of different numbers of points or channels.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    if len({(one.points, one.channels) for one in parts}) > 1:
        raise SasError(f"The parts of the scene {first.scene!r} do not belong together.")
    full = np.zeros((first.points, first.channels), dtype=np.float16)
    mask = np.zeros(first.points, dtype=bool)
    for part in parts:
        new = part.mask & ~mask
        full[new] = part.features[new[part.mask]]
        mask |= new
    settings = {**first.settings, "parts": len(parts)}
    return PointFeatures(full[mask], mask, first.teacher, first.scene, settings)


def scenes_in(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    """(folder, scene) of `.pt` files, or of all those in folders, each scene once, sorted.

    Raises `SasError` for a path that is neither, or when there are none.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += whole_files(path, "*.pt")
        elif path.is_file() and path.suffix == ".pt":
            files.append(path)
        else:
            raise SasError(f"{path} is neither a .pt file nor a folder of such files.")
    found = {(path.parent, re.sub(r"_\d$", "", path.stem)) for path in files}
    if not found:
        raise SasError(f"There are no .pt files in {', '.join(map(str, paths))}.")
    return sorted(found)


def load(options: TeacherOptions) -> NoReturn:
    """The entry of the registry: there is nothing to load, and the sentence says so."""
    raise SasError(
        "Precomputed features belong to scenes, so they cannot be asked about images; convert them "
        "with `sas teach precomputed`, or read them with PrecomputedPoints."
    )
