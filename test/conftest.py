"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Small tensors: more threads only wait for each other. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Setters of ROS messages check types only when told to; without it wrong ones crash at publish.
os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real scans named by SAS_TEST_DATA; tests that need it skip without it."""
    folder = os.environ.get("SAS_TEST_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SAS_TEST_DATA names no folder of real scans")
    return Path(folder)
