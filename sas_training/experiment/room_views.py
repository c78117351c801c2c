"""Generated rooms on disk as clouds with superpoints and views, each group in its own folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import atomic_path
from sas_training.experiment.pictures import HALF, Picture, halved
from sas_training.fusion.projection import Intrinsics, View
from sas_training.scenes.procedural.dataset import read_scan, room_path
from sas_training.scenes.procedural.frames import frame_path, read_frame
from sas_training.scenes.procedural.model import shuffled_rows
from sas_training.superpoints import (
    Superpoints,
    SuperpointSettings,
    cloud_superpoints,
    points_hash,
)
from sas_training.superpoints.files import SUFFIX


@dataclass(frozen=True, eq=False)
class RoomView:
    """A frame as a teacher and fusion take it: half as large as it was rendered."""

    image: Picture
    view: View


def room_name(index: int) -> str:
    """What the files of a room are called."""
    return f"room-{index:06d}"


def make_cloud(world: Path, index: int, out: Path, points: int, seed: int) -> None:
    """Write `out/clouds/NAME.npz` (points, colours), without labels, and `out/labels/NAME.npy`."""
    scan = read_scan(room_path(world, index))
    rng = np.random.default_rng((seed, 41, index))
    scan = scan.picked(shuffled_rows(len(scan), points, rng))
    name = room_name(index)
    with atomic_path(out / "labels" / f"{name}.npy") as temporary:
        np.save(temporary, scan.labels.astype(np.uint8))
    with atomic_path(cloud_path(out, index)) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, points=scan.points, colors=scan.colors)


def make_superpoints(out: Path, index: int, settings: SuperpointSettings) -> None:
    """Write `out/superpoints/NAME.superpoints.safetensors` of a cloud."""
    points = read_cloud(out, index)[0]
    labels = cloud_superpoints(points, settings)
    found = Superpoints(labels, settings, "cloud", points_hash(points))
    found.save(superpoints_path(out, index))


def cloud_path(out: Path, index: int) -> Path:
    """File of a room's points."""
    return out / "clouds" / f"{room_name(index)}.npz"


def superpoints_path(out: Path, index: int) -> Path:
    """File of a room's superpoints."""
    return out / "superpoints" / f"{room_name(index)}{SUFFIX}"


def read_cloud(out: Path, index: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Points (N, 3) float32 metres and colours (N, 3) uint8 of a room."""
    from sas_training.distill.feature_scenes import read_points

    points, colors = read_points(cloud_path(out, index))
    if colors is None:
        raise SasError(f"{cloud_path(out, index)} holds no colours; remove the folder {out}.")
    return points, colors


def read_labels(out: Path, index: int) -> npt.NDArray[np.int64]:
    """(N,) true classes of a room's points, 255 ignored."""
    path = out / "labels" / f"{room_name(index)}.npy"
    try:
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.int64)
    except (OSError, ValueError, EOFError) as error:
        raise SasError(f"{path} holds no labels: {error}.") from error


def read_views(world: Path, index: int, frames: int) -> list[RoomView]:
    """The frames of a room, halved: colours as means, depths as one of the four."""
    views = []
    for number in range(frames):
        frame = read_frame(frame_path(world, index, number))
        image = halved(frame.color)
        rows, columns = image.shape[:2]
        k = frame.intrinsics
        camera = Intrinsics(float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]))
        old = (frame.color.shape[1], frame.color.shape[0])
        depth = frame.depth[::HALF, ::HALF][:rows, :columns]
        view = View(frame.pose, camera.resized(old, (columns, rows)), columns, rows, depth)
        views.append(RoomView(image, view))
    return views
