"""Graph segmentation after Felzenszwalb and Huttenlocher: edges from the weakest difference on,
each part with a tolerance of its own, which sinks as the part grows.

The loops are plain functions that numba compiles on first use; it is imported nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError

IntArray = npt.NDArray[np.int32]
Array = npt.NDArray[Any]


def segment_graph(
    edges: npt.NDArray[np.integer[Any]],
    weights: npt.NDArray[np.floating[Any]],
    count: int,
    k: float,
    min_size: int,
) -> IntArray:
    """Partition the vertices of a graph.

    Two parts merge over an edge that is no heavier than the tolerance of either; the tolerance of
    the result is `weight + k / size`, that of a single vertex is `k`. Edges are taken by weight,
    equal ones in the order given. Then, in the same order, the parts at both ends of an edge merge
    where either has fewer than `min_size` vertices; what no edge leaves may stay smaller.

    Args:
        edges: (E, 2) vertex numbers in 0 ... count - 1; an edge may be there twice.
        weights: (E,) finite differences, not negative; compared as float32.
        count: number of vertices N.
        k: tolerance of a single vertex, more makes larger parts.
        min_size: vertices a part should have.

    Returns:
        (N,) int32 labels 0 ... L-1, numbered by the first vertex of each part.

    Raises:
        SasError: numbers that cannot be meant, or numba is not installed.
    """
    if edges.ndim != 2 or edges.shape[1] != 2 or len(edges) != len(weights):
        raise SasError(f"A graph needs edges (E, 2) and weights (E,), not {edges.shape}.")
    if not 0 <= count < 2**31 or len(edges) >= 2**31:
        raise SasError(f"A graph of {count} vertices and {len(edges)} edges cannot be segmented.")
    if len(edges) and (edges.min() < 0 or edges.max() >= count):
        raise SasError(f"The edges name vertices outside 0 to {count - 1}.")
    if not (k >= 0 and min_size >= 0):
        raise SasError(f"k and the smallest size must be 0 or more, not {k:g} and {min_size}.")
    light = np.ascontiguousarray(weights, np.float32) + np.float32(0)  # -0.0 becomes 0.0
    if len(light) and not (np.isfinite(light).all() and light.min() >= 0):
        raise SasError("The weights of a graph must be finite and not negative.")
    ends = np.ascontiguousarray(edges, np.int32)
    order = sorted_order(light)
    labels: IntArray = compiled(_merge)(order, ends, light, count, float(k), int(min_size))
    return labels


def sorted_order(weights: npt.NDArray[np.float32]) -> IntArray:
    """(E,) int32 places of (E,) weights >= 0 from the smallest on, equal ones in their order."""
    # The bits of floats that are not negative, read as whole numbers, are in the order of values.
    order: IntArray = compiled(_radix_order)(weights.view(np.uint32))
    return order


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as machine code, kept on disk between processes; raises SasError without numba.

    Arguments must be contiguous arrays and plain numbers.
    """
    try:
        from numba import njit
    except ImportError as error:
        raise SasError(
            f"Superpoints need numba, which does not load here ({error}); install it with "
            "pip install 'sas_ros[training]'."
        ) from error
    result: Callable[..., Any] = njit(cache=True, nogil=True)(function)
    return result


def _radix_order(keys: Array) -> Array:
    """Stable order of uint32 keys: three passes of 11 bits."""
    count = len(keys)
    order = np.arange(count, dtype=np.int32)
    held = keys.copy()
    other_order = np.empty(count, np.int32)
    other_held = np.empty(count, np.uint32)
    for turn in range(3):
        shift = np.uint32(11 * turn)
        starts = np.zeros(2049, np.int64)
        for i in range(count):
            starts[((held[i] >> shift) & np.uint32(2047)) + 1] += 1
        for digit in range(2048):
            starts[digit + 1] += starts[digit]
        for i in range(count):
            digit = (held[i] >> shift) & np.uint32(2047)
            place = starts[digit]
            starts[digit] = place + 1
            other_order[place] = order[i]
            other_held[place] = held[i]
        order, other_order = other_order, order
        held, other_held = other_held, held
    return order


def _merge(order: Array, ends: Array, weights: Array, count: int, k: float, min_size: int) -> Array:
    """Both passes over the sorted edges, then labels in the order of first vertices."""
    parent = np.arange(count, dtype=np.int32)
    size = np.ones(count, np.int32)
    tolerance = np.full(count, k)
    for turn in range(2):
        for place in range(len(order)):
            edge = order[place]
            a = ends[edge, 0]
            while parent[a] != a:
                parent[a] = parent[parent[a]]
                a = parent[a]
            b = ends[edge, 1]
            while parent[b] != b:
                parent[b] = parent[parent[b]]
                b = parent[b]
            if a == b:
                continue
            if turn == 0:
                weight = float(weights[edge])
                if weight > tolerance[a] or weight > tolerance[b]:
                    continue
            elif size[a] >= min_size and size[b] >= min_size:
                continue
            if size[a] < size[b]:
                a, b = b, a
            parent[b] = a
            size[a] += size[b]
            if turn == 0:
                tolerance[a] = weight + k / size[a]
    label = np.full(count, -1, np.int32)
    labels = np.empty(count, np.int32)
    found = 0
    for vertex in range(count):
        root = vertex
        while parent[root] != root:
            root = parent[root]
        if label[root] < 0:
            label[root] = found
            found += 1
        labels[vertex] = label[root]
    return labels
