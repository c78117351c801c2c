"""What all readers share: their settings, the list of scenes, and sentences about wrong folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from sas_ros.errors import SasError
from sas_ros.files import whole_files
from sas_training.scenes.scene import Frames, Scene


@dataclass(frozen=True)
class SceneSettings:
    """How scenes are read; None takes what is usual for the data set.

    Attributes:
        every: every k-th frame is used.
        most: at most this many frames of a scene, spread evenly; None: all.
        size: width and height that images are resized to, cameras and depths with them.
        voxel: edge of the voxels of clouds that are built from depths, metres.
        scan: a scan of the place in the world of the frames, instead of a cloud that is built.
        depth_units: stored depth values in one metre.
        far: depths beyond this are taken as unknown, metres.
        labels: label set of the scenes where the data set has several: `matterport21`, `40`, `80`
            or `160`; "": NYU40 classes of Matterport3D as downloaded, 21 of OpenScene's.
        nearest: Matterport3D: this many nearest views of a region that has none inside (the paper
            of OpenScene takes 100 for testing and none for training).
        window: nuScenes: seconds of sweeps up to the key frame that make one cloud.
        topics: ROS bags: only these topics and transforms are looked at; empty: all.
        world: ROS bags: frame of the scene; "": the root of the transforms.
        still: ROS bags: the sensor stood still, where nothing in the bag says where it was.
    """

    every: int | None = None
    most: int | None = None
    size: tuple[int, int] | None = None
    voxel: float = 0.02
    scan: Path | None = None
    depth_units: float | None = None
    far: float | None = None
    labels: str = ""
    nearest: int = 0
    window: float = 0.5
    topics: tuple[str, ...] = ()
    world: str = ""
    still: bool = False

    def __post_init__(self) -> None:
        for name, least in (("every", 1), ("most", 1), ("nearest", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise SasError(f"The setting {name} must be {least} or more, not {value}.")
        for name in ("voxel", "depth_units", "far"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SasError(f"The setting {name} must be above 0, not {value}.")
        if self.window < 0:
            raise SasError(f"A window of {self.window} s ends before it begins.")
        if self.size is not None and min(self.size) < 2:
            raise SasError(f"Images cannot be resized to {self.size}: 2 x 2 is the least.")

    def sampled(self, frames: Frames, every: int = 1) -> Frames:
        """The frames to use; `every` is the data set's usual one."""
        return frames.sampled(self.every or every, self.most)


@dataclass(frozen=True, eq=False)
class Scenes(Sequence[Scene]):
    """The scenes found in a folder; each is read when it is asked for and not kept.

    Attributes:
        names: unique, sorted.
        read: scene of that number; raises `SasError`.
    """

    names: tuple[str, ...]
    read: Callable[[int], Scene]

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, number: int) -> Scene: ...

    @overload
    def __getitem__(self, number: slice) -> Scenes: ...

    def __getitem__(self, number: int | slice) -> Scene | Scenes:
        if isinstance(number, slice):
            numbers = range(len(self))[number]
            names = tuple(self.names[n] for n in numbers)
            return Scenes(names, lambda place: self.read(numbers[place]))
        return self.read(range(len(self))[number])

    def named(self, name: str) -> Scene:
        """The scene of that name; raises `SasError` where there is none."""
        if name not in self.names:
            some = ", ".join(self.names[:8]) + (", …" if len(self) > 8 else "")
            raise SasError(f"There is no scene {name!r}; there are {some}.")
        return self.read(self.names.index(name))


def wrong_folder(path: Path, kind: str, expected: str) -> SasError:
    """The error for a folder that is no such data set: what it should hold, and what it holds."""
    path = Path(path)
    if not path.exists():
        return SasError(f"{path} is not there. For {kind}, {expected}.")
    if path.is_dir():
        inside = sorted(child.name for child in path.iterdir())
        some = ", ".join(inside[:6]) + (f" and {len(inside) - 6} more" if len(inside) > 6 else "")
        return SasError(f"{path} is no {kind} folder: {expected}. It holds {some or 'nothing'}.")
    return SasError(f"{path} is a file. For {kind}, {expected}.")


def numbered(folder: Path, *suffixes: str) -> list[Path]:
    """Files of a folder with one of the suffixes, in the order of the numbers in their names."""
    files = [path for path in whole_files(folder, "*") if path.name.lower().endswith(suffixes)]
    return sorted(files, key=lambda path: _natural(path.name))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sorting key: runs of digits count as numbers."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]
