"""From marked elements to objects, each with an upright box.

Which elements make one object is decided in `sas_ros.pieces`, by the gaps between their points.
Objects of one kind that truly touch side by side (cabinets in a row) come out as one: telling them
apart needs a student that knows instances, not a better rule here.

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
from sas_ros.pieces import grid_turn, object_pieces, turned_cells
from sas_ros.pose import turn_in_place

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_CHUNK = 2**14
"""Points turned at a time: they stay in the cache."""


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
        "grid turn", None, lambda: grid_turn(scene.positions.astype(np.float64) @ to_up.T, size)
    )
    first, *_ = scene.positions[:1].astype(np.float64) @ to_up.T
    cells = turned_cells(scene.positions[chosen].astype(np.float64) @ to_up.T - first, turn, size)
    low, high = scene.kept.get("extents", None, lambda: _extents(scene, cloud, to_up, turn))
    points_each = scene.points_per_element[chosen]
    cells = np.column_stack([kinds, cells])
    piece = object_pieces(cells, low[chosen], high[chosen], points_each, size)
    count = int(piece.max()) + 1

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


def _extents(
    scene: SceneFeatures, cloud: Cloud, to_up: Float64Array, turn: float
) -> tuple[Float64Array, Float64Array]:
    """(M, 3) least and (M, 3) greatest coordinates of each element's points, metres, along the
    grid, which is turned by `turn` about the vertical."""
    cosine, sine = np.cos(turn), np.sin(turn)
    to_grid = np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]]) @ to_up
    # One more than elements: the -1 of points that are not finite finds it.
    low = np.full((3, len(scene.positions) + 1), np.inf)
    high = -low
    with np.errstate(invalid="ignore"):
        for start in range(0, len(scene.element_of_point), _CHUNK):
            element = scene.element_of_point[start : start + _CHUNK]
            part = np.ascontiguousarray(cloud.points[start : start + _CHUNK].T, dtype=np.float64)
            part = to_grid @ part
            for axis in range(3):
                np.minimum.at(low[axis], element, part[axis])
                np.maximum.at(high[axis], element, part[axis])
    return low[:, :-1].T, high[:, :-1].T


def _split(ranks: npt.NDArray[np.signedinteger], count: int) -> list[IntArray]:
    """The rows of each rank from 0 to `count` - 1, ascending; rows of rank -1 are left out."""
    if not count:
        return []
    rows = np.flatnonzero(ranks >= 0)
    order = np.argsort(ranks[rows], kind="stable")
    ends = np.cumsum(np.bincount(ranks[rows], minlength=count))
    return np.split(rows[order], ends[:-1])
