"""`sas bench fusion` at a tiny size: what is compared does the same work."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from sas_training.bench import fusion
from sas_training.cli import main
from sas_training.fusion.multiview import FeatureSource, PixelFeatures, fuse_views
from sas_training.fusion.projection import Places, ProjectionSettings


def test_fusion_is_compared_with_an_alternative_and_two_floors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["bench", "fusion", "--points", "400", "--frames", "2", "--channels", "3"]
    assert main([*words, "--rounds", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["speedup"] == result["alternative_s"] / result["ours_s"]
    assert result["ratio_to_floor"] == result["ours_s"] / result["floor_s"] > 0
    assert result["ratio_to_file"] == result["from_files_s"] / result["file_s"] > 0
    assert 0 < result["projection_s"] < result["ours_s"] * 2
    assert (result["points"], result["frames"], result["channels"]) == (400, 2, 3)
    assert 0 < result["seen"] <= min(400, result["pairs"])


def test_the_alternative_gives_the_same_means_and_views_show_their_own_points() -> None:
    places, views = fusion._scene(500, 2, 0)
    maps = [torch.randn((240, 320, 4)).half() for _ in views]
    settings = ProjectionSettings()
    result = fuse_views(
        places,
        views,
        [FeatureSource("a", 4, lambda number: PixelFeatures(maps[number]))],
        settings,
    )
    means, mask = fusion.one_at_a_time(Places.of(torch.from_numpy(places)), views, maps, settings)
    found = result.features["a"]
    np.testing.assert_array_equal(found.mask, mask.numpy())
    np.testing.assert_allclose(found.features, means.numpy(), rtol=1e-3, atol=1e-4)
    # All points come out of these views; only what lies within 10 pixels of the edge is lost.
    assert found.mask.mean() == pytest.approx((300 * 220) / (320 * 240), abs=0.08)
