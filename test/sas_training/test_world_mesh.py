"""Meshes of generated rooms."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from sas_ros.errors import SasError
from sas_ros.scans import read_scan
from sas_training.cli import main
from sas_training.scenes.procedural.dataset import room_path, write_dataset
from sas_training.scenes.procedural.mesh import (
    LabelledMesh,
    mesh_path,
    scan_mesh,
    write_mesh,
)
from sas_training.scenes.procedural.rays import RoomRays
from sas_training.scenes.procedural.rooms import make_room
from sas_training.scenes.procedural.shading import Shading
from sas_training.superpoints.meshes import read_faces


def mesh_of(seed: int) -> tuple[LabelledMesh, RoomRays]:
    pytest.importorskip("open3d", reason="meshes are fused with Open3D")
    rays = RoomRays(make_room(np.random.default_rng(seed)))
    shading = Shading(rays, np.random.default_rng((seed, 2)))
    return scan_mesh(rays, shading, np.random.default_rng((seed, 5))), rays


def test_the_mesh_of_a_room_lies_on_its_surfaces_and_is_labelled_by_them() -> None:
    mesh, rays = mesh_of(3)
    assert len(mesh.vertices) > 5_000 and len(mesh.faces) > 8_000
    assert mesh.faces.min() == 0 and mesh.faces.max() == len(mesh.vertices) - 1
    assert len(mesh.labels) == len(mesh.instances) == len(mesh.colors) == len(mesh.vertices)
    # From a place in the room, rays towards vertices end at them, or before what is in the way.
    camera = np.median(mesh.vertices, axis=0)
    towards = mesh.vertices[::50] - camera
    length = np.linalg.norm(towards, axis=1)
    hits = rays.cast(camera.astype(np.float32), (towards / length[:, None]).astype(np.float32))
    met = hits.thing >= 0
    near = met & (np.abs(hits.distance - length) < 0.1)
    assert near.sum() > 100
    assert (rays.labels[hits.thing[near]] == mesh.labels[::50][near]).mean() > 0.8
    # Triangles are of neighbouring voxels.
    sides = mesh.vertices[mesh.faces] - mesh.vertices[np.roll(mesh.faces, 1, axis=1)]
    assert np.linalg.norm(sides, axis=2).max() < 0.12
    floor = mesh.vertices[mesh.labels == 1]
    assert abs(float(np.median(floor[:, 2]))) < 0.05


def test_a_mesh_is_the_same_for_the_same_seed_and_is_read_back(tmp_path: Path) -> None:
    mesh, _ = mesh_of(4)
    write_mesh(tmp_path / "one.ply", mesh)
    write_mesh(tmp_path / "two.ply", mesh_of(4)[0])
    assert (tmp_path / "one.ply").read_bytes() == (tmp_path / "two.ply").read_bytes()
    cloud = read_scan(tmp_path / "one.ply")
    assert np.array_equal(cloud.points, mesh.vertices)
    assert cloud.colors is not None and np.array_equal(cloud.colors, mesh.colors)
    faces = read_faces(tmp_path / "one.ply")
    assert faces is not None and np.array_equal(faces, mesh.faces)


def test_meshes_are_added_to_rooms_that_are_there(tmp_path: Path) -> None:
    pytest.importorskip("open3d", reason="meshes are fused with Open3D")
    write_dataset(tmp_path, 1, seed=6, workers=1)
    before = room_path(tmp_path, 0).read_bytes()
    command = ["world", "make", "-o", str(tmp_path), "--rooms", "1", "--seed", "6"]
    assert main([*command, "--workers", "1", "--mesh"]) == 0
    assert room_path(tmp_path, 0).read_bytes() == before
    made = mesh_path(tmp_path, 0)
    assert made.is_file()
    stamp = made.stat().st_mtime_ns
    assert write_dataset(tmp_path, 1, seed=6, workers=1, mesh=True) == 0
    assert made.stat().st_mtime_ns == stamp


def test_without_open3d_a_sentence_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    rays = RoomRays(make_room(np.random.default_rng(3)), engine="numpy")
    shading = Shading(rays, np.random.default_rng(2))
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(SasError, match="install the extra"):
        scan_mesh(rays, shading, np.random.default_rng(5))
