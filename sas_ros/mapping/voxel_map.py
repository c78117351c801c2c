"""The voxel map on one page: clouds in, one running mean per voxel, bounded, frozen for readers.

Each cloud that sees a voxel gives one observation, the mean over its points there. With n clouds
before it, the voxel's mean m becomes

    m + a (observation - m),    a = 1 / (n + 1), but at least 1 / cap

so the order of up to `cap` clouds does not matter, and after that old ones are forgotten: a chair
that was carried away fades. Where the map is full, the voxels seen longest ago are let go, of those
the ones farthest from the sensor first.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from sas_ros.errors import SasError
from sas_ros.mapping.columns import Int32Array, VoxelColumns, corners, empty_columns
from sas_ros.mapping.identity import MapIdentity
from sas_ros.mapping.observe import observe
from sas_ros.observation import Cloud, Float32Array, Float64Array, IntArray, SceneFeatures

_KEPT_SHARE = 0.95
"""Of the limit is left when voxels are let go, so that not every cloud has to do it."""

MAX_VOXELS, CLOUD_CAP = 300_000, 50
"""Defaults: voxels of a map, and clouds that a voxel's mean remembers."""


@dataclass(frozen=True, eq=False)
class MapState:
    """A map at one moment; immutable, shared between threads and written to files.

    Attributes:
        identity: student, voxel size and frame.
        columns: M voxels in no special order.
        version: counts the changes of the map.
        clouds: how many were integrated.
        let_go: voxels that had no room any more.
        stamp_ns: of the newest cloud; 0 before the first.
        viewpoint: (4, 4) float64, the sensor's pose in the map's frame when it took that cloud.
    """

    identity: MapIdentity
    columns: VoxelColumns
    version: int = 1
    clouds: int = 0
    let_go: int = 0
    stamp_ns: int = 0
    viewpoint: Float64Array = field(default_factory=lambda: np.eye(4))

    def __len__(self) -> int:
        return len(self.columns)


@dataclass(frozen=True, eq=False)
class _Times:
    """When voxels of a given map were seen: keys (M,) ascending, and times (M,) int64 ns."""

    keys: IntArray
    last_seen: IntArray

    def at_least(self, seen: IntArray, keys: IntArray, rows: IntArray) -> IntArray:
        """A copy of `seen`, nowhere before the times here; `keys` ascend, `rows` are theirs."""
        place = np.minimum(np.searchsorted(keys, self.keys), max(len(keys) - 1, 0))
        here = np.flatnonzero(keys[place] == self.keys) if len(keys) else place[:0]
        at, later = rows[place[here]], seen.copy()
        later[at] = np.maximum(later[at], self.last_seen[here])
        return later


class VoxelMap:
    """A map that changes; one thread at a time.

    Args:
        state: where it begins: an empty map (`empty_state`) or one from a file.
        max_voxels: more are let go.
        cap: clouds that a voxel's mean remembers.
    """

    def __init__(
        self, state: MapState, *, max_voxels: int = MAX_VOXELS, cap: int = CLOUD_CAP
    ) -> None:
        if max_voxels < 1 or cap < 1:
            raise SasError("A map needs room for 1 voxel or more, and a memory of 1 cloud or more.")
        self._limit, self._cap = max_voxels, cap
        self._state: MapState
        self._columns: VoxelColumns
        self._size: int
        self._shared: bool
        self._begin(state)
        self._given = _Times(self._sorted, self._columns.last_seen[self._row_of])
        self._rewound = False

    @property
    def state(self) -> MapState:
        """The map as it is now. Nothing is copied: the next change makes a copy first."""
        self._shared = True
        columns = self._columns.rows(slice(0, self._size))
        if self._rewound:
            seen = self._given.at_least(columns.last_seen, self._sorted, self._row_of)
            columns = replace(columns, last_seen=seen)
        return replace(self._state, columns=columns)

    @property
    def summary(self) -> MapState:
        """`state` without its voxels: free, and not shared."""
        return self._state

    def __len__(self) -> int:
        return self._size

    @property
    def nbytes(self) -> int:
        """Bytes that the map takes, spare room included."""
        index = self._sorted.nbytes + self._row_of.nbytes
        return self._columns.nbytes + index + self._given.last_seen.nbytes

    def integrate(self, scene: SceneFeatures, cloud: Cloud, pose: Float64Array) -> int:
        """Take in the features of a cloud seen from `pose` (4, 4), cloud's frame to map's frame.

        Returns the number of voxels it touched. Raises SasError as `observe` does, or for features
        of another width; the map is as before then.
        """
        seen = observe(scene, cloud, pose, self._state.identity.voxel_size)
        newest = scene.header.stamp_ns >= self._state.stamp_ns
        self._absorb(seen)
        self._state = replace(
            self._state,
            version=self._state.version + 1,
            clouds=self._state.clouds + 1,
            stamp_ns=max(scene.header.stamp_ns, self._state.stamp_ns),
            viewpoint=np.array(pose, np.float64) if newest else self._state.viewpoint,
        )
        self._let_go()
        return len(seen)

    def merge(self, other: MapState) -> None:
        """Take in another map of the same identity, as if its clouds had come now.

        Raises SasError when student, voxel size or frame differ.
        """
        reason = self._state.identity.difference(other.identity)
        if reason:
            raise SasError(f"The maps cannot be merged: the other one {reason}.")
        newer = other.stamp_ns > self._state.stamp_ns
        order = np.argsort(other.columns.keys)
        self._absorb(other.columns.rows(order))
        self._state = replace(
            self._state,
            version=max(self._state.version, other.version) + 1,
            clouds=self._state.clouds + other.clouds,
            let_go=self._state.let_go + other.let_go,
            stamp_ns=max(other.stamp_ns, self._state.stamp_ns),
            viewpoint=other.viewpoint if newer else self._state.viewpoint,
        )
        self._let_go()

    def reset(self) -> None:
        """Forget everything; versions go on counting."""
        empty = empty_state(self._state.identity)
        self._begin(replace(empty, version=self._state.version + 1))
        self._given, self._rewound = _Times(self._sorted, empty.columns.last_seen), False

    def rewind(self, stamp_ns: int) -> None:
        """The clock went back to `stamp_ns`: nothing was seen later than that, or what comes now
        would look old and be let go first.

        What the map began with is let go in that order too, but keeps its times in `state`: an old
        bag that is played into today's map must not make a file of it that looks old.
        """
        self._own()
        times = self._columns.last_seen
        self._rewound |= bool((times[: self._size] > stamp_ns).any())
        np.minimum(times, stamp_ns, out=times)
        stamp = min(self._state.stamp_ns, stamp_ns)
        self._state = replace(self._state, stamp_ns=stamp)

    def _begin(self, state: MapState) -> None:
        nothing = empty_columns(0, state.identity.feature_dim)
        self._state = replace(state, columns=nothing)
        self._columns, self._size = state.columns, len(state.columns)
        self._shared = True  # the columns belong to whoever gave the state
        self._row_of = np.argsort(state.columns.keys)
        self._sorted = state.columns.keys[self._row_of]
        self._let_go()

    def _absorb(self, new: VoxelColumns) -> None:
        """Blend voxels, sorted by key, into those that are known, and append the others."""
        if new.features.shape[1] != self._state.identity.feature_dim:
            raise SasError(
                f"The features have {new.features.shape[1]} numbers and the map's have "
                f"{self._state.identity.feature_dim}: they come from another student."
            )
        place = np.searchsorted(self._sorted, new.keys)
        known = np.zeros(len(new), np.bool_)
        within = place < len(self._sorted)
        known[within] = self._sorted[place[within]] == new.keys[within]
        self._own(len(new) - int(np.count_nonzero(known)))
        rows = self._row_of[place[known]]
        old = self._columns.rows(rows)
        self._columns.write(rows, self._blended(old, new.rows(np.flatnonzero(known))))

        if known.all():
            return
        fresh = new.rows(np.flatnonzero(~known))
        at = np.arange(self._size, self._size + len(fresh))
        self._columns.write(slice(self._size, self._size + len(fresh)), fresh)
        self._columns.counts[at] = np.minimum(fresh.counts, self._cap)
        self._columns.colored[at] = np.minimum(fresh.colored, self._cap)
        self._size += len(fresh)
        self._sorted = np.insert(self._sorted, place[~known], fresh.keys)
        self._row_of = np.insert(self._row_of, place[~known], at)

    def _blended(self, old: VoxelColumns, new: VoxelColumns) -> VoxelColumns:
        """The running means of voxels (m,) after observations (m,) of the same voxels."""
        share = self._share(old.counts, new.counts)
        tinted = self._share(old.colored, new.colored)
        mean = old.features.float() * torch.from_numpy(old.agreement)[:, None]
        given = new.features.float() * torch.from_numpy(new.agreement)[:, None]
        mean += torch.from_numpy(share)[:, None] * (given - mean)
        length = mean.norm(dim=1)
        return VoxelColumns(
            keys=old.keys,
            features=mean.div_(length.clamp_min(1e-12)[:, None]),
            agreement=length.numpy(),
            shape=old.shape + share[:, None] * (new.shape - old.shape),
            colors=old.colors + tinted[:, None] * (new.colors - old.colors),
            colored=np.minimum(old.colored + new.colored, self._cap),
            counts=np.minimum(old.counts + new.counts, self._cap),
            last_seen=np.maximum(old.last_seen, new.last_seen),
        )

    def _share(self, old: Int32Array, new: Int32Array) -> Float32Array:
        """(m,) how much the new observations count in the mean; 0 where there are none."""
        share = new / np.maximum(old + new, 1)
        return np.where(new > 0, np.maximum(share, 1.0 / self._cap), 0.0).astype(np.float32)

    def _own(self, more: int = 0) -> None:
        """Have columns of our own, with room for `more` voxels."""
        needed = self._size + more
        if not self._shared and needed <= len(self._columns):
            return
        room = len(self._columns)
        if needed > room:
            room = max(needed, min(needed + needed // 2, self._limit))
        columns = empty_columns(room, self._state.identity.feature_dim)
        columns.write(slice(0, self._size), self._columns.rows(slice(0, self._size)))
        self._columns, self._shared = columns, False

    def _let_go(self) -> None:
        if self._size <= self._limit:
            return
        columns = self._columns.rows(slice(0, self._size))
        middle = corners(columns.keys, self._state.identity.voxel_size)
        away = np.linalg.norm(middle - self._state.viewpoint[:3, 3], axis=1)
        newest_first = np.lexsort((away, -columns.last_seen))
        kept = np.sort(newest_first[: max(int(self._limit * _KEPT_SHARE), 1)])
        gone = self._size - len(kept)
        state = replace(self._state, let_go=self._state.let_go + gone, columns=columns.rows(kept))
        self._begin(state)
        self._shared = False


def empty_state(identity: MapIdentity) -> MapState:
    """A map of nothing."""
    return MapState(identity, empty_columns(0, identity.feature_dim))
