"""Readers of data sets, each on a made-up copy in the real layout, and on real data where given."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("PIL", reason="images are read with pillow, of the extra `training`")
from made_scenes import (
    CAMERA,
    POSES,
    SIZE,
    check_frame,
    fill_posed,
    make_matterport,
    make_openscene,
    make_replica,
    make_scannet,
    make_seven_scenes,
    pose_at,
    quaternion,
    render,
    save_depth,
    save_image,
    save_matrix,
    save_mesh,
    truncate,
    wall_points,
    write_tables,
)

from sas_ros.errors import SasError
from sas_training.evaluation.labels import MATTERPORT21, MATTERPORT160
from sas_training.scenes.fusing import color_agreement, projection_of
from sas_training.scenes.kinds import open_scenes
from sas_training.scenes.matterport import from_bottom
from sas_training.scenes.ply_faces import most_frequent, read_face_table
from sas_training.scenes.reading import SceneSettings
from sas_training.scenes.scene import Scene

ALL = SceneSettings(every=1)


def usable(scene: Scene) -> list[Any]:
    """Frames that can be read; each must be right."""
    found = []
    for number in range(len(scene.frames)):
        try:
            found.append(scene.frames[number])
        except SasError:
            continue
    return found


def reasons(scene: Scene) -> dict[str, str]:
    usable(scene)
    return scene.frames.skipped.reasons


# -------------------------------------------------------------------------------- 7-Scenes
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_seven_scenes(tmp_path: Path, suffix: str) -> None:
    make_seven_scenes(tmp_path / "kitchen", suffix)
    scenes = open_scenes("7scenes", tmp_path / "kitchen")
    assert scenes.names == ("kitchen",)
    scene = scenes[0]
    assert scene.frames.names == ("frame-000000", "frame-000001", "frame-000002")
    assert scene.up is None and scene.colors is not None
    for frame in usable(scene):
        check_frame(frame)
    assert np.abs(scene.points[:, 2] - 2.0).max() < 0.003


def test_seven_scenes_with_several_sequences_and_bad_frames(tmp_path: Path) -> None:
    folder = tmp_path / "office"
    make_seven_scenes(folder / "seq-02")
    make_seven_scenes(folder / "seq-01")
    truncate(folder / "seq-01" / "frame-000000.color.png")
    (folder / "seq-01" / "frame-000001.depth.png").unlink()
    save_matrix(folder / "seq-02" / "frame-000001.pose.txt", np.full((4, 4), -np.inf))
    (folder / "seq-02" / "frame-000002.pose.txt").write_text("1 0 0 0\n0 1")
    scenes = open_scenes("7scenes", folder)
    assert scenes.names == ("office_seq-01", "office_seq-02")
    with pytest.warns(RuntimeWarning, match="2 frames were skipped"):
        first, second = scenes[0], scenes[1]
    assert reasons(first) == {
        "frame-000000": "its image is damaged or cut off",
        "frame-000001": "its depth image is missing",
    }
    assert reasons(second) == {
        "frame-000001": "its pose is not 4 x 4 finite numbers",
        "frame-000002": "its pose is not a 4 x 4 matrix",
    }


def test_seven_scenes_with_a_colour_camera_of_its_own(tmp_path: Path) -> None:
    make_seven_scenes(tmp_path)
    fine = np.array([[50.0, 0, 33], [0, 50, 22.5], [0, 0, 1]])
    depth_to_color = pose_at(-0.04, 0.01, 0.02)
    for number, pose in enumerate(POSES):
        color_pose = pose @ np.linalg.inv(depth_to_color)
        save_image(tmp_path / f"frame-{number:06d}.color.png", render(color_pose, fine)[0])
    save_matrix(tmp_path / "estimated_color_intrinsics.txt", fine)
    save_matrix(tmp_path / "estimated_depth_to_color.txt", depth_to_color)
    scene = open_scenes("7scenes", tmp_path)[0]
    for frame in usable(scene):
        # A depth keeps its value and moves to the nearest pixel: half of one, on a slanted wall.
        check_frame(frame, tolerance=0.02, color=2.0, least=0.6)


def test_seven_scenes_with_the_camera_of_another_size(tmp_path: Path) -> None:
    make_seven_scenes(tmp_path)
    scan = tmp_path / "scan.ply"
    save_mesh(scan, np.array([[0, 1, 2]]))
    settings = SceneSettings(scan=scan)
    wide = np.array([[55.0, 0, 45.0], [0, 56, 34], [0, 0, 1]])  # inside the image of 64 x 48
    save_matrix(tmp_path / "camera-intrinsics.txt", wide)
    told = set(reasons(open_scenes("7scenes", tmp_path, settings)[0]).values())
    assert told == {"its image is 64 pixels wide, and camera-intrinsics.txt is for one of about 90"}
    save_matrix(tmp_path / "color-intrinsics.txt", CAMERA)
    told = set(reasons(open_scenes("7scenes", tmp_path, settings)[0]).values())
    assert told == {
        "its depth image is 64 pixels wide, and camera-intrinsics.txt is for one of about 90"
    }


@pytest.mark.parametrize("size", [(512, 384), (640, 480)])
def test_seven_scenes_own_camera_is_for_one_size(tmp_path: Path, size: tuple[int, int]) -> None:
    save_image(tmp_path / "frame-000000.color.png", np.zeros((*size[::-1], 3), np.uint8))
    save_depth(tmp_path / "frame-000000.depth.png", np.full(size[::-1], 2.0), 1000)
    save_matrix(tmp_path / "frame-000000.pose.txt", np.eye(4))
    save_mesh(tmp_path / "scan.ply", np.array([[0, 1, 2]]))
    scene = open_scenes("7scenes", tmp_path, SceneSettings(scan=tmp_path / "scan.ply"))[0]
    if size == (640, 480):
        assert scene.frames[0].intrinsics[0, 0] == 585
    else:
        (reason,) = reasons(scene).values()
        assert reason.startswith("its image has 512 x 384 pixels, and without camera-intrinsics")


def test_seven_scenes_settings(tmp_path: Path) -> None:
    make_seven_scenes(tmp_path)
    shutil.copy(tmp_path / "frame-000001.depth.png", tmp_path / "frame-000001.segm.png")
    settings = SceneSettings(every=2, size=(32, 24), depth_units=500.0, voxel=0.1)
    scene = open_scenes("7scenes", tmp_path, settings)[0]
    assert scene.frames.names == ("frame-000000", "frame-000002")
    frame = scene.frames[0]
    assert frame.image.shape == (24, 32, 3) and frame.depth is not None
    assert frame.depth == pytest.approx(4.0, abs=0.01)
    assert scene.label_set == "objects"
    whole = open_scenes("7scenes", tmp_path)[0]
    assert whole.frames[0].labels is None
    labels = whole.frames[1].labels
    assert labels is not None and labels.shape == (48, 64)
    with pytest.warns(RuntimeWarning, match="3 frames"), pytest.raises(SasError, match="labels"):
        truncate(tmp_path / "frame-000001.segm.png")
        (tmp_path / "frame-000000.pose.txt").unlink()
        (tmp_path / "frame-000002.pose.txt").unlink()
        open_scenes("7scenes", tmp_path)[0]


def test_a_scan_takes_the_place_of_the_built_cloud(tmp_path: Path) -> None:
    make_seven_scenes(tmp_path)
    save_mesh(tmp_path / "scan.ply", np.array([[0, 1, 2]]))
    scene = open_scenes("7scenes", tmp_path, SceneSettings(scan=tmp_path / "scan.ply"))[0]
    assert len(scene.points) == 400
    assert color_agreement(scene, projection_of("7scenes")).mean_error < 2
    with pytest.raises(SasError, match="cannot be read"):
        open_scenes("7scenes", tmp_path, SceneSettings(scan=tmp_path / "none.ply"))[0]


# -------------------------------------------------------------------------------- ScanNet
def test_scannet(tmp_path: Path) -> None:
    folder = make_scannet(tmp_path)
    for top in (tmp_path, tmp_path / "scans", folder):
        assert open_scenes("scannet", top).names == ("scene0042_00",)
    scene = open_scenes("scannet", tmp_path, ALL)[0]
    assert scene.frames.names == ("0", "10", "20")
    assert len(scene.points) == 400 and scene.up is not None
    assert scene.faces is not None and scene.faces.tolist() == [[0, 1, 20], [1, 21, 20]]
    assert scene.labels is None and scene.instances is None and scene.label_set == ""
    for frame in usable(scene):
        assert frame.image.shape == (48, 64, 3)
        check_frame(frame, tolerance=0.02)
    assert color_agreement(scene, projection_of("scannet")).mean_error < 3
    assert open_scenes("scannet", tmp_path)[0].frames.names == ("0",)  # every 20th


def label_mesh(path: Path, labels: np.ndarray[Any, Any]) -> None:
    points, _ = wall_points()
    rows = np.zeros(len(points), [("p", "<f4", 3), ("label", "<u2")])
    rows["p"], rows["label"] = points, labels
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz")
    path.write_bytes((head + "property ushort label\nend_header\n").encode() + rows.tobytes())


def test_scannet_labels_and_instances(tmp_path: Path) -> None:
    folder = make_scannet(tmp_path)
    label_mesh(folder / "scene0042_00_vh_clean_2.labels.ply", np.arange(400) % 45)
    segments = folder / "scene0042_00_vh_clean_2.0.010000.segs.json"
    segments.write_text(json.dumps({"segIndices": [n // 100 for n in range(400)]}))
    groups = [{"objectId": 0, "segments": [1, 3]}, {"objectId": 4, "segments": [2]}]
    (folder / "scene0042_00.aggregation.json").write_text(json.dumps({"segGroups": groups}))
    scene = open_scenes("scannet", tmp_path)[0]
    assert scene.label_set == "nyu40" and scene.labels is not None
    assert scene.labels[:46].tolist() == [255, *range(1, 41), 255, 255, 255, 255, 255]
    assert scene.instances is not None
    assert scene.instances[::100].tolist() == [0, 1, 5, 1]
    segments.write_text(json.dumps({"segIndices": [0, 1]}))
    with pytest.raises(SasError, match=r"2 entries and the mesh 400 vertices|do not fit together"):
        open_scenes("scannet", tmp_path)[0]


def test_scannet_with_things_missing(tmp_path: Path) -> None:
    folder = make_scannet(tmp_path)
    save_matrix(folder / "pose" / "0.txt", np.full((4, 4), -np.inf))
    (folder / "pose" / "10.txt").unlink()
    truncate(folder / "depth" / "20.png", 0.5)
    assert reasons(open_scenes("scannet", tmp_path, ALL)[0]) == {
        "0": "its pose is not 4 x 4 finite numbers",
        "10": "its pose is missing",
        "20": "its depth image is damaged or cut off",
    }
    wide = np.diag([500.0, 500, 1, 1])
    wide[:2, 2] = 200, 60
    save_matrix(folder / "intrinsic" / "intrinsic_color.txt", wide)
    save_matrix(folder / "pose" / "0.txt", POSES[0])
    told = reasons(open_scenes("scannet", tmp_path, ALL)[0])
    assert told["0"].endswith("128 pixels wide, and intrinsic_color.txt is for one of about 400")
    (folder / "intrinsic" / "intrinsic_color.txt").unlink()
    with pytest.raises(SasError, match=r"intrinsic_color.txt cannot be used: its camera matrix is"):
        open_scenes("scannet", tmp_path)[0]
    label_mesh(folder / "scene0042_00_vh_clean_2.labels.ply", np.zeros(400))
    save_mesh(folder / "scene0042_00_vh_clean_2.ply", np.array([[0, 1, 900]]))
    with pytest.raises(SasError):
        open_scenes("scannet", tmp_path)[0]
    (folder / "scene0042_00_vh_clean_2.ply").unlink()
    (folder / "scene0042_00_vh_clean_2.labels.ply").unlink()
    with pytest.raises(SasError, match=r"as exported from the \.sens file"):
        open_scenes("scannet", tmp_path)


# -------------------------------------------------------------------------------- OpenScene
def openscene_scannet(top: Path) -> Path:
    images = make_openscene(top, "scannet", "scene0042_00_vh_clean_2", "scene0042_00", 1000)
    camera = np.array([[57.787, 0, 31.5], [0, 57.787, 23.5], [0, 0, 1.0]])
    # The constants are for 640 x 480; ours has a tenth: (W - 1) / (W0 - 1) moves the centre.
    camera[0, 2], camera[1, 2] = 319.5 * 63 / 639, 239.5 * 47 / 479
    fill_posed(images, camera, SIZE, 1000, ["0", "20", "100"])
    return images


def test_scannet_of_openscene(tmp_path: Path) -> None:
    images = openscene_scannet(tmp_path)
    scene = open_scenes("scannet-openscene", tmp_path)[0]
    assert scene.name == "scene0042_00_vh_clean_2"
    assert scene.frames.names == ("0", "20", "100")
    for frame in usable(scene):
        check_frame(frame)
    points, colors = wall_points()
    assert scene.points == pytest.approx(points) and scene.colors is not None
    assert (scene.colors == colors).all()
    assert scene.labels is not None and scene.labels[:4].tolist() == [255, 1, 2, 0]
    assert scene.label_set == "scannet20"
    double = np.repeat(np.repeat(np.arange(48 * 64).reshape(48, 64) / 1000, 2, 0), 2, 1)
    save_depth(images / "depth" / "20.png", double, 1000)  # finer than the image
    frame = open_scenes("scannet-openscene", tmp_path)[0].frames[1]
    assert frame.depth is not None and frame.depth == pytest.approx(double[::2, ::2])


def test_label_sets_of_other_data_are_refused(tmp_path: Path) -> None:
    openscene_scannet(tmp_path / "a")
    make_scannet(tmp_path / "b")
    other = SceneSettings(labels="matterport160")
    for kind, folder in (("scannet-openscene", "a"), ("scannet", "b")):
        with pytest.raises(SasError, match=r"labels of their own set alone; 'matterport160'"):
            open_scenes(kind, tmp_path / folder, other)
    points, colors = wall_points()
    file = tmp_path / "c" / "matterport_3d" / "house_region0.pth"
    file.parent.mkdir(parents=True)
    torch.save((points, colors / 127.5 - 1, np.zeros(400, np.int32)), file)
    scenes = open_scenes("matterport-openscene", tmp_path / "c", other)
    assert scenes[0].label_set == "matterport160"
    with pytest.raises(SasError, match="'scannet20' is no label set of the kind matterport-open"):
        open_scenes("matterport-openscene", tmp_path / "c", SceneSettings(labels="scannet20"))


def test_tuples_that_are_none(tmp_path: Path) -> None:
    openscene_scannet(tmp_path)
    file = next(tmp_path.rglob("*.pth"))
    points, colors = wall_points()
    labels = np.zeros(400, np.int32)
    for content, said in [
        ((points, colors), "no scene: wanted is a tuple"),
        ({"points": points}, "no scene: wanted is a tuple"),
        ((points[:5], colors, labels), "points of .* and 400 labels"),
        ((points, colors[:5] / 255.0, labels), "colours of"),
        ((points, "red", labels), "colours of .* is not a plain array"),
    ]:
        torch.save(content, file)
        with pytest.raises(SasError, match=said):
            open_scenes("scannet-openscene", tmp_path)[0]
    torch.save((points, 0, labels), file)
    assert open_scenes("scannet-openscene", tmp_path)[0].colors is None
    torch.save((points, colors / 127.5 - 1, labels - 100), file)  # an old way to say ignored
    assert open_scenes("scannet-openscene", tmp_path)[0].labels is None
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(SasError, match="nothing of it was run"):
        open_scenes("scannet-openscene", tmp_path)[0]


class Harm:
    """A pickle of it would make a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_a_tuple_that_would_run_code_is_refused(tmp_path: Path) -> None:
    openscene_scannet(tmp_path)
    torch.save((Harm(str(tmp_path / "harm")), 0, 0), next(tmp_path.rglob("*.pth")))
    with pytest.raises(SasError, match="nothing of it was run"):
        open_scenes("scannet-openscene", tmp_path)[0]
    assert not (tmp_path / "harm").exists()


def test_matterport_of_openscene(tmp_path: Path) -> None:
    images = make_openscene(tmp_path, "matterport", "house_region3", "house", 4000)
    names = [f"abc_i1_{n}" for n in range(3)]
    fill_posed(images, CAMERA, SIZE, 4000, names)
    stored = np.array(CAMERA)
    stored[1, 2] = SIZE[1] - 1 - CAMERA[1, 2]
    for name in names:
        save_matrix(images / "intrinsic" / f"{name}.txt", stored)
    scene = open_scenes("matterport-openscene", tmp_path)[0]
    assert scene.name == "house_region3" and len(scene.frames) == 0  # all stand before the wall
    scene = open_scenes("matterport-openscene", tmp_path, SceneSettings(nearest=2))[0]
    # The last camera is 0.3 m nearer to the wall than the others.
    assert scene.frames.names == ("abc_i1_2", "abc_i1_0")
    for frame in usable(scene):
        check_frame(frame)
        assert frame.intrinsics == pytest.approx(CAMERA)
    assert scene.label_set == "matterport21"
    (images / "intrinsic" / "abc_i1_2.txt").unlink()
    assert reasons(scene)["abc_i1_2"] == "its camera matrix is missing"


def test_matterport_of_openscene_names_views_that_cannot_be_placed(tmp_path: Path) -> None:
    images = make_openscene(tmp_path, "matterport", "house_region3", "house", 4000)
    points, colors = wall_points()
    points[0] = (-1, -1, 0.1)  # now the box reaches to before the last camera only
    points[1] = np.nan
    file = next(tmp_path.rglob("*.pth"))
    torch.save((points, colors / 127.5 - 1, np.zeros(400, np.int32)), file)
    fill_posed(images, CAMERA, SIZE, 4000, [f"abc_i1_{n}" for n in range(3)])
    (images / "pose" / "abc_i1_0.txt").unlink()
    (images / "pose" / "abc_i1_1.txt").write_text("1 0 0\n")
    for name, x in (("abc_i2_0", np.nan), ("abc_i2_1", np.inf)):
        shutil.copy(images / "color" / "abc_i1_2.jpg", images / "color" / f"{name}.jpg")
        save_matrix(images / "pose" / f"{name}.txt", pose_at(x, 0))
    save_matrix(images / "pose" / "abc_i2_2.txt", POSES[2])
    save_matrix(images / "pose" / "abc_i2_3.txt", POSES[0])  # taken elsewhere
    (images / "color" / "._abc_i1_2.jpg").write_bytes(b"what another system leaves behind")
    for nearest in (0, 2):
        settings = SceneSettings(nearest=nearest)
        scene = open_scenes("matterport-openscene", tmp_path, settings)[0]
        assert scene.frames.names == ("abc_i1_2",)
        assert scene.frames.skipped.reasons == {
            "abc_i1_0": "its pose is missing",
            "abc_i1_1": "its pose is not a 4 x 4 matrix",
            "abc_i2_0": "its pose is not 4 x 4 finite numbers",
            "abc_i2_1": "its pose is not 4 x 4 finite numbers",
            "abc_i2_2": "its image is missing",
        }
    torch.save((points * np.nan, colors / 127.5 - 1, np.zeros(400, np.int32)), file)
    assert len(open_scenes("matterport-openscene", tmp_path)[0].frames) == 0


def test_replica_of_openscene(tmp_path: Path) -> None:
    images = make_openscene(tmp_path, "replica", "room0", "room0", 6553.5)
    # f 600 for 1200 x 680, simply scaled to 60 x 34; whole numbers are centres of pixels.
    camera = np.array([[30.0, 0, 29.5], [0, 30.0, 16.5], [0, 0, 1.0]])
    fill_posed(images, camera, (60, 34), 6553.5, ["0", "1", "2"])
    scene = open_scenes("replica-openscene", tmp_path)[0]
    for frame in usable(scene):
        assert frame.intrinsics == pytest.approx(camera)
        check_frame(frame)
    assert scene.labels is None and len(scene.frames) == 3


# -------------------------------------------------------------------------------- Matterport
def matterport(top: Path) -> Path:
    house = make_matterport(top)
    columns = {"material_id": [0, 0], "segment_id": [7, -1], "category_id": [4, -1]}
    faces = np.array([[0, 1, 20], [1, 21, 20]])
    for number in (0, 10):
        save_mesh(house / "region_segmentations" / f"region{number}.ply", faces, columns)
    return house


def test_matterport(tmp_path: Path) -> None:
    house = matterport(tmp_path)
    scenes = open_scenes("matterport", tmp_path)
    assert scenes.names == ("house_region0", "house_region10")
    assert open_scenes("matterport", house).names == scenes.names
    assert len(scenes[0].frames) == 0  # no camera is in the box of a flat wall
    scene = open_scenes("matterport", tmp_path, SceneSettings(nearest=3))[0]
    assert scene.frames.names == ("abc_i1_2", "abc_i1_0", "abc_i1_1")
    for frame in usable(scene):
        check_frame(frame, tolerance=0.001)
        assert frame.intrinsics == pytest.approx(CAMERA)
    assert scene.labels is None
    assert scene.instances is not None
    # Row 1 and 20 have a face with an object and one without: the lower number, 0, wins.
    assert scene.instances[[0, 1, 20, 21, 5]].tolist() == [8, 0, 0, 0, 0]


def test_the_principal_point_is_that_of_the_other_file() -> None:
    """One camera as the two files of the data set have it: from the bottom and from the top."""
    stored = np.array([[1076.45, 0, 631.116], [0, 1077.19, 509.202], [0, 0, 1]])
    assert from_bottom(stored, 1024)[1, 2] == pytest.approx(513.798)
    assert stored[1, 2] == 509.202


def reach_to_the_last_camera(region: Path) -> None:
    """Move one vertex, so that the box of the region has the last camera in it, and no other."""
    head, data = region.read_bytes().split(b"end_header\n", 1)
    vertices = np.frombuffer(data, np.uint8)[: 400 * 15].reshape(400, 15).copy()
    vertices[0, :12].view("<f4")[:] = (-1, -1, 0.1)
    region.write_bytes(head + b"end_header\n" + vertices.tobytes() + data[400 * 15 :])


def test_matterport_views_inside_the_box(tmp_path: Path) -> None:
    house = matterport(tmp_path)
    reach_to_the_last_camera(house / "region_segmentations" / "region0.ply")
    scene = open_scenes("matterport", tmp_path, SceneSettings(nearest=3))[0]
    assert scene.frames.names == ("abc_i1_2",)
    assert not len(scene.frames.skipped)


def test_matterport_names_views_that_cannot_be_placed(tmp_path: Path) -> None:
    house = matterport(tmp_path)
    reach_to_the_last_camera(house / "region_segmentations" / "region0.ply")
    color = house / "undistorted_color_images"
    conf = house / "undistorted_camera_parameters" / "house.conf"
    lines = [conf.read_text()]
    for number, pose in enumerate((pose_at(np.nan, 0), pose_at(-np.inf, 0), POSES[2], POSES[0])):
        words = " ".join(map(repr, pose.ravel().tolist()))
        lines.append(f"scan abc_d2_{number}.png abc_i2_{number}.jpg {words}")
        if number < 2:
            shutil.copy(color / "abc_i1_2.jpg", color / f"abc_i2_{number}.jpg")
    conf.write_text("\n".join(lines))
    shutil.copy(color / "abc_i1_2.jpg", color / "abc_i2_4.jpg")
    unplaced = {
        "abc_i2_0": "its pose is not 4 x 4 finite numbers",
        "abc_i2_1": "its pose is not 4 x 4 finite numbers",
        "abc_i2_4": "its pose is missing",
    }
    first, flat = open_scenes("matterport", tmp_path)
    assert first.frames.names == ("abc_i1_2",) and flat.frames.names == ()
    # The last view of the file has no image either, but was not taken in the region.
    assert first.frames.skipped.reasons == {**unplaced, "abc_i2_2": "its image is missing"}
    assert flat.frames.skipped.reasons == unplaced
    flat = open_scenes("matterport", tmp_path, SceneSettings(nearest=3))[1]
    assert flat.frames.names == ("abc_i1_2", "abc_i1_0", "abc_i1_1")
    (camera,) = (line for line in lines[0].splitlines() if line.startswith("intrinsics"))
    conf.write_text(conf.read_text().replace(camera, ""))
    with pytest.raises(SasError, match=r"Line 7 of .*house.conf is damaged \(no intrinsics"):
        open_scenes("matterport", tmp_path)[0]


def test_matterport_labels_go_through_the_category_table(tmp_path: Path) -> None:
    matterport(tmp_path)
    table = "index\traw_category\tnyu40id\n1\twall\t1\n4\tchair\t5\n9\tvoid\t\n"
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "category_mapping.tsv").write_text(table)
    scene = open_scenes("matterport", tmp_path)[0]
    assert scene.label_set == "nyu40" and scene.labels is not None
    assert scene.labels[[0, 21, 5]].tolist() == [5, 255, 255]
    table = "index\tnyuClass\tnyu40id\n1\twall\t1\n4\tottoman\t5\n9\tvoid\t\n"
    (tmp_path / "metadata" / "category_mapping.tsv").write_text(table)
    for name, expected in (
        ("matterport21", MATTERPORT21.names.index("chair")),
        ("matterport160", MATTERPORT160.names.index("ottoman")),
        ("matterport40", 255),
    ):
        scene = open_scenes("matterport", tmp_path, SceneSettings(labels=name))[0]
        assert scene.label_set == name and scene.labels is not None
        assert scene.labels[[0, 21, 5]].tolist() == [expected, 255, 255]
    with pytest.raises(SasError, match="moon"):
        open_scenes("matterport", tmp_path, SceneSettings(labels="moon"))[0]
    (tmp_path / "metadata" / "category_mapping.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(SasError, match="should have columns index and nyu40id"):
        open_scenes("matterport", tmp_path)[0]


def test_matterport_with_things_missing(tmp_path: Path) -> None:
    house = matterport(tmp_path)
    (house / "undistorted_depth_images" / "abc_d1_0.png").unlink()
    truncate(house / "undistorted_color_images" / "abc_i1_1.jpg")
    scene = open_scenes("matterport", tmp_path, SceneSettings(nearest=3))[0]
    assert reasons(scene) == {
        "abc_i1_0": "its depth image is missing",
        "abc_i1_1": "its image is damaged or cut off",
    }
    (house / "undistorted_color_images" / "abc_i1_2.jpg").unlink()
    scene = open_scenes("matterport", tmp_path, SceneSettings(nearest=3))[0]
    assert scene.frames.names == ("abc_i1_0", "abc_i1_1")
    assert scene.frames.skipped.reasons == {"abc_i1_2": "its image is missing"}
    conf = house / "undistorted_camera_parameters" / "house.conf"
    conf.write_text(conf.read_text()[:-40])
    with pytest.raises(SasError, match=r"Line 9 of .*house.conf is damaged"):
        open_scenes("matterport", tmp_path)[0]
    conf.write_text("dataset matterport\n")
    with pytest.raises(SasError, match="names no image"):
        open_scenes("matterport", tmp_path)[0]
    conf.unlink()
    with pytest.raises(SasError, match="cannot be read"):
        open_scenes("matterport", tmp_path)[0]


def test_faces_and_their_columns(tmp_path: Path) -> None:
    faces = np.array([[0, 1, 2], [2, 1, 3]])
    save_mesh(tmp_path / "m.ply", faces, {"category_id": [3, -1], "other": [10, 11]})
    table = read_face_table(tmp_path / "m.ply")
    assert table is not None and table.corners.tolist() == faces.tolist()
    assert {k: v.tolist() for k, v in table.columns.items()} == {
        "category_id": [3, -1],
        "other": [10, 11],
    }
    (tmp_path / "more.ply").write_bytes((tmp_path / "m.ply").read_bytes() + b"\x00" * 5)
    with pytest.raises(SasError, match="not the last thing"):
        read_face_table(tmp_path / "more.ply")
    save_mesh(tmp_path / "none.ply", np.zeros((0, 3), np.int64))
    assert read_face_table(tmp_path / "none.ply") is None


def test_votes_of_faces() -> None:
    faces = np.array([[0, 1, 2], [0, 1, 3], [0, 2, 3], [0, 1, 4]])
    values = np.array([7, 7, 2, 2])
    # 0: two of each, the lower; 1: 7 twice; 2: one each, the lower; 5: no face.
    assert most_frequent(faces, values, 6).tolist() == [2, 7, 2, 2, 2, 0]


# -------------------------------------------------------------------------------- Replica
def test_replica(tmp_path: Path) -> None:
    folder = make_replica(tmp_path)
    assert open_scenes("replica", folder).names == ("room0",)
    scene = open_scenes("replica", tmp_path, ALL)[0]
    assert scene.frames.names == ("frame000000", "frame000001", "frame000002")
    for frame in usable(scene):
        check_frame(frame, tolerance=0.001)
    assert scene.faces is not None and len(scene.points) == 400
    assert open_scenes("replica", tmp_path)[0].frames.names == ("frame000000",)  # every 10th
    (folder / "results" / "depth000001.png").unlink()
    assert reasons(open_scenes("replica", tmp_path, ALL)[0]) == {
        "frame000001": "its depth image is missing"
    }


def test_replicas_poses_go_by_the_numbers_of_the_images(tmp_path: Path) -> None:
    folder = make_replica(tmp_path)
    for name in ("frame000000.jpg", "depth000000.png"):
        (folder / "results" / name).unlink()
    scene = open_scenes("replica", tmp_path, ALL)[0]
    assert scene.frames.names == ("frame000001", "frame000002")
    assert scene.frames[0].pose == pytest.approx(POSES[1])
    for frame in usable(scene):
        check_frame(frame, tolerance=0.001)
    shutil.copy(folder / "results" / "frame000001.jpg", folder / "results" / "front.jpg")
    with pytest.raises(SasError, match="has no number that says which pose"):
        open_scenes("replica", tmp_path)[0]


def test_replica_without_its_camera_file_and_with_damage(tmp_path: Path) -> None:
    folder = make_replica(tmp_path)
    (tmp_path / "cam_params.json").unlink()
    frame = open_scenes("replica", tmp_path, ALL)[0].frames[0]
    assert frame.intrinsics[0, 0] == pytest.approx(600 * SIZE[0] / 1200)
    (tmp_path / "cam_params.json").write_text('{"camera": {"w": 3}}')
    with pytest.raises(SasError, match="should hold w, h, fx"):
        open_scenes("replica", tmp_path)[0]
    (tmp_path / "cam_params.json").unlink()
    np.savetxt(folder / "traj.txt", np.stack(POSES[:2]).reshape(-1, 16))
    with pytest.raises(SasError, match="an image numbered 2, but 2 poses"):
        open_scenes("replica", tmp_path)[0]
    (folder / "traj.txt").write_text("1 2 3\n")
    with pytest.raises(SasError, match="16 numbers in each line"):
        open_scenes("replica", tmp_path)[0]


# -------------------------------------------------------------------------------- nuScenes
LIDAR_TO_VEHICLE = pose_at(0.9, 0.0, 0.0, 1.8)


def vehicle_at(x: float) -> np.ndarray[Any, Any]:
    """A vehicle far from the map's origin, turned about z, moving along map x."""
    c, s = np.cos(0.5), np.sin(0.5)
    return np.array([[c, -s, 0, 1000 + x], [s, c, 0, 600], [0, 0, 1, 1], [0, 0, 0, 1.0]])


def row_of(token: str, pose: np.ndarray[Any, Any], **more: Any) -> dict[str, Any]:
    turn, where = quaternion(pose), pose[:3, 3].tolist()
    return {"token": token, "translation": where, "rotation": turn, **more}


def make_nuscenes(top: Path) -> Path:
    """One key frame of a vehicle that moves 1 m between sweeps; points are fixed in the map."""
    rng = np.random.default_rng(0)
    world = rng.uniform(-5, 5, (50, 3))  # seen from the vehicle at the key frame
    camera_to_vehicle = np.array([[0, 0, 1, 1.5], [-1, 0, 0, 0.1], [0, -1, 0, 1.5], [0, 0, 0, 1.0]])
    tables: dict[str, list[dict[str, Any]]] = {
        "scene": [{"token": "s", "name": "scene-0061", "first_sample_token": "k"}],
        "sample": [{"token": "k", "next": "", "prev": ""}],
        "sensor": [
            {"token": "l", "channel": "LIDAR_TOP"},
            {"token": "c", "channel": "CAM_FRONT"},
            {"token": "r", "channel": "RADAR_FRONT"},
        ],
        "calibrated_sensor": [
            row_of("cl", LIDAR_TO_VEHICLE, sensor_token="l", camera_intrinsic=[]),
            row_of("cc", camera_to_vehicle, sensor_token="c", camera_intrinsic=CAMERA.tolist()),
            row_of("cr", np.eye(4), sensor_token="r", camera_intrinsic=[]),
        ],
        "ego_pose": [],
        "sample_data": [],
        "lidarseg": [{"token": "x", "sample_data_token": "d2", "filename": "lidarseg/d2.bin"}],
    }
    to_map = vehicle_at(2.0) @ np.c_[world, np.ones(50)].T
    for number, stamp in enumerate((0, 300_000, 600_000)):
        vehicle = vehicle_at(float(number))
        seen = (np.linalg.inv(vehicle @ LIDAR_TO_VEHICLE) @ to_map).T[:, :3]
        file = top / "sweeps" / "LIDAR_TOP" / f"{number}.pcd.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.c_[seen, np.ones((50, 2))].astype("<f4").tofile(file)
        tables["ego_pose"].append(row_of(f"e{number}", vehicle))
        tables["sample_data"].append(
            {
                "token": f"d{number}",
                "sample_token": "k",
                "ego_pose_token": f"e{number}",
                "calibrated_sensor_token": "cl",
                "filename": f"sweeps/LIDAR_TOP/{number}.pcd.bin",
                "timestamp": stamp,
                "is_key_frame": number == 2,
                "prev": f"d{number - 1}",
            }
        )
    tables["ego_pose"].append(row_of("ec", vehicle_at(2.2)))
    for token, sensor in (("dc", "cc"), ("dr", "cr")):
        tables["sample_data"].append(
            {
                "token": token,
                "sample_token": "k",
                "ego_pose_token": "ec",
                "timestamp": 620_000,
                "calibrated_sensor_token": sensor,
                "filename": "samples/CAM_FRONT/a.jpg",
                "is_key_frame": True,
                "prev": "",
            }
        )
    save_image(top / "samples" / "CAM_FRONT" / "a.jpg", render(POSES[0])[0])
    (top / "lidarseg").mkdir()
    (np.arange(50) % 32).astype(np.uint8).tofile(top / "lidarseg" / "d2.bin")
    write_tables(top / "v1.0-mini", tables)
    return top


def test_nuscenes(tmp_path: Path) -> None:
    make_nuscenes(tmp_path)
    scenes = open_scenes("nuscenes", tmp_path)
    assert scenes.names == ("scene-0061_00",)
    assert open_scenes("nuscenes", tmp_path / "v1.0-mini").names == scenes.names
    scene = scenes[0]
    world = np.random.default_rng(0).uniform(-5, 5, (50, 3))
    # 0.5 s reach back to the second sweep; points that stand still coincide, whatever moved.
    assert scene.points == pytest.approx(np.concatenate([world, world]), abs=1e-3)
    assert scene.labels is not None and scene.label_set == "nuscenes32"
    assert scene.labels.tolist() == [*(np.arange(50) % 32).tolist(), *[255] * 50]
    (frame,) = usable(scene)
    assert (frame.name, frame.stamp_ns, frame.depth) == ("CAM_FRONT", 620_000_000, None)
    # 0.2 m farther along map x, which the vehicle's turn by 0.5 rad takes apart.
    shift = 0.2 * np.array([np.cos(0.5), -np.sin(0.5), 0])
    assert frame.pose[:3, 3] == pytest.approx((shift[0] + 1.5, shift[1] + 0.1, 1.5), abs=1e-6)
    assert frame.pose[:3, 2] == pytest.approx([1, 0, 0], abs=1e-6)  # it looks ahead
    for window, count in ((0.0, 50), (0.3, 100), (10.0, 150)):
        settings = SceneSettings(window=window)
        assert len(open_scenes("nuscenes", tmp_path, settings)[0].points) == count


def test_nuscenes_with_things_missing(tmp_path: Path) -> None:
    make_nuscenes(tmp_path)
    truncate(tmp_path / "samples" / "CAM_FRONT" / "a.jpg")
    assert reasons(open_scenes("nuscenes", tmp_path)[0]) == {
        "CAM_FRONT": "its image is damaged or cut off"
    }
    np.zeros(7, np.uint8).tofile(tmp_path / "lidarseg" / "d2.bin")
    with pytest.raises(SasError, match="has 7 labels and the sweep 50"):
        open_scenes("nuscenes", tmp_path)[0]
    (tmp_path / "lidarseg" / "d2.bin").unlink()
    with pytest.raises(SasError, match=r"The labels .*d2.bin cannot be read \(No such file"):
        open_scenes("nuscenes", tmp_path)[0]
    (tmp_path / "v1.0-mini" / "lidarseg.json").unlink()
    assert open_scenes("nuscenes", tmp_path)[0].labels is None
    (tmp_path / "sweeps" / "LIDAR_TOP" / "2.pcd.bin").unlink()
    with pytest.raises(SasError, match=r"2.pcd.bin cannot be read"):
        open_scenes("nuscenes", tmp_path)[0]
    (tmp_path / "v1.0-mini" / "ego_pose.json").write_text("[]")
    with pytest.raises(SasError, match="lack 'e2' for scene-0061_00"):
        open_scenes("nuscenes", tmp_path)[0]
    (tmp_path / "v1.0-mini" / "ego_pose.json").write_text("{")
    with pytest.raises(SasError, match=r"ego_pose.json cannot be read"):
        open_scenes("nuscenes", tmp_path)[0]
    shutil.copytree(tmp_path / "v1.0-mini", tmp_path / "v1.0-test")
    with pytest.raises(SasError, match="of several versions give the folder of one"):
        open_scenes("nuscenes", tmp_path)


@pytest.mark.parametrize(
    ("table", "column"),
    [("sample", "token"), ("scene", "name"), ("scene", "first_sample_token")],
)
def test_nuscenes_with_rows_that_cannot_be_told_apart(
    tmp_path: Path, table: str, column: str
) -> None:
    file = make_nuscenes(tmp_path) / "v1.0-mini" / f"{table}.json"
    rows = json.loads(file.read_text())
    file.write_text(json.dumps([*rows, {k: v for k, v in rows[0].items() if k != column}]))
    with pytest.raises(
        SasError, match=rf"Row 2 of the nuScenes table .*{table}.json has no '{column}'"
    ):
        open_scenes("nuscenes", tmp_path)
    file.write_text("[]")
    with pytest.raises(SasError, match="name no key frame"):
        open_scenes("nuscenes", tmp_path)


def test_nuscenes_with_damaged_rows(tmp_path: Path) -> None:
    folder = make_nuscenes(tmp_path) / "v1.0-mini"
    poses = json.loads((folder / "ego_pose.json").read_text())
    for column, value in (
        ("rotation", [1, 0, 0]),
        ("rotation", [0, 0, 0, 0]),
        ("translation", [1.0]),
        ("translation", [1, float("nan"), 0]),
        ("translation", None),
    ):
        for number, token in ((2, "e2"), (3, "ec")):  # of the lidar, of the camera
            damaged = [dict(row) for row in poses]
            damaged[number][column] = value
            (folder / "ego_pose.json").write_text(json.dumps(damaged))
            said = (
                f"row '{token}' of ego_pose.json has no rotation of four numbers and translation "
                "of three"
            )
            if token == "e2":
                with pytest.raises(SasError, match=f"v1.0-mini are damaged for scene.*: {said}"):
                    open_scenes("nuscenes", tmp_path)[0]
            else:
                told = reasons(open_scenes("nuscenes", tmp_path)[0])
                assert told == {"CAM_FRONT": f"its tables are damaged ({said})"}
    (folder / "ego_pose.json").write_text(json.dumps(poses[:3]))
    assert reasons(open_scenes("nuscenes", tmp_path)[0]) == {"CAM_FRONT": "its tables lack 'ec'"}
    (folder / "ego_pose.json").write_text(json.dumps(poses))
    sensors = json.loads((folder / "calibrated_sensor.json").read_text())
    sensors[1]["camera_intrinsic"] = []
    (folder / "calibrated_sensor.json").write_text(json.dumps(sensors))
    assert reasons(open_scenes("nuscenes", tmp_path)[0]) == {
        "CAM_FRONT": "its camera matrix is not a 3 x 3 matrix"
    }


# -------------------------------------------------------------------------------- rooms
def make_rooms(folder: Path) -> Path:
    """A room in the format of docs/formats.md."""
    points, colors = wall_points()
    (folder / "rooms").mkdir(parents=True)
    (folder / "frames").mkdir()
    np.savez(
        folder / "rooms" / "room-000003.npz",
        points=points,
        labels=np.full(400, 7, np.uint8),
        instances=np.full(400, 2, np.uint16),
        colors=colors,
        names=np.array(["structure", "a", "b"]),
    )
    for number, pose in enumerate(POSES):
        image, depth = render(pose)
        np.savez_compressed(
            folder / "frames" / f"room-000003-frame{number}.npz",
            color=image,
            depth=np.rint(depth * 1000).astype(np.uint16),
            labels=np.full(depth.shape, 7, np.uint8),
            instances=np.full(depth.shape, 2, np.uint16),
            pose=pose,
            intrinsics=CAMERA,
            names=np.array(["structure", "a", "b"]),
        )
    return folder


def test_generated_rooms(tmp_path: Path) -> None:
    make_rooms(tmp_path)
    scene = open_scenes("rooms", tmp_path)[0]
    assert scene.name == "room-000003" and scene.label_set == "scannet20"
    assert scene.labels is not None and (scene.labels == 7).all()
    assert scene.instances is not None and (scene.instances == 2).all()
    found = usable(scene)
    assert [frame.name for frame in found] == [f"room-000003-frame{n}" for n in range(3)]
    for frame in found:
        check_frame(frame)
        assert (frame.labels == 7).all() and (frame.instances == 2).all()
    settings = SceneSettings(size=(32, 24), far=1.9, most=1)
    (frame,) = usable(open_scenes("rooms", tmp_path, settings)[0])
    assert frame.labels.shape == frame.depth.shape == (24, 32)
    assert not frame.depth.any()  # the wall is farther
    truncate(tmp_path / "frames" / "room-000003-frame1.npz")
    with np.load(tmp_path / "frames" / "room-000003-frame2.npz") as stored:
        np.savez(tmp_path / "frames" / "room-000003-frame2.npz", color=stored["color"])
    told = reasons(open_scenes("rooms", tmp_path)[0])
    assert told.keys() == {"room-000003-frame1", "room-000003-frame2"}
    assert set(told.values()) == {"it is no frame of a generated room: it is damaged or cut off"}


# -------------------------------------------------------------------------------- real data
def test_the_real_kitchen(test_data: Path) -> None:
    folder = test_data / "rgbd_7scenes_redkitchen"
    settings = SceneSettings(every=10, scan=folder / "fused_cloud.ply")
    scene = open_scenes("7scenes", folder, settings)[0]
    assert len(scene.frames) == 10 and len(scene.points) == 128_262
    found = color_agreement(scene, projection_of("7scenes"))
    assert not len(scene.frames.skipped)
    assert found.seen > 0.7 and found.mean_error < 16  # 100 frames: 7.9; 20: 11.0
    wrong = SceneSettings(every=50)  # the depth camera's numbers for both
    frame = open_scenes("7scenes", folder, wrong)[0].frames[0]
    assert frame.intrinsics[0, 0] == pytest.approx(526.5)


def test_the_real_shelf(test_data: Path) -> None:
    settings = SceneSettings(depth_units=10_000, far=1.0, voxel=0.004, every=5)
    scene = open_scenes("7scenes", test_data / "rgbd_apc_shelf_labelled", settings)[0]
    frames = usable(scene)
    assert len(frames) == 3 and scene.label_set == "objects"
    assert set(np.unique(frames[0].labels)) <= {0, 48, 114, 132, 144}
    assert frames[0].intrinsics[0, 0] == pytest.approx(615.195, abs=1e-3)
    assert 0.2 < (frames[0].depth > 0).mean() < 0.35 and frames[0].depth.max() <= 1
    assert np.ptp(scene.points, axis=0).max() < 1.5
    assert color_agreement(scene, projection_of("7scenes")).mean_error < 15


def test_the_real_street(test_data: Path, tmp_path: Path) -> None:
    """The tables are made of the frame's calibration; files are those of nuScenes."""
    folder = test_data / "nuscenes_frame_a"
    said = json.loads((folder / "calib.json").read_text())

    def row(token: str, pose: Any, **more: Any) -> dict[str, Any]:
        return row_of_matrix(token, np.asarray(pose, float), **more)

    to_global, lidar = np.array(said["ego2global"]), np.array(said["lidar_points"]["lidar2ego"])
    stamp = int(said["timestamp"] * 1e6)
    data = {
        "token": "lidar", "sample_token": "k", "ego_pose_token": "e", "prev": "",
        "timestamp": stamp,
        "calibrated_sensor_token": "cl", "filename": said["lidar_points"]["lidar_path"],
        "is_key_frame": True,
    }  # fmt: skip
    tables: dict[str, list[dict[str, Any]]] = {
        "scene": [{"token": "s", "name": "scene-0061", "first_sample_token": "k"}],
        "sample": [{"token": "k", "next": ""}],
        "sensor": [{"token": "l", "channel": "LIDAR_TOP"}],
        "calibrated_sensor": [row("cl", lidar, sensor_token="l", camera_intrinsic=[])],
        "ego_pose": [row("e", to_global)],
        "sample_data": [data],
    }
    for name, one in said["images"].items():
        mounted = np.array(one["cam2ego"])
        # lidar2cam holds how far the vehicle moved; from it follows where the vehicle was.
        camera_to_lidar = np.linalg.inv(np.array(one["lidar2cam"]))
        vehicle = to_global @ lidar @ camera_to_lidar @ np.linalg.inv(mounted)
        tables["sensor"].append({"token": name, "channel": name})
        tables["calibrated_sensor"].append(
            row_of_matrix(f"c{name}", mounted, sensor_token=name, camera_intrinsic=one["cam2img"])
        )
        tables["ego_pose"].append(row_of_matrix(f"e{name}", vehicle))
        tables["sample_data"].append(
            {
                **data,
                "token": name,
                "ego_pose_token": f"e{name}",
                "filename": one["img_path"],
                "calibrated_sensor_token": f"c{name}",
            }
        )
    write_tables(tmp_path / "v1.0-mini", tables)
    for file in folder.glob("n015*"):
        (tmp_path / file.name).symlink_to(file)
    scene = open_scenes("nuscenes", tmp_path)[0]
    assert len(scene.points) == 34_688 and len(scene.frames) == 6
    sweep = np.fromfile(next(folder.glob("*LIDAR_TOP*")), "<f4").reshape(-1, 5)[:, :3]
    for frame in usable(scene):
        assert frame.image.shape == (900, 1600, 3)
        one = said["images"][frame.name]
        there = np.array(one["lidar2cam"])
        expected = (sweep @ there[:3, :3].T + there[:3, 3]) @ np.array(one["cam2img"]).T
        inverse = np.linalg.inv(frame.pose)
        found = (scene.points @ inverse[:3, :3].T + inverse[:3, 3]) @ frame.intrinsics.T
        ahead = expected[:, 2] > 2
        pixels = expected[ahead, :2] / expected[ahead, 2:]
        error = found[ahead, :2] / found[ahead, 2:] - pixels
        inside = (np.abs(pixels - (800, 450)) < (800, 450)).all(1)
        assert inside.sum() > 1000
        assert np.abs(error[inside]).max() < 0.5


def row_of_matrix(token: str, pose: np.ndarray[Any, Any], **more: Any) -> dict[str, Any]:
    """As `row_of`, for any rotation: the quaternion is the eigenvector of its symmetric form."""
    r = pose[:3, :3]
    form = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], 0, 0, 0],
            [r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], 0, 0],
            [r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1], 0],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], np.trace(r)],
        ]
    )
    x, y, z, w = np.linalg.eigh(form / 3)[1][:, -1]
    return {"token": token, "translation": pose[:3, 3].tolist(), "rotation": [w, x, y, z], **more}
