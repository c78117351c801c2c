"""Voxelisation: every point finds its voxel, coordinates are unique, bad input is a sentence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sas_ros.errors import SasError
from sas_ros.voxels import voxelise

clouds = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 60), st.just(3)),
    elements=st.floats(-50, 50, width=32),
)


@settings(deadline=None, derandomize=True)
@given(points=clouds, size=st.sampled_from([0.02, 0.08, 1.0]))
def test_every_point_lies_in_its_voxel(points: np.ndarray, size: float) -> None:
    grid = voxelise(points, size, origin=(0.3, -0.2, 0.1))
    expected = np.floor((points.astype(np.float64) - [0.3, -0.2, 0.1]) / size)
    assert np.array_equal(grid.coordinates[grid.inverse, 1:], expected)
    assert len(np.unique(grid.coordinates, axis=0)) == len(grid.coordinates)
    assert np.abs(grid.centers[grid.inverse] - points).max() <= size / 2 + 1e-4


def test_rows_are_sorted_and_carry_the_batch() -> None:
    grid = voxelise(np.array([[1, 0, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0]]), 1.0, batch=3)
    assert grid.coordinates.tolist() == [[3, 0, 0, 0], [3, 0, 0, 1], [3, 1, 0, 0]]
    assert grid.inverse.tolist() == [2, 1, 0, 2]


@pytest.mark.parametrize(
    ("points", "word"),
    [
        (np.empty((0, 3)), "empty"),
        (np.array([[np.nan, 0, 0]]), "NaN"),
        (np.array([[0.0, 0, 0], [1e9, 0, 0]]), "metres"),
    ],
)
def test_bad_clouds_are_sentences(points: np.ndarray, word: str) -> None:
    with pytest.raises(SasError, match=word):
        voxelise(points, 0.05)
