"""Odd clouds through the codec alone: refused with a sentence or read as the definition says."""

from __future__ import annotations

import os
import random
import warnings
from collections import Counter

import numpy as np
import pytest
from odd_clouds import OddCloud, Unreadable, decode, odd_cloud

from sas_ros.clouds import copy_points, has_plain_xyz, read_cloud
from sas_ros.errors import SasError

CLOUDS = int(os.environ.get("SAS_FUZZ_CODEC", "10000"))
"""How many; docs/robot.md tells how to run a million."""
SEED = int(os.environ.get("SAS_FUZZ_SEED", "1"))


def test_odd_clouds_are_refused_or_read_as_the_definition_says() -> None:
    outcomes: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # medians of values near the largest float
        for number in range(CLOUDS):
            rng = random.Random(SEED * 10**9 + number)
            cloud = odd_cloud(rng)
            outcomes[compare(cloud, rng)] += 1
    # The share of both must be large, or this tests nothing.
    assert outcomes["read"] > 0.2 * CLOUDS and outcomes["refused"] > 0.3 * CLOUDS, outcomes
    assert outcomes["colored"] > 0.02 * CLOUDS, outcomes


def compare(cloud: OddCloud, rng: random.Random) -> str:
    before = repr(cloud)
    try:
        expected = decode(cloud)
    except Unreadable as reason:
        with pytest.raises(SasError, match="cannot be read"):
            read_cloud(cloud)
            pytest.fail(f"read although {reason}: {cloud}")
        outcome = "refused"
    else:
        found = read_cloud(cloud)
        count = len(expected.points)
        points = np.array(expected.points, np.float64).reshape(count, 3)
        np.testing.assert_array_equal(found.points, points, err_msg=repr(cloud))
        assert found.points.dtype == np.float32
        assert tuple(found.origin.tolist()) == expected.origin, cloud
        assert (found.height, found.width) == (cloud.height, cloud.width)
        colors = None if found.colors is None else [tuple(row) for row in found.colors.tolist()]
        assert colors == expected.colors, cloud
        stamp = cloud.header.stamp
        assert found.header.stamp_ns == stamp.sec * 10**9 + stamp.nanosec
        assert found.header.frame_id == cloud.header.frame_id
        check_copy(cloud, count, rng)
        outcome = "read" if colors is None else "colored"
    has_plain_xyz(cloud)
    assert repr(cloud) == before, "the message was changed"
    return outcome


def check_copy(cloud: OddCloud, count: int, rng: random.Random) -> None:
    """Some of the points, bit for bit, against slices of the bytes."""
    chosen = sorted(rng.sample(range(count), min(count, 2)))
    copied = copy_points(cloud, np.array(chosen, np.int64))
    pieces = []
    for index in chosen:
        start = index // cloud.width * cloud.row_step + index % cloud.width * cloud.point_step
        pieces.append(cloud.data[start : start + cloud.point_step])
    assert bytes(copied.data) == b"".join(pieces)
    assert (copied.height, copied.width) == (1, len(chosen))
    assert copied.fields == cloud.fields and copied.is_bigendian == cloud.is_bigendian
