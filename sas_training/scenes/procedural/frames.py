"""Single RGB-D frames of a generated room, with labels and the camera's pose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sas_ros.errors import SasError
from sas_ros.files import atomic_path

from .furniture import Rng, between
from .light import Light, light_room
from .materials import SHININESS, Surfaces
from .model import IGNORED, WINDOW, Room
from .primitives import Array
from .rays import Hits, RoomRays
from .sensor import Sensor
from .walk import random_view

WIDTH, HEIGHT = 320, 240


@dataclass(frozen=True)
class Frame:
    """What an RGB-D camera saw.

    color (H, W, 3) uint8; depth (H, W) float32 metres along the optical axis, 0 where nothing was
    measured; labels (H, W) uint8, what each pixel shows whether or not it has a depth, 255
    ignored; instances (H, W) uint16, 0 structure; pose (4, 4) camera (x right, y down, z ahead) to
    room, metres, z up; intrinsics (3, 3) pixels; names: of every instance, index 0 "structure".
    """

    color: Array
    depth: Array
    labels: Array
    instances: Array
    pose: Array
    intrinsics: Array
    names: tuple[str, ...]


class Studio:
    """A room with its lamps lit and its surfaces painted, ready for many frames.

    Args:
        rays: the room as rays see it.
        rng: decides lamps, materials and colours.
    """

    def __init__(self, rays: RoomRays, rng: Rng) -> None:
        self.rays = rays
        self.lights: list[Light] = light_room(rays, rng)
        self.surfaces = Surfaces(rays.room, rng)
        panes = [t.label == WINDOW and t.seen < 1.0 for t in rays.room.objects]
        self._glow = np.array(panes) * between(rng, 0.2, 2.5)

    def shoot(self, rng: Rng, pose: Array | None = None, fov: float | None = None) -> Frame:
        """Take a frame from a camera-to-room `pose (4, 4)`, else from a random place.

        `fov` is across, radians, 55 to 72 degrees when None.
        """
        room = self.rays.room
        fov = float(np.radians(between(rng, 55.0, 72.0))) if fov is None else fov
        view = self._worth_seeing(rng, fov) if pose is None else np.asarray(pose, np.float64)
        hits = self.rays.look(view[None], WIDTH, HEIGHT, fov)
        sensor = Sensor(far=between(rng, 4.0, 8.0), noise=between(rng, 0.0008, 0.003))
        distance, valid = sensor.measured(rng, hits, self.rays.seen, (HEIGHT, WIDTH))
        ahead = hits.directions @ view[:3, 2].astype(np.float32)
        depth = np.where(valid, distance * ahead, 0.0).astype(np.float32)
        met = hits.thing >= 0
        thing = np.maximum(hits.thing, 0)
        focal = WIDTH / 2 / np.tan(fov / 2)
        shape = (HEIGHT, WIDTH)
        return Frame(
            color=_developed(self._radiance(hits), rng).reshape(*shape, 3),
            depth=depth.reshape(shape),
            labels=np.where(met, self.rays.labels[thing], IGNORED).astype(np.uint8).reshape(shape),
            instances=np.where(met, self.rays.instances[thing], 0).astype(np.uint16).reshape(shape),
            pose=view,
            intrinsics=np.array(
                [[focal, 0, (WIDTH - 1) / 2], [0, focal, (HEIGHT - 1) / 2], [0, 0, 1.0]]
            ),
            names=room.names,
        )

    def _worth_seeing(self, rng: Rng, fov: float) -> Array:
        """A random pose whose frame shows several things, none of them too near."""
        view = random_view(self.rays.room, rng)
        for _ in range(6):
            glance = self.rays.look(view[None], 24, 18, fov)
            sight = glance.distance[glance.thing >= 0]
            several = len(np.unique(glance.thing)) > 6
            if several and float(np.median(sight)) > 1.2:
                break
            view = random_view(self.rays.room, rng)
        return view

    def _radiance(self, hits: Hits) -> Array:
        """Light (R, 3) that comes back along the rays; what meets nothing is bright sky."""
        light = np.full((len(hits.thing), 3), 1.5, np.float32)
        rows = np.flatnonzero(hits.thing >= 0)
        things, looking = hits.thing[rows], hits.directions[rows]
        points = hits.origins[rows] + looking * hits.distance[rows, None]
        normals = self.rays.normals(hits.triangle[rows])
        # Thin things have one side in the mesh and two in the world.
        normals *= -np.sign(np.einsum("ij,ij->i", normals, looking) + 1e-9)[:, None]
        paint = self.surfaces.albedo(things, points, normals)
        shine = SHININESS[self.surfaces.kind[things]]
        incoming = np.full((len(rows), 3), 0.035, np.float32)
        glints = np.zeros((len(rows), 3), np.float32)
        mirrored = looking - 2 * np.einsum("ij,ij->i", normals, looking)[:, None] * normals
        for lamp in self.lights:
            share, direction = lamp.on(points, normals)
            incoming += share[:, None] * lamp.power
            if lamp.glints:
                glint = np.maximum(np.einsum("ij,ij->i", mirrored, direction), 0.0) ** 24
                glints += (shine * glint * share)[:, None] * lamp.power
        light[rows] = paint * incoming + glints + self._glow[things, None].astype(np.float32)
        return light


def _developed(light: Array, rng: Rng) -> Array:
    """Pixels (R, 3) uint8 of light (R, 3): exposure, vignette, grain and the curve of a camera."""
    grey = light.mean(1)
    middle = max(0.5 * float(np.median(grey) + grey.mean()), 1e-3)
    exposed = light * (between(rng, 0.14, 0.3) / middle)
    exposed *= (1 + rng.normal(0, 0.03, 3)).astype(np.float32)  # white balance
    v, u = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    exposed *= (1 - between(rng, 0.05, 0.2) * (u**2 + v**2) / 2).astype(np.float32).reshape(-1, 1)
    curve = np.power(1 - np.exp(-1.2 * np.maximum(exposed, 0.0)), 1 / 2.2)  # highlights roll off
    curve += between(rng, 0.004, 0.015) * rng.standard_normal(curve.shape).astype(np.float32)
    return np.asarray((255 * np.clip(curve, 0.0, 1.0)).astype(np.uint8))


def frame_path(out: Path, index: int, frame: int) -> Path:
    """File of a frame of a room."""
    return out / "frames" / f"room-{index:06d}-frame{frame}.npz"


def shoot_room(room: Room, rng: Rng, count: int, *, rays: RoomRays | None = None) -> list[Frame]:
    """Light and paint a room and take `count` frames of it, deterministic in `rng`."""
    studio = Studio(rays or RoomRays(room), rng)
    return [studio.shoot(rng) for _ in range(count)]


def write_frame(path: Path, frame: Frame) -> None:
    """Write a frame as npz; depth as uint16 millimetres, 0 for nothing."""
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(
            stream,
            color=frame.color,
            depth=np.clip(np.rint(1000 * frame.depth), 0, 65535).astype(np.uint16),
            labels=frame.labels,
            instances=frame.instances,
            pose=frame.pose,
            intrinsics=frame.intrinsics,
            names=np.array(frame.names, dtype=np.str_),
        )


def read_frame(path: Path) -> Frame:
    """Read a file of `write_frame`; raises SasError for anything else."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return Frame(
                color=stored["color"],
                depth=stored["depth"].astype(np.float32) / 1000,
                labels=stored["labels"],
                instances=stored["instances"],
                pose=stored["pose"],
                intrinsics=stored["intrinsics"],
                names=tuple(str(name) for name in stored["names"]),
            )
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise SasError(f"{path} is no frame of a generated room: {error}.") from error
