"""What goes into the segmenter and what comes out: plain frozen dataclasses, no ROS, no files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError

if TYPE_CHECKING:
    import torch

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True)
class SourceHeader:
    """Stamp (ns since the epoch of the source's clock) and frame of the data an answer is about."""

    stamp_ns: int = 0
    frame_id: str = ""


def _no_offset() -> Float64Array:
    return np.zeros(3)


@dataclass(frozen=True)
class Cloud:
    """A point cloud as it was received: same points, same order, same shape.

    Attributes:
        points: (N, 3) float32, metres, source frame, relative to `origin`. Rows may hold NaN or
            Inf: they keep their place, so that index i means the same point everywhere.
        colors: (N, 3) uint8 RGB, or None.
        labels: (N,) int64 ground-truth class ids, 255 = ignored, or None (files only).
        header: stamp and frame of the source.
        height, width: organised shape, `height * width == N`; an unorganised cloud has height 1.
        origin: (3,) float64, metres. Source coordinates are `points + origin`; it is not zero only
            where coordinates are too large for float32.
    """

    points: Float32Array
    colors: npt.NDArray[np.uint8] | None = None
    labels: npt.NDArray[np.int64] | None = None
    header: SourceHeader = SourceHeader()
    height: int = 1
    width: int = -1
    origin: Float64Array = field(default_factory=_no_offset)

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.points.shape[1] != 3:
            raise SasError(f"A cloud needs points of shape (N, 3), not {self.points.shape}.")
        count = len(self.points)
        if self.width < 0:
            object.__setattr__(self, "width", count // max(self.height, 1))
        if self.height * self.width != count:
            raise SasError(
                f"A cloud of {self.height} x {self.width} cannot hold {count} points; "
                "height times width must equal the number of points."
            )
        for name in ("colors", "labels"):
            values = getattr(self, name)
            if values is not None and len(values) != count:
                raise SasError(f"The cloud has {count} points but {len(values)} {name}.")

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """(N,) bool: all three coordinates are finite (REP 117: NaN and Inf are both misses)."""
        finite = np.isfinite(self.points)
        result = finite[:, 0] & finite[:, 1]  # ten times faster than all(axis=1)
        result &= finite[:, 2]
        return result


@dataclass(frozen=True)
class PosedImage:
    """One camera image, for students that look at images.

    Attributes:
        rgb: (H, W, 3) uint8.
        intrinsics: (3, 3) float64, pixels.
        pose: (4, 4) float64 camera (optical axes) to source frame, or None when unknown.
        depth: (H, W) float32 metres along the optical axis, NaN where unknown, or None.
    """

    rgb: npt.NDArray[np.uint8]
    intrinsics: Float64Array
    pose: Float64Array | None = None
    depth: Float32Array | None = None


@dataclass(frozen=True)
class Observation:
    """What a robot saw at one moment: a cloud, images, or both. A student names what it needs."""

    cloud: Cloud | None = None
    images: tuple[PosedImage, ...] = ()

    @property
    def holds(self) -> frozenset[str]:
        """What is there, in the words of a bundle's `requires`."""
        parts = []
        if self.cloud is not None:
            parts.append("points")
            if self.cloud.colors is not None:
                parts.append("colours")
        if self.images:
            parts.append("images")
        return frozenset(parts)


@dataclass(frozen=True)
class Up:
    """Which way is up: a unit vector (3,) float64 in the source frame, and who said so."""

    direction: Float64Array
    source: str = "assumed"


class Kept:
    """What was computed from a scene: each thing once, whichever thread asks for it first.

    Things are complete before another thread can have them, and must not be changed afterwards.
    One of each kind is kept: the scores of another vocabulary take the place of the last one's.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._things: dict[str, tuple[Hashable, Any]] = {}

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        """A copy of a scene, or one that was sent to another process, computes anew."""
        return Kept, ()

    def get(self, kind: str, key: Hashable, make: Callable[[], T]) -> T:
        """The thing of this kind and key, made now if it is not kept; others wait meanwhile."""
        with self._lock:
            found = self._things.get(kind)
            if found is None or found[0] != key:
                found = self._things[kind] = (key, make())
            thing: T = found[1]
            return thing


@dataclass(frozen=True)
class SceneFeatures:
    """What the student saw: one unit feature per element; immutable, shared between threads.

    An element is a voxel for the sparse U-Net; other students will have other elements.

    Attributes:
        features: (M, C) unit rows on the student's device (a row of zeros where the network gave
            nothing); float16 on a GPU or where memory is short, else float32.
        positions: (M, 3) float32, metres, element centres in the source frame minus `origin`.
        element_of_point: (N,) int32, -1 for points that are not finite.
        header: stamp and frame of the cloud.
        up: the gravity direction that was used.
        origin: (3,) float64, metres, as in `Cloud`.
        element_size: metres, the edge of a voxel.
        network_s: seconds that the network took, of all that it took to make this.
        kept: what queries computed from all this; it lives and goes with the scene.
    """

    features: torch.Tensor
    positions: Float32Array
    element_of_point: npt.NDArray[np.int32]
    header: SourceHeader
    up: Up
    origin: Float64Array
    element_size: float
    network_s: float = 0.0
    kept: Kept = field(default_factory=Kept, init=False, repr=False, compare=False)

    @property
    def points_per_element(self) -> IntArray:
        """(M,) number of points of each element, read-only."""
        return self.kept.get("points", None, self._count_points)

    def _count_points(self) -> IntArray:
        counts = np.bincount(self.element_of_point + 1, minlength=len(self.positions) + 1)[1:]
        counts = counts.astype(np.int64, copy=False)
        counts.setflags(write=False)
        return counts


@dataclass(frozen=True)
class ElementLabels:
    """(M,) int64 best vocabulary index and (M,) float32 probability per element."""

    label: npt.NDArray[np.int64]
    confidence: Float32Array
