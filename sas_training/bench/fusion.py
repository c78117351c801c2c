"""`sas bench fusion`: pixel features of posed images onto points (the multi-view mean)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sas_training.bench.timing import alternate, compared, machine
from sas_training.fusion.multiview import FeatureSource, PixelFeatures, fuse_views
from sas_training.fusion.projection import Intrinsics, Places, ProjectionSettings, View, seen

_WIDTH, _HEIGHT, _FOV = 320, 240, 1.02
_MAPS = 4
"""Different feature maps, more than any cache holds; views take them in turn."""


def bench_fusion(
    points: int, frames: int, channels: int, rounds: int, seed: int = 0
) -> dict[str, Any]:
    """Fuse float16 maps (240, 320, `channels`) of `frames` views of a generated room onto about
    `points` points of it, with depth, at the settings of ScanNet.

    The alternative takes one view at a time and adds all its pixels with one `index_add_`. Both
    project with the same code; `projection_s` is what that takes. `floor_s` is the time of reading
    every number of every map once in memory (a sum over its bytes as whole words, the cheapest
    way), `file_s` that of reading each map once from a file that the system holds in memory.
    `from_files_s` is that reading and fusing, each map when its view's turn comes, and
    `ratio_to_file` is between these two; `ours_s` has all maps in memory already.

    Returns:
        the times, `ratio_to_floor`, `ratio_to_file`, `speedup`; `points`, `frames`, `channels`,
        `seen` (points with a view), `pairs` (of a point and a view that sees it), and what
        `timing.machine` tells.
    """
    places, views = _scene(points, frames, seed)
    made, shape = torch.Generator().manual_seed(seed), (_HEIGHT, _WIDTH, channels)
    maps = [torch.randn(shape, generator=made).half() for _ in range(min(_MAPS, frames))]
    turn = [maps[number % len(maps)] for number in range(frames)]
    settings = ProjectionSettings()
    source = FeatureSource("random", channels, lambda number: PixelFeatures(turn[number]))
    ready = Places.of(torch.from_numpy(places))
    result = fuse_views(places, views, [source], settings)

    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.bin" for number in range(len(maps))]
        for file, one in zip(files, maps, strict=True):
            one.numpy().tofile(file)

        def read(number: int) -> npt.NDArray[np.float16]:
            return np.fromfile(files[number % len(files)], np.float16)

        def told(number: int) -> PixelFeatures:
            return PixelFeatures(torch.from_numpy(read(number).reshape(shape)))

        filed = FeatureSource("random", channels, told)
        jobs: dict[str, Callable[[], object]] = {
            "ours_s": lambda: fuse_views(places, views, [source], settings),
            "alternative_s": lambda: one_at_a_time(ready, views, turn, settings),
            "floor_s": lambda: [
                one.reshape(-1).view(torch.int16).view(torch.int64).sum() for one in turn
            ],
            "file_s": lambda: [read(number).size for number in range(frames)],
            "from_files_s": lambda: fuse_views(places, views, [filed], settings),
            "projection_s": lambda: [seen(ready, view, settings) for view in views],
        }
        seconds = alternate(jobs, rounds)
    return {
        **compared(seconds),
        "ratio_to_file": seconds["from_files_s"] / seconds["file_s"],
        "points": len(places),
        "frames": frames,
        "channels": channels,
        "seen": int(np.count_nonzero(result.features["random"].mask)),
        "pairs": int(result.views["random"].sum()),
        **machine(),
    }


def one_at_a_time(
    points: Places,
    views: Sequence[View],
    maps: Sequence[torch.Tensor],
    settings: ProjectionSettings,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (M, C) float16 of the points seen and their mask (N,), the plain way: all pixels of a
    view gathered, widened and added at once."""
    channels = maps[0].shape[-1]
    sums = torch.zeros((points.exact.shape[1], channels))
    counts = torch.zeros(points.exact.shape[1])
    for view, one in zip(views, maps, strict=True):
        index, pixels = seen(points, view, settings)
        sums.index_add_(0, index, one.reshape(-1, channels)[pixels].float())
        counts.index_add_(0, index, torch.ones(len(index)))
    mask = counts > 0
    return (sums[mask] / counts[mask, None]).half(), mask


def _scene(count: int, frames: int, seed: int) -> tuple[npt.NDArray[np.float32], list[View]]:
    """About `count` points of a generated room, in the order of the views that show them first, and
    the views with their exact depth."""
    from sas_training.scenes.procedural import make_room, render_view
    from sas_training.scenes.procedural.rays import RoomRays, pixel_rays
    from sas_training.scenes.procedural.walk import random_view

    rng = np.random.default_rng((78, seed))
    room = make_room(rng)
    rays = RoomRays(room)
    beams = pixel_rays(_WIDTH, _HEIGHT, _FOV)
    beams = beams / beams[:, 2:]
    focal = _WIDTH / 2 / float(np.tan(_FOV / 2))
    camera = Intrinsics(focal, focal, (_WIDTH - 1) / 2, (_HEIGHT - 1) / 2)
    views, shown = [], []
    for _ in range(frames):
        pose = np.asarray(random_view(room, rng), dtype=np.float64)
        depth, _, _ = render_view(room, pose, _WIDTH, _HEIGHT, fov=_FOV, rays=rays)
        depth = np.nan_to_num(depth, nan=0.0)
        views.append(View(pose, camera, _WIDTH, _HEIGHT, depth))
        there = depth.reshape(-1) > 0
        own = beams[there] * depth.reshape(-1)[there, None]
        shown.append((own @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32))
    places = np.concatenate(shown)
    kept = np.sort(rng.choice(len(places), min(count, len(places)), replace=False))
    return places[kept], views
