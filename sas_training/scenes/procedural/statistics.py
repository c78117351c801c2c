"""What labelled scans look like in numbers: how far generated rooms are from real ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sas_ros.errors import SasError
from sas_ros.pieces import connected_pieces
from sas_training.evaluation.labelled import read_labelled
from sas_training.evaluation.labels import SCANNET20, STUFF

from .model import FLOOR, WALL
from .primitives import Array

BANDS = (0.1, 0.5, 1.0, 1.5, 2.0)
"""Metres above the floor where the bands of the height profile meet."""

_PIECE_CELL = 0.08  # m; objects are pieces of one class that hang together at this grain
_LEAST = 30  # points of the smallest piece that counts as an object
_PATCH = 0.15  # m; normals are those of cubes of this edge
_SAMPLE = 1500  # points whose neighbours are measured

Figures = dict[str, float]


def scan_figures(points: Array, labels: Array) -> Figures:
    """Figures of one scan.

    Args:
        points: (N, 3) metres, z up, N at least 100; rows that are not finite are left out.
        labels: (N,) ids of the ScanNet-20 set, anything else is ignored.

    Returns:
        Name -> value; names say the unit. Shares lie in 0..1. "class ..." is a class's share of
        the labelled points, "height ..." a share of all points between two heights above the floor
        (the 1.5th percentile of z), "normals ..." of the points on level (within 25 degrees),
        upright and other surfaces. An object is a piece of one class of things that hangs together
        at 8 cm.

    Raises:
        SasError: fewer than 100 finite points.
    """
    finite = np.isfinite(points).all(axis=1)
    points, labels = points[finite].astype(np.float64), labels[finite]
    if len(points) < 100:
        raise SasError(f"{len(points)} points are too few to say anything about a scan.")
    labelled = labels[(labels >= 0) & (labels < len(SCANNET20))]
    counts = np.bincount(labelled, minlength=len(SCANNET20)) / max(len(labelled), 1)
    height = points[:, 2] - np.percentile(points[:, 2], 1.5)
    cells = np.floor((points[:, :2] - points[:, :2].min(0)) / 0.1).astype(np.int64)
    area = 0.01 * len(np.unique(cells[:, 0] * 100_000 + cells[:, 1]))
    figures: Figures = {
        "points": float(len(points)),
        "plan area m2": area,
        "points per m2 of plan": len(points) / area,
        "neighbour distance cm": 100 * neighbour_distance(points),
        "top of the scan m": float(np.percentile(height, 99)),
        "ignored": 1 - len(labelled) / len(points),
        "walls + floor": float(counts[WALL] + counts[FLOOR]),
        "classes there": float((counts > 0).sum()),
    }
    edges = (-np.inf, *BANDS, np.inf)
    for low, high in itertools.pairwise(edges):
        name = f"height below {high} m" if low < 0 else f"height above {low} m"
        name = name if low < 0 or high > 99 else f"height {low}-{high} m"
        figures[name] = float(np.mean((height >= low) & (height < high)))
    figures.update(_surfaces(points))
    sizes = object_sizes(points, labels)
    figures["objects"] = float(len(sizes))
    figures["objects per 10 m2"] = 10 * len(sizes) / area
    figures["points per object"] = float(np.median(sizes)) if len(sizes) else 0.0
    figures.update({f"class {n}": float(c) for n, c in zip(SCANNET20.names, counts, strict=True)})
    return figures


def neighbour_distance(points: Array) -> float:
    """Median distance in metres from a point (N, 3) to the next one, from a sample of points."""
    chosen = points[:: 1 + len(points) // _SAMPLE].astype(np.float32)
    others = points.astype(np.float32)
    squares = (others**2).sum(1)
    nearest = []
    for start in range(0, len(chosen), 100):
        part = chosen[start : start + 100]
        away = squares - 2 * part @ others.T + (part**2).sum(1)[:, None]
        # The nearest is the point itself; twins at the same place are skipped likewise. Measured
        # again from the coordinates, for the squares cancel.
        candidates = np.argpartition(away, 3, axis=1)[:, :4]
        exact = np.linalg.norm(others[candidates] - part[:, None], axis=2)
        exact[exact < 1e-5] = np.inf
        nearest.append(exact.min(1))
    found = np.concatenate(nearest)
    return float(np.median(found[np.isfinite(found)])) if np.isfinite(found).any() else 0.0


def object_sizes(points: Array, labels: Array) -> Array:
    """Points (K,) of every piece of a class of things that hangs together, strays left out."""
    stuff = [k for k, name in enumerate(SCANNET20.names) if name in STUFF]
    chosen = (labels >= 0) & (labels < len(SCANNET20)) & ~np.isin(labels, stuff)
    if not chosen.any():
        return np.zeros(0, np.int64)
    cells = np.floor(points[chosen] / _PIECE_CELL).astype(np.int64)
    keys = np.column_stack([labels[chosen], cells - cells.min(0)])
    distinct, owner = np.unique(keys, axis=0, return_inverse=True)
    sizes = np.bincount(connected_pieces(distinct, 3)[owner.reshape(-1)])
    return np.asarray(sizes[sizes >= _LEAST])


def _surfaces(points: Array) -> Figures:
    """Shares of points on level, upright and slanted patches, and how thick the patches are."""
    cells = np.floor((points - points.min(0)) / _PATCH).astype(np.int64)
    size = cells.max(0) + 1
    keys = (cells[:, 0] * size[1] + cells[:, 1]) * size[2] + cells[:, 2]
    _, owner, members = np.unique(keys, return_inverse=True, return_counts=True)
    owner = owner.reshape(-1)
    means = np.stack([np.bincount(owner, points[:, k]) for k in range(3)], 1) / members[:, None]
    offset = points - means[owner]
    moments = np.empty((len(members), 3, 3))
    for i in range(3):
        for j in range(3):
            moments[:, i, j] = np.bincount(owner, offset[:, i] * offset[:, j]) / members
    enough = members >= 6
    values, vectors = np.linalg.eigh(moments[enough])
    weight = members[enough] / max(int(members[enough].sum()), 1)
    tilt = np.abs(vectors[:, 2, 0])
    thickness = np.sqrt(np.maximum(values[:, 0], 0.0))
    order = np.argsort(thickness)
    middle = np.searchsorted(np.cumsum(weight[order]), 0.5) if len(order) else 0
    return {
        "normals level": float(weight[tilt > np.cos(np.radians(25))].sum()),
        "normals upright": float(weight[tilt < np.sin(np.radians(25))].sum()),
        "normals slanted": float(
            weight[(tilt <= np.cos(np.radians(25))) & (tilt >= np.sin(np.radians(25)))].sum()
        ),
        "patch thickness mm": 1000 * float(thickness[order[middle]]) if len(order) else 0.0,
    }


def mean_figures(files: Sequence[Path]) -> Figures:
    """Means over labelled scans, each scan counting the same; raises SasError for no scans."""
    if not files:
        raise SasError("There are no scans to take figures of.")
    rows = [scan_figures(*read_labelled(path)) for path in files]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def compare(rooms: Sequence[Path], others: Sequence[Path]) -> dict[str, Figures]:
    """Figures of two groups of scans, and how far apart they are.

    Returns:
        "rooms", "with" and "gap" (rooms minus with), each with the names of `scan_figures`.
    """
    first, second = mean_figures(rooms), mean_figures(others)
    return {
        "rooms": first,
        "with": second,
        "gap": {name: first[name] - second[name] for name in first},
    }


def is_share(name: str) -> bool:
    """Whether a figure is a share in 0..1, which people read as per cent."""
    return name in ("ignored", "walls + floor") or name.split(" ")[0] in (
        "height",
        "normals",
        "class",
    )


def figures_table(result: dict[str, Figures]) -> str:
    """The result of `compare` as a table: shares in per cent, other figures as they are."""
    lines = [f"{'':<24}{'rooms':>9}{'with':>9}{'gap':>9}"]
    for name in result["rooms"]:
        factor, unit, form = (100, " %", ".1f") if is_share(name) else (1, "", ".3g")
        if not is_share(name) and abs(result["rooms"][name]) >= 1000:
            form = ".0f"
        cells = [
            f"{format(factor * result[column][name], sign + form):>9}"
            for column, sign in (("rooms", ""), ("with", ""), ("gap", "+"))
        ]
        lines.append(f"{name + unit:<24}" + "".join(cells))
    return "\n".join(lines)
