"""nuScenes, from its JSON tables and files alone; a scene is one key frame of a drive.

    FOLDER/v1.0-*/{scene,sample,sample_data,calibrated_sensor,ego_pose,sensor,lidarseg}.json
    FOLDER/samples/, FOLDER/sweeps/      CAM_*/*.jpg, LIDAR_TOP/*.pcd.bin (float32 x y z ...)
    FOLDER/lidarseg/v1.0-*/<token>_lidarseg.bin      uint8 class of each point of a key frame

The cloud is the lidar of the `window` seconds up to the key frame. World: metres, the vehicle (x
forward, y left, z up) at the key frame's lidar stamp; every point and camera goes through the pose
the vehicle had at its own stamp. Labels are the 32 classes of lidarseg as stored (`nuscenes32`), on
points of the key frame only, 255 elsewhere. Cameras are optical frames without depth: six frames.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.boxes import rotation_matrix
from sas_ros.errors import SasError
from sas_ros.scans import read_scan
from sas_training.scenes.cameras import Matrix, resized_color
from sas_training.scenes.images import read_color
from sas_training.scenes.reading import Scenes, SceneSettings, wrong_folder
from sas_training.scenes.scene import IGNORED, Z_UP, Frame, Frames, Scene

_EXPECTED = (
    "it should hold v1.0-mini/ (or another version) with the JSON tables, samples/ and sweeps/; "
    "of several versions give the folder of one"
)
_LIDAR = "LIDAR_TOP"
_TEXTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "calibrated_sensor": ("token", "sensor_token"),
        "ego_pose": ("token",),
        "lidarseg": ("sample_data_token", "filename"),
        "sample": ("token",),
        "sample_data": ("token", "sample_token", "calibrated_sensor_token"),
        "scene": ("name", "first_sample_token"),
        "sensor": ("token", "channel"),
    }
)
"""Columns without which a row of a table cannot be told from others or belongs to nothing."""
Row = Mapping[str, Any]


def open_nuscenes(path: Path, settings: SceneSettings) -> Scenes:
    """The key frames of a version; raises `SasError` where there is none."""
    path = Path(path).absolute()
    versions = [path] if (path / "sample_data.json").is_file() else []
    versions += [file.parent for file in sorted(path.glob("v1.0-*/sample_data.json"))]
    if len(versions) != 1:
        raise wrong_folder(path, "nuScenes", _EXPECTED)
    tables = _Tables(versions[0])
    names = tuple(tables.samples)
    if not names:
        raise SasError(f"The nuScenes tables of {tables.folder} name no key frame of any scene.")
    return Scenes(names, lambda n: _scene(names[n], tables, settings))


@dataclass(frozen=True)
class _Tables:
    """The JSON tables of one version, each read once."""

    folder: Path

    def _rows(self, name: str) -> list[Any]:
        path = self.folder / f"{name}.json"
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SasError(f"The nuScenes table {path} cannot be read ({error}).") from error
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise SasError(f"The nuScenes table {path} is no list of rows.")
        for column in _TEXTS[name]:
            for number, row in enumerate(rows, 1):
                if not isinstance(row.get(column), str):
                    raise SasError(f"Row {number} of the nuScenes table {path} has no {column!r}.")
        return rows

    def _by_token(self, name: str) -> dict[str, Row]:
        return {row["token"]: row for row in self._rows(name)}

    @cached_property
    def samples(self) -> dict[str, str]:
        """Name of a key frame, `scene-0061_00` and so on -> its token."""
        rows = self._by_token("sample")
        found = {}
        for scene in sorted(self._rows("scene"), key=lambda row: row["name"]):
            token, number = scene["first_sample_token"], 0
            while token in rows:
                found[f"{scene['name']}_{number:02d}"] = token
                token, number = str(rows[token].get("next", "")), number + 1
        return found

    @cached_property
    def sensors(self) -> dict[str, tuple[str, Row]]:
        """Token of a calibrated sensor -> channel and row."""
        channel = {row["token"]: row["channel"] for row in self._rows("sensor")}
        rows = self._rows("calibrated_sensor")
        return {row["token"]: (channel[row["sensor_token"]], row) for row in rows}

    @cached_property
    def data(self) -> dict[str, Row]:
        """Token of a recording -> row; radar is left out."""
        rows = self._by_token("sample_data")
        wanted = (_LIDAR, "CAM_")
        return {t: r for t, r in rows.items() if self.channel(r).startswith(wanted)}

    @cached_property
    def of_sample(self) -> dict[str, dict[str, Row]]:
        """Token of a key frame -> channel -> its recording."""
        found: dict[str, dict[str, Row]] = {}
        for row in self.data.values():
            if row["is_key_frame"]:
                found.setdefault(row["sample_token"], {})[self.channel(row)] = row
        return found

    @cached_property
    def poses(self) -> dict[str, Row]:
        return self._by_token("ego_pose")

    @cached_property
    def lidarseg(self) -> dict[str, str]:
        """Token of a recording -> file of its labels; empty where they were not downloaded."""
        if not (self.folder / "lidarseg.json").is_file():
            return {}
        return {row["sample_data_token"]: row["filename"] for row in self._rows("lidarseg")}

    def channel(self, row: Row) -> str:
        return self.sensors[row["calibrated_sensor_token"]][0]

    def vehicle(self, row: Row) -> Matrix:
        """(4, 4) vehicle at the stamp of a recording -> map."""
        return _matrix(self.poses[row["ego_pose_token"]], "ego_pose")

    def to_map(self, row: Row) -> Matrix:
        """(4, 4) sensor at the stamp of a recording -> map."""
        mounted = self.sensors[row["calibrated_sensor_token"]][1]
        return self.vehicle(row) @ _matrix(mounted, "calibrated_sensor")


def _matrix(row: Row, table: str) -> Matrix:
    """(4, 4) of a row's rotation and translation; raises `ValueError` that names the row."""
    result = np.eye(4)
    try:
        w, x, y, z = (float(value) for value in row["rotation"])
        place = [float(value) for value in row["translation"]]
        result[:3, :3], result[:3, 3] = rotation_matrix((x, y, z, w)), np.reshape(place, 3)
        if not np.isfinite(result).all():
            raise ValueError("its translation is not finite")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"row {row['token']!r} of {table}.json has no rotation of four numbers and translation "
            "of three"
        ) from error
    return result


def _scene(name: str, tables: _Tables, settings: SceneSettings) -> Scene:
    try:
        recordings = tables.of_sample[tables.samples[name]]
        lidar = recordings[_LIDAR]
        world = np.asarray(np.linalg.inv(tables.vehicle(lidar)), dtype=np.float64)
        points, labels = _cloud(lidar, world, tables, settings.window)
        cameras = sorted(channel for channel in recordings if channel.startswith("CAM_"))
        frames = Frames(
            tuple(cameras), lambda n: _frame(recordings[cameras[n]], world, tables, settings)
        )
    except SasError:  # a ValueError too
        raise
    except KeyError as error:
        raise SasError(f"The tables of {tables.folder} lack {error} for {name}.") from error
    except (TypeError, ValueError) as error:
        raise SasError(f"The tables of {tables.folder} are damaged for {name}: {error}.") from error
    labelled = "" if labels is None else "nuscenes32"
    sampled = settings.sampled(frames)
    return Scene(name, points, sampled, labels=labels, label_set=labelled, up=Z_UP)


def _cloud(
    lidar: Row, world: Matrix, tables: _Tables, window: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64] | None]:
    root = tables.folder.parent
    parts, labels = [], []
    stored = tables.lidarseg.get(lidar["token"])
    for row in _sweeps(lidar, tables, window):
        cloud = read_scan(root / row["filename"])
        to_world = world @ tables.to_map(row)
        parts.append(cloud.points @ to_world[:3, :3].T + to_world[:3, 3])
        labels.append(np.full(len(cloud.points), IGNORED, dtype=np.int64))
        if stored is not None and row is lidar:
            labels[-1] = _labels(root / stored, len(cloud.points))
    points = np.concatenate(parts).astype(np.float32)
    return points, None if stored is None else np.concatenate(labels)


def _labels(path: Path, count: int) -> npt.NDArray[np.int64]:
    try:
        found = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise SasError(f"The labels {path} cannot be read ({error.strerror or error}).") from error
    if len(found) != count:
        raise SasError(f"{path} has {len(found)} labels and the sweep {count} points.")
    return found.astype(np.int64)


def _sweeps(lidar: Row, tables: _Tables, window: float) -> Iterator[Row]:
    """The key frame's sweep and those before it within the window, newest first."""
    row: Row | None = lidar
    while row is not None and lidar["timestamp"] - row["timestamp"] <= 1e6 * window:
        yield row
        row = tables.data.get(row["prev"])


def _frame(row: Row, world: Matrix, tables: _Tables, settings: SceneSettings) -> Frame:
    try:
        path = tables.folder.parent / row["filename"]
        channel, sensor = tables.sensors[row["calibrated_sensor_token"]]
        pose, stamp = world @ tables.to_map(row), 1000 * int(row["timestamp"])
        stored = sensor["camera_intrinsic"]
    except KeyError as error:
        raise SasError(f"its tables lack {error}") from error
    except (TypeError, ValueError) as error:
        raise SasError(f"its tables are damaged ({error})") from error
    try:
        camera = np.asarray(stored, dtype=np.float64).reshape(3, 3)
    except (TypeError, ValueError) as error:
        raise SasError("its camera matrix is not a 3 x 3 matrix") from error
    image = read_color(path)
    rows, columns = image.shape[:2]
    image, camera = resized_color(image, camera, settings.size or (columns, rows))
    return Frame(channel, image, camera, pose, stamp_ns=stamp)
