"""Classes of points from features alone: 2D features that were fused onto the points."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import whole_files
from sas_training.evaluation.labelled import AnnotatedScan
from sas_training.evaluation.metrics import NO_PREDICTION
from sas_training.evaluation.protocol import ProtocolWords
from sas_training.evaluation.scoring import Predict
from sas_training.fusion.features import PointFeatures
from sas_training.fusion.openscene import read_openscene

UNSEEN_RULES = ("left-out", "wrong", "nearest")
"""What a point without features is: as published, no prediction (wrong in the accuracies, left out
of every IoU); wrong in both; or what the nearest point with features is."""

FEATURE_SUFFIXES = (".safetensors", ".pt")

_ENDINGS = (
    *("_vert.npy", ".npz", ".pth", ".features.safetensors", ".safetensors", ".pt"),
    "_vh_clean_2",
)
"""What follows the name of a scene in the names of files, taken off in this order."""

_PART = re.compile(r"_\d$")  # OpenScene writes `scene0011_00_0.pt`

_CHUNK = 16384  # rows that are multiplied at once


def read_features(path: Path) -> PointFeatures:
    """Point features, ours or an OpenScene `.pt`, which is named after its file.

    Raises:
        SasError: no such file, or one that is damaged.
    """
    if path.suffix == ".pt":
        return read_openscene(path, path.stem, path.stem)
    return PointFeatures.load(path)


def expand_features(paths: Sequence[Path]) -> list[Path]:
    """Files as given, folders as their sorted files of features; raises SasError without any."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = whole_files(path, *(f"*{suffix}" for suffix in FEATURE_SUFFIXES))
            if not found:
                raise SasError(f"The folder {path} holds no .safetensors or .pt files.")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise SasError(f"There is no file or folder {path}.")
    return files


def paired(scans: Sequence[str], features: Sequence[Path]) -> dict[str, Path]:
    """Name of a scan -> its features, in the order of the scans.

    One scan and one file belong together. Several belong together by the name of the file, without
    its suffix; or else by the scene that a `.safetensors` says it is about, or without the number
    of a part that OpenScene gives its files.

    Raises:
        SasError: not as many features as scans, a scan given twice, or names that do not fit.
    """
    if len(scans) != len(features):
        raise SasError(
            f"There are {len(scans)} scans and {len(features)} files of features; each scan needs "
            "its own."
        )
    if len(set(scans)) != len(scans):
        raise SasError("A scan is given twice.")
    if len(scans) == 1:
        return {scans[0]: features[0]}
    wanted = {scan: _scene_name(Path(scan).name) for scan in scans}
    pairs: dict[str, Path] = {}
    for other_name in (False, True):
        rest = [path for path in features if path not in pairs.values()]
        names = {path: _other_name(path) if other_name else _scene_name(path.name) for path in rest}
        for scan in wanted.keys() - pairs.keys():
            fitting = [path for path, name in names.items() if name == wanted[scan]]
            alike = [other for other, name in wanted.items() if name == wanted[scan]]
            if len(fitting) == len(alike) == 1:
                pairs[scan] = fitting[0]
    for scan in scans:
        if scan not in pairs:
            raise SasError(
                f"No file of features, or more than one, is about {scan}: call it "
                f"{wanted[scan]}.safetensors or {wanted[scan]}.pt, or give one scan at a time."
            )
    return {scan: pairs[scan] for scan in scans}


def _scene_name(file: str) -> str:
    for ending in _ENDINGS:
        file = file.removesuffix(ending)
    return file


def _other_name(path: Path) -> str:
    """What the file says it is about, or its name without the number of a part."""
    if path.suffix == ".pt":
        return _scene_name(_PART.sub("", path.name.removesuffix(".pt")))
    return _scene_name(PointFeatures.load(path).scene)


def feature_predictions(
    pairs: Mapping[str, Path], words: ProtocolWords, unseen: str = UNSEEN_RULES[0]
) -> Predict:
    """Labels scans by their features: the class of the word with the largest dot product.

    Args:
        pairs: from `paired`.
        words: as wide as the features.
        unseen: one of `UNSEEN_RULES`.

    The result raises SasError for features of another number of points than the scan or of
    another width than the words.
    """
    if unseen not in UNSEEN_RULES:
        raise SasError(f"Unseen points are {', '.join(UNSEEN_RULES)}, not {unseen!r}.")

    def predict(name: str, scan: AnnotatedScan) -> npt.NDArray[np.int64]:
        path = pairs[name]
        features = read_features(path)
        if features.points != len(scan.points):
            raise SasError(
                f"{path} has features for {features.points} points, but {name} has "
                f"{len(scan.points)}: they do not belong together."
            )
        if features.channels != words.vocabulary.dim:
            raise SasError(
                f"{path} has features of {features.channels} numbers, the words have "
                f"{words.vocabulary.dim}."
            )
        predicted = np.full(features.points, NO_PREDICTION, dtype=np.int64)
        predicted[features.mask] = words.to_class[
            best_words(features.features, words.vocabulary.embeddings)
        ]
        if unseen == "wrong":
            predicted[~features.mask] = -1
        if unseen == "nearest" and features.mask.any():
            nearest = _nearest(scan.points, features.mask)
            predicted[~features.mask] = predicted[features.mask][nearest]
        return predicted

    return predict


def best_words(
    features: npt.NDArray[np.floating], embeddings: npt.NDArray[np.float32]
) -> npt.NDArray[np.int64]:
    """(M,) number of the word with the largest dot product, the first of several; features are not
    normalised, which changes no order (reference 6.8).

    Args:
        features: (M, C).
        embeddings: (T, C).
    """
    words = np.ascontiguousarray(embeddings.T, dtype=np.float32)
    best = np.empty(len(features), dtype=np.int64)
    for start in range(0, len(features), _CHUNK):
        part = features[start : start + _CHUNK].astype(np.float32)
        best[start : start + _CHUNK] = (part @ words).argmax(axis=1)
    return best


def _nearest(points: npt.NDArray[np.float32], seen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Of each point that is not seen, the place of the nearest one among those that are."""
    try:
        from scipy.spatial import cKDTree
    except ImportError as error:
        raise SasError(
            f"--unseen nearest needs scipy, which does not load here ({error}); install it with "
            'pip install ".[training]", or take another rule.'
        ) from error
    if not np.isfinite(points).all():
        raise SasError("--unseen nearest needs finite points; take another rule.")
    return np.asarray(cKDTree(points[seen]).query(points[~seen])[1], dtype=np.int64)
