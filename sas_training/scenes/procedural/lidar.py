"""A spinning LiDAR on a robot that stands in a generated room."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sas_ros.errors import SasError
from sas_ros.files import UNREADABLE, atomic_path

from .furniture import Rng, between, chance
from .primitives import Array
from .rays import RoomRays, pose_at
from .shading import Shading
from .walk import stands

RINGS = (16, 32, 64)
_ELEVATION = {16: (-15.0, 15.0), 32: (-30.0, 10.0), 64: (-22.5, 22.5)}
"""Lowest and highest ring of each size, degrees, as common sensors have them."""

_COLUMNS = 1024  # of one turn
_STEP = 0.002  # m; ranges come in whole steps


@dataclass(frozen=True)
class LidarScan:
    """One turn of the sensor.

    points (N, 3) float32 metres, room frame, z up, floor at z = 0; rings (N,) uint8 from the
    lowest, 0; intensity (N,) uint8; labels (N,) int64, 0..19 or 255; instances (N,) int32, 0
    structure; pose (4, 4) float64 sensor (x ahead, y left, z up) to room, metres; names: the finer
    name of every instance, index 0 "structure".
    """

    points: Array
    rings: Array
    intensity: Array
    labels: Array
    instances: Array
    pose: Array
    names: tuple[str, ...]


def scan_lidar(
    rays: RoomRays, shading: Shading, rng: Rng, rings: int | None = None, pose: Array | None = None
) -> LidarScan:
    """Turn a LiDAR once, 0.25 to 1.2 m above the floor of a room.

    Ranges have noise of 5 to 20 mm and whole steps of 2 mm; rays are lost on glass and on things
    that return few, at grazing incidence and beyond the range; at depth steps some land between the
    two surfaces.

    Args:
        rays, shading: the room and its materials, which decide the intensity.
        rng: the only source of chance.
        rings: 16, 32 or 64; drawn when None.
        pose: sensor to room (4, 4); a place in free air when None.

    Raises:
        SasError: another number of rings.
    """
    count = int(rng.choice(RINGS)) if rings is None else rings
    if count not in RINGS:
        raise SasError(f"A LiDAR with {count} rings is not simulated; use 16, 32 or 64.")
    place = _stand(rays, rng) if pose is None else np.asarray(pose, np.float64)
    elevation = np.radians(np.linspace(*_ELEVATION[count], count))[:, None]
    turn = (np.arange(_COLUMNS) * (2 * np.pi / _COLUMNS))[None]
    beams = np.stack(
        np.broadcast_arrays(
            np.cos(elevation) * np.cos(turn), np.cos(elevation) * np.sin(turn), np.sin(elevation)
        ),
        -1,
    ).reshape(-1, 3)
    directions = (beams @ place[:3, :3].T).astype(np.float32)
    hits = rays.cast(place[:3, 3], directions)
    met = hits.thing >= 0
    true = np.where(met, hits.distance, 0.0)
    measured = true + between(rng, 0.005, 0.02) * rng.standard_normal(len(true))
    image = true.reshape(count, _COLUMNS)
    step = np.roll(image, -1, 1) - image
    mixed = (np.abs(step) > 0.1) & (np.abs(step) < 1.5) & (rng.random(step.shape) < 0.1)
    measured += (mixed * rng.random(step.shape) * step).reshape(-1)
    thing = np.maximum(hits.thing, 0)
    share = rays.seen[thing] * np.clip((hits.facing - 0.03) / 0.08, 0.0, 1.0)
    share *= 1 - between(rng, 0.0, 0.03)
    lost = (rng.random(len(true)) > share) | (measured > between(rng, 20.0, 60.0))
    rows = np.flatnonzero(met & (measured > between(rng, 0.1, 0.4)) & ~lost)
    ranges = np.rint(measured[rows] / _STEP) * _STEP
    met_at = hits.origins[rows] + directions[rows] * hits.distance[rows, None]
    paint = shading.surfaces.albedo(hits.thing[rows], met_at, rays.normals(hits.triangle[rows]))
    echo = 230 * paint[:, 0] * (0.2 + 0.8 * hits.facing[rows]) + rng.normal(0, 4, len(rows))
    return LidarScan(
        points=(place[:3, 3] + directions[rows] * ranges[:, None]).astype(np.float32),
        rings=(rows // _COLUMNS).astype(np.uint8),
        intensity=np.clip(echo, 0, 255).astype(np.uint8),
        labels=rays.labels[hits.thing[rows]],
        instances=rays.instances[hits.thing[rows]],
        pose=place,
        names=rays.room.names,
    )


def _stand(rays: RoomRays, rng: Rng) -> Array:
    """Sensor-to-room pose (4, 4) on a robot: any heading, tilted by up to some degrees."""
    height = (0.25, 0.6) if chance(rng, 0.5) else (0.6, 1.2)
    at = stands(rays.room, rng, 1, height, 0.25)[0]
    # An optical frame looks along its z; a robot's sensor along its x.
    optical = pose_at(at, between(rng, -np.pi, np.pi), *rng.normal(0, 0.015, 2))
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = optical[:3, 2], -optical[:3, 0], -optical[:3, 1]
    pose[:3, 3] = at
    return pose


def lidar_path(out: Path, index: int, scan: int) -> Path:
    """File of a LiDAR scan of a room."""
    return out / "lidar" / f"room-{index:06d}-scan{scan}.npz"


def write_lidar(path: Path, scan: LidarScan) -> None:
    """Write a scan as npz: what `LidarScan` holds, labels as uint8, instances as uint16."""
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez(
            stream,
            points=scan.points,
            rings=scan.rings,
            intensity=scan.intensity,
            labels=scan.labels.astype(np.uint8),
            instances=scan.instances.astype(np.uint16),
            pose=scan.pose,
            names=np.array(scan.names, dtype=np.str_),
        )


def read_lidar(path: Path) -> LidarScan:
    """Read a file of `write_lidar`; raises SasError for anything else."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            scan = LidarScan(
                points=stored["points"].astype(np.float32),
                rings=stored["rings"],
                intensity=stored["intensity"],
                labels=stored["labels"].astype(np.int64),
                instances=stored["instances"].astype(np.int32),
                pose=stored["pose"],
                names=tuple(str(name) for name in stored["names"]),
            )
    except UNREADABLE as error:
        raise SasError(f"{path} is no LiDAR scan of a generated room: {error}.") from error
    count = len(scan.points)
    rows = (scan.rings, scan.intensity, scan.labels, scan.instances)
    if scan.points.shape != (count, 3) or any(part.shape != (count,) for part in rows):
        raise SasError(f"{path} is no LiDAR scan of a generated room: its arrays do not match.")
    return scan
