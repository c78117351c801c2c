"""Which elements make one object: furniture that touches on the grid, furniture in pieces."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_ros.pieces import GAP, object_pieces

SIZE = 0.08
Points = npt.NDArray[np.float64]


def shell(low: tuple[float, ...], high: tuple[float, ...], spacing: float = 0.02) -> Points:
    """Points on the six faces of a box, one every `spacing` metres."""
    a, b = np.array(low, dtype=float), np.array(high, dtype=float)
    faces = []
    for axis in range(3):
        u, v = (k for k in range(3) if k != axis)
        grid = np.meshgrid(np.arange(a[u], b[u], spacing), np.arange(a[v], b[v], spacing))
        for side in (a[axis], b[axis]):
            face = np.full((grid[0].size, 3), side)
            face[:, u], face[:, v] = (values.reshape(-1) for values in grid)
            faces.append(face)
    return np.concatenate(faces)


def pieces_of(points: Points, kind: npt.NDArray[np.int64] | int = 0) -> npt.NDArray[np.int64]:
    """(n,) object number of each point (n, 3) on a grid of `SIZE`."""
    kinds = np.broadcast_to(np.asarray(kind), len(points))
    rows = np.column_stack([kinds, np.floor(points / SIZE).astype(np.int64)])
    cells, inverse = np.unique(rows, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    low = np.full((len(cells), 3), np.inf)
    high = np.full((len(cells), 3), -np.inf)
    np.minimum.at(low, inverse, points)
    np.maximum.at(high, inverse, points)
    return object_pieces(cells, low, high, np.bincount(inverse), SIZE)[inverse]


def count_of(points: Points) -> int:
    return len(np.unique(pieces_of(points)))


@pytest.mark.parametrize("shift", np.arange(0, SIZE, 0.013))
def test_boxes_that_touch_on_the_grid_are_two(shift: float) -> None:
    """8.1 cm apart: their cells are neighbours for all but one shift, their points are not near."""
    left = shell((shift, 0, 0), (shift + 0.45, 0.5, 0.6))
    right = shell((shift + 0.531, 0, 0), (shift + 0.98, 0.5, 0.9))
    piece = pieces_of(np.concatenate([left, right]))
    assert len(np.unique(piece[: len(left)])) == len(np.unique(piece[len(left) :])) == 1
    assert piece[0] != piece[-1]


def test_boxes_without_a_gap_are_one() -> None:
    left = shell((0, 0, 0), (0.45, 0.5, 0.6))
    right = left + np.array([GAP / 2 + 0.45, 0, 0])
    assert count_of(np.concatenate([left, right])) == 1


def test_an_l_shaped_sofa_is_one() -> None:
    seat = shell((0, 0, 0.1), (2.4, 0.9, 0.42))
    side = shell((0, 0.9, 0.1), (0.9, 1.8, 0.42))
    backs = [shell((0, 0, 0.42), (2.4, 0.2, 0.8)), shell((0, 0.2, 0.42), (0.2, 1.8, 0.8))]
    assert count_of(np.concatenate([seat, side, *backs])) == 1


def test_a_long_table_with_hidden_legs_is_one() -> None:
    top = shell((0, 0, 0.7), (3.2, 0.8, 0.74))
    feet = [
        shell((x, y, 0.0), (x + 0.05, y + 0.05, 0.4))  # 30 cm of each leg are hidden
        for x in (0.02, 3.1)
        for y in (0.02, 0.7)
    ]
    assert count_of(np.concatenate([top, *feet])) == 1


def test_a_back_without_a_visible_post_belongs_to_its_seat() -> None:
    seat = shell((0, 0, 0.4), (0.45, 0.45, 0.46))
    back = shell((0, 0, 0.7), (0.45, 0.05, 1.0))
    other = shell((0, 1.0, 0.7), (0.45, 1.05, 1.0))  # not above anything
    piece = pieces_of(np.concatenate([seat, back, other]))
    assert piece[0] == piece[len(seat)] != piece[-1]
    assert len(np.unique(piece)) == 2


def test_cabinets_above_cabinets_stay_apart() -> None:
    below = shell((0, 0, 0), (1.2, 0.6, 0.88))
    above = shell((0, 0, 1.4), (1.2, 0.35, 2.1))
    assert count_of(np.concatenate([below, above])) == 2


def test_kinds_share_no_object() -> None:
    box = shell((0, 0, 0), (0.6, 0.6, 0.6))
    piece = pieces_of(box, (box[:, 0] > 0.3).astype(np.int64))
    assert set(piece[box[:, 0] > 0.3]).isdisjoint(piece[box[:, 0] <= 0.3])
    assert len(np.unique(piece)) == 2


def test_a_thin_scan_does_not_crumble() -> None:
    """One point in every 7 cm: gaps as wide as those that part objects in a dense scan."""
    table = shell((0, 0, 0.7), (1.6, 0.8, 0.74), spacing=0.07)
    generator = np.random.default_rng(0)
    table += generator.uniform(-0.02, 0.02, table.shape)
    assert count_of(table) == 1


def test_a_stray_far_away_changes_nothing() -> None:
    box = shell((0, 0, 0), (0.6, 0.6, 0.6))
    piece = pieces_of(np.concatenate([box, [[1e6, -1e6, 1e5]]]))
    assert len(np.unique(piece[:-1])) == 1 and piece[-1] not in piece[:-1]


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    seed=st.integers(0, 100_000),
    count=st.integers(1, 300),
    span=st.floats(0.1, 1.5),
    size=st.sampled_from([0.02, 0.05, 0.08, 0.3]),
)
def test_objects_are_whole_and_do_not_depend_on_order(
    seed: int, count: int, span: float, size: float
) -> None:
    generator = np.random.default_rng(seed)
    centers = generator.uniform(-span, span, (count, 3))
    rows = np.column_stack([generator.integers(0, 2, count), np.floor(centers / size)])
    cells = np.unique(rows.astype(np.int64), axis=0)
    corners = cells[:, 1:] * size
    ends = np.sort(generator.uniform(0, size, (2, len(cells), 3)), axis=0)
    low, high = corners + ends[0], corners + ends[1]
    points = generator.integers(1, 30, len(cells))
    piece = object_pieces(cells, low, high, points, size)
    assert set(piece) == set(range(piece.max() + 1))
    for number in range(piece.max() + 1):
        assert len(np.unique(cells[piece == number, 0])) == 1
    order = generator.permutation(len(cells))
    again = object_pieces(cells[order], low[order], high[order], points[order], size)
    np.testing.assert_array_equal(again, piece[order])
    # Cells whose points are hardly apart are one object, whatever else there is.
    offset = np.abs(cells[:, None, 1:] - cells[None, :, 1:]).max(axis=2)
    apart = np.maximum(low[:, None] - high[None], low[None] - high[:, None]).clip(0)
    near = (offset <= 1) & (np.linalg.norm(apart, axis=2) <= GAP)
    near &= cells[:, None, 0] == cells[None, :, 0]
    one, other = np.nonzero(near)
    np.testing.assert_array_equal(piece[one], piece[other])
