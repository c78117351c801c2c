"""Writing generated rooms to disk: the same bytes for the same seed, resumable, in parallel."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from sas_ros.errors import SasError
from sas_ros.files import UNREADABLE, atomic_path, whole_files

from .camera import scan_room, view_room
from .frames import draw_streak, frame_path, shoot_room, write_frame
from .lidar import lidar_path, scan_lidar, write_lidar
from .manifest import claim
from .mesh import mesh_path, scan_mesh, write_mesh
from .model import LabelledScan, Room
from .rays import RoomRays
from .rooms import make_room
from .shading import Shading

MOST_POINTS = 60_000
MOST_VIEW_POINTS = 20_000
BYTES_PER_ROOM = 1_900_000
"""On disk, at most about; the views are in it."""
BYTES_PER_FRAME = 300_000
BYTES_PER_LIDAR = 1_200_000
BYTES_PER_MESH = 4_000_000


@dataclass(frozen=True)
class Extras:
    """What is written of each room beside its scan and views: how many frames, at most how many
    pixels they are blurred by, how many LiDAR scans, and whether a mesh."""

    frames: int = 0
    lidar: int = 0
    blur: int = 0
    mesh: bool = False


def room_path(out: Path, index: int) -> Path:
    """File of the fused scan of a room."""
    return out / "rooms" / f"room-{index:06d}.npz"


def view_path(out: Path, index: int, view: int) -> Path:
    """File of a single depth frame of a room."""
    return out / "views" / f"room-{index:06d}-view{view}.npz"


def write_scan(path: Path, scan: LabelledScan) -> None:
    """Write a scan as npz: points float32, labels uint8, instances uint16, colors uint8, names."""
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez(
            stream,
            points=scan.points.astype(np.float32),
            labels=scan.labels.astype(np.uint8),
            instances=scan.instances.astype(np.uint16),
            colors=scan.colors.astype(np.uint8),
            names=np.array(scan.names, dtype=np.str_),
        )


def read_scan(path: Path) -> LabelledScan:
    """Read a file of `write_scan`; raises SasError for anything else."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return LabelledScan(
                points=stored["points"].astype(np.float32),
                labels=stored["labels"].astype(np.int64),
                instances=stored["instances"].astype(np.int32),
                colors=stored["colors"],
                names=tuple(str(name) for name in stored["names"]),
            )
    except UNREADABLE as error:
        raise SasError(f"{path} is no scan of a generated room: {error}.") from error


def write_room(index: int, *, out: Path, seed: int, wanted: Extras) -> bool:
    """Make, scan and write room `index`; returns False when its files exist already.

    The chance of a room depends on `seed` and `index` alone, so neither the number of workers nor
    an interruption changes a byte. Frames, LiDAR scans and meshes have chance of their own: asking
    for more of them leaves all the rest as it is.
    """
    views, rng = _begin(seed, index)
    paths = [view_path(out, index, k) for k in range(views)]
    shots = [frame_path(out, index, k) for k in range(wanted.frames)]
    turns = [lidar_path(out, index, k) for k in range(wanted.lidar)]
    meshes = [mesh_path(out, index)] if wanted.mesh else []
    # The fused scan is written last: where it exists, the views do too.
    scanned = room_path(out, index).exists() and all(path.exists() for path in paths)
    if scanned and all(path.exists() for path in shots + turns + meshes):
        return False
    room = make_room(rng)
    rays = RoomRays(room)
    shading = Shading(rays, np.random.default_rng([seed, index, 2]))
    if not all(path.exists() for path in shots):
        _shoot(room, rays, shading, index, out, seed, wanted)
    for k, path in enumerate(turns):
        if not path.exists():
            own = np.random.default_rng([seed, index, 3, k])
            write_lidar(path, scan_lidar(rays, shading, own))
    for path in meshes:
        if not path.exists():
            write_mesh(path, scan_mesh(rays, shading, np.random.default_rng([seed, index, 5])))
    if scanned:
        return True
    scan = scan_room(room, rng, rays=rays, shading=shading, most=MOST_POINTS)
    for path in paths:
        view = view_room(room, rng, rays=rays, shading=shading, most=MOST_VIEW_POINTS)
        write_scan(path, view)
    write_scan(room_path(out, index), scan)
    return True


def _begin(seed: int, index: int) -> tuple[int, np.random.Generator]:
    """How many views a room has, and the chance that it is made from."""
    rng = np.random.default_rng([seed, index])
    return 1 + int(rng.integers(2)), rng


def write_frames(index: int, *, out: Path, seed: int, wanted: Extras) -> None:
    """The frames of room `index` alone, the same that `write_room` writes, without its scans."""
    room = make_room(_begin(seed, index)[1])
    rays = RoomRays(room)
    shading = Shading(rays, np.random.default_rng([seed, index, 2]))
    _shoot(room, rays, shading, index, out, seed, wanted)


def _shoot(
    room: Room,
    rays: RoomRays,
    shading: Shading,
    index: int,
    out: Path,
    seed: int,
    wanted: Extras,
) -> None:
    """Write the frames of a room, in their order."""
    chances = [np.random.default_rng([seed, index, 4, k]) for k in range(wanted.frames)]
    taken = shoot_room(
        room,
        np.random.default_rng([seed, index, 1]),
        wanted.frames,
        rays=rays,
        shading=shading,
        streaks=[draw_streak(own, wanted.blur) for own in chances],
    )
    for k, frame in enumerate(taken):
        write_frame(frame_path(out, index, k), frame)


def _check_space(out: Path, rooms: int, wanted: Extras) -> None:
    """Raise SasError where the files that are still missing cannot fit on the disk."""
    scans = _missing(room_path(out, n) for n in range(rooms))
    frames = _missing(frame_path(out, n, k) for n in range(rooms) for k in range(wanted.frames))
    lidar = _missing(lidar_path(out, n, k) for n in range(rooms) for k in range(wanted.lidar))
    meshes = _missing(mesh_path(out, n) for n in range(rooms) if wanted.mesh)
    needed = scans * BYTES_PER_ROOM + frames * BYTES_PER_FRAME + lidar * BYTES_PER_LIDAR
    needed += meshes * BYTES_PER_MESH
    free = shutil.disk_usage(out).free
    if needed > free:
        missing = f"{scans} rooms"
        missing += f", {frames} frames" if frames else ""
        missing += f", {lidar} LiDAR scans" if lidar else ""
        missing += f", {meshes} meshes" if meshes else ""
        raise SasError(
            f"{missing} need {needed / 1e9:.1f} GB, but the disk of {out} has {free / 1e9:.1f} GB "
            "left."
        )


def _missing(paths: Iterable[Path]) -> int:
    """How many of the files, all of one folder, are not there."""
    there: set[Path] | None = None
    count = 0
    for path in paths:
        if there is None:  # one listing is faster than looking for each of a million files
            there = set(whole_files(path.parent, f"*{path.suffix}"))
        count += path not in there
    return count


def _remove_partial(out: Path) -> None:
    """Remove what `atomic_path` leaves behind in a run that is killed."""
    for folder in ("rooms", "views", "frames", "lidar", "meshes"):
        for path in (out / folder).glob(".room-*.partial.*"):
            path.unlink(missing_ok=True)


def begin_dataset(out: Path, rooms: int, seed: int, wanted: Extras) -> None:
    """Make a folder ready for `write_room`, called for rooms in any order, in any process.

    Half-written files of a run that was killed are removed, so only one run at a time may write to
    a folder. Raises SasError for a folder that holds rooms of another seed or of another version of
    the world, or frames with another blur, or whose disk is too small.
    """
    claim(out, seed, wanted.blur if wanted.frames else None)
    _remove_partial(out)
    _check_space(out, rooms, wanted)


def write_dataset(
    out: Path,
    rooms: int,
    seed: int,
    workers: int = 2,
    frames: int = 0,
    lidar: int = 0,
    blur: int = 0,
    mesh: bool = False,
) -> int:
    """Write `rooms` generated rooms under `out` with a progress bar; existing files are kept.

    With `frames`, that many RGB-D frames of each room are written too, blurred by streaks of at
    most `blur` pixels; with `lidar`, that many LiDAR scans; with `mesh`, a mesh.

    Returns how many rooms were made in this run. Raises SasError for impossible numbers, and for
    what `begin_dataset` does.
    """
    if rooms < 1 or workers < 1:
        raise SasError(
            f"{rooms} rooms with {workers} workers cannot be made; both must be 1 or more."
        )
    from tqdm import tqdm

    out, wanted = Path(out), Extras(frames, lidar, blur, mesh)
    begin_dataset(out, rooms, seed, wanted)
    job = partial(write_room, out=out, seed=seed, wanted=wanted)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if workers == 1:
        made = sum(int(new) for new in tqdm(map(job, range(rooms)), total=rooms, unit="room"))
    else:
        # A forked child would inherit the thread pools of whatever the parent has loaded.
        context = multiprocessing.get_context("spawn")
        # Ctrl-C is the parent's business: it ends the workers, quietly.
        quiet = (signal.SIGINT, signal.SIG_IGN)
        with context.Pool(workers, initializer=signal.signal, initargs=quiet) as pool:
            answers = pool.imap_unordered(job, range(rooms), chunksize=2)
            made = sum(int(new) for new in tqdm(answers, total=rooms, unit="room"))
    if made < rooms:
        print(f"{rooms - made} of {rooms} rooms were there already and have been kept.")
    return made
