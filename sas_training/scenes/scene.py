"""Posed RGB-D scenes behind one interface: what readers give to fusion, training and evaluation.

A `Scene` is a cloud (or mesh) with `Frames`: images that are read one at a time, when asked for.
Nothing else in the project knows how a data set lies on disk.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_training.fusion.projection import Intrinsics, View

IGNORED = 255
"""Label of points and pixels that have no class."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One posed image.

    Attributes:
        name: within its scene, as the data set calls it.
        image: (H, W, 3) uint8 RGB.
        intrinsics: (3, 3) float64, pixels of this image; whole numbers are the centres of pixels.
        pose: (4, 4) float64, camera-to-world, metres; the camera is an optical frame (x right,
            y down, z forward), the world that of the scene's points.
        depth: (H, W) float32, metres along the optical axis, registered to the image; 0 = unknown.
            None where there is none.
        stamp_ns: nanoseconds since the epoch of the data set's clock, or None.
        labels: (H, W) integers, class of each pixel in the scene's `label_set`, 255 = ignored, or
            None.
        instances: (H, W) integers, object of each pixel, 0 = none, or None.

    Raises:
        SasError: shapes do not fit together, or the pose or camera is not usable.
    """

    name: str
    image: npt.NDArray[np.uint8]
    intrinsics: npt.NDArray[np.float64]
    pose: npt.NDArray[np.float64]
    depth: npt.NDArray[np.float32] | None = None
    stamp_ns: int | None = None
    labels: npt.NDArray[np.integer[Any]] | None = None
    instances: npt.NDArray[np.integer[Any]] | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise SasError(
                f"its image is {self.image.dtype} of {self.image.shape}, not (H, W, 3) uint8"
            )
        for name in ("depth", "labels", "instances"):
            values = getattr(self, name)
            if values is not None and values.shape != self.image.shape[:2]:
                rows, columns = self.image.shape[:2]
                found = " x ".join(str(length) for length in values.shape[::-1])
                raise SasError(f"its {name} and image differ in size: {found}, {columns} x {rows}")
        pose, camera = np.asarray(self.pose), np.asarray(self.intrinsics)
        if pose.shape != (4, 4) or not np.isfinite(pose).all():
            raise SasError("its pose is not 4 x 4 finite numbers")
        turn = pose[:3, :3]
        if np.abs(turn @ turn.T - np.eye(3)).max() > 0.01 or np.linalg.det(turn) < 0:
            raise SasError("its pose is no rotation and translation")
        if camera.shape != (3, 3) or not np.isfinite(camera).all() or min(np.diag(camera)) <= 0:
            raise SasError("its intrinsics are not those of a camera")
        rows, columns = self.image.shape[:2]
        # Intrinsics of half or twice the size are refused too; those of a cropped image may be off
        # the middle.
        off = abs(2 * camera[0, 2] / columns - 1)
        if not (0 < camera[0, 2] < columns and 0 < camera[1, 2] < rows and off < 0.45):
            raise SasError(
                f"its principal point ({camera[0, 2]:.0f}, {camera[1, 2]:.0f}) is far from the "
                f"middle of the image of {columns} x {rows}: the intrinsics are for another size"
            )

    @property
    def camera(self) -> Intrinsics:
        """The intrinsics as projection takes them."""
        k = self.intrinsics
        return Intrinsics(float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]))

    @property
    def view(self) -> View:
        """The frame as `sas_training.fusion` takes it: pose, camera, size and depth."""
        rows, columns = self.image.shape[:2]
        return View(self.pose, self.camera, columns, rows, self.depth)


class Skipped:
    """Which frames of a scene could not be used, and why; shared by all samples of its frames."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        """Name of the frame -> reason, a short phrase."""

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, name: str, reason: str) -> None:
        """Note that a frame is not used; a second reason for the same one is not counted."""
        self.reasons.setdefault(name, reason)

    @property
    def counts(self) -> dict[str, int]:
        """Reason -> number of frames, most frequent first."""
        return dict(Counter(self.reasons.values()).most_common())

    def sentence(self) -> str:
        """How many were skipped and why; "" where none was."""
        if not self.reasons:
            return ""
        first = {reason: name for name, reason in reversed(self.reasons.items())}
        parts = [f"{reason} ({n}, first {first[reason]})" for reason, n in self.counts.items()]
        told = "1 frame was" if len(self) == 1 else f"{len(self)} frames were"
        return f"{told} skipped: {'; '.join(parts)}."


@dataclass(frozen=True, eq=False)
class Frames(Sequence[Frame]):
    """Frames of one scene, each read when it is asked for and not kept.

    Attributes:
        names: of the frames, in the order of recording.
        read: frame of that number; raises `SasError` for one that cannot be used.
        skipped: those that turned out to be unusable, and those the reader left out at once.
    """

    names: tuple[str, ...]
    read: Callable[[int], Frame]
    skipped: Skipped = field(default_factory=Skipped)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, number: int) -> Frame: ...

    @overload
    def __getitem__(self, number: slice) -> Frames: ...

    def __getitem__(self, number: int | slice) -> Frame | Frames:
        """A frame, or some of the frames; a bad one is noted in `skipped` and raises `SasError`."""
        if isinstance(number, slice):
            return self._chosen(range(len(self))[number])
        number = range(len(self))[number]
        try:
            return self.read(number)
        except SasError as error:
            self.skipped.add(self.names[number], str(error).rstrip("."))
            raise SasError(f"Frame {self.names[number]} cannot be used: {error}.") from error

    def _chosen(self, numbers: Sequence[int]) -> Frames:
        names = tuple(self.names[number] for number in numbers)
        return Frames(names, lambda place: self.read(numbers[place]), self.skipped)

    def sampled(self, every: int = 1, most: int | None = None) -> Frames:
        """Every k-th frame from the first on, and of these at most n, spread evenly.

        Raises:
            SasError: a number below 1.
        """
        if every < 1 or (most is not None and most < 1):
            raise SasError(
                f"Every {every}th frame, at most {most}, cannot be taken: both must be 1 or more."
            )
        numbers = range(0, len(self), every)
        if most is None or len(numbers) <= most:
            return self._chosen(numbers)
        places = np.linspace(0, len(numbers) - 1, most).round().astype(int)
        return self._chosen([numbers[place] for place in places])

    def usable(self) -> Iterator[tuple[int, Frame]]:
        """Numbers and frames, without those that cannot be used: they are counted in `skipped`,
        and one `RuntimeWarning` at the end says how many there were and why."""
        before = len(self.skipped)
        for number in range(len(self)):
            try:
                frame = self[number]
            except SasError:
                continue
            yield number, frame
        if len(self.skipped) > before:
            warnings.warn(self.skipped.sentence(), RuntimeWarning, stacklevel=2)


def no_frames() -> Frames:
    """Frames of a scene that has none."""

    def read(number: int) -> Frame:
        raise SasError(f"there is no frame {number}")

    return Frames((), read)


@dataclass(frozen=True, eq=False)
class Scene:
    """One room, region or moment of a drive.

    Attributes:
        name: as the data set calls it.
        points: (N, 3) float32, metres.
        frames: images of it; poses are camera-to-world in the frame of the points.
        colors: (N, 3) uint8 RGB, or None.
        normals: (N, 3) float32 unit, or None.
        labels: (N,) int64 class ids of `label_set`, 255 = ignored, or None.
        label_set: name of the set that labels of points and frames belong to, "" without labels.
        instances: (N,) int64 object of each point, 0 = none, or None.
        faces: (F, 3) int64 rows of `points`, where the scene is a mesh, or None.
        up: (3,) float64 unit, in the frame of the points; None where the data set does not say.

    Raises:
        SasError: parts that do not fit together, or no points.
    """

    name: str
    points: npt.NDArray[np.float32]
    frames: Frames = field(default_factory=no_frames)
    colors: npt.NDArray[np.uint8] | None = None
    normals: npt.NDArray[np.float32] | None = None
    labels: npt.NDArray[np.int64] | None = None
    label_set: str = ""
    instances: npt.NDArray[np.int64] | None = None
    faces: npt.NDArray[np.int64] | None = None
    up: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        count = len(self.points)
        if self.points.ndim != 2 or self.points.shape[1] != 3 or not count:
            raise SasError(f"The scene {self.name} has no points of three coordinates.")
        for name, shape in (
            ("colors", (count, 3)),
            ("normals", (count, 3)),
            ("labels", (count,)),
            ("instances", (count,)),
        ):
            values = getattr(self, name)
            if values is not None and values.shape != shape:
                raise SasError(
                    f"The scene {self.name} has {count} points, and {name} of {values.shape}."
                )
        if self.labels is not None and not self.label_set:
            raise SasError(f"The labels of the scene {self.name} need the name of their set.")
        if self.faces is not None and self.faces.size:
            if self.faces.min() < 0 or self.faces.max() >= count:
                raise SasError(f"A face of the scene {self.name} names a point that is not there.")


Z_UP = np.array([0.0, 0.0, 1.0])
"""Up of most data sets."""
Z_UP.setflags(write=False)
