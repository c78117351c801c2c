"""Following things by where they are: what hides, grows, moves, crosses, goes and comes back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from sas_ros.shapes import Shape, overlap, shape_of
from sas_ros.tracking import MAX_TRACKS, Track, follow

Points = npt.NDArray[np.float64]


def box(
    at: Sequence[float], *, size: float | Sequence[float] = 0.5, count: int = 800, seed: int = 0
) -> Points:
    """The surface of a box around `at`, sampled at random: metres."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.5, 0.5, (count, 3))
    side = rng.integers(0, 6, count)
    points[np.arange(count), side % 3] = np.where(side < 3, -0.5, 0.5)
    return np.asarray(points * size + np.asarray(at, dtype=np.float64))


class Room:
    """Follows things through clouds, each a list of objects; time is the number of the cloud."""

    def __init__(self, held: Sequence[Points], rivals: Sequence[Points] = ()) -> None:
        self.tracks: tuple[Track, ...] = (
            *(Track(shape_of(points, 0.9), True, 0.0) for points in held),
            *(Track(shape_of(points, 0.9), False, 0.0) for points in rivals),
        )
        self.time = 0.0

    def see(
        self, *objects: Points, scores: Sequence[float] = (), seconds: float = 1.0, ttl: float = 30
    ) -> list[float]:
        """The share of each object's points that is held, in a cloud `seconds` later."""
        self.time += seconds
        scores = scores or [0.9] * len(objects)
        shapes = [shape_of(points, score) for points, score in zip(objects, scores, strict=True)]
        followed = follow(self.tracks, shapes, now=self.time, time_to_live=ttl)
        self.tracks = followed.tracks
        assert followed.found == any(mine is not None for mine in followed.mine)
        return [
            0.0 if mine is None else float(mine(points).mean())
            for mine, points in zip(followed.mine, objects, strict=True)
        ]

    @property
    def held(self) -> list[Track]:
        return [track for track in self.tracks if track.held]


A, B = (0.0, 0.0, 0.0), (0.7, 0.0, 0.0)
"""Two chairs of half a metre, 20 cm apart: nearer than what a chair may move between clouds."""


def test_shapes_overlap_themselves_sampled_anew_and_nothing_apart() -> None:
    first, again = shape_of(box(A, seed=1)), shape_of(box(A, seed=2))
    assert min(overlap(first, again)) > 0.98
    assert overlap(first, shape_of(box(B))) == (0.0, 0.0)
    part = shape_of(box(A, seed=3)[box(A, seed=3)[:, 0] < 0])
    of_whole, of_part = overlap(first, part)
    assert 0.4 < of_whole < 0.8 and of_part > 0.98
    far = np.array([1e6, -1e6, 0.0])
    moved = overlap(shape_of(box(A, seed=1) + far), shape_of(box(A, seed=2) + far))
    assert min(moved) > 0.98


@pytest.mark.parametrize("count", [1, 2, 30])
def test_few_points_are_a_shape(count: int) -> None:
    points = box(A, size=0.05, count=count)
    shape = shape_of(points)
    assert len(shape.samples) <= count and shape.length > 0
    assert shape.holds(shape.samples).all() and shape.covers(points).all()
    assert overlap(shape, shape) == (1.0, 1.0)


def test_samples_are_bounded_and_mean_the_points() -> None:
    shape = shape_of(box(A, count=50_000))
    assert len(shape.samples) < 6 * 25 * 25 + 1
    np.testing.assert_allclose(shape.middle, 0, atol=0.01)
    turned = shape.moved(np.array([[0.0, -1, 0, 5], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    np.testing.assert_allclose(turned.samples[:, 1], shape.samples[:, 0])
    np.testing.assert_allclose(turned.samples[:, 0], 5 - shape.samples[:, 1])


def test_a_hidden_part_and_a_larger_neighbour_do_not_change_who_is_held() -> None:
    room = Room([box(A)], [box(B)])
    for number in range(1, 5):
        whole = box(A, seed=number)
        seen = whole[whole[:, 0] < 0.1]
        assert room.see(box(B, seed=9, size=0.55), seen, scores=[0.99, 0.6]) == [0.0, 1.0]
    assert room.see(box(B), box(A)) == [0.0, 1.0]


def test_it_stays_itself_from_a_third_to_the_whole_and_back() -> None:
    third = box(A)[box(A)[:, 0] < -0.1]
    room = Room([third], [box(B)])
    assert room.see(box(B, seed=1), box(A, seed=1)) == [0.0, 1.0]
    assert room.see(box(B, seed=2), third) == [0.0, 1.0]
    other = box(A, seed=3)
    assert room.see(box(B, seed=3), other[other[:, 0] > 0.1]) == [0.0, 1.0]


def test_swapped_sizes_and_scores_do_not_swap_the_two() -> None:
    room = Room([box(A, size=0.55)], [box(B, size=0.4)])
    for number in range(4):
        small, large = (0.4, 0.55) if number % 2 == 0 else (0.55, 0.4)
        objects = [box(B, size=large, seed=number), box(A, size=small, seed=number)]
        assert room.see(*objects, scores=[0.99, 0.5]) == [0.0, 1.0]


@pytest.mark.parametrize("step", [0.05, 0.2, 0.4])
def test_a_moving_thing_is_followed_across_the_room(step: float) -> None:
    room = Room([box(A)], [box((1.5, 1.5, 0))])
    for number in range(1, 11):
        objects = [box((1.5, 1.5, 0), seed=number), box((number * step, 0, 0), seed=number)]
        assert room.see(*objects) == [0.0, 1.0]


def test_a_thing_that_moves_by_its_length_is_found_and_one_farther_away_is_not() -> None:
    room = Room([box(A)])
    assert room.see(box((0.6, 0, 0))) == [1.0]
    assert room.see(box((1.4, 0, 0))) == [0.0]
    room = Room([box(A, size=(0.1, 0.1, 0.5))])
    assert room.see(box((0.4, 0.4, 0), size=0.1)) == [0.0]  # near, but five times as short


def test_two_that_pass_each_other_keep_their_names() -> None:
    lane = 0.6
    room = Room([box((-1.0, 0, 0))], [box((1.0, lane, 0))])
    for number in range(1, 11):
        x = -1.0 + 0.2 * number
        mine, other = box((x, 0, 0), seed=number), box((-x, lane, 0), seed=number)
        assert room.see(other, mine, scores=[0.95, 0.6]) == [0.0, 1.0]


def test_a_thing_that_vanishes_is_not_replaced_by_its_neighbour() -> None:
    room = Room([box(A)], [box(B)])
    for number in range(1, 6):
        assert room.see(box(B, seed=number)) == [0.0]
    assert room.see() == []
    assert [(track.fresh, track.seen_at) for track in room.held] == [(False, 0.0)]
    # The neighbour was out of sight itself; it comes back as what it was.
    assert room.see(box(B)) == [0.0]
    assert room.see(box(B), box(A)) == [0.0, 1.0]
    assert [(track.fresh, track.seen_at) for track in room.held] == [(True, room.time)]


def test_it_comes_back_near_where_it_was_and_not_elsewhere() -> None:
    room = Room([box(A)])
    room.see()
    assert room.see(box((3.0, 0, 0))) == [0.0]
    assert room.see(box((3.0, 0, 0)), box((0.3, 0.2, 0))) == [0.0, 1.0]


def test_a_neighbour_that_is_pushed_to_where_it_was_stays_the_neighbour() -> None:
    room = Room([box(A)], [box((1.5, 0, 0))])
    for x in (1.3, 1.0, 0.7, 0.4, 0.1, 0.0, 0.0):
        assert room.see(box((x, 0, 0))) == [0.0]
    assert room.see(box(A, seed=5)) == [0.0]


def test_after_its_time_to_live_it_is_forgotten() -> None:
    room = Room([box(A)], [box(B)])
    assert room.see(box(B), seconds=4.0, ttl=5) == [0.0]
    assert room.see(box(B), seconds=2.0, ttl=5) == [0.0]
    assert room.held == []
    assert room.see(box(A), box(B), ttl=5) == [0.0, 0.0]
    room = Room([box(A)])
    assert room.see(seconds=1e6, ttl=0) == []
    assert room.see(box(A), ttl=0) == [1.0]


def test_all_that_are_held_are_followed_and_new_ones_do_not_join() -> None:
    room = Room([box(A), box(B)])
    third = box((-0.7, 0, 0))
    assert room.see(third, box(B), box(A)) == [0.0, 1.0, 1.0]
    assert room.see(third, box(B)) == [0.0, 1.0]
    assert room.see(third, box(A)) == [0.0, 1.0]
    assert [track.seen_at for track in room.held] == [3.0, 2.0]
    assert [track.fresh for track in room.held] == [True, False]


def test_two_that_are_taken_for_one_are_told_apart_by_where_they_were() -> None:
    near = (0.55, 0.0, 0.0)
    room = Room([box(A)], [box(near)])
    for number in range(1, 4):
        mine, other = box(A, seed=number), box(near, seed=number + 10, count=1600)
        (share,) = room.see(np.concatenate([mine, other]))
        assert share == pytest.approx(1 / 3, abs=0.06)
    assert room.see(box(near), box(A)) == [0.0, 1.0]


def test_what_stands_before_it_does_not_cut_it_in_two() -> None:
    sofa = (2.0, 0.8, 0.8)
    room = Room([box(A, size=sofa, count=3000)], [box((0, 2.0, 0), size=sofa)])
    seen = box(A, size=sofa, count=3000, seed=4)
    left, right = seen[seen[:, 0] < -0.2], seen[seen[:, 0] > 0.3]
    assert room.see(left, box((0, 2.0, 0), size=sofa), right) == [1.0, 0.0, 1.0]
    assert room.see(box(A, size=sofa, seed=5)) == [1.0]


def test_the_score_decides_between_equals() -> None:
    left = box((-0.3, 0, 0))
    right = left * [-1, 1, 1]
    symmetric = np.concatenate([box(A), box(A) * [-1, 1, 1]])
    for scores, expected in (((0.5, 0.9), [0.0, 1.0]), ((0.9, 0.5), [1.0, 0.0])):
        room = Room([symmetric])
        assert room.see(left, right, scores=scores) == expected


def test_without_a_clock_nothing_gets_older() -> None:
    track = Track(shape_of(box(A)), True, 7.0)
    followed = follow([track], [shape_of(box(A))], now=None, time_to_live=1.0)
    assert followed.found and followed.tracks[0].seen_at == 7.0


def test_memory_is_bounded_and_keeps_what_is_held() -> None:
    held = [Track(shape_of(box((10.0 * k, 0, 0), count=30)), True, 0.0) for k in range(3)]
    new = [shape_of(box((10.0 * k, 50, 0), count=30)) for k in range(2 * MAX_TRACKS)]
    old = Track(shape_of(box((0, 90, 0), count=30)), False, 0.0)
    followed = follow([*held, old], new, now=5.0, time_to_live=0)
    assert len(followed.tracks) == MAX_TRACKS
    assert [track.held for track in followed.tracks[:4]] == [True, True, True, False]
    assert all(track.fresh for track in followed.tracks[3:])


def test_it_costs_milliseconds() -> None:
    objects = [box((k % 5, k // 5, 0), count=2500, seed=k) for k in range(20)]
    tracks = [Track(shape_of(points), k < 3, 0.0) for k, points in enumerate(objects)]
    costs = []
    for _ in range(3):
        started = time.process_time()
        shapes = [shape_of(points) for points in objects]
        follow([replace(t, shape=Shape(t.shape.samples)) for t in tracks], shapes,
               now=1.0, time_to_live=30.0)  # fmt: skip
        costs.append(time.process_time() - started)
    assert min(costs) < 0.25, costs  # 20 here
