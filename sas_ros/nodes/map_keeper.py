"""The node's map: a thread that takes in clouds after they were answered, and what queries see.

Nothing waits for this thread: clouds are handed over as they are, the newest wins, and queries read
the newest finished view.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sas_ros.errors import SasError
from sas_ros.language.calibration import Calibration
from sas_ros.mapping import MapState, MapView, VoxelMap, save_map, view_of
from sas_ros.nodes.log import describe
from sas_ros.nodes.mailbox import Mailbox
from sas_ros.nodes.shared import Shared
from sas_ros.nodes.snapshot import Snapshot
from sas_ros.nodes.words import Words
from sas_ros.nodes.worker import Worker
from sas_ros.observation import Float64Array
from sas_ros.word_scores import scene_scores

VIEW_SECONDS = 1.0
"""Between two views while clouds keep coming: each costs a copy of the map at the next cloud."""

TILTED = math.radians(30.0)
"""A map's z is up: a cloud whose up leans further in the map's frame has a wrong pose or up."""

STOP_SECONDS = 1.0

Lookup = Callable[[str, str, int, float], Float64Array | None]
"""(target, source, stamp in ns, seconds to wait) -> (4, 4) from source to target, or None."""


@dataclass(frozen=True)
class MapReport:
    """What diagnostics tell of the map.

    Attributes:
        mode: "build" or "read".
        frame: of the map.
        voxels, clouds, let_go, version: as in `MapState`.
        shown: version that queries see.
        megabytes: of the map in main memory, MiB.
        skipped: clouds that were not taken in, by reason: "busy", "stamp", "pose", "up", "error".
        trouble: why the newest cloud was not taken in; empty when it was.
    """

    mode: str
    frame: str
    voxels: int
    clouds: int
    let_go: int
    version: int
    shown: int
    megabytes: float
    skipped: dict[str, int]
    trouble: str


class MapKeeper:
    """Owns the map and the thread that changes it.

    Args:
        start: a map from a file, or an empty one.
        shared: memory, parameters, latencies and log of the node.
        calibration: of the student.
        lookup: asks TF; raises SasError where there is none. Only asked about clouds that are in
            another frame than the map.
        building: False only answers.
        path: where `save` writes; None nowhere.
        prepare: called once in the thread.

    Raises:
        SasError: the map has more voxels than `map_max_voxels` and would be cut at once; one that
            is only read may have any number.
    """

    def __init__(
        self,
        start: MapState,
        shared: Shared,
        calibration: Calibration,
        lookup: Lookup,
        *,
        building: bool,
        path: Path | None = None,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self._parameters, self._log = shared.parameters, shared.log
        self._memory, self._latencies = shared.memory, shared.latencies
        self._calibration, self._lookup = calibration, lookup
        self._building, self._path, self._prepare = building, path, prepare
        settings = shared.parameters()
        self._lock = threading.Lock()  # the map: held while a cloud is taken in
        self._tally = threading.Lock()  # the two below: nobody waits for the map to count
        limit = settings.map_max_voxels
        if len(start) > limit and building:
            raise SasError(
                f"The map has {len(start)} voxels and map_max_voxels is {limit}: the others would "
                f"be lost with the next save. Set map_max_voxels to {len(start)} or more, or name "
                "another map_file."
            )
        self._map = VoxelMap(start, max_voxels=max(limit, len(start)), cap=settings.map_clouds)
        self._skipped: Counter[str] = Counter()
        self._trouble = ""
        self._epoch = -1  # of no cloud: the file's clock may be ahead of this one
        self._view = view_of(self._map.state)
        self._shown_at = -math.inf
        self._compared: Words | None = None
        self._mailbox: Mailbox[Snapshot] = Mailbox()
        self._worker: Worker[Snapshot] | None = None

    @property
    def view(self) -> MapView:
        """The newest finished view, immutable."""
        return self._view

    @property
    def frame(self) -> str:
        """The map's frame."""
        return self._view.state.identity.frame

    @property
    def why_empty(self) -> str:
        """A sentence on why there is nothing to ask yet."""
        if self._trouble:
            return f"The map is empty; the newest cloud is not on it: {self._trouble}"
        if self._building:
            return "The map is empty: no cloud was taken in yet."
        return "The map is empty: the file holds no voxel."

    def start(self) -> None:
        """Start the thread."""
        self._mailbox = Mailbox()
        self._worker = Worker(
            self._mailbox, self._take_in, self._failed, idle=self._show_and_compare,
            prepare=self._prepare, name="map",
        )  # fmt: skip
        self._worker.start()

    def stop(self) -> None:
        """Stop the thread; the map stays."""
        if self._worker is not None:
            self._worker.stop(STOP_SECONDS)
            self._worker = None

    def offer(self, snapshot: Snapshot) -> None:
        """Hand over a cloud that was answered; the one it replaces is counted as skipped."""
        if not self._building:
            return
        features = snapshot.scene.features
        if features.device.type != "cpu":  # what waits here must not hold the device's memory
            scene = replace(snapshot.scene, features=features.detach().cpu())
            snapshot = replace(snapshot, scene=scene)
        if self._mailbox.put(snapshot) is not None:
            with self._tally:
                self._skipped["busy"] += 1

    def tick(self) -> None:
        """Called now and then: wakes the thread when there is something to show or compare."""
        if self._worker is not None:
            self._worker.ensure_alive()
            if self._behind() or self._compared is not self._memory.words:
                self._mailbox.nudge()

    def reset(self) -> int:
        """Forget the map, at once for everybody; the file stays. Returns the voxels forgotten."""
        if not self._building:
            raise SasError("The map is only read (parameter map); there is nothing to reset.")
        with self._lock:
            count = len(self._map)
            self._map.reset()
            self._view = view_of(self._map.state)
        self._note("")
        return count

    @property
    def can_save(self) -> bool:
        """Whether the node has built something, and has a file for it."""
        return self._building and self._path is not None and len(self._map) > 0

    def save(self, prefix: str = "") -> str:
        """Write the map as it is now to `map_file`; may take seconds. Returns a sentence.

        Args:
            prefix: of the file's name, to write beside `map_file`.

        Raises:
            SasError: no file is named, or it cannot be written.
        """
        if self._path is None:
            raise SasError("The parameter map_file names no file to save the map to.")
        if not self._building:
            raise SasError("The map is only read (parameter map); there is nothing to save.")
        with self._lock:
            state = self._map.state
        # An old bag may have been played into a map that was seen since.
        newest = int(state.columns.last_seen.max(initial=0))
        state = replace(state, stamp_ns=max(state.stamp_ns, newest))
        path = self._path.with_name(prefix + self._path.name)
        try:
            save_map(state, path)
        except OSError as error:
            raise SasError(f"The map could not be written to {path}: {error}.") from error
        return f"{len(state)} voxels of {state.clouds} clouds were written to {path}."

    def report(self) -> MapReport:
        """What diagnostics tell; does not wait while a cloud is taken in."""
        now = self._map.summary
        with self._tally:
            skipped, trouble = dict(self._skipped), self._trouble
        return MapReport(
            mode="build" if self._building else "read",
            frame=now.identity.frame,
            voxels=len(self._map),
            clouds=now.clouds,
            let_go=now.let_go,
            version=now.version,
            shown=self._view.state.version,
            megabytes=self._map.nbytes / 2**20,
            skipped=skipped,
            trouble=trouble,
        )

    def _note(self, trouble: str, reason: str = "") -> None:
        with self._tally:
            self._trouble = trouble
            if reason:
                self._skipped[reason] += 1

    # In the map's thread.

    def _take_in(self, snapshot: Snapshot) -> None:
        header = snapshot.scene.header
        try:
            pose = self._pose(snapshot)
        except _Skip as skip:
            self._log.warn(f"map {skip.reason}", f"A cloud is not on the map: {skip}")
            self._note(str(skip), skip.reason)
            return
        self._note("")
        with self._latencies.stage("map"), self._lock:
            if snapshot.epoch != self._epoch:
                self._epoch = snapshot.epoch
                self._map.rewind(header.stamp_ns)
            self._map.integrate(snapshot.scene, snapshot.cloud, pose)
        if not len(self._mailbox):
            self._show_and_compare()

    def _pose(self, snapshot: Snapshot) -> Float64Array:
        header = snapshot.scene.header
        if header.stamp_ns <= 0:  # would make all voxels look old, and no file keeps it
            raise _Skip(
                "stamp",
                f"its stamp is {header.stamp_ns * 1e-9:g} s; the map needs the time of each cloud, "
                "so set the stamp in the header where the clouds are published.",
            )
        where = f"its frame is {header.frame_id!r}, the map's is {self.frame!r}"
        pose: Float64Array | None = np.eye(4)
        if header.frame_id != self.frame:
            try:
                wait = self._parameters().tf_timeout
                pose = self._lookup(self.frame, header.frame_id, header.stamp_ns, wait)
            except SasError as error:
                raise _Skip(
                    "pose",
                    f"{where}, and {error} Install tf2_ros, or publish clouds in the map's frame.",
                ) from error
        if pose is None:
            raise _Skip("pose", f"{where}, and TF has no transform at its stamp.")
        lean = float(pose[2, :3] @ snapshot.scene.up.direction)
        if lean < math.cos(TILTED):
            angle = math.degrees(math.acos(max(lean, -1.0)))
            raise _Skip(
                "up",
                f"up ({snapshot.scene.up.source}) leans {angle:.0f} degrees from the z axis of "
                f"{self.frame!r}; map_frame must name a fixed frame with z up.",
            )
        return pose

    def _behind(self) -> bool:
        due = time.monotonic() >= self._shown_at + VIEW_SECONDS
        return due and self._map.summary.version != self._view.state.version

    def _show_and_compare(self) -> None:
        """Make a new view where one is due, and compare it with the words in force before anybody
        can ask it."""
        view = self._view
        if self._behind():
            with self._lock:
                view = view_of(self._map.state)
            self._shown_at = time.monotonic()
        words = self._memory.words
        if words is not None and len(view.state):
            scene_scores(view.scene, words.competing, self._calibration.temperature)
        self._compared = words
        with self._lock:
            if view.state.version >= self._view.state.version:  # it was not reset meanwhile
                self._view = view

    def _failed(self, snapshot: Snapshot | None, error: BaseException) -> None:
        self._log.error("map", f"A cloud is not on the map: {describe(error)}")
        sentence = f"the map failed ({type(error).__name__}); the node's log says more."
        self._note(sentence, "error" if snapshot is not None else "")


class _Skip(Exception):
    """Why a cloud is not taken in: a reason for the tally, and the end of a sentence."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
