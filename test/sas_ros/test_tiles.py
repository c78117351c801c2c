"""Tiles: every voxel once, never more than allowed, cut where the network's coarsest cells end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_ros.student.minkunet import minkunet14a, minkunet18a, minkunet34c
from sas_ros.tiles import BLOCK, rim_of, tiles


def filled(*sides: int, low: int = 0) -> np.ndarray:
    """(M, 4) int32 coordinates of a filled block."""
    grid = np.stack(np.meshgrid(*(np.arange(side) for side in sides), indexing="ij"), axis=-1)
    cells = grid.reshape(-1, 3) + low
    return np.concatenate([np.zeros_like(cells[:, :1]), cells], axis=1).astype(np.int32)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    seed=st.integers(0, 1000),
    spread=st.integers(1, 200),
    most=st.integers(BLOCK**3, 3 * BLOCK**3),
    rim=st.sampled_from([0, 16, 32]),
)
def test_cores_are_every_voxel_once(seed: int, spread: int, most: int, rim: int) -> None:
    rng = np.random.default_rng(seed)
    cells = np.unique(rng.integers(-spread, spread, (20_000, 3)), axis=0)
    coordinates = np.c_[np.zeros(len(cells)), cells].astype(np.int32)
    owners = np.zeros(len(cells), dtype=int)
    for tile in tiles(coordinates, most, rim):
        assert len(tile.rows) <= most
        assert (np.diff(tile.rows) > 0).all()
        owners[tile.rows[tile.core]] += 1
    assert (owners == 1).all()


def test_cuts_and_rims_end_where_blocks_end() -> None:
    coordinates = filled(150, 90, 20, low=-37)
    for tile in tiles(coordinates, 150_000, 32):
        for rows in (tile.rows, tile.rows[tile.core]):
            blocks, counts = np.unique(coordinates[rows, 1:] // BLOCK, axis=0, return_counts=True)
            everywhere, all_counts = np.unique(
                coordinates[:, 1:] // BLOCK, axis=0, return_counts=True
            )
            sizes = dict(zip(map(tuple, everywhere), all_counts, strict=True))
            assert all(sizes[tuple(b)] == n for b, n in zip(blocks, counts, strict=True))


def test_a_tile_sees_the_rim_around_its_core() -> None:
    coordinates = filled(320, 32, 16)
    found = list(tiles(coordinates, 80_000, 32))
    assert len(found) > 1
    for tile in found:
        x, core = coordinates[tile.rows, 1], coordinates[tile.rows[tile.core], 1]
        assert x.min() == max(core.min() - 32, 0) and x.max() == min(core.max() + 32, 319)


def test_rims_get_narrower_before_tiles_get_tiny() -> None:
    coordinates = filled(160, 160, 48)
    found = list(tiles(coordinates, 60_000, 32))
    assert max(len(tile.rows) for tile in found) <= 60_000
    assert sum(len(tile.rows) for tile in found) < 6 * len(coordinates)


def test_deeper_networks_look_further() -> None:
    assert [rim_of(make()) for make in (minkunet14a, minkunet18a, minkunet34c)] == [32, 64, 96]


@pytest.mark.parametrize("most", [BLOCK**3, 10**6])
def test_far_apart_pieces_are_fine(most: int) -> None:
    coordinates = np.concatenate([filled(20, 20, 3), filled(20, 20, 3, low=2**19)])
    owners = np.zeros(len(coordinates), dtype=int)
    for tile in tiles(coordinates, most, 32):
        owners[tile.rows[tile.core]] += 1
    assert (owners == 1).all()
