"""Single RGB-D frames of a generated room, with labels and the camera's pose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sas_ros.errors import SasError
from sas_ros.files import UNREADABLE, atomic_path

from .furniture import Rng, between
from .model import IGNORED, Room
from .primitives import Array
from .rays import Hits, RoomRays
from .sensor import Sensor
from .shading import Shading, developed
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
        shading: lamps, materials and colours that have been decided already.
    """

    def __init__(self, rays: RoomRays, rng: Rng, shading: Shading | None = None) -> None:
        self.rays = rays
        self.shading = shading or Shading(rays, rng)

    def shoot(
        self,
        rng: Rng,
        pose: Array | None = None,
        fov: float | None = None,
        streak: tuple[float, float] = (0.0, 0.0),
    ) -> Frame:
        """Take a frame from a camera-to-room `pose (4, 4)`, else from a random place.

        `fov` is across, radians, 55 to 72 degrees when None. `streak` is how far the picture moves
        right and down during the exposure, pixels; depth is measured at once.
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
            color=self._photograph(hits, rng, streak).reshape(*shape, 3),
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

    def _photograph(self, hits: Hits, rng: Rng, streak: tuple[float, float]) -> Array:
        """Pixels (R, 3) of all rays; what meets nothing is bright sky, corners are darker."""
        light = np.full((len(hits.thing), 3), 1.5, np.float32)
        rows = np.flatnonzero(hits.thing >= 0)
        light[rows] = self.shading.radiance(hits, rows)
        light = blurred(light.reshape(HEIGHT, WIDTH, 3), *streak).reshape(-1, 3)
        v, u = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
        vignette = (1 - between(rng, 0.05, 0.2) * (u**2 + v**2) / 2).reshape(-1, 1)
        return developed(light, rng, between(rng, 0.1, 0.3), between(rng, 0.004, 0.015), vignette)


def blurred(light: Array, right: float, down: float) -> Array:
    """Light (H, W, 3) averaged along a streak of `right` and `down` pixels about each pixel.

    A camera that turns while the shutter is open smears near and far things alike.
    """
    steps = int(np.ceil(max(abs(right), abs(down))))
    if steps < 1:
        return light
    rows, columns = light.shape[:2]
    total = np.zeros_like(light)
    for share in np.linspace(-0.5, 0.5, steps + 1):
        row = np.clip(np.arange(rows) + round(share * down), 0, rows - 1)
        column = np.clip(np.arange(columns) + round(share * right), 0, columns - 1)
        total += light[row[:, None], column[None, :]]
    return np.asarray(total / np.float32(steps + 1))


def draw_streak(rng: Rng, longest: float) -> tuple[float, float]:
    """A streak of at most `longest` pixels in any direction; most are short."""
    length, angle = longest * float(rng.random()) ** 2, between(rng, 0.0, 2 * np.pi)
    return length * float(np.cos(angle)), length * float(np.sin(angle))


def frame_path(out: Path, index: int, frame: int) -> Path:
    """File of a frame of a room."""
    return out / "frames" / f"room-{index:06d}-frame{frame}.npz"


def shoot_room(
    room: Room,
    rng: Rng,
    count: int,
    *,
    rays: RoomRays | None = None,
    shading: Shading | None = None,
    streaks: Sequence[tuple[float, float]] = (),
) -> list[Frame]:
    """Light and paint a room, unless `shading` has, and take `count` frames of it from `rng`.

    `streaks` are those of `Studio.shoot`, one of each frame, or none: nothing moves.
    """
    studio = Studio(rays or RoomRays(room), rng, shading)
    still = (0.0, 0.0)
    return [studio.shoot(rng, streak=streaks[k] if streaks else still) for k in range(count)]


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
    except UNREADABLE as error:
        raise SasError(f"{path} is no frame of a generated room: {error}.") from error
