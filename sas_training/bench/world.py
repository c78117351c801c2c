"""How fast rooms are made and frames are taken, on one core."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import numpy as np

from sas_training.bench.timing import machine
from sas_training.scenes.procedural import RoomRays, make_room, scan_room, view_room
from sas_training.scenes.procedural.frames import Studio
from sas_training.scenes.procedural.lidar import scan_lidar

_FRAMES = 5  # of each room
_STEPS = ("furnish_s", "rays_s", "light_s", "scan_s", "view_s", "frame_s", "lidar_s")


def bench_world(rooms: int, seed: int = 0) -> dict[str, Any]:
    """Make `rooms` rooms after one that is not counted, in this process and without writing.

    Returns:
        Mean seconds of processor time of every step: `furnish_s`, `rays_s`, `light_s` (lamps and
        materials), `scan_s` (the fused cloud), `view_s` (one single view), `frame_s` (one
        320 x 240 RGB-D frame with labels), `lidar_s` (one turn of 64 rings); `rooms_per_s` (a room,
        its cloud and 1.5 views, as `sas world make` writes), `frames_per_s`, and what
        `timing.machine` tells.
    """
    spent: defaultdict[str, float] = defaultdict(float)
    for index in range(rooms + 1):
        rng = np.random.default_rng([seed, index])
        marks = [time.process_time()]
        room = make_room(rng)
        marks.append(time.process_time())
        rays = RoomRays(room)
        marks.append(time.process_time())
        studio = Studio(rays, rng)
        marks.append(time.process_time())
        scan_room(room, rng, rays=rays, shading=studio.shading)
        marks.append(time.process_time())
        view_room(room, rng, rays=rays, shading=studio.shading)
        marks.append(time.process_time())
        for _ in range(_FRAMES):
            studio.shoot(rng)
        marks.append(time.process_time())
        scan_lidar(rays, studio.shading, rng, 64)
        marks.append(time.process_time())
        if index:  # the first one loads libraries
            for name, seconds in zip(_STEPS, np.diff(marks), strict=True):
                spent[name] += float(seconds) / rooms
    spent["frame_s"] /= _FRAMES
    once = ("furnish_s", "rays_s", "light_s", "scan_s")
    cloud = sum(spent[name] for name in once) + 1.5 * spent["view_s"]
    return {
        **spent,
        "rooms_per_s": 1 / max(cloud, 1e-9),
        "frames_per_s": 1 / max(spent["frame_s"], 1e-9),
        "rooms": rooms,
        **machine(),
    }
