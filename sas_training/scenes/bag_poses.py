"""Where the frames of a recording were: a tree of transforms over time, without ROS."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
import numpy.typing as npt

from sas_ros.boxes import rotation_matrix
from sas_ros.errors import SasError
from sas_training.scenes.cameras import Matrix

_SLACK = 100_000_000
"""Nanoseconds that a stamp may lie before the first or after the last transform of a frame."""
_GAP = 1_000_000_000
"""Nanoseconds that the nearer of two transforms may lie away from a stamp between them."""
_MOST_STEPS = 100

_Sample = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]  # translation, quaternion xyzw


class Transforms:
    """The transforms of a recording: each frame has one parent, and a pose in it over time."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}
        self._moving: dict[str, list[tuple[int, _Sample]]] = {}
        self._static: dict[str, _Sample] = {}
        self._sorted: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._parent)

    def __contains__(self, frame: str) -> bool:
        return _plain(frame) in self._parent or _plain(frame) in self._parent.values()

    def add(
        self,
        parent: str,
        child: str,
        stamp_ns: int,
        translation: tuple[float, float, float],
        quaternion: tuple[float, float, float, float],
        static: bool = False,
    ) -> None:
        """Note where `child` was in `parent`. A quaternion is x, y, z, w.

        Numbers that are not finite, or no rotation, are not noted, nor is a second parent: mixed
        with those of the first its poses would be nonsense.
        """
        where = np.asarray(translation, dtype=np.float64)
        turn = np.asarray(quaternion, dtype=np.float64)
        length = float(np.linalg.norm(turn))
        if not (np.isfinite(where).all() and np.isfinite(length) and length > 1e-6):
            return
        child = _plain(child)
        if self._parent.setdefault(child, _plain(parent)) != _plain(parent):
            return
        sample = (where, turn / length)
        if static:
            self._static[child] = sample
        else:
            self._moving.setdefault(child, []).append((stamp_ns, sample))
            self._sorted.pop(child, None)

    def has_parent(self, frame: str) -> bool:
        """Whether something says where the frame was."""
        return _plain(frame) in self._parent

    def root(self, frame: str) -> str:
        """The frame at the top of the tree that `frame` is in; raises `SasError` for a circle."""
        frame = _plain(frame)
        for _ in range(_MOST_STEPS):
            if frame not in self._parent:
                return frame
            frame = self._parent[frame]
        raise SasError(f"the transforms of {frame} go round in a circle")

    def lookup(self, frame: str, world: str, stamp_ns: int) -> Matrix:
        """(4, 4) from `frame` to `world` at a stamp, interpolated between what was recorded.

        Raises:
            SasError: the two are not connected, or nothing was recorded near the stamp.
        """
        frame, world = _plain(frame), _plain(world)
        if self.root(frame) != self.root(world):
            raise SasError(f"no transform leads from {frame} to {world}")
        return np.asarray(np.linalg.inv(self._up(world, stamp_ns)) @ self._up(frame, stamp_ns))

    def _up(self, frame: str, stamp_ns: int) -> Matrix:
        """(4, 4) from `frame` to the root of its tree."""
        result = np.eye(4)
        while frame in self._parent:
            where, turn = self._at(frame, stamp_ns)
            step = np.eye(4)
            step[:3, :3], step[:3, 3] = rotation_matrix(tuple(turn)), where
            result = step @ result
            frame = self._parent[frame]
        return result

    def _at(self, frame: str, stamp_ns: int) -> _Sample:
        if frame in self._static:
            return self._static[frame]
        samples = self._moving[frame]
        if frame not in self._sorted:
            samples.sort(key=lambda sample: sample[0])
            self._sorted[frame] = [stamp for stamp, _ in samples]
        stamps = self._sorted[frame]
        after = bisect_left(stamps, stamp_ns)
        if after == len(stamps) or (after == 0 and stamps[0] != stamp_ns):
            nearest = samples[min(after, len(stamps) - 1)]
            if abs(nearest[0] - stamp_ns) > _SLACK:
                raise SasError(f"nothing says where {frame} was at its stamp")
            return nearest[1]
        if stamps[after] == stamp_ns:
            return samples[after][1]
        (before_ns, (where0, turn0)), (after_ns, (where1, turn1)) = samples[after - 1 : after + 1]
        if min(stamp_ns - before_ns, after_ns - stamp_ns) > _GAP:
            raise SasError(f"nothing says where {frame} was at its stamp")
        share = (stamp_ns - before_ns) / (after_ns - before_ns)
        return where0 + share * (where1 - where0), _between(turn0, turn1, share)


def _between(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], share: float
) -> npt.NDArray[np.float64]:
    """Spherical interpolation of unit quaternions, along the shorter way."""
    cosine = float(first @ second)
    if cosine < 0:
        second, cosine = -second, -cosine
    if cosine > 0.9995:  # the formula below divides by almost nothing
        mixed = first + share * (second - first)
    else:
        angle = float(np.arccos(min(cosine, 1.0)))
        mixed = np.sin((1 - share) * angle) * first + np.sin(share * angle) * second
    return np.asarray(mixed / np.linalg.norm(mixed))


def _plain(frame: str) -> str:
    """Without the slash that frames of ROS 1 may begin with."""
    return frame.removeprefix("/")
