"""Mean of what a teacher says about a point in all images that show it (multi-view fusion).

For every point the features of its pixels are summed over the views that see it, each with weight
one, and divided by their number; nothing is scaled to unit length before or after. One walk over
the views, each projected once, serves all teachers. Sums are float32, the result is float16. Rows
go from a feature map to the sums through small buffers that stay in cache.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError
from sas_ros.sparse.parallel import for_each
from sas_training.fusion.features import PointFeatures
from sas_training.fusion.projection import Places, ProjectionSettings, View, problem_of, seen

_BUFFER_BYTES = 2 << 20
"""Of the float32 buffer on a CPU: its second level cache. A GPU takes 64 times as much."""

UNREADABLE = "it cannot be read"
"""Why a view is skipped that raises when it is asked for; whoever read it knows more."""

_TOO_LARGE = 65_520.0
"""The least number that float16 rounds to infinity."""


@dataclass(frozen=True, eq=False)
class PixelFeatures:
    """What a teacher says about the pixels of one image.

    Attributes:
        features: (height, width, C) floating, best with the channels lying next to each other.
        valid: (height, width) bool, False where the teacher says nothing; None: everywhere.
    """

    features: torch.Tensor
    valid: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """A teacher as fusion sees it.

    Attributes:
        name: of the teacher.
        channels: width C of its features.
        read: features of the view of that number, or None when the teacher has nothing there (a
            mask teacher that found no segment). Called once per view and walk, in order.
        settings: goes into the settings of the point features.
    """

    name: str
    channels: int
    read: Callable[[int], PixelFeatures | None]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class MultiView:
    """What came out.

    Attributes:
        features: by teacher.
        views: by teacher, (N,) int32 number of views behind each point's mean.
        used: views that saw a point.
        skipped: reason -> number of views that could not be used.
        silent: teacher -> number of used views it had nothing for.
        walks: how often the views were walked through, 1 unless memory was too small.
    """

    features: dict[str, PointFeatures]
    views: dict[str, npt.NDArray[np.int32]]
    used: int
    skipped: dict[str, int]
    silent: dict[str, int]
    walks: int


def fuse_views(
    points: npt.NDArray[np.floating],
    views: Sequence[View],
    sources: Sequence[FeatureSource],
    settings: ProjectionSettings,
    *,
    scene: str = "",
    device: str | torch.device = "cpu",
    memory: int = 4 << 30,
    progress: Callable[[Iterable[int]], Iterable[int]] = lambda numbers: numbers,
) -> MultiView:
    """Mean feature of every point over the views that see it, for all teachers at once.

    Args:
        points: (N, 3) metres, in the world frame of the views.
        views: may read its frames when they are asked for; one that raises `SasError`, or whose
            pose or depth is unusable, is skipped and counted.
        sources: the teachers, of different names.
        settings: what counts as seen.
        scene: name for the results.
        device: where sums and maps are; points are fused in blocks whose float32 sums (for all
            teachers together) take at most `memory` bytes. More than one block means that views and
            teachers are asked again for each, except views that show nothing of the block.
        progress: wraps the view numbers, as tqdm does.

    Raises:
        SasError: unfit points, no or equal teachers, or a map of another size, width or with values
            that are not finite.
    """
    places = np.asarray(points)
    if places.ndim != 2 or places.shape[1] != 3:
        raise SasError(f"Points have the shape (N, 3), not {places.shape}.")
    names = [source.name for source in sources]
    if not names or len(set(names)) != len(names):
        raise SasError(f"Fusion needs teachers of different names, not {names}.")
    count = len(places)
    each = sum(4 * source.channels + 4 for source in sources)
    walks = max(1, -(-count * each // max(memory, each)))
    cuts = [count * number // walks for number in range(walks + 1)]
    kept: dict[str, list[npt.NDArray[np.float16]]] = {name: [] for name in names}
    seen_by = {name: np.zeros(count, dtype=np.int32) for name in names}
    notes = _Notes()
    for start, stop in pairwise(cuts):
        block = Places.of(torch.tensor(places[start:stop], dtype=torch.float64, device=device))
        sums = [_Sum(source, stop - start, block.exact.device) for source in sources]
        _walk(block, views, sums, settings, progress, notes)
        for one in sums:
            kept[one.source.name].append(one.means())
            seen_by[one.source.name][start:stop] = one.counts.cpu().numpy()
    how = {**asdict(settings), "views": len(notes.used)}
    return MultiView(
        features={
            source.name: PointFeatures(
                _joined(kept.pop(source.name)),
                seen_by[source.name] > 0,
                source.name,
                scene,
                {**how, **source.settings},
            )
            for source in sources
        },
        views=seen_by,
        used=len(notes.used),
        skipped=dict(Counter(notes.skipped.values())),
        silent={name: len(notes.silent.get(name, ())) for name in names},
        walks=walks,
    )


def _joined(parts: list[npt.NDArray[np.float16]]) -> npt.NDArray[np.float16]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _Notes:
    """What happened to which view; a view of several walks is noted once."""

    def __init__(self) -> None:
        self.used: set[int] = set()
        self.skipped: dict[int, str] = {}
        self.silent: dict[str, set[int]] = {}


def _walk(
    points: Places,
    views: Sequence[View],
    sums: Sequence[_Sum],
    settings: ProjectionSettings,
    progress: Callable[[Iterable[int]], Iterable[int]],
    notes: _Notes,
) -> None:
    for number in progress(range(len(views))):
        if number in notes.skipped:
            continue
        try:
            view = views[number]
        except SasError:
            notes.skipped[number] = UNREADABLE
            continue
        problem = problem_of(view)
        if problem is not None:
            notes.skipped[number] = problem
            continue
        index, pixels = seen(points, view, settings)
        if len(index) == 0:
            continue
        notes.used.add(number)
        for one in sums:
            found = one.source.read(number)
            if found is None:
                notes.silent.setdefault(one.source.name, set()).add(number)
            else:
                one.add(found, view, index, pixels)


class _Buffers(threading.local):
    """Room for rows on their way, one of each kind a thread."""

    def __init__(self) -> None:
        self.kept: dict[torch.dtype, torch.Tensor] = {}

    def get(self, shape: tuple[int, int], like: torch.Tensor) -> torch.Tensor:
        """A tensor of `shape`, the same at every call, with the type and device of `like`."""
        if like.dtype not in self.kept:
            self.kept[like.dtype] = like.new_empty(shape)
        return self.kept[like.dtype]


class _Sum:
    """Sums and numbers of views of one teacher for a block of points."""

    def __init__(self, source: FeatureSource, count: int, device: torch.device) -> None:
        self.source = source
        self.sums = torch.zeros((count, source.channels), device=device)
        self.counts = torch.zeros(count, dtype=torch.int32, device=device)
        room = _BUFFER_BYTES if device.type == "cpu" else 64 * _BUFFER_BYTES
        self.step = max(64, room // (4 * source.channels))
        self.buffers = _Buffers()

    def add(
        self, found: PixelFeatures, view: View, index: torch.Tensor, pixels: torch.Tensor
    ) -> None:
        """Add the features of `pixels (M,)` to the points `index (M,)`, each at most once."""
        wanted = (view.height, view.width, self.source.channels)
        if tuple(found.features.shape) != wanted or not found.features.is_floating_point():
            raise SasError(
                f"The teacher {self.source.name!r} gave {found.features.dtype} features of shape "
                f"{tuple(found.features.shape)}; wanted are floats of (height, width, channels) = "
                f"{wanted}."
            )
        if found.valid is not None:
            if tuple(found.valid.shape) != wanted[:2]:
                raise SasError(
                    f"The teacher {self.source.name!r} gave a mask of shape "
                    f"{tuple(found.valid.shape)}; wanted is (height, width) = {wanted[:2]}."
                )
            told = found.valid.to(pixels.device).reshape(-1)[pixels].bool()
            index, pixels = index[told], pixels[told]
        # A teacher may have left its gradients on: they are no part of a mean.
        features = found.features.detach().to(pixels.device)
        table = features.reshape(-1, self.source.channels).contiguous()

        def add_part(start: int) -> None:
            part = index[start : start + self.step]
            shape = (self.step, self.source.channels)
            rows = self.buffers.get(shape, table)[: len(part)]
            wide = self.buffers.get(shape, self.sums)[: len(part)]
            torch.index_select(table, 0, pixels[start : start + self.step], out=rows)
            # No row is there twice, so neither the order of additions nor that of the parts on
            # several threads changes a sum.
            self.sums.index_add_(0, part, wide.copy_(rows))

        starts = range(0, len(index), self.step)
        if self.sums.device.type == "cpu":
            for_each(starts, add_part)
        else:
            for start in starts:
                add_part(start)
        self.counts[index] += 1

    def means(self) -> npt.NDArray[np.float16]:
        """(M, C) float16 means of the points with a view, in their order."""
        index = torch.nonzero(self.counts)[:, 0]
        result = torch.empty((len(index), self.source.channels), dtype=torch.float16)
        for start in range(0, len(index), self.step):
            part = index[start : start + self.step]
            mean = self.buffers.get((self.step, self.source.channels), self.sums)[: len(part)]
            torch.index_select(self.sums, 0, part, out=mean)
            mean /= self.counts[part, None]
            least, most = torch.aminmax(mean)
            # Written so that NaN, which aminmax hands on, fails too.
            if not bool((least > -_TOO_LARGE) & (most < _TOO_LARGE)):
                raise SasError(
                    f"The teacher {self.source.name!r} gave pixel features that are not finite, or "
                    "too large for float16."
                )
            result[start : start + self.step].copy_(mean)
        return result.numpy()
