"""Below the class: counts against a scan whose features are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from encoders import HashEncoder
from students import untrained_student

from sas_ros.errors import SasError
from sas_ros.observation import Cloud, SceneFeatures, Up
from sas_ros.segmenter import Segmenter
from sas_training.evaluation.finer import finer_names

UP = Up(np.array([0.0, 0.0, 1.0]), "parameter")


class Told(Segmenter):
    """A segmenter whose features are given: what is counted is then known."""

    def __init__(self, features: npt.NDArray[np.float32]) -> None:
        super().__init__(untrained_student(), device="cpu")
        self.features = features

    def segment(self, observation: object, up: Up) -> SceneFeatures:
        assert isinstance(observation, Cloud)
        count = len(observation.points)
        return SceneFeatures(
            features=torch.from_numpy(self.features),
            positions=observation.points,
            element_of_point=np.arange(count, dtype=np.int32),
            header=observation.header,
            up=up,
            origin=observation.origin,
            element_size=0.08,
        )


def write(path: Path, names: list[str], each: int) -> Path:
    count = each * len(names)
    np.savez(
        path,
        points=np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32),
        labels=np.full(count, 2, np.uint8),
        instances=np.repeat(np.arange(1, len(names) + 1), each).astype(np.uint16),
        names=np.array(["structure", *names]),
    )
    return path


def test_what_is_called_right_is_counted_by_group(tmp_path: Path) -> None:
    encoder = HashEncoder()
    names = ["armchair", "stool", "office chair", "lamp", "box"]
    path = write(tmp_path / "a.npz", names, 10)
    said = encoder.encode(["armchair", "stool", "armchair", "lamp", "box"])
    features = np.repeat(said, 10, axis=0)
    features[:5] = said[1]  # half of the armchair is called a stool
    result = finer_names(Told(features), [path], encoder, UP)
    chairs, rest = result["groups"]["chair"], result["groups"]["no class"]
    assert chairs["names"] == 3 and chairs["points"] == 30
    assert chairs["recall"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert rest["recall"] == 1 and rest["points"] == 20
    assert set(result["groups"]) == {"chair", "no class"}
    assert result["recall"] == pytest.approx((chairs["recall"] + 1) / 2)


def test_one_name_alone_is_no_choice(tmp_path: Path) -> None:
    encoder = HashEncoder()
    path = write(tmp_path / "a.npz", ["armchair"], 4)
    assert finer_names(Told(np.zeros((4, 16), np.float32)), [path], encoder, UP) == {"groups": {}}


def test_a_scan_without_names_is_a_sentence(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", points=np.zeros((2, 3), np.float32), labels=np.zeros(2, np.uint8))
    with pytest.raises(SasError, match=r"a\.npz.*called"):
        finer_names(Told(np.zeros((2, 16), np.float32)), [tmp_path / "a.npz"], HashEncoder(), UP)
