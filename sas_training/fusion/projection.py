"""Which pixel of an image shows which point, and whether the point is seen there at all.

A point X of the world lies at p = inv(T) [X; 1] in a camera with camera-to-world pose T, and in
the image at u = fx p_x / p_z + cx, v = fy p_y / p_z + cy, both rounded to the nearest integer,
halves to the even one. It is seen when the pixel lies b or more pixels inside the image and, where
a depth image D is there, when |D[v, u] - p_z| <= t D[v, u]; without depth, when p_z > 0.

Released code takes poses as they come (ScanNet has some of inf) and divides by p_z = 0; here such
a view has a `problem_of` and such a point is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError

RESIZE_RULES = ("plain", "width_crop")


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera without distortion, in pixels; whole numbers are the centres of pixels."""

    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        values = (self.fx, self.fy, self.cx, self.cy)
        if not np.isfinite(values).all() or self.fx <= 0 or self.fy <= 0:
            raise SasError(
                "Intrinsics need a finite principal point and focal lengths above 0, not "
                f"fx={self.fx:g}, fy={self.fy:g}, cx={self.cx:g}, cy={self.cy:g}."
            )

    def resized(
        self, old: tuple[int, int], new: tuple[int, int], rule: str = "plain"
    ) -> Intrinsics:
        """The camera of the image after it was resized from `old` (W0, H0) to `new` (W, H).

        Args:
            old: width and height the intrinsics belong to.
            new: width and height of the resized image.
            rule: `plain`: the whole image was scaled, each axis by itself, pixels as areas (what
                image libraries do). `width_crop`: the released code's, which supposes that the
                height was scaled and surplus width cut off: fx is multiplied by floor(H W0 / H0) /
                W0, and cx, cy by (W - 1) / (W0 - 1) and (H - 1) / (H0 - 1). Where both sizes have
                the same aspect the focal lengths agree; Replica's have not (635 instead of 640).

        Raises:
            SasError: an unknown rule or a size below 2 x 2.
        """
        if min(*old, *new) < 2:
            raise SasError(f"An image of {old} cannot be resized to {new}: 2 x 2 is the least.")
        (w0, h0), (w, h) = old, new
        if rule == "plain":
            sx, sy = w / w0, h / h0
            return Intrinsics(
                self.fx * sx, self.fy * sy, (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5
            )
        if rule == "width_crop":
            return Intrinsics(
                self.fx * (h * w0 // h0) / w0,
                self.fy * h / h0,
                self.cx * (w - 1) / (w0 - 1),
                self.cy * (h - 1) / (h0 - 1),
            )
        raise SasError(f"{rule!r} is no resize rule; known are {', '.join(RESIZE_RULES)}.")


@dataclass(frozen=True, eq=False)
class View:
    """One posed image, without its colours.

    Attributes:
        pose: (4, 4) float, camera-to-world, metres; the camera is an optical frame (x right,
            y down, z forward).
        intrinsics: of an image of this size.
        width, height: pixels.
        depth: (height, width) float, metres along the optical axis; 0 or not finite = nothing
            measured. None where the data set has no depth.
    """

    pose: npt.NDArray[np.floating]
    intrinsics: Intrinsics
    width: int
    height: int
    depth: npt.NDArray[np.floating] | None = None


@dataclass(frozen=True)
class ProjectionSettings:
    """What counts as seen.

    Attributes:
        boundary: b, pixels; points nearer than this to the edge of the image are not seen.
        occlusion: t, share of the measured depth by which a point may lie off it; None: the depth
            is not looked at.
    """

    boundary: int = 10
    occlusion: float | None = 0.2

    def __post_init__(self) -> None:
        if self.boundary < 0:
            raise SasError(f"A boundary cut of {self.boundary} pixels is below 0.")
        if self.occlusion is not None and not 0 <= self.occlusion < 1:
            raise SasError(
                f"An occlusion threshold of {self.occlusion:g} is not in 0 to below 1; from 1 on "
                "points behind the camera would pass."
            )


@dataclass(frozen=True, eq=False)
class Projection:
    """Where N points lie in one image.

    Attributes:
        columns, rows: (N,) int64 pixel indices u and v, -1 where the point is not seen.
        visible: (N,) bool.
    """

    columns: torch.Tensor
    rows: torch.Tensor
    visible: torch.Tensor


def problem_of(view: View) -> str | None:
    """Why nothing can be projected into a view, as a short phrase; None when all is well."""
    pose = np.asarray(view.pose)
    if pose.shape != (4, 4):
        return "its pose is not 4 x 4"
    if not np.isfinite(pose).all():
        return "its pose is not finite"
    if abs(float(np.linalg.det(pose[:3, :3].astype(np.float64)))) < 1e-6:
        return "its pose cannot be inverted"
    if view.width < 1 or view.height < 1:
        return "its image is empty"
    if view.depth is not None and view.depth.shape != (view.height, view.width):
        return "its depth image has another size"
    return None


def project(points: torch.Tensor, view: View, settings: ProjectionSettings) -> Projection:
    """Pixel and visibility of every point in one view.

    Args:
        points: (N, 3) floating, metres, in the world frame of `view.pose`; on any device that has
            float64. A point that is not finite is not seen.
        view: the image; its pose and depth may be on the CPU whatever the device.
        settings: what counts as seen.

    Raises:
        SasError: a view with a `problem_of`, or points of another shape.
    """
    problem = problem_of(view)
    if problem is not None:
        raise SasError(f"Nothing can be projected into this view: {problem}.")
    if points.ndim != 2 or points.shape[1] != 3:
        raise SasError(f"Points have the shape (N, 3), not {tuple(points.shape)}.")
    index, pixels = seen(Places.of(points), view, settings)
    count = len(points)
    columns = torch.full((count,), -1, dtype=torch.int64, device=points.device)
    rows = columns.clone()
    columns[index], rows[index] = pixels % view.width, pixels // view.width
    return Projection(columns, rows, columns >= 0)


@dataclass(frozen=True, eq=False)
class Places:
    """Points made ready for being projected into many views.

    Attributes:
        exact: (3, N) float64, metres, world frame: one row per axis.
        rough: (3, N) float32, the same, for seeing quickly which points lie in no way in a view;
            None where that is not worth it (on a GPU) or not precise enough.
        reach: largest finite coordinate, metres.
    """

    exact: torch.Tensor
    rough: torch.Tensor | None
    reach: float

    @staticmethod
    def of(points: torch.Tensor) -> Places:
        """From points (N, 3) floating, metres, on any device that has float64."""
        exact = points.to(torch.float64).T.contiguous()
        size = exact.abs().nan_to_num(nan=0.0, posinf=0.0)
        reach = float(size.max()) if exact.numel() else 0.0
        rough = exact.float() if exact.device.type == "cpu" and reach < _MOST_REACH else None
        return Places(exact, rough, reach)


_MOST_REACH = 1e6
"""Metres; further away float32 is metres coarse."""

_ROUGH_CHUNK = 1 << 14
"""Points whose distances from the sides of a view stay in cache."""


def seen(
    points: Places, view: View, settings: ProjectionSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The points that a view without a `problem_of` sees: `project` for many views, and compact.

    Returns:
        index (M,) int64 of the points seen, ascending, and pixels (M,) int64, v * width + u.
    """
    device, camera, b = points.exact.device, view.intrinsics, settings.boundary
    inverse = np.linalg.inv(np.asarray(view.pose, dtype=np.float64))
    places, near = points.exact, None
    if points.rough is not None:
        near = _perhaps_inside(points.rough, points.reach, inverse, view, b)
        # `index_select` along a row of three takes several times as long.
        places = places.gather(1, near.expand(3, -1))
    turn = torch.from_numpy(inverse[:3, :3].copy()).to(device)
    x, y, z = (turn @ places).add_(torch.from_numpy(inverse[:3, 3:].copy()).to(device))
    depth = None if settings.occlusion is None else view.depth
    # In place: x and y are needed no more.
    u = x.mul_(camera.fx).div_(z).add_(camera.cx).round_()
    v = y.mul_(camera.fy).div_(z).add_(camera.cy).round_()
    # Compared before they become integers: far off values and NaN, which p_z = 0 gives, have none.
    # With depth any p_z <= 0 fails the test below because t < 1, so this cut is right for both.
    inside = (u >= b) & (u < view.width - b) & (v >= b) & (v < view.height - b) & (z > 0)
    kept = _where(inside)
    # Whole numbers far below 2^53, so that float64 holds them exactly.
    pixels = (v.take(kept) * view.width + u.take(kept)).long()
    index = kept if near is None else near.take(kept)
    if depth is None or settings.occlusion is None:
        return index, pixels
    z = z.take(kept)
    flat = torch.from_numpy(np.ascontiguousarray(depth)).to(device).reshape(-1)
    measured = flat[pixels].double()
    open_ = (measured - z).abs() <= settings.occlusion * measured
    open_ &= torch.isfinite(measured) & (measured > 0)
    kept = _where(open_)
    return index.take(kept), pixels.take(kept)


def _where(mask: torch.Tensor) -> torch.Tensor:
    """Indices, ascending, where `mask (N,)` is true; on a CPU numpy finds them faster."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return torch.nonzero(mask)[:, 0]


def _perhaps_inside(
    points: torch.Tensor, reach: float, inverse: npt.NDArray[np.float64], view: View, boundary: int
) -> torch.Tensor:
    """Indices of the points `(3, N)` float32 that are not certainly outside the image or behind it.

    The sides of the view are five planes; a point is dropped when it lies outside one by more than
    a pixel and more than what float32 can be wrong by.
    """
    k, b = view.intrinsics, boundary
    across = k.fx * inverse[0] + k.cx * inverse[2]
    down = k.fy * inverse[1] + k.cy * inverse[2]
    ahead = inverse[2]
    planes = np.stack(
        [
            ahead,
            across - (b - 1) * ahead,
            (view.width - b) * ahead - across,
            down - (b - 1) * ahead,
            (view.height - b) * ahead - down,
        ]
    )
    planes[:, 3] += 4e-6 * (np.abs(planes[:, :3]).sum(axis=1) * reach + np.abs(planes[:, 3]))
    sides = torch.from_numpy(planes.astype(np.float32))
    inside = torch.empty(points.shape[1], dtype=torch.bool)
    room = points.new_empty((len(planes), _ROUGH_CHUNK))
    for start in range(0, points.shape[1], _ROUGH_CHUNK):
        part = points[:, start : start + _ROUGH_CHUNK]
        distances = room[:, : part.shape[1]]
        torch.addmm(sides[:, 3:], sides[:, :3], part, out=distances)
        inside[start : start + _ROUGH_CHUNK] = distances.amin(dim=0) >= 0
    return _where(inside)
