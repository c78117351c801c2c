"""What the node knows right now, as immutable objects that threads swap and never change."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sas_ros.language.vocabulary import Vocabulary
from sas_ros.nodes.words import Words
from sas_ros.observation import Cloud, SceneFeatures, SourceHeader
from sas_ros.query import TextQuery
from sas_ros.tracking import Track


@dataclass(frozen=True)
class Snapshot:
    """The newest processed cloud and what the student saw in it.

    Attributes:
        cloud: as received; indices of answers refer to its points.
        scene: features of the same cloud; `scene.header` is the source of every answer.
        number: counts the snapshots of this node, from 1.
        epoch: of the memory when the cloud arrived, see `Memory`.
    """

    cloud: Cloud
    scene: SceneFeatures
    number: int
    epoch: int


@dataclass(frozen=True, eq=False)
class Target:
    """The held target: things that a query chose, found again in every new cloud by where they are.

    Attributes:
        query: text, negatives, threshold, number of instances and region as they were asked.
        embedding: (C,) float32 of the text.
        negatives: (n, C) float32 of the negatives, or None.
        found_at: node clock, seconds, when one of its things was last found.
        tracks: the things, and their rivals of the same word.
        placed: stamp of the cloud that the tracks were last followed in, and their frame.
        number: tells one target from the next.
    """

    query: TextQuery
    embedding: npt.NDArray[np.float32]
    negatives: npt.NDArray[np.float32] | None
    found_at: float
    tracks: tuple[Track, ...]
    placed: SourceHeader
    number: int = 0


class Memory:
    """The current snapshot, target and vocabulary, swapped whole under one lock.

    An `epoch` counts how often everything was forgotten: work on a cloud of an earlier epoch
    cannot come back into the memory.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._target: Target | None = None
        self._words: Words | None = None
        self._epoch = 0
        self._snapshots = 0
        self._targets = 0

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest snapshot, or None before the first cloud and after a backward jump."""
        with self._lock:
            return self._snapshot

    @property
    def target(self) -> Target | None:
        """The held target, whether or not it has expired meanwhile (see `expire`)."""
        with self._lock:
            return self._target

    @property
    def words(self) -> Words | None:
        """The labels in force and their competitors, or None while the node is not configured."""
        with self._lock:
            return self._words

    @words.setter
    def words(self, words: Words | None) -> None:
        with self._lock:
            self._words = words

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The labels in force, or None while the node is not configured."""
        words = self.words
        return words.labels if words is not None else None

    @property
    def epoch(self) -> int:
        """How often everything was forgotten."""
        with self._lock:
            return self._epoch

    def install(self, cloud: Cloud, scene: SceneFeatures, epoch: int) -> Snapshot | None:
        """Make this the newest snapshot; None when `epoch` is over and nothing was changed."""
        with self._lock:
            if epoch != self._epoch:
                return None
            self._snapshots += 1
            self._snapshot = Snapshot(cloud, scene, self._snapshots, epoch)
            return self._snapshot

    def forget(self) -> bool:
        """Start a new epoch without snapshot and target; True when there was something to lose."""
        with self._lock:
            had_something = self._snapshot is not None or self._target is not None
            self._snapshot = self._target = None
            self._epoch += 1
            return had_something

    def hold(self, target: Target, epoch: int) -> bool:
        """Hold a target found in a snapshot of `epoch`; False when that epoch is over."""
        with self._lock:
            if epoch != self._epoch:
                return False
            self._targets += 1
            self._target = replace(target, number=self._targets)
            return True

    def release(self) -> bool:
        """Let the target go; True when one was held."""
        with self._lock:
            held, self._target = self._target is not None, None
            return held

    def followed(self, target: Target) -> None:
        """Note where `target` is now, unless another one is held meanwhile."""
        with self._lock:
            if self._target is not None and self._target.number == target.number:
                self._target = target

    def expire(self, now: float, time_to_live: float) -> bool:
        """Let a target go that was not found for `time_to_live` seconds; True when it was."""
        with self._lock:
            if self._target is None or time_to_live <= 0:
                return False
            if now - self._target.found_at <= time_to_live:
                return False
            self._target = None
            return True
