"""The generated rooms of `sas world make --frames`.

    FOLDER/rooms/room-NNNNNN.npz             fused scan: points, colours, labels, instances
    FOLDER/frames/room-NNNNNN-frameK.npz     colour, depth, labels, instances, pose, camera

World: metres, z up, floor near 0. Labels of points and pixels are of the set `scannet20`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sas_ros.errors import SasError
from sas_training.scenes.cameras import resized_color, resized_plane
from sas_training.scenes.procedural.dataset import read_scan
from sas_training.scenes.procedural.frames import read_frame
from sas_training.scenes.reading import Scenes, SceneSettings, numbered, wrong_folder
from sas_training.scenes.scene import Z_UP, Frame, Frames, Scene

_EXPECTED = "it should hold rooms/room-NNNNNN.npz and frames/, as `sas world make --frames` writes"


def open_rooms(path: Path, settings: SceneSettings) -> Scenes:
    """The rooms of a folder; raises `SasError` where there is none."""
    path = Path(path)
    files = numbered(path / "rooms", ".npz")
    if not files:
        raise wrong_folder(path, "generated rooms", _EXPECTED)
    return Scenes(tuple(file.stem for file in files), lambda n: _scene(files[n], settings))


def _scene(file: Path, settings: SceneSettings) -> Scene:
    scan = read_scan(file)
    folder = file.parent.parent / "frames"
    shots = [p for p in numbered(folder, ".npz") if p.name.startswith(f"{file.stem}-frame")]
    frames = Frames(tuple(shot.stem for shot in shots), lambda n: _frame(shots[n], settings))
    return Scene(
        name=file.stem,
        points=scan.points,
        frames=settings.sampled(frames),
        colors=scan.colors,
        labels=scan.labels.astype(np.int64),
        label_set="scannet20",
        instances=scan.instances.astype(np.int64),
        up=Z_UP,
    )


def _frame(path: Path, settings: SceneSettings) -> Frame:
    try:
        shot = read_frame(path)
    except SasError as error:
        raise SasError("it is no frame of a generated room: it is damaged or cut off") from error
    rows, columns = shot.color.shape[:2]
    size = settings.size or (columns, rows)
    image, camera = resized_color(shot.color, shot.intrinsics, size)
    depth = np.where(shot.depth <= (settings.far or np.inf), shot.depth, np.float32(0))
    return Frame(
        path.stem,
        image,
        camera,
        shot.pose,
        resized_plane(depth, size),
        labels=resized_plane(shot.labels, size),
        instances=resized_plane(shot.instances, size),
    )
