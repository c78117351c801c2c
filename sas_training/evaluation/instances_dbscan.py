"""Plain DBSCAN over labelled elements: what `sas_ros.instances` is compared with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sas_ros.pieces import connected_pieces

IntArray = npt.NDArray[np.int64]

EPSILON = 0.14
"""Metres between the centres of elements that are neighbours."""

FEWEST = 10
"""Points within reach, its own included, that make an element a core."""


def dbscan(cells: IntArray, points: IntArray, reach: int, fewest: int = FEWEST) -> IntArray:
    """(m,) cluster number of each grid cell, from 0; -1 for noise.

    Args:
        cells: (m, 4) distinct whole numbers: kind, x, y, z. Kinds never share a cluster.
        points: (m,) points in each cell: a cell counts as often as it has points.
        reach: squared distance in cells, up to which two are neighbours.
        fewest: points among the neighbours, its own included, that make a cell a core.

    Cores that are neighbours share a cluster; any other neighbour of a core joins it (the nearest
    one, the first in order at equal distance); the rest is noise.
    """
    # A rim as wide as the reach keeps neighbours of the last cell out of the next column.
    rim = int(reach**0.5)
    shifted = cells - cells.min(axis=0) + np.array([0, rim, rim, rim])
    extent = shifted.max(axis=0) + 1 + np.array([0, rim, rim, rim])
    strides = np.array([extent[1] * extent[2] * extent[3], extent[2] * extent[3], extent[3], 1])
    keys = shifted @ strides
    order = np.argsort(keys)
    ranked = keys[order]
    steps = np.arange(-rim, rim + 1)
    offsets = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    squared = (offsets**2).sum(axis=1)
    near = squared <= reach
    offsets = offsets[near][np.argsort(squared[near], kind="stable")]

    neighbours = []  # (m,) row of the neighbour at each offset, -1 for none
    for offset in offsets:
        wanted = keys + offset @ strides[1:]
        at = np.minimum(np.searchsorted(ranked, wanted), len(ranked) - 1)
        neighbours.append(np.where(ranked[at] == wanted, order[at], -1))
    weight = np.zeros(len(cells), dtype=np.int64)
    for row in neighbours:
        weight += np.where(row >= 0, points[row], 0)
    core = weight >= fewest

    cluster = np.full(len(cells), -1, dtype=np.int64)
    if not core.any():
        return cluster
    cluster[core] = connected_pieces(cells[core], reach)
    for row in neighbours:
        joins = (cluster < 0) & (row >= 0) & core[row]
        cluster[joins] = cluster[row[joins]]
    return cluster
