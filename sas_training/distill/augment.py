"""What a training sample goes through before it is voxelised: crops and distortions.

The ranges follow the measurements in the project's sim-to-real notes and method reference 6.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float32]


@dataclass(frozen=True)
class AugmentConfig:
    """Ranges of the random distortions; lengths in metres, angles in radians."""

    aligned: float = 0.4  # share of samples whose walls stay along the axes, as at run time
    tilt: float = float(np.pi / 64)
    scale: float = 0.12
    elastic: float = 0.10
    keep: tuple[float, float] = (0.3, 1.0)
    sparse: float = 0.12  # share of samples that keep far fewer points: down to 5,000 a room
    sparse_keep: tuple[float, float] = (0.08, 0.4)
    jitter: tuple[float, float] = (0.002, 0.012)
    floor_jitter: float = 0.05
    holes: int = 3
    colourless: float = 0.3  # share of samples that lose their colours
    repainted: float = 0.3  # share of objects that get another colour
    patches: int = 4  # most boxes of space in which everything gets another colour


def crop_around(
    points: Points, center: npt.NDArray[np.floating], side: float
) -> npt.NDArray[np.intp]:
    """Indices of points within a square of `side` metres around `center`, seen from above."""
    # Axis by axis, here and below: numpy reduces rows of three numbers slowly.
    x, y = (np.abs(points[:, axis] - center[axis]) < side / 2 for axis in (0, 1))
    return np.flatnonzero(x & y)


def distort(points: Points, config: AugmentConfig, rng: np.random.Generator) -> Points:
    """(N, 3) float32, metres, z up, with the floor of the whole scan at z = 0; same order."""
    quarter = rng.random() < config.aligned
    yaw = rng.integers(4) * np.pi / 2 if quarter else rng.uniform(-np.pi, np.pi)
    matrix = (
        rotation_z(yaw)
        @ rotation_x(rng.normal(0, config.tilt / 2))
        @ rotation_y(rng.normal(0, config.tilt / 2))
    )
    matrix = matrix * rng.uniform(1 - config.scale, 1 + config.scale, size=3)
    if rng.random() < 0.5:
        matrix[0] = -matrix[0]
    moved: npt.NDArray[np.floating] = points @ matrix.T.astype(np.float32)
    if config.elastic > 0 and rng.random() < 0.8:
        for granularity, share in ((0.4, 0.4), (1.6, 1.0)):
            moved = moved + elastic_offsets(
                moved.astype(np.float32), granularity, share * config.elastic, rng
            )
    moved = moved + rng.normal(0, rng.uniform(*config.jitter), size=moved.shape)
    moved[:, 2] += rng.uniform(-config.floor_jitter, config.floor_jitter)
    return np.asarray(moved, dtype=np.float32)


def thin_out(
    points: Points, config: AugmentConfig, rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Indices that survive random dropping and a few spherical holes."""
    share = rng.uniform(*(config.sparse_keep if rng.random() < config.sparse else config.keep))
    kept = rng.random(len(points)) < share
    for _ in range(rng.integers(config.holes + 1)):
        center = points[rng.integers(len(points))]
        x, y, z = ((points[:, axis] - center[axis]) ** 2 for axis in range(3))
        kept &= x + y + z > rng.uniform(0.1, 0.4) ** 2
    indices = np.flatnonzero(kept)
    return indices if len(indices) else np.arange(min(1, len(points)))


def recolour(
    points: Points,
    colors: npt.NDArray[np.uint8],
    objects: npt.NDArray[np.integer],
    config: AugmentConfig,
    rng: np.random.Generator,
) -> npt.NDArray[np.float32]:
    """(N, 3) float32 colours, 0..255, under another light and with some objects repainted.

    Args:
        points: (N, 3) metres: real rooms are glaring near a lamp and nearly black two metres away.
        colors: (N, 3) sRGB.
        objects: (N,) what each point belongs to: those of one number are painted alike.
    """
    _, owner = np.unique(objects, return_inverse=True)
    count = int(owner.max(initial=0)) + 1
    paint = np.exp(rng.normal(0, 0.5, (count, 1)) + rng.normal(0, 0.2, (count, 3)))
    paint[rng.random(count) >= config.repainted] = 1.0
    values = colors.astype(np.float32) / 255
    values *= paint.astype(np.float32)[owner.reshape(-1)]
    for _ in range(rng.integers(config.patches + 1)):
        # A change of colour on a wall is no door: it may be paint, light or a shadow.
        side = rng.uniform(0.2, [1.5, 1.5, 2.2])
        middle, half = points[rng.integers(len(points))], np.broadcast_to(side / 2, 3)
        x, y, z = (np.abs(points[:, axis] - middle[axis]) < half[axis] for axis in range(3))
        inside = x & y & z
        values[inside] *= np.exp(rng.normal(0, 0.4) + rng.normal(0, 0.15, 3)).astype(np.float32)
    grey = ((values[:, 0] + values[:, 1] + values[:, 2]) / 3)[:, None]
    values = grey + rng.uniform(0.2, 1.3) * (values - grey)
    light = np.exp(rng.normal(0, 0.25) + rng.normal(0, 0.08, 3)).astype(np.float32)
    lamps = elastic_offsets(points, 1.5, rng.uniform(0, 0.7), rng)
    values *= np.exp(lamps[:, :1] + 0.15 * (lamps - lamps[:, :1]))
    values = np.clip(values * light, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.2)))
    values += rng.normal(0, rng.uniform(0.0, 0.06), values.shape)
    return np.asarray(255 * np.clip(values, 0, 1), dtype=np.float32)


def elastic_offsets(
    points: Points, granularity: float, magnitude: float, rng: np.random.Generator
) -> Points:
    """(N, 3) float32 smooth random offsets: Gaussian noise on a grid, blurred, trilinear."""
    columns = points.T
    low = np.array([column.min() for column in columns]) - 2 * granularity
    high = np.array([column.max() for column in columns])
    size = np.ceil((high - low) / granularity).astype(int) + 3
    noise = rng.normal(size=(*size, 3)).astype(np.float32)
    for axis in range(3):
        noise = (noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)) / np.sqrt(3)
    position = (points - low) / granularity
    cell = np.floor(position).astype(np.int64)
    fraction = (position - cell).astype(np.float32)
    weights = [(1 - fraction[:, axis], fraction[:, axis]) for axis in range(3)]
    flat = noise.reshape(-1, 3)
    step = np.array([size[1] * size[2], size[2], 1])
    base = cell @ step
    result = np.zeros_like(points)
    for corner in range(8):
        bits = (corner >> 2 & 1, corner >> 1 & 1, corner & 1)
        x, y, z = (pair[bit] for pair, bit in zip(weights, bits, strict=True))
        result += (x * y * z)[:, None] * flat.take(base + bits @ step, axis=0)
    return np.asarray(result * magnitude, dtype=np.float32)


def rotation_x(angle: float) -> npt.NDArray[np.float64]:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def rotation_y(angle: float) -> npt.NDArray[np.float64]:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def rotation_z(angle: float) -> npt.NDArray[np.float64]:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
