"""Pictures of one thing in an otherwise plain room, with the true mask of its class.

What a text-to-image model and its attention are for real teachers: images of a class without any
annotated data set. Walls, floor and ceiling are there, and a wall, a door or a window where that is
the class; nothing else is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_training.evaluation.labels import SCANNET20
from sas_training.experiment.pictures import Picture, halved
from sas_training.scenes.procedural import bathroom, shell, wall_things
from sas_training.scenes.procedural.frames import Studio
from sas_training.scenes.procedural.furniture import Rng, between
from sas_training.scenes.procedural.model import Room
from sas_training.scenes.procedural.placing import Placer
from sas_training.scenes.procedural.plan import Cell, draw_plan
from sas_training.scenes.procedural.rays import RoomRays, pose_at
from sas_training.scenes.procedural.walk import random_view

PIECES: dict[str, tuple[str, ...]] = {
    "cabinet": ("cabinet", "tall cabinet", "wardrobe", "sideboard", "built-in cabinet"),
    "bed": ("single bed", "double bed", "bunk bed"),
    "chair": ("chair", "office chair", "armchair", "stool", "folding chair"),
    "sofa": ("sofa", "loveseat", "corner sofa"),
    "table": ("table", "round table", "coffee table", "meeting table"),
    "bookshelf": ("bookshelf", "low bookshelf"),
    "counter": ("kitchen row", "kitchen island"),
    "desk": ("desk", "corner desk"),
    "refrigerator": ("refrigerator", "small refrigerator"),
    "toilet": ("toilet",),
    "sink": ("sink",),
    "bathtub": ("bathtub",),
    "otherfurniture": ("tv stand", "ottoman", "radiator", "washing machine", "shoe rack", "bench"),
}
"""What stands for each class: names of the catalogue."""

_TRIES = 60
_SHARES = (0.02, 0.75)
"""Of a picture's pixels that the class may take."""


@dataclass(frozen=True, eq=False)
class ObjectPicture:
    """One picture: image (H, W, 3) uint8, and where the class is, (H, W) bool."""

    image: Picture
    mask: npt.NDArray[np.bool_]


def object_picture(name: str, seed: tuple[int, ...]) -> ObjectPicture:
    """A picture of a class of ScanNet-20; the same for the same seed.

    Raises:
        SasError: no such class, or no picture of it could be made.
    """
    label = SCANNET20.id_of(name) if name in SCANNET20.names else -1
    if label < 0:
        raise SasError(f"{name!r} is no class; known are {', '.join(SCANNET20.names)}.")
    rng = np.random.default_rng(seed)
    for _ in range(_TRIES):
        room = _room_with(name, rng)
        if room is None or not any(thing.label == label for thing in room.objects):
            continue
        found = _photographed(room, label, rng)
        if found is not None:
            return found
    raise SasError(f"No picture of a {name} could be made with the seed {seed}.")


def _room_with(name: str, rng: Rng) -> Room | None:
    """A plain room with one thing of a class; None where it found no place."""
    size = (between(rng, 3.0, 4.5), between(rng, 3.0, 5.0))
    placer = Placer(rng, draw_plan(rng, "bedroom", size, ()))
    cell = placer.plan.cells[0]
    if name not in ("wall", "floor") and not _put(placer, cell, name):
        return None
    shell.build_shell(placer)
    return Room(
        kind="plain",
        objects=tuple(placer.objects),
        areas=(cell.rect,),
        blocked=np.array(
            [*placer.taken, *[(*block, 0.0, placer.plan.height) for block in cell.blocks]],
            np.float32,
        ).reshape(-1, 6),
        height=placer.plan.height,
    )


def _put(placer: Placer, cell: Cell, name: str) -> bool:
    """Put one thing of a class into the room; whether there was a place."""
    rng, before = placer.rng, len(placer.objects)
    if name == "door":
        shell.add_door(placer, cell)
    elif name == "window":
        shell.add_window(placer, cell, 0.0)
    elif name == "curtain":
        shell.add_free_curtain(placer, cell)
    elif name == "picture":
        piece = wall_things.picture(rng, between(rng, 0.4, 1.2), between(rng, 0.3, 0.95))
        placer.on_wall(cell, piece, (0.95, 1.4), 6, 0.05)
    elif name == "shower curtain":
        wide, high = between(rng, 0.9, 1.8), between(rng, 1.85, 2.1)
        placer.inside(cell, bathroom.shower_curtain(rng, wide, 0.1, high), margin=0.3)
    else:
        kinds = PIECES[name]
        placer.against(cell, kinds[int(rng.integers(len(kinds)))])
    return len(placer.objects) > before


def _photographed(room: Room, label: int, rng: Rng) -> ObjectPicture | None:
    """A picture in which the class is neither tiny nor everything; None where there was none."""
    rays = RoomRays(room)
    for _ in range(8):
        pose = _pose(room, label, rng)
        fov = float(np.radians(between(rng, 55.0, 72.0)))
        glance = rays.look(pose[None], 32, 24, fov)
        shown = (glance.thing >= 0) & (rays.labels[np.maximum(glance.thing, 0)] == label)
        near = np.isfinite(glance.distance).any() and float(np.median(glance.distance)) > 0.7
        if near and _SHARES[0] <= shown.mean() <= _SHARES[1]:
            frame = Studio(rays, rng).shoot(rng, pose, fov)
            # The upper left of each 2 x 2 pixels: labels have no means.
            return ObjectPicture(halved(frame.color), (frame.labels == label)[::2, ::2])
    return None


def _pose(room: Room, label: int, rng: Rng) -> npt.NDArray[np.float64]:
    """A camera in the room that looks at the thing, or somewhere, where that is the room itself."""
    things = [thing for thing in room.objects if thing.label == label and thing.instance > 0]
    if not things:
        return np.asarray(random_view(room, rng), dtype=np.float64)
    low = np.min([thing.bounds[0] for thing in things], axis=0)
    high = np.max([thing.bounds[1] for thing in things], axis=0)
    target = (low + high) / 2 + rng.normal(0, 0.15, 3)
    x0, y0, x1, y1 = room.areas[0]
    at = np.array([between(rng, x0 + 0.2, x1 - 0.2), between(rng, y0 + 0.2, y1 - 0.2), 0.0])
    at[2] = between(rng, 0.9, 1.75)
    to = target - at
    yaw, pitch = np.arctan2(to[1], to[0]), np.arctan2(to[2], np.hypot(to[0], to[1]))
    return np.asarray(pose_at(at, float(yaw), float(np.clip(pitch, -1.2, 0.4))), dtype=np.float64)
