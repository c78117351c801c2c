"""`sas bench sweep`: seconds and memory from small clouds to millions of points."""

from __future__ import annotations

import csv
import json
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import atomic_write
from sas_training.bench.timing import machine

_CELL = (2.4, 1.8)
_POINTS_PER_CELL = 50_000
"""A floor of 2.4 x 1.8 m with what stands on it; 100 of them are 5 M points on 24 x 18 m."""


def building(points: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """(points, 3) float32 metres, z up: rooms side by side, the larger the more points there are.

    The density stays the same from 50,000 points on; fewer points are spread over a single room.
    """
    cells = max(1, round(points / _POINTS_PER_CELL))
    columns = max(1, round(cells**0.5))
    parts = []
    for cell in range(cells):
        count = points * (cell + 1) // cells - points * cell // cells
        room = _room(count, np.random.default_rng((seed, cell)))
        # Surfaces on a border between voxels would flicker: 3 cm is inside for 2 and for 8 cm.
        place = np.array([_CELL[0] * (cell % columns), _CELL[1] * (cell // columns), 0.0]) + 0.03
        parts.append(room + place)
    return np.concatenate(parts).astype(np.float32)


def _room(count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Floor, two walls with room for a door, and two boxes."""
    length, width = _CELL
    x, y, z = np.eye(3)
    faces = [
        (np.zeros(3), length * x, width * y),
        (np.zeros(3), 0.6 * length * x, 2.6 * z),
        (np.zeros(3), 0.6 * width * y, 2.6 * z),
    ]
    for _ in range(2):
        corner = np.array([*rng.uniform(0.2, 1.0, 2), 0.0])
        a, b, c = rng.uniform(0.4, 0.8, 3)[:, None] * np.eye(3)
        faces += [(corner + c, a, b), (corner, a, c), (corner, b, c)]
        faces += [(corner + b, a, c), (corner + a, b, c)]
    area = np.array([np.linalg.norm(np.cross(u, v)) for _, u, v in faces])
    face = rng.choice(len(faces), count, p=area / area.sum())
    start, u, v = (np.stack(parts)[face] for parts in zip(*faces, strict=True))
    along, across = rng.random((2, count, 1))
    noise = rng.normal(0, 0.002, (count, 3))
    return np.asarray(start + along * u + across * v + noise)


def bench_sweep(
    student: Path, sizes: Sequence[int], rounds: int, memory_budget: int, output: Path
) -> dict[str, Any]:
    """Segment and label clouds of equal density and growing size, each in a process of its own.

    Writes `sweep.json`, `sweep.csv` and `sweep.png` into the folder `output`.

    Returns:
        `rows` with points, voxels, seconds (best of `rounds`), network_s, added_ratio (what comes
        on top of the network, relative to it), peak_mb and base_mb (before the first large cloud);
        `exponent` of seconds over points, fitted to the sizes from 500,000 points on where there
        are two, else to all; what `timing.machine` tells.

    Raises:
        SasError: fewer than two different sizes, or a measuring process was killed.
    """
    sizes = sorted(set(sizes))
    if len(sizes) < 2:
        raise SasError("A sweep needs at least two sizes.")
    context = multiprocessing.get_context("spawn")  # a fork would start with this one's memory
    rows = []
    for points in sizes:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            try:
                job = pool.submit(_measure, student, points, rounds, memory_budget)
                rows.append(job.result())
            except BrokenProcessPool:
                raise SasError(
                    f"The process that measured {points} points was killed, most likely for "
                    "memory: give smaller --sizes or a smaller --memory-budget."
                ) from None
    large = [row for row in rows if row["points"] >= 500_000]
    fitted = large if len(large) >= 2 else rows
    result = {
        "rows": rows,
        "exponent": _slope(fitted, "seconds"),
        "exponent_from_points": fitted[0]["points"],
        **machine(),
    }
    _write(output, result)
    return result


def _measure(student: Path, points: int, rounds: int, memory_budget: int) -> dict[str, Any]:
    from sas_ros.observation import Cloud, Up
    from sas_ros.segmenter import Segmenter
    from sas_ros.student.bundle import StudentBundle

    bundle = StudentBundle.load(student)
    segmenter = Segmenter(bundle, device="cpu", memory_budget=memory_budget)
    segmenter.warm_up()
    cloud, up = Cloud(building(points)), Up(np.array([0.0, 0.0, 1.0]), "parameter")
    base = _resident("VmRSS")
    runs = []
    for _ in range(rounds):
        started = time.perf_counter()
        scene = segmenter.segment(cloud, up)
        segmenter.label(scene, bundle.vocabulary)
        runs.append((time.perf_counter() - started, scene.network_s))
        voxels = len(scene.positions)
        del scene
    seconds, network = min(runs)
    return {
        "points": points,
        "voxels": voxels,
        "seconds": seconds,
        "network_s": network,
        "added_ratio": seconds / network - 1.0,
        "peak_mb": round(_resident("VmHWM") / 2**20),
        "base_mb": round(base / 2**20),
    }


def _resident(key: str) -> int:
    """Bytes resident now (VmRSS) or at most so far (VmHWM); 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), 0)


def _slope(rows: Sequence[dict[str, Any]], key: str) -> float:
    points, values = (np.log([row[name] for row in rows]) for name in ("points", key))
    return float(np.polyfit(points, values, 1)[0])


def _write(output: Path, result: dict[str, Any]) -> None:
    from sas_ros.pictures import write_png
    from sas_training.bench.plot import Curve, plot_log_log

    try:
        output.mkdir(parents=True, exist_ok=True)
        atomic_write(output / "sweep.json", json.dumps(result, indent=2).encode())
        with (output / "sweep.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, list(result["rows"][0]))
            table.writeheader()
            table.writerows(result["rows"])
    except OSError as error:
        raise SasError(f"The sweep cannot be written to {output}: {error}.") from error
    points = [row["points"] for row in result["rows"]]
    seconds = [
        Curve("all", points, [row["seconds"] for row in result["rows"]], (35, 90, 170)),
        Curve("network", points, [row["network_s"] for row in result["rows"]], (220, 120, 30)),
    ]
    taken = [max(row["peak_mb"] - row["base_mb"], 1) for row in result["rows"]]
    memory = [Curve("peak above the start", points, taken, (35, 90, 170))]
    title = f"seconds (exponent {result['exponent']:.2f})"
    picture = np.concatenate(
        [plot_log_log(title, seconds), plot_log_log("megabytes", memory)], axis=1
    )
    write_png(output / "sweep.png", picture)
