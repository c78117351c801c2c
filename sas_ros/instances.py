"""From marked elements to objects: connected pieces, each with an upright box.

Two elements belong together when their centres are at most `GAP` apart, or at most one element of
the grid is missing between them, whichever is less; neighbours always do. Objects that touch, or
stand closer than that (chairs pushed together), come out as one instance: telling them apart needs
a student that knows instances, not a better rule here.

The boxes are those of `sas_ros.boxes`: upright, smallest about the vertical, without strays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sas_ros.boxes import quaternion_xyzw, upright_box
from sas_ros.gravity import rotation_to_z_up
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.observation import Cloud, ElementLabels, SceneFeatures
from sas_ros.pose import turn_in_place

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

GAP = 0.14
"""Metres between element centres that still connect: with the true labels of three real rooms, 0.12
to 0.14 m at 5 cm and at 8 cm voxels tells most objects apart, 0.2 m merges chairs at a table."""

_NEIGHBOURS = 3  # squared distance, in cells, of the farthest of the 26 neighbours: (1, 1, 1)
_ONE_MISSING = 6  # (2, 1, 1); (2, 2, 0) is farther


@dataclass(frozen=True, eq=False)
class ObjectInstance:
    """One object, in the source frame.

    Attributes:
        label: what was asked for, or the vocabulary's word.
        score: mean probability of its points, (0, 1].
        elements: (m,) int64 indices into the scene's elements, ascending.
        point_indices: (p,) uint32 indices into the source cloud, ascending; finite points only.
        center: (3,) float64 metres, centre of the box, `origin` included.
        orientation: (4,) float64 quaternion x y z w of the box: its local z axis is `up`, its
            local x axis the longer horizontal side.
        size: (3,) float64 metres, full lengths along the local axes.
        centroid: (3,) float64 metres, mean of its points, `origin` included.
        support_height: metres from the source frame's origin along `up` to the lower face of the
            box; NaN when unknown.
    """

    label: str
    score: float
    elements: IntArray
    point_indices: npt.NDArray[np.uint32]
    center: Float64Array
    orientation: Float64Array
    size: Float64Array
    centroid: Float64Array
    support_height: float


def find_instances(
    scene: SceneFeatures,
    cloud: Cloud,
    probability: Float32Array,
    *,
    label: str,
    threshold: float,
    max_instances: int,
    min_points: int,
    min_elements: int = 1,
) -> list[ObjectInstance]:
    """Return the objects made of elements whose probability (M,) reaches `threshold`, best first.

    Best is score times the square root of the number of elements: a whole chair at 0.8 comes before
    a surer scrap of one. Pieces of fewer than `min_points` points or `min_elements` elements are
    dropped, and all but the best `max_instances`.
    """
    probability = np.asarray(probability)
    chosen = np.flatnonzero(probability >= threshold)
    kinds = np.zeros(len(chosen), dtype=np.int64)
    smallest = (min_points, min_elements)
    return _objects(scene, cloud, chosen, kinds, probability, [label], max_instances, smallest)


def label_instances(
    scene: SceneFeatures,
    cloud: Cloud,
    labels: ElementLabels,
    vocabulary: Vocabulary,
    *,
    max_instances: int,
    min_points: int,
    min_elements: int = 1,
) -> list[ObjectInstance]:
    """Return the objects among the labelled elements, for the vocabulary's things only.

    Elements are connected only to elements of the same label; order and limits are those of
    `find_instances`, over all labels together. Ids beyond the vocabulary are not labels.
    """
    things = np.array(vocabulary.things)
    known = (labels.label >= 0) & (labels.label < len(vocabulary))
    chosen = np.flatnonzero(known & things[np.where(known, labels.label, 0)])
    kinds = labels.label[chosen]
    names, smallest = list(vocabulary.names), (min_points, min_elements)
    return _objects(scene, cloud, chosen, kinds, labels.confidence, names, max_instances, smallest)


def _objects(
    scene: SceneFeatures,
    cloud: Cloud,
    chosen: IntArray,
    kinds: IntArray,
    probability: Float32Array,
    names: list[str],
    max_instances: int,
    smallest: tuple[int, int],
) -> list[ObjectInstance]:
    """Objects among the elements `chosen` (m,), connected within equal `kinds` (m,), with at
    least `smallest` (points, elements)."""
    if len(chosen) == 0 or max_instances < 1:
        return []
    to_up = rotation_to_z_up(scene.up.direction)
    size = scene.element_size
    turn = scene.kept.get(
        "grid turn", None, lambda: _grid_turn(scene.positions.astype(np.float64) @ to_up.T, size)
    )
    first, *_ = scene.positions[:1].astype(np.float64) @ to_up.T
    cells = _turned_cells(scene.positions[chosen].astype(np.float64) @ to_up.T - first, turn, size)
    reach = int(np.clip(int((GAP / size) ** 2), _NEIGHBOURS, _ONE_MISSING))
    piece = connected_pieces(np.column_stack([kinds, cells]), reach)
    count = int(piece.max()) + 1

    points_each = scene.points_per_element[chosen].astype(np.float64)
    sizes = np.bincount(piece, weights=points_each, minlength=count)
    totals = np.bincount(piece, weights=points_each * probability[chosen], minlength=count)
    score = np.minimum(totals / np.maximum(sizes, 1), 1.0)

    element_counts = np.bincount(piece, minlength=count)
    merit = score * np.sqrt(element_counts)
    large = np.flatnonzero((sizes >= max(smallest[0], 1)) & (element_counts >= smallest[1]))
    best = large[np.argsort(-merit[large], kind="stable")][:max_instances]
    rank_of_piece = np.full(count, -1, dtype=np.int64)
    rank_of_piece[best] = np.arange(len(best))
    # One more entry than elements: the -1 of points that are not finite finds it. The smallest type
    # that does: 16-bit numbers are sorted several times faster.
    rank_of_element = np.full(len(probability) + 1, -1, np.min_scalar_type(-len(best) - 1))
    rank_of_element[chosen] = rank_of_piece[piece]
    members = _split(rank_of_element[scene.element_of_point], len(best))
    element_members = _split(rank_of_element[:-1], len(best))

    objects = []
    for rank, number in enumerate(best):
        indices, elements = members[rank], element_members[rank]
        columns = np.ascontiguousarray(cloud.points[indices].T, dtype=np.float64)
        centroid = columns.mean(axis=1) + cloud.origin
        turn_in_place(columns, to_up)
        box = upright_box(columns.T, scene.element_of_point[indices])
        to_source = to_up.T @ box.axes
        center = to_up.T @ box.center + cloud.origin
        up = scene.up.direction
        objects.append(
            ObjectInstance(
                label=names[int(kinds[np.searchsorted(chosen, elements[0])])],
                score=float(score[number]),
                elements=elements,
                point_indices=indices.astype(np.uint32),
                center=center,
                orientation=quaternion_xyzw(to_source),
                size=box.size,
                centroid=centroid,
                support_height=float(center @ up - box.size[2] / 2),
            )
        )
    return objects


def _split(ranks: npt.NDArray[np.signedinteger], count: int) -> list[IntArray]:
    """The rows of each rank from 0 to `count` - 1, ascending; rows of rank -1 are left out."""
    if not count:
        return []
    rows = np.flatnonzero(ranks >= 0)
    order = np.argsort(ranks[rows], kind="stable")
    ends = np.cumsum(np.bincount(ranks[rows], minlength=count))
    return np.split(rows[order], ends[:-1])


def grid_cells(positions: Float64Array, size: float) -> IntArray:
    """Return (M, 3) whole-number cells of element centres (M, 3), metres, z up.

    The student's grid stands upright but is turned about the vertical as it liked. Two elements
    side by side show the turn, so that its cells are found again exactly; elements that are on no
    grid get the cells they fall into.
    """
    return _turned_cells(positions - positions[0], _grid_turn(positions, size), size)


def _turned_cells(relative: Float64Array, turn: float, size: float) -> IntArray:
    cosine, sine = np.cos(turn), np.sin(turn)
    x = cosine * relative[:, 0] + sine * relative[:, 1]
    y = cosine * relative[:, 1] - sine * relative[:, 0]
    cells = np.rint(np.column_stack([x, y, relative[:, 2]]) / size)
    return np.asarray(cells, dtype=np.int64)


def _grid_turn(positions: Float64Array, size: float) -> float:
    """The grid's angle about z, radians, from elements one `size` apart at the same height."""
    starts = np.unique(np.linspace(0, len(positions) - 1, 64).astype(np.int64))
    x, _, z = (np.ascontiguousarray(positions[:, axis]) for axis in range(3))
    for batch in np.array_split(starts, max(len(starts) // 8, 1)):
        found = []
        for start in batch:
            near = (np.abs(z - z[start]) < 0.02 * size) & (np.abs(x - x[start]) < 1.03 * size)
            offset = positions[near, :2] - positions[start, :2]
            length = np.hypot(offset[:, 0], offset[:, 1])
            found.append(offset[np.abs(length - size) < 0.02 * size])
        beside = np.concatenate(found)
        if len(beside):
            angle = 4 * np.arctan2(beside[:, 1], beside[:, 0])
            return float(np.arctan2(np.sin(angle).mean(), np.cos(angle).mean()) / 4)
    return 0.0


def connected_pieces(cells: IntArray, reach: int) -> IntArray:
    """Number the connected pieces of grid cells.

    Args:
        cells: (m, 4) whole numbers: kind, x, y, z. Cells of different kinds are never connected,
            equal cells always are.
        reach: squared distance in cells that still connects, 1 to 8.

    Returns:
        (m,) int64 piece numbers from 0, in the order of each piece's first cell in sorted order.
    """
    _, kind = np.unique(cells[:, 0], return_inverse=True)
    x, y, z = (_close_gaps(cells[:, axis]) for axis in (1, 2, 3))
    # Rims of three empty cells: no key of a neighbour reaches into the next column.
    step_y = int(z.max()) + 4
    step_x = step_y * (int(y.max()) + 4)
    step_kind = step_x * (int(x.max()) + 4)
    keys = kind.reshape(-1) * step_kind + x * step_x + y * step_y + z
    keys, of_cell = np.unique(keys, return_inverse=True)

    # Within a column, a run ends where the next cell is out of reach.
    run = np.concatenate([[0], np.cumsum(np.diff(keys) > int(reach**0.5))])
    edges = []
    for dx in range(3):
        for dy in range(-2, 3):
            rest = reach - dx * dx - dy * dy
            if (dx, dy) <= (0, 0) or rest < 0:
                continue
            dz = int(rest**0.5)
            other = keys + dx * step_x + dy * step_y
            first = np.searchsorted(keys, other - dz)
            last = np.searchsorted(keys, other + dz, side="right") - 1
            near = last >= first
            # What lies between the first and the last is in the same run as one of them.
            edges.append(np.stack([run[near], run[first[near]]]))
            edges.append(np.stack([run[near], run[last[near]]]))
    pairs = np.concatenate(edges, axis=1)
    pairs = pairs[:, pairs[0] != pairs[1]]
    root = _roots(int(run[-1]) + 1, pairs[0], pairs[1])
    _, number = np.unique(root, return_inverse=True)
    return np.asarray(number[run][of_cell.reshape(-1)], dtype=np.int64)


def _close_gaps(values: IntArray) -> IntArray:
    """The values from 0 on with every gap above 3 made 3: a stray cell a kilometre away must not
    make the keys overflow."""
    distinct, rank = np.unique(values, return_inverse=True)
    steps = np.minimum(np.diff(distinct, prepend=distinct[:1]), 3)
    return np.asarray(np.cumsum(steps)[rank.reshape(-1)], dtype=np.int64)


def _roots(count: int, a: IntArray, b: IntArray) -> IntArray:
    """(count,) smallest member of each node's connected set, given edges a-b."""
    parent = np.arange(count)
    while len(a):
        low, high = np.minimum(parent[a], parent[b]), np.maximum(parent[a], parent[b])
        apart = low != high
        a, b, low, high = a[apart], b[apart], low[apart], high[apart]
        np.minimum.at(parent, high, low)
        while True:
            grand = parent[parent]
            if np.array_equal(grand, parent):
                break
            parent = grand
    return parent
