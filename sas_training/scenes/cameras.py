"""Cameras of one frame brought together: resizing, lenses, and depth of another camera."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_training.fusion.projection import Intrinsics

Matrix = npt.NDArray[np.float64]
Number = TypeVar("Number", bound=np.generic)


def fitting(camera: Matrix, size: tuple[int, int], what: str, file: str) -> Matrix:
    """The camera (3, 3), if its principal point is near the middle of images of `size` (w, h).

    Args:
        camera: read from `file`, which does not say for which size it is.
        size: of the image.
        what: the image is called in an error.
        file: its name.

    Raises:
        SasError: the camera is that of images of another width.
    """
    if abs(2 * camera[0, 2] / size[0] - 1) > 0.25:
        raise SasError(
            f"its {what} is {size[0]} pixels wide, and {file} is for one of about "
            f"{2 * camera[0, 2]:.0f}"
        )
    return camera


def resized_color(
    image: npt.NDArray[np.uint8], camera: Matrix, size: tuple[int, int]
) -> tuple[npt.NDArray[np.uint8], Matrix]:
    """An image (H, W, 3) and its camera (3, 3) at another size (width, height).

    Each pixel of a smaller image is a mean, so that teachers see no moiré.
    """
    rows, columns = image.shape[:2]
    if (columns, rows) == size:
        return image, camera
    from PIL import Image

    made = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(made, dtype=np.uint8), resized_camera(camera, (columns, rows), size)


def resized_camera(camera: Matrix, old: tuple[int, int], new: tuple[int, int]) -> Matrix:
    """A camera (3, 3) after its whole image was scaled from one (width, height) to another."""
    k = Intrinsics(*(float(camera[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2))))
    k = k.resized(old, new)
    return np.array([[k.fx, 0.0, k.cx], [0.0, k.fy, k.cy], [0.0, 0.0, 1.0]])


def resized_plane(values: npt.NDArray[Number], size: tuple[int, int]) -> npt.NDArray[Number]:
    """Depths or labels (H, W) at another size (width, height): the nearest pixel, never a mean."""
    rows, columns = values.shape
    if (columns, rows) == size:
        return values
    v = ((np.arange(size[1]) + 0.5) * rows / size[1]).astype(np.int64)
    u = ((np.arange(size[0]) + 0.5) * columns / size[0]).astype(np.int64)
    return np.asarray(values[v[:, None], u])


def depth_for_image(
    depth: npt.NDArray[np.float32],
    depth_camera: Matrix,
    camera: Matrix,
    size: tuple[int, int],
    depth_to_camera: Matrix | None = None,
) -> npt.NDArray[np.float32]:
    """Depth (H, W) of one camera as another camera would have measured it.

    Args:
        depth: metres, 0 = unknown.
        depth_camera: (3, 3) of the depth image.
        camera: (3, 3) of the image.
        size: width and height of the image.
        depth_to_camera: (4, 4) from the depth camera's optical frame to the image's; None where
            they are the same, and only sizes or focal lengths differ.

    Returns:
        (height, width) float32: where several points fall on a pixel the nearest, 0 where none
        does. An image that is much finer than the depths is left with holes, not filled.
    """
    width, height = size
    if depth_to_camera is None:
        u = (np.arange(width) - camera[0, 2]) / camera[0, 0]
        v = (np.arange(height) - camera[1, 2]) / camera[1, 1]
        u = np.rint(u * depth_camera[0, 0] + depth_camera[0, 2]).astype(np.int64)
        v = np.rint(v * depth_camera[1, 1] + depth_camera[1, 2]).astype(np.int64)
        inside_u, inside_v = (u >= 0) & (u < depth.shape[1]), (v >= 0) & (v < depth.shape[0])
        found = depth[np.where(inside_v, v, 0)[:, None], np.where(inside_u, u, 0)]
        return np.where(inside_v[:, None] & inside_u, found, np.float32(0))
    points = points_of(depth, depth_camera)[1]
    points = points @ depth_to_camera[:3, :3].T + depth_to_camera[:3, 3]
    z = points[:, 2]
    ahead = z > 0
    points, z = points[ahead], z[ahead]
    u = np.rint(points[:, 0] / z * camera[0, 0] + camera[0, 2])
    v = np.rint(points[:, 1] / z * camera[1, 1] + camera[1, 2])
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    pixels = v[inside].astype(np.int64) * width + u[inside].astype(np.int64)
    result = np.full(height * width, np.inf, dtype=np.float32)
    np.minimum.at(result, pixels, z[inside].astype(np.float32))
    result[~np.isfinite(result)] = 0
    return result.reshape(height, width)


def points_of(
    depth: npt.NDArray[np.float32], camera: Matrix
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Pixels (M,) int64, v * width + u, that have a depth, and their points (M, 3) float64,
    metres, in the camera's optical frame."""
    pixels = np.flatnonzero(depth > 0)
    z = depth.reshape(-1)[pixels].astype(np.float64)
    v, u = np.divmod(pixels, depth.shape[1])
    x = (u - camera[0, 2]) / camera[0, 0] * z
    y = (v - camera[1, 2]) / camera[1, 1] * z
    return pixels, np.stack([x, y, z], axis=1)


def undistorted(
    image: npt.NDArray[np.uint8], camera: Matrix, model: str, numbers: npt.NDArray[np.floating]
) -> npt.NDArray[np.uint8]:
    """An image (H, W, 3) as a camera of the same matrix without lens distortion would show it.

    Args:
        image: as taken.
        camera: (3, 3).
        model: `plumb_bob` or `rational_polynomial`, as in sensor_msgs/CameraInfo.
        numbers: k1, k2, p1, p2, k3 and, for the latter, k4, k5, k6.

    Raises:
        SasError: another model.
    """
    k = np.zeros(8)
    k[: min(len(numbers), 8)] = np.asarray(numbers, dtype=np.float64)[:8]
    if not k.any():
        return image
    if model not in ("plumb_bob", "rational_polynomial"):
        raise SasError(f"its lens is described by {model!r}, which is not read; rectify the images")
    rows, columns = image.shape[:2]
    x = ((np.arange(columns) - camera[0, 2]) / camera[0, 0])[None, :]
    y = ((np.arange(rows) - camera[1, 2]) / camera[1, 1])[:, None]
    r = x * x + y * y
    scale = (1 + r * (k[0] + r * (k[1] + r * k[4]))) / (1 + r * (k[5] + r * (k[6] + r * k[7])))
    bent_x = x * scale + 2 * k[2] * x * y + k[3] * (r + 2 * x * x)
    bent_y = y * scale + k[2] * (r + 2 * y * y) + 2 * k[3] * x * y
    u = np.rint(bent_x * camera[0, 0] + camera[0, 2])
    v = np.rint(bent_y * camera[1, 1] + camera[1, 2])
    inside = (u >= 0) & (u < columns) & (v >= 0) & (v < rows)
    found = image[np.where(inside, v, 0).astype(int), np.where(inside, u, 0).astype(int)]
    return np.where(inside[..., None], found, np.uint8(0))
