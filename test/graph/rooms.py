"""A coded room, and a student that was fitted to it in a second.

Cloud number n is the room moved by `n * step` along x, with n more copies of the chair's first
point at its end, and a stamp that ends in n: header, coordinates and indices all tell n.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.language.calibration import Calibration
from sas_ros.language.vocabulary import Vocabulary, distinct_colors
from sas_ros.observation import Cloud, SourceHeader, Up
from sas_ros.segmenter import Segmenter
from sas_ros.sparse import CoordinateManager, SparseTensor
from sas_ros.student.bundle import StudentBundle
from sas_ros.student.minkunet import MinkUNet, MinkUNetConfig

NAMES = ("floor", "wall", "chair", "table", "sofa", "door")
THINGS = (False, False, True, True, True, True)
STEP = 0.25
"""Metres along x from one cloud to the next; a power of two, so that nothing is rounded."""
CHAIR, TABLE = NAMES.index("chair"), NAMES.index("table")


@cache
def plain_room() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """(N, 3) points in metres, z up, and (N,) class ids; the same every time."""
    rng = np.random.default_rng(7)
    parts = [
        (0, rng.uniform([0, 0, 0], [4, 3, 0], (6000, 3))),
        (1, rng.uniform([0, 0, 0], [4, 0, 2.4], (4000, 3))),
        (1, rng.uniform([0, 0, 0], [0, 3, 2.4], (3000, 3))),
        (CHAIR, _box(rng, [2.9, 0.8, 0.0], [3.4, 1.3, 0.5], 900)),
        (TABLE, _box(rng, [1.0, 1.9, 0.65], [2.4, 2.6, 0.75], 1600)),
    ]
    points = np.concatenate([part for _, part in parts])
    labels = np.concatenate([np.full(len(part), label) for label, part in parts])
    order = rng.permutation(len(points))
    # Whole 1/1024ths of a metre: moving the room changes no rounding, hence no voxel.
    return (np.round(points[order] * 1024) / 1024).astype(np.float32), labels[order]


def _box(
    rng: np.random.Generator, low: list[float], high: list[float], count: int
) -> npt.NDArray[np.float64]:
    points = rng.uniform(low, high, (count, 3))
    side = rng.integers(0, 6, count)
    for axis in range(3):
        points[side == 2 * axis, axis] = low[axis]
        points[side == 2 * axis + 1, axis] = high[axis]
    return points


@cache
def two_chairs() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The room with a second chair like the first, a quarter of a metre beside it.

    (N, 3) points, (N,) class ids and (N,) which chair a point is of: 0 is none, 1, 2.
    """
    points, labels = plain_room()
    first = np.flatnonzero(labels == CHAIR)
    second = points[first] - np.array([0.75, 0, 0], np.float32)
    chair = np.concatenate([np.where(labels == CHAIR, 1, 0), np.full(len(first), 2)])
    labels = np.concatenate([labels, np.full(len(first), CHAIR)])
    return np.concatenate([points, second]), labels, chair


def coded_points(number: int, step: float = STEP) -> npt.NDArray[np.float32]:
    """(N + number, 3) float32: the points of cloud `number`."""
    points, labels = plain_room()
    chair = points[np.flatnonzero(labels == CHAIR)[:1]]
    coded = np.concatenate([points, np.repeat(chair, number, axis=0)])
    coded[:, 0] += np.float32(number * step)
    return coded


def coded_labels(number: int) -> npt.NDArray[np.int64]:
    """(N + number,) true class ids of cloud `number`."""
    return np.concatenate([plain_room()[1], np.full(number, CHAIR)])


def coded_cloud(
    number: int, *, stamp_ns: int = 0, frame: str = "lidar", step: float = STEP
) -> Cloud:
    """Cloud `number`; its stamp is `stamp_ns` rounded to a millisecond, plus `number` ns."""
    return Cloud(coded_points(number, step), header=coded_header(number, stamp_ns, frame))


def coded_header(number: int, stamp_ns: int, frame: str = "lidar") -> SourceHeader:
    """A header whose stamp tells `number`."""
    return SourceHeader(stamp_ns // 10**6 * 10**6 + number, frame)


def number_in_stamp(nanosec: int) -> int:
    """The number that a stamp's nanoseconds carry."""
    return nanosec % 10**6


def fitted_student(embeddings: npt.NDArray[np.float32], *, text_encoder: str) -> StudentBundle:
    """A student that knows this room: a random network whose last layer is a least-squares fit.

    Args:
        embeddings: (len(NAMES), C) unit rows that stand for `NAMES`.
        text_encoder: name of the encoder they come from, or "none".
    """
    torch.manual_seed(3)
    dim = embeddings.shape[1]
    config = MinkUNetConfig(2, dim, 32, (32, 32, 32, 32, 64, 64, 96, 256), (1,) * 8)
    network = MinkUNet(config).eval()
    points, labels = plain_room()
    hidden, element_of_point = _hidden_features(network, config, points)
    truth = np.zeros((len(hidden), len(NAMES)))
    np.add.at(truth, (element_of_point, labels), 1.0)
    best = truth.argmax(axis=1)
    target = torch.from_numpy(embeddings[best]).double()
    # Every class counts the same, however many voxels it has.
    weight = torch.from_numpy(1.0 / np.bincount(best, minlength=len(NAMES))[best])[:, None]
    gram = hidden.T @ (hidden * weight)
    gram += 1e-9 * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    kernel = torch.linalg.solve(gram, hidden.T @ (target * weight)).float()
    weights = {**network.state_dict(), "final.kernel": kernel}
    return StudentBundle(
        name="coded-room",
        architecture=config.to_dict(),
        weights=weights,
        inputs=("one", "height"),
        voxel_size=0.08,
        text_encoder=text_encoder,
        prompt="{}",
        vocabulary=Vocabulary(NAMES, embeddings, THINGS, distinct_colors(len(NAMES))),
        calibration=Calibration(),
    )


def _hidden_features(
    network: MinkUNet, config: MinkUNetConfig, points: npt.NDArray[np.float32]
) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
    """Inputs of the last layer (M, P) float64 and the element of every point."""
    names = ("a", "b")
    blank = Vocabulary(
        names,
        np.eye(2, config.out_channels, dtype=np.float32),
        (True, True),
        distinct_colors(2),
    )
    bundle = StudentBundle(
        "fit",
        config.to_dict(),
        network.state_dict(),
        ("one", "height"),
        0.08,
        "none",
        "{}",
        blank,
        Calibration(),
    )
    segmenter = Segmenter(bundle, device="cpu", backend="native")
    forward = segmenter.engine.forward
    passes: list[tuple[torch.Tensor, torch.Tensor]] = []

    def watched(coordinates: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        passes.append((coordinates, inputs))
        return forward(coordinates, inputs)

    setattr(segmenter.engine, "forward", watched)  # noqa: B010 - mypy knows it as a method
    scene = segmenter.segment(Cloud(points), Up(np.array([0.0, 0.0, 1.0])))
    ((coordinates, inputs),) = passes
    tensor = SparseTensor(inputs, CoordinateManager(coordinates))
    # One pass in training mode gives the batch norms sensible statistics.
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm1d):
            layer.momentum = None
    with torch.no_grad():
        network.train()
        network(tensor)
        hidden = network.eval().trunk(tensor).features.double()
    return hidden, scene.element_of_point.astype(np.int64)
