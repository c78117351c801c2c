"""Which elements make one object: three steps on the student's grid.

1. Elements of one kind are neighbours when at most `REACH` lies between their centres, or at most
   one element is missing between them, whichever is less. Cells that touch are always neighbours.
2. Neighbours are connected when their points come within `GAP`, or within twice the spacing of the
   points around them where the scan is thinner. So chairs pushed together come apart although they
   touch on the grid, and a thin scan does not crumble.
3. Pieces one above the other are joined: seat and back, top and legs, whatever is hidden or
   labelled otherwise between them.

What stands closer than that side by side stays one piece. Cutting at narrow bridges was tried and
cost more in objects taken to pieces than it gained (docs/students.md).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

REACH = 0.14
"""Metres between the centres of neighbours. With the true labels of real rooms, 0.12 to 0.14 m at 5
and 8 cm voxels tells most objects apart, 0.2 m merges chairs at a table."""

GAP = 0.06
"""Metres between the points of connected neighbours in dense scans. On 30 generated rooms 4 to 7 cm
are alike: there the spacing of the points decides."""

RISE = 0.4
"""Metres between the centres of elements one above the other that are joined: more than is hidden
in a chair under a table, less than from a kitchen counter to the cabinets above it."""

_SPACINGS = 2.0  # so many times the spacing of the points are no gap; 1.8 to 2.2 are alike
_SHARE = 0.3  # of a piece's columns; what merely touches another shares fewer

_NEIGHBOURS = 3  # squared distance, in cells, of the farthest of the 26 neighbours: (1, 1, 1)
_ONE_MISSING = 6  # (2, 1, 1); (2, 2, 0) is farther


def object_pieces(
    cells: IntArray, low: Float64Array, high: Float64Array, points: IntArray, size: float
) -> IntArray:
    """Number the objects among elements.

    Args:
        cells: (m, 4) whole numbers: kind, x, y, z. Elements of different kinds share no object.
        low, high: (m, 3) metres, least and greatest coordinates of each element's points along the
            axes of the cells.
        points: (m,) number of points of each element.
        size: metres, the edge of a cell.

    Returns:
        (m,) int64 object numbers from 0, whatever the order of the elements. Elements in one cell
        have the same one.
    """
    reach = int(np.clip(int((REACH / size) ** 2), _NEIGHBOURS, _ONE_MISSING))
    rise = max(int(RISE / size), 1)
    keys, of_cell, steps = _keys(cells, reach, rise)
    if reach**0.5 * size <= GAP:  # small voxels: neighbours are near enough
        piece = _connected(keys, steps, reach)
    else:
        lowest = np.full((len(keys), 3), np.inf)
        highest = -lowest
        for axis in range(3):
            np.minimum.at(lowest[:, axis], of_cell, low[:, axis])
            np.maximum.at(highest[:, axis], of_cell, high[:, axis])
        counts = np.bincount(of_cell, weights=points, minlength=len(keys)).astype(np.float64)
        one, other = _pairs(keys, steps, reach)
        apart = np.maximum(lowest[one] - highest[other], lowest[other] - highest[one])
        apart = np.maximum(apart, 0.0)
        spacing = size / np.sqrt(np.maximum(_around(counts, one, other), 1.0))
        allowed = np.maximum(GAP, _SPACINGS * np.maximum(spacing[one], spacing[other]))
        near = (apart**2).sum(axis=1) <= allowed**2
        piece = _numbered(_roots(len(keys), one[near], other[near]))
    return _join_stacked(piece, keys, steps, rise)[of_cell]


def _around(counts: Float64Array, one: IntArray, other: IntArray) -> Float64Array:
    """(m,) mean of each cell's count (m,) and those of its neighbours, given the pairs."""
    number = len(counts)
    total = (
        counts + np.bincount(one, counts[other], number) + np.bincount(other, counts[one], number)
    )
    members = 1 + np.bincount(one, minlength=number) + np.bincount(other, minlength=number)
    return np.asarray(total / members)


def _join_stacked(
    piece: IntArray, keys: IntArray, steps: tuple[int, int, int], rise: int
) -> IntArray:
    """Piece numbers (m,) of sorted cells after joining pieces that are one above the other.

    Two are when, in `_SHARE` of the columns of the one that has fewer, the other's next cell is at
    most `rise` cells away.
    """
    column = keys // steps[2]
    count = int(piece.max()) + 1
    columns = np.bincount(_distinct_pairs(piece, column)[0], minlength=count)
    above = (column[1:] == column[:-1]) & (np.diff(keys) <= rise) & (piece[1:] != piece[:-1])
    first = np.minimum(piece[1:], piece[:-1])[above]
    second = np.maximum(piece[1:], piece[:-1])[above]
    pair, _ = _distinct_pairs(first * count + second, column[1:][above])
    pair, shared = np.unique(pair, return_counts=True)
    first, second = np.divmod(pair, count)
    stacked = shared >= _SHARE * np.minimum(columns[first], columns[second])
    return _numbered(_roots(count, first[stacked], second[stacked]))[piece]


def _distinct_pairs(a: IntArray, b: IntArray) -> tuple[IntArray, IntArray]:
    """The distinct rows of (a, b), in order."""
    order = np.lexsort((b, a))
    a, b = a[order], b[order]
    new = np.ones(len(a), dtype=np.bool_)
    new[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    return a[new], b[new]


def connected_pieces(cells: IntArray, reach: int) -> IntArray:
    """Number the connected pieces of grid cells.

    Args:
        cells: (m, 4) whole numbers: kind, x, y, z. Cells of different kinds are never connected,
            equal cells always are.
        reach: squared distance in cells that still connects, 1 to 8.

    Returns:
        (m,) int64 piece numbers from 0, in the order of each piece's first cell in sorted order.
    """
    keys, of_cell, steps = _keys(cells, reach, 1)
    return _connected(keys, steps, reach)[of_cell]


def _keys(
    cells: IntArray, reach: int, rise: int
) -> tuple[IntArray, IntArray, tuple[int, int, int]]:
    """Distinct cells as single numbers, ascending: kind, x, y, z; (m,) which one each cell is; and
    the steps of x, y and of a whole column.

    Rims of empty cells keep the keys of neighbours, and of what is `rise` above, in their column.
    """
    rim = max(int(reach**0.5), rise) + 1
    _, kind = np.unique(cells[:, 0], return_inverse=True)
    x, y, z = (_close_gaps(cells[:, axis], rim) for axis in (1, 2, 3))
    step_y = int(z.max()) + 1 + rim
    step_x = step_y * (int(y.max()) + 1 + rim)
    step_kind = step_x * (int(x.max()) + 1 + rim)
    all_keys = kind.reshape(-1) * step_kind + x * step_x + y * step_y + z
    keys, of_cell = np.unique(all_keys, return_inverse=True)
    return keys, of_cell.reshape(-1), (step_x, step_y, step_y)


def _columns_near(steps: tuple[int, int, int], reach: int) -> Iterator[tuple[int, int]]:
    """(key offset, largest distance along z in cells) of half of the columns within reach."""
    for dx in range(3):
        for dy in range(-2, 3):
            rest = reach - dx * dx - dy * dy
            if (dx, dy) > (0, 0) and rest >= 0:
                yield dx * steps[0] + dy * steps[1], int(rest**0.5)


def _pairs(keys: IntArray, steps: tuple[int, int, int], reach: int) -> tuple[IntArray, IntArray]:
    """Rows of all pairs of distinct, sorted cells within reach, each once."""
    offsets = list(range(1, int(reach**0.5) + 1))
    for offset, most in _columns_near(steps, reach):
        offsets += [offset + dz for dz in range(-most, most + 1)]
    one, other = [], []
    for offset in offsets:
        at = np.minimum(np.searchsorted(keys, keys + offset), len(keys) - 1)
        found = np.flatnonzero(keys[at] == keys + offset)
        one.append(found)
        other.append(at[found])
    return np.concatenate(one), np.concatenate(other)


def _connected(keys: IntArray, steps: tuple[int, int, int], reach: int) -> IntArray:
    """Piece numbers of distinct, sorted cells of which those within reach are connected."""
    # Within a column, a run ends where the next cell is out of reach.
    run = np.concatenate([[0], np.cumsum(np.diff(keys) > int(reach**0.5))])
    edges = []
    for offset, most in _columns_near(steps, reach):
        first = np.searchsorted(keys, keys + offset - most)
        last = np.searchsorted(keys, keys + offset + most, side="right") - 1
        near = last >= first
        # What lies between the first and the last is in the same run as one of them.
        edges.append(np.stack([run[near], run[first[near]]]))
        edges.append(np.stack([run[near], run[last[near]]]))
    pairs = np.concatenate(edges, axis=1)
    pairs = pairs[:, pairs[0] != pairs[1]]
    piece = _numbered(_roots(int(run[-1]) + 1, pairs[0], pairs[1]))
    return np.asarray(piece[run], dtype=np.int64)


def _numbered(root: IntArray) -> IntArray:
    """Roots as consecutive numbers from 0, in their order."""
    _, number = np.unique(root, return_inverse=True)
    return np.asarray(number.reshape(-1), dtype=np.int64)


def _close_gaps(values: IntArray, most: int) -> IntArray:
    """The values from 0 on with every gap above `most` made `most`: a stray cell a kilometre away
    must not make the keys overflow."""
    distinct, rank = np.unique(values, return_inverse=True)
    steps = np.minimum(np.diff(distinct, prepend=distinct[:1]), most)
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


def grid_cells(positions: Float64Array, size: float) -> IntArray:
    """Return (M, 3) whole-number cells of element centres (M, 3), metres, z up.

    The student's grid stands upright but is turned about the vertical as it liked. Two elements
    side by side show the turn, so that its cells are found again exactly; elements that are on no
    grid get the cells they fall into.
    """
    return turned_cells(positions - positions[0], grid_turn(positions, size), size)


def turned_cells(relative: Float64Array, turn: float, size: float) -> IntArray:
    """(M, 3) cells of centres (M, 3), metres from one of them, z up, on a grid at an angle."""
    cosine, sine = np.cos(turn), np.sin(turn)
    x = cosine * relative[:, 0] + sine * relative[:, 1]
    y = cosine * relative[:, 1] - sine * relative[:, 0]
    cells = np.rint(np.column_stack([x, y, relative[:, 2]]) / size)
    return np.asarray(cells, dtype=np.int64)


def grid_turn(positions: Float64Array, size: float) -> float:
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
