"""Which of the objects in a new cloud are those that were seen before: by where they are.

Things are followed by their overlap with where they were last seen, every thing of the same word
together: one that is not looked for is a rival, and claims its own object before another can be
taken for it. What overlaps nothing may have moved by about its own length between two clouds;
farther away it is another object. Scores only decide between equals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sas_ros.observation import Float64Array
from sas_ros.shapes import BoolArray, Shape, overlap

MAX_TRACKS = 64
"""Things that are remembered; rivals that were not seen for longest are forgotten first."""

_ENOUGH = 0.25  # of the smaller of the two has to overlap
_EQUAL = 0.05  # of overlap or distance is no difference
_PART = 0.6  # of a piece has to lie where the thing was
_SHARED = 0.5  # of where the thing was has to lie in an object that something else has claimed
_REACH = 1.25  # longest sides between two clouds
_ALIKE = 3.0  # times as long or as short after a move without overlap
_HIDDEN, _INSIDE = 0.5, 0.9


@dataclass(frozen=True, eq=False)
class Track:
    """One thing that is followed.

    Attributes:
        shape: where it was last seen.
        held: looked for; False is a rival.
        seen_at: seconds, when it was last seen.
        fresh: it was seen in the newest cloud.
    """

    shape: Shape
    held: bool
    seen_at: float
    fresh: bool = True


@dataclass(frozen=True, eq=False)
class Followed:
    """What became of the tracks in a new cloud.

    Attributes:
        tracks: the held ones in their order, then the rivals.
        mine: for each object of the cloud what of it is held: None is nothing; else a function of
            points (n, 3), metres, that tells which of them, (n,) bool.
    """

    tracks: tuple[Track, ...]
    mine: tuple[Callable[[Float64Array], BoolArray] | None, ...]

    @property
    def found(self) -> bool:
        """A held thing was seen."""
        return any(mine is not None for mine in self.mine)


def follow(
    tracks: Sequence[Track], objects: Sequence[Shape], *, now: float | None, time_to_live: float
) -> Followed:
    """Find the things again among the objects of a new cloud, all in one frame.

    1. Each thing claims the object with the greatest overlap (Dice coefficient of the two shares),
       those seen in the last cloud first, then held ones that were lost, then lost rivals.
    2. A thing that was seen in the last cloud and lies in an object that another has claimed shares
       it: the two were taken for one. Each has what lies where it was.
    3. Pieces that lie where a held thing was belong to it: something stands before it.
    4. A thing that is still without an object takes the nearest one of its kind and about its size
       that nobody has claimed, no farther than 1.25 times its longest side.

    What is left are new rivals. What finds nothing stays where it was last seen.

    Args:
        tracks: as the last call left them.
        objects: of the new cloud.
        now: seconds; None where there is no clock: nothing gets older.
        time_to_live: seconds without being seen after which a thing is forgotten; 0 is never.
    """
    shares = np.array([[overlap(track.shape, item) for item in objects] for track in tracks])
    shares = shares.reshape(len(tracks), len(objects), 2)
    total = shares.sum(axis=2)
    dice = np.divide(2 * shares.prod(axis=2), total, out=np.zeros_like(total), where=total > 0)
    dice[shares.max(axis=2) < _ENOUGH] = 0
    claims: dict[int, list[int]] = {}  # track: objects
    taken: dict[int, list[int]] = {}  # object: tracks

    def claim(track: int, item: int) -> None:
        claims.setdefault(track, []).append(item)
        taken.setdefault(item, []).append(track)

    score = [item.score for item in objects]

    def claim_best(merit: Float64Array) -> None:
        for group in _groups(tracks):
            pairs = [(i, k) for i in group for k in range(len(objects)) if merit[i, k] > 0]
            pairs.sort(key=lambda pair: (-round(float(merit[pair]) / _EQUAL), -score[pair[1]]))
            for i, k in pairs:
                if i not in claims and k not in taken:
                    claim(i, k)

    claim_best(dice)
    for i, track in enumerate(tracks):
        inside = [k for k in taken if shares[i, k, 0] >= _SHARED]
        if track.fresh and i not in claims and inside:
            claim(i, max(inside, key=lambda k: float(shares[i, k, 0])))
    for k in range(len(objects)):
        around = [i for i in claims if tracks[i].held and shares[i, k, 1] >= _PART]
        if k not in taken and around:
            claim(max(around, key=lambda i: float(shares[i, k, 1])), k)
    claim_best(_nearness(tracks, objects))

    after = [
        _update(i, claims.get(i, []), taken, tracks, objects, shares, now)
        for i in range(len(tracks))
    ]
    born = 0.0 if now is None else now
    after += [Track(x, False, born) for k, x in enumerate(objects) if k not in taken]
    mine = tuple(_mine(tracks, taken.get(k, [])) for k in range(len(objects)))
    return Followed(_remembered(after, now, time_to_live), mine)


def _groups(tracks: Sequence[Track]) -> tuple[list[int], list[int], list[int]]:
    """In the order in which they may claim: where a lost thing is can only be guessed."""
    numbers = range(len(tracks))
    return (
        [i for i in numbers if tracks[i].fresh],
        [i for i in numbers if tracks[i].held and not tracks[i].fresh],
        [i for i in numbers if not tracks[i].held and not tracks[i].fresh],
    )


def _nearness(tracks: Sequence[Track], objects: Sequence[Shape]) -> Float64Array:
    """(tracks, objects): 1 for the same place, falling to 0 where an object is out of reach."""
    shapes = [track.shape for track in tracks]
    lengths = np.array([shape.length for shape in shapes]).reshape(-1, 1)
    times = np.array([item.length for item in objects]).reshape(1, -1) / lengths
    there = np.array([shape.middle for shape in shapes]).reshape(-1, 1, 3)
    here = np.array([item.middle for item in objects]).reshape(1, -1, 3)
    merit = np.maximum(1 - np.linalg.norm(here - there, axis=2) / (_REACH * lengths), 0)
    return np.where((times <= _ALIKE) & (times >= 1 / _ALIKE), merit, 0)


def _mine(
    tracks: Sequence[Track], claimed_by: Sequence[int]
) -> Callable[[Float64Array], BoolArray] | None:
    held = [tracks[i].shape for i in claimed_by if tracks[i].held]
    rivals = [tracks[i].shape for i in claimed_by if not tracks[i].held]
    if not held:
        return None
    if not rivals:
        return lambda points: np.ones(len(points), np.bool_)
    return lambda points: _own_side(points, held, rivals)


def _own_side(points: Float64Array, own: Iterable[Shape], others: Iterable[Shape]) -> BoolArray:
    """(n,) bool: which points of an object that is shared lie where `own` were. What lies where
    none was is nobody's, so that it stays an obstacle."""
    covered, certain, foreign = (np.zeros(len(points), np.bool_) for _ in range(3))
    for shape in own:
        covered |= shape.covers(points)
        certain |= shape.holds(points)
    for shape in others:
        foreign |= shape.covers(points)
    return np.asarray(covered & (certain | ~foreign))


def _update(
    number: int,
    items: Sequence[int],
    taken: dict[int, list[int]],
    tracks: Sequence[Track],
    objects: Sequence[Shape],
    shares: Float64Array,
    now: float | None,
) -> Track:
    track = tracks[number]
    if not items:
        return replace(track, fresh=False)
    parts = []
    for k in items:
        others = [tracks[i].shape for i in taken[k] if i != number]
        samples = objects[k].samples
        if others:
            samples = samples[_own_side(samples, [track.shape], others)]
        parts.append(samples)
    shape, samples = track.shape, np.concatenate(parts)
    first = items[0]
    # Where most of it is hidden and the rest has not moved, the hidden part is where it was.
    hidden = (
        len(items) == 1
        and shares[number, first, 0] < _HIDDEN
        and shares[number, first, 1] >= _INSIDE
    )
    if len(samples) and not hidden:
        shape = Shape(samples, objects[first].score)
    return Track(shape, track.held, track.seen_at if now is None else now)


def _remembered(
    tracks: Sequence[Track], now: float | None, time_to_live: float
) -> tuple[Track, ...]:
    if now is not None and time_to_live > 0:
        tracks = [track for track in tracks if now - track.seen_at <= time_to_live]
    held = [track for track in tracks if track.held]
    rivals = [track for track in tracks if not track.held]
    if len(held) + len(rivals) > MAX_TRACKS:
        rivals.sort(key=lambda track: (not track.fresh, -track.seen_at))
        rivals = rivals[: max(MAX_TRACKS - len(held), 0)]
    return (*held, *rivals)
