"""Temporal ensembling: what a student said about every point of every scene, averaged over epochs.

The paper keeps features, H <- a H + (1 - a) F3D, and uses them only through cls(H), the class with
the largest product with its text vector, for points and for the means of superpoints. Products and
means are linear: the average of the K products with the text vectors is the product of the averaged
features. So the history of a point is K numbers here instead of C (ScanNet at C = 512: 7 GB instead
of 182). Labels are those of the paper, but for rounding, when what goes in are plain products and
`corrected` is false (variant `literal` of `sas_training.distill.self_distillation`). Otherwise:

- cosines go in: H is of features of length one, and its labels need not be those of H of features
  as they are;
- `corrected`: what is stored is H / (1 - a^n) after n updates of the point. It needs no start
  value, and half precision keeps its digits. cls of a point is the same; the mean of a superpoint
  gives all its points the same weight, where that of H from zero on gives each 1 - a^n, so that cls
  of a superpoint whose points were not all seen equally often need not be the same.

Rows are in the order of the scene's points, whatever augmentation, crop and voxel grid the student
saw them in.

Files: `<scene>.<step>.safetensors` in one folder, the state after that step of training. A step
writes a new file and leaves the earlier ones alone; once a checkpoint of step s is on disk, `keep`
removes what is older than the newest up to s. A run that was killed goes on from its checkpoint of
step s: `rewind` removes what is newer, so that no update is lost and none counts twice.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import atomic_path

FORMAT_VERSION = 1
SUFFIX = ".safetensors"
PRECISIONS = {"float16": np.float16, "float32": np.float32}
_METADATA_KEY = "sas_history"
_MOST_UPDATES = np.iinfo(np.uint16).max
_NAME = re.compile(r"(?P<scene>.+)\.(?P<step>\d{9})" + re.escape(SUFFIX))
_LARGEST_HALF = float(np.finfo(np.float16).max)

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class SceneHistory:
    """The averaged class scores of the points of one scene.

    Attributes:
        scores: (N, K) float16 or float32, averages of products with text vectors; zero before the
            first update.
        updates: (N,) uint16, how many went into each point; stays at 65535.
    """

    scores: FloatArray
    updates: npt.NDArray[np.uint16]

    @staticmethod
    def empty(points: int, classes: int, precision: str = "float16") -> SceneHistory:
        return SceneHistory(
            np.zeros((points, classes), PRECISIONS[precision]), np.zeros(points, np.uint16)
        )

    def updated(
        self,
        points: npt.NDArray[np.integer[Any]],
        scores: FloatArray,
        alpha: float,
        corrected: bool = True,
    ) -> SceneHistory:
        """A copy in which some points have been seen once more.

        H_n / (1 - a^n) = old + (scores - old) * (1 - a) / (1 - a^n); with `corrected` false the
        divisors are left out: plain H <- a H + (1 - a) scores, from whatever H is there.

        Args:
            points: (P,) distinct point numbers.
            scores: (P, K) what the student says now.
        """
        seen = np.minimum(self.updates[points].astype(np.int64) + 1, _MOST_UPDATES)
        weight = np.full(len(points), 1.0 - alpha)
        if corrected:
            weight /= -np.expm1(seen * np.log(alpha)) if alpha > 0 else 1.0
        old = self.scores[points].astype(np.float32)
        new = old + weight[:, None].astype(np.float32) * (scores.astype(np.float32) - old)
        if self.scores.dtype == np.float16:
            new = np.clip(new, -_LARGEST_HALF, _LARGEST_HALF)
        result, updates = self.scores.copy(), self.updates.copy()
        result[points] = new.astype(self.scores.dtype)
        updates[points] = seen
        return SceneHistory(result, updates)

    def labels(self, points: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        """cls(H_i) of some points (P,); -1 where a point has no history."""
        best = self.scores[points].argmax(axis=1)
        return np.where(self.updates[points] > 0, best, -1)

    def superpoint_scores(self, superpoint: npt.NDArray[np.integer[Any]]) -> FloatArray:
        """(L, K) float64 means of the points with a history; zero for a superpoint of none.

        Args:
            superpoint: (N,) superpoint of every point, -1 for none.
        """
        used = np.flatnonzero((superpoint >= 0) & (self.updates > 0))
        group = superpoint[used]
        count = int(superpoint.max(initial=-1)) + 1
        total = np.stack(
            [
                np.bincount(group, column, minlength=count)
                for column in self.scores[used].T.astype(np.float64)
            ],
            axis=1,
        )
        size = np.bincount(group, minlength=count)
        return np.asarray(total / np.maximum(size, 1)[:, None])

    def superpoint_labels(self, superpoint: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        """(L,) cls(Hsp_q); -1 where no point of the superpoint has a history."""
        scores = self.superpoint_scores(superpoint)
        used = superpoint[(superpoint >= 0) & (self.updates > 0)]
        labels = np.full(len(scores), -1, np.int64)
        known = np.unique(used)
        labels[known] = scores[known].argmax(axis=1)
        return labels


class History:
    """The histories of all scenes of a run, on disk.

    Args:
        folder: of the files; made when it is not there.
        classes: what the K scores mean (names or a hash); a file of other classes is refused.
        width: K.
        precision: "float16" or "float32". Updates below a thousandth of a score are lost in
            float16: it needs an alpha of at most about 0.99.
    """

    def __init__(self, folder: Path, classes: str, width: int, precision: str = "float16") -> None:
        if precision not in PRECISIONS:
            raise SasError(
                f"The precision {precision!r} of the history is unknown; use float16 or float32."
            )
        self._folder, self._classes, self._width = Path(folder), classes, width
        self._precision = precision

    def read(self, scene: str, points: int) -> SceneHistory:
        """The newest state of a scene of `points` points; an empty one where there is none.

        Raises:
            SasError: a damaged file, or one of other points or classes.
        """
        steps = self._steps(scene)
        if not steps:
            return SceneHistory.empty(points, self._width, self._precision)
        return self._load(self._path(scene, steps[-1]), points)

    def read_at(self, scene: str, points: int, step: int) -> SceneHistory:
        """The state of a scene after step `step`.

        Raises:
            SasError: it is not there, besides what `read` raises.
        """
        path = self._path(scene, step)
        if not path.is_file():
            raise SasError(
                f"The history {path} is missing: without it a checkpoint cannot be gone on from. "
                "Start the run anew, in another --run-folder."
            )
        return self._load(path, points)

    def step_of(self, scene: str) -> int | None:
        """The step of a scene's newest state; None where there is none."""
        steps = self._steps(scene)
        return steps[-1] if steps else None

    def write(self, scene: str, step: int, state: SceneHistory) -> None:
        """Store the state of a scene after step `step`; earlier states stay until `keep`."""
        from safetensors.numpy import save_file

        metadata = {"format_version": FORMAT_VERSION, "classes": self._classes, "step": step}
        tensors = {
            "scores": np.ascontiguousarray(state.scores),
            "updates": np.ascontiguousarray(state.updates),
        }
        with atomic_path(self._path(scene, step)) as temporary:
            save_file(tensors, temporary, {_METADATA_KEY: json.dumps(metadata, sort_keys=True)})

    def keep(self, step: int) -> None:
        """A checkpoint of `step` is on disk: remove the states that it will never go back to."""
        last: dict[str, int] = {}
        for scene, at, _ in self._files():
            if at <= step:
                last[scene] = max(at, last.get(scene, -1))
        for scene, at, path in self._files():
            if at < last.get(scene, -1):
                path.unlink(missing_ok=True)

    def rewind(self, step: int) -> None:
        """Go back to the state after `step`: remove newer states, and what a crash left behind."""
        for _, at, path in self._files():
            if at > step:
                path.unlink(missing_ok=True)
        for path in self._folder.glob(f".*.partial{SUFFIX}"):
            path.unlink(missing_ok=True)

    def _path(self, scene: str, step: int) -> Path:
        return self._folder / f"{scene}.{step:09d}{SUFFIX}"

    def _files(self) -> Iterator[tuple[str, int, Path]]:
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            match = _NAME.fullmatch(path.name)
            if match:
                yield match["scene"], int(match["step"]), path

    def _steps(self, scene: str) -> list[int]:
        """Steps of the states of a scene, ascending."""
        if not self._folder.is_dir():
            return []
        names = [name for name in os.listdir(self._folder) if name.startswith(f"{scene}.")]
        matches = [match for match in map(_NAME.fullmatch, names) if match]
        return sorted(int(match["step"]) for match in matches if match["scene"] == scene)

    def _load(self, path: Path, points: int) -> SceneHistory:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                metadata = json.loads((file.metadata() or {}).get(_METADATA_KEY, "null"))
                scores, updates = file.get_tensor("scores"), file.get_tensor("updates")
        except (SafetensorError, OSError, ValueError, TypeError) as error:
            raise SasError(
                f"The history {path} cannot be read ({error}); remove the folder of this run and "
                "start it anew."
            ) from error
        if not isinstance(metadata, dict) or metadata.get("format_version") != FORMAT_VERSION:
            raise SasError(f"{path} is no history that this version reads; start the run anew.")
        if metadata.get("classes") != self._classes:
            raise SasError(f"The history {path} is of other classes; use another --run folder.")
        shape, kind = (points, self._width), PRECISIONS[self._precision]
        if scores.shape != shape or scores.dtype != kind or updates.shape != shape[:1]:
            raise SasError(
                f"The history {path} has {scores.dtype} scores {scores.shape}, but the scene needs "
                f"{self._precision} {shape}: its points are not those the run began with."
            )
        if updates.dtype != np.uint16 or not np.isfinite(scores).all():
            raise SasError(f"The history {path} is damaged; start the run anew.")
        return SceneHistory(scores, updates)
