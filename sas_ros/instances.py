"""From marked elements to objects: connected pieces, each with an upright box.

Two elements belong together when at most one element is missing between them: on the voxel grid
the squared distance of their cells is at most `_REACH_SQUARED`. Objects that touch, or stand closer
than that (chairs pushed together), come out as one instance: telling them apart needs a student
that knows instances, not a better rule here.

The box is upright (its z axis is `up`); about the vertical it is turned so that the rectangle
around the object's elements is smallest. A few stray elements (at most 1 % per side, and only when
they lie apart from the rest) stay outside the box though they stay in the instance; no box leaves
out more than 5 % of the points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sas_ros.gravity import rotation_to_z_up
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.observation import Cloud, ElementLabels, SceneFeatures

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_REACH_SQUARED = 6
"""Squared cell distance that still connects: (2, 1, 1) does, (2, 2, 0) does not."""

_STRAY_SHARE = 0.01
_INSIDE_SHARE = 0.95
_SINGLE_POINT_SIZE = 1e-3  # metres: a box is never flat, planners divide by its sides


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
) -> list[ObjectInstance]:
    """Return the objects made of elements whose probability (M,) reaches `threshold`, best first.

    Best is score times the square root of the number of elements: a whole chair at 0.8 comes before
    a surer scrap of one. Pieces of fewer than `min_points` points are dropped, and all but the best
    `max_instances`.
    """
    probability = np.asarray(probability)
    chosen = np.flatnonzero(probability >= threshold)
    kinds = np.zeros(len(chosen), dtype=np.int64)
    return _objects(scene, cloud, chosen, kinds, probability, [label], max_instances, min_points)


def label_instances(
    scene: SceneFeatures,
    cloud: Cloud,
    labels: ElementLabels,
    vocabulary: Vocabulary,
    *,
    max_instances: int,
    min_points: int,
) -> list[ObjectInstance]:
    """Return the objects among the labelled elements, for the vocabulary's things only.

    Elements are connected only to elements of the same label; order and limits are those of
    `find_instances`, over all labels together. Ids beyond the vocabulary are not labels.
    """
    things = np.array(vocabulary.things)
    known = (labels.label >= 0) & (labels.label < len(vocabulary))
    chosen = np.flatnonzero(known & things[np.where(known, labels.label, 0)])
    kinds = labels.label[chosen]
    names = list(vocabulary.names)
    return _objects(
        scene, cloud, chosen, kinds, labels.confidence, names, max_instances, min_points
    )


def _objects(
    scene: SceneFeatures,
    cloud: Cloud,
    chosen: IntArray,
    kinds: IntArray,
    probability: Float32Array,
    names: list[str],
    max_instances: int,
    min_points: int,
) -> list[ObjectInstance]:
    """Objects among the elements `chosen` (m,), connected within equal `kinds` (m,)."""
    if len(chosen) == 0 or max_instances < 1:
        return []
    to_up = rotation_to_z_up(scene.up.direction)
    cells = grid_cells(scene.positions.astype(np.float64) @ to_up.T, scene.element_size)
    piece = connected_pieces(np.column_stack([kinds, cells[chosen]]))
    count = int(piece.max()) + 1

    # One more entry than elements: the -1 of points that are not finite finds it.
    piece_of_element = np.full(len(probability) + 1, -1, dtype=np.int64)
    piece_of_element[chosen] = piece
    piece_of_point = piece_of_element[scene.element_of_point]
    points = np.flatnonzero(piece_of_point >= 0)
    piece_of_point = piece_of_point[points]
    sizes = np.bincount(piece_of_point, minlength=count)
    weights = probability[scene.element_of_point[points]].astype(np.float64)
    totals = np.bincount(piece_of_point, weights=weights, minlength=count)
    score = np.minimum(totals / np.maximum(sizes, 1), 1.0)

    merit = score * np.sqrt(np.bincount(piece, minlength=count))
    large = np.flatnonzero(sizes >= max(min_points, 1))
    best = large[np.argsort(-merit[large], kind="stable")][:max_instances]
    members = _split(points, piece_of_point, best, count)
    element_members = _split(chosen, piece, best, count)

    objects = []
    for rank, number in enumerate(best):
        indices, elements = members[rank], element_members[rank]
        upright = cloud.points[indices].astype(np.float64) @ to_up.T
        box = upright_box(upright, scene.element_of_point[indices])
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
                centroid=cloud.points[indices].astype(np.float64).mean(axis=0) + cloud.origin,
                support_height=float(center @ up - box.size[2] / 2),
            )
        )
    return objects


def _split(values: IntArray, piece: IntArray, wanted: IntArray, count: int) -> list[IntArray]:
    """The `values` of each wanted piece, ascending."""
    rank = np.full(count, -1, dtype=np.int64)
    rank[wanted] = np.arange(len(wanted))
    rank_of_value = rank[piece]
    kept = rank_of_value >= 0
    order = np.argsort(rank_of_value[kept], kind="stable")
    ends = np.cumsum(np.bincount(rank_of_value[kept], minlength=len(wanted)))
    return np.split(values[kept][order], ends[:-1]) if len(wanted) else []


def grid_cells(positions: Float64Array, size: float) -> IntArray:
    """Return (M, 3) whole-number cells of element centres (M, 3), metres, z up.

    The student's grid stands upright but is turned about the vertical as it liked. Two elements
    side by side show the turn, so that its cells are found again exactly; elements that are on no
    grid get the cells they fall into.
    """
    turn = _grid_turn(positions, size)
    cosine, sine = np.cos(turn), np.sin(turn)
    relative = positions - positions[0]
    x = cosine * relative[:, 0] + sine * relative[:, 1]
    y = cosine * relative[:, 1] - sine * relative[:, 0]
    cells = np.rint(np.column_stack([x, y, relative[:, 2]]) / size)
    return np.asarray(cells, dtype=np.int64)


def _grid_turn(positions: Float64Array, size: float) -> float:
    """The grid's angle about z, radians, from elements one `size` apart at the same height."""
    starts = np.unique(np.linspace(0, len(positions) - 1, 64).astype(np.int64))
    for batch in np.array_split(starts, max(len(starts) // 8, 1)):
        offset = positions[None] - positions[batch, None]
        length = np.hypot(offset[..., 0], offset[..., 1])
        beside = (np.abs(length - size) < 0.02 * size) & (np.abs(offset[..., 2]) < 0.02 * size)
        if beside.any():
            angle = 4 * np.arctan2(offset[..., 1][beside], offset[..., 0][beside])
            return float(np.arctan2(np.sin(angle).mean(), np.cos(angle).mean()) / 4)
    return 0.0


def connected_pieces(cells: IntArray) -> IntArray:
    """Number the connected pieces of grid cells.

    Args:
        cells: (m, 4) whole numbers: kind, x, y, z. Cells of different kinds are never connected,
            equal cells always are.

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

    # Within a column, a run ends where more than one cell is missing.
    run = np.concatenate([[0], np.cumsum(np.diff(keys) > 2)])
    edges = []
    for dx in range(3):
        for dy in range(-2, 3):
            rest = _REACH_SQUARED - dx * dx - dy * dy
            if (dx, dy) <= (0, 0) or rest < 0:
                continue
            dz = min(int(rest**0.5), 2)
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


@dataclass(frozen=True, eq=False)
class UprightBox:
    """Box in a frame with z up: centre (3,) m, axes (3, 3) as columns, full lengths (3,) m."""

    center: Float64Array
    axes: Float64Array
    size: Float64Array


def upright_box(points: Float64Array, element: npt.NDArray[np.integer]) -> UprightBox:
    """Return the smallest upright box around points (p, 3), metres, z up, p >= 1.

    Args:
        points: the points of one object.
        element: (p,) the element of each point. Sensors put most points on near faces, so sides
            and strays are judged by elements, each counting once.
    """
    _, member = np.unique(element, return_inverse=True)
    member = member.reshape(-1)
    counts = np.bincount(member)
    middle = points.mean(axis=0)
    centers = np.column_stack(
        [np.bincount(member, weights=points[:, k] - middle[k]) / counts for k in range(3)]
    )
    yaw = _smallest_rectangle(centers[:, :2])
    cosine, sine = np.cos(yaw), np.sin(yaw)
    axes = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    local = (points - middle) @ axes
    inside = _without_strays(centers @ axes)[member]
    if inside.mean() < _INSIDE_SHARE:
        inside = np.ones(len(points), dtype=np.bool_)
    low, high = local[inside].min(axis=0), local[inside].max(axis=0)
    if high[1] - low[1] > high[0] - low[0]:  # the longer horizontal side is x: turn by 90 degrees
        axes = np.column_stack([axes[:, 1], -axes[:, 0], axes[:, 2]])
        low, high = (
            np.array([low[1], -high[0], low[2]]),
            np.array([high[1], -low[0], high[2]]),
        )
    if axes[0, 0] < 0 or (axes[0, 0] == 0 and axes[1, 0] < 0):  # a box looks the same from behind
        axes = axes * np.array([-1.0, -1.0, 1.0])
        low, high = (
            np.array([-high[0], -high[1], low[2]]),
            np.array([-low[0], -low[1], high[2]]),
        )
    return UprightBox(
        center=axes @ ((low + high) / 2) + middle,
        axes=axes,
        size=np.maximum(high - low, _SINGLE_POINT_SIZE),
    )


def _smallest_rectangle(centers: Float64Array) -> float:
    """Yaw in radians, [0, pi/2), of the smallest rectangle around (m, 2), strays left out."""
    if len(centers) < 3:
        if len(centers) == 2 and (offset := centers[1] - centers[0]).any():
            return float(np.arctan2(offset[1], offset[0]) % (np.pi / 2))
        return 0.0
    # Coarse to fine: 3 degrees, then a quarter of one.
    coarse = _best_angle(centers, np.radians(np.arange(0.0, 90.0, 3.0)))
    fine = _best_angle(centers, coarse + np.radians(np.arange(-3.0, 3.01, 0.25)))
    return float(fine % (np.pi / 2))


def _best_angle(centers: Float64Array, angles: Float64Array) -> float:
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    x, y = centers[:, 0], centers[:, 1]
    area = _spread(cosine * x + sine * y) * _spread(cosine * y - sine * x)
    return float(angles[int(np.argmin(area))])


def _spread(values: Float64Array) -> Float64Array:
    """(a,) width of each row of (a, m) between its `_STRAY_SHARE` quantiles, whole ranks."""
    last = values.shape[1] - 1
    skip = int(_STRAY_SHARE * last)
    ranked = np.partition(values, (skip, last - skip), axis=1)
    return np.asarray(ranked[:, last - skip] - ranked[:, skip])


def _without_strays(local: Float64Array) -> npt.NDArray[np.bool_]:
    """(m,) bool: all but the few outermost elements that lie apart from the rest.

    An element at the border of an object lies close behind the 1 % quantile, a stray one does not:
    only what is farther out than a twentieth of the object's length is left out.
    """
    inside = np.ones(len(local), dtype=np.bool_)
    skip = int(_STRAY_SHARE * (len(local) - 1))
    if skip == 0:
        return inside
    for axis in range(3):
        ranked = np.sort(local[:, axis])
        low, high = ranked[skip], ranked[-1 - skip]
        slack = 0.05 * (high - low)
        inside &= (local[:, axis] >= low - slack) & (local[:, axis] <= high + slack)
    return inside


def quaternion_xyzw(rotation: Float64Array) -> Float64Array:
    """Return the unit quaternion (x, y, z, w), w >= 0, of a rotation matrix (3, 3)."""
    r = rotation
    # The largest component is never small: dividing by it keeps all digits.
    squared = np.array(
        [
            1 + r[0, 0] - r[1, 1] - r[2, 2],
            1 - r[0, 0] + r[1, 1] - r[2, 2],
            1 - r[0, 0] - r[1, 1] + r[2, 2],
            1 + r[0, 0] + r[1, 1] + r[2, 2],
        ]
    )
    products = np.array(
        [
            [squared[0], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0], r[2, 1] - r[1, 2]],
            [r[0, 1] + r[1, 0], squared[1], r[1, 2] + r[2, 1], r[0, 2] - r[2, 0]],
            [r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], squared[2], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], squared[3]],
        ]
    )
    quaternion = products[int(np.argmax(squared))]
    quaternion = quaternion / np.linalg.norm(quaternion)
    return np.asarray(-quaternion if quaternion[3] < 0 else quaternion)
