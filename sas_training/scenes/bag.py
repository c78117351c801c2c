"""A recording of a robot (ROS 1 or ROS 2 bag) as a scene, without ROS.

    sensor_msgs Image, CompressedImage     colour; depth (16UC1 in mm, 32FC1 in m, compressedDepth)
    sensor_msgs CameraInfo                 of each; the one with the image's frame
    tf2_msgs TFMessage                     where the frames were
    nav_msgs Odometry                      the same, where the transforms do not say it
    sensor_msgs PointCloud2                points, where there is no depth image

A frame is a colour image with its camera, the depth image taken within 50 ms of it (as the colour
camera would have measured it, whatever moved in between) and its pose at its own stamp. The world
is `world`, else the root of the transforms: metres, up not known. The cloud is built from the
depths, or from the clouds of a topic, each put where the sensor was; a cloud topic named among
`topics` comes first. Images are undistorted, and not finer than the depths. Without `every`, about
two images a second are used.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sas_ros.clouds import read_cloud
from sas_ros.errors import SasError
from sas_training.scenes.bag_contents import BagContents, Camera, Message, Topic
from sas_training.scenes.bag_images import color_of, depth_of
from sas_training.scenes.building import VoxelMeans, cloud_of_frames
from sas_training.scenes.cameras import Matrix, depth_for_image, resized_color, undistorted
from sas_training.scenes.reading import Scenes, SceneSettings, wrong_folder
from sas_training.scenes.scene import Frame, Frames, Scene, Skipped, no_frames

_EXPECTED = "it should be the folder of a rosbag2 (metadata.yaml), or a .mcap, .db3 or .bag file"
_APART = 500_000_000
"""Nanoseconds between frames, unless another step is asked for."""
_TOGETHER = 50_000_000
"""Nanoseconds between a colour image and the depth image that belongs to it."""


def open_bag(path: Path, settings: SceneSettings) -> Scenes:
    """The one scene of a bag; raises `SasError` for anything else."""
    path = Path(path)
    known = path.suffix in (".mcap", ".db3", ".bag")
    if not (known if path.is_file() else (path / "metadata.yaml").is_file()):
        raise wrong_folder(path, "a ROS bag", _EXPECTED)
    name = path.absolute().stem
    return Scenes((name,), lambda n: _Recording(path, settings).scene(name))


class _Recording:
    def __init__(self, path: Path, settings: SceneSettings) -> None:
        self.settings = settings
        self.bag = BagContents(path, settings.topics)
        self.color, self.depth, self.cloud = (self._topic(k) for k in ("color", "depth", "cloud"))
        taken = [message.stamp_ns for message in self.depth.messages] if self.depth else []
        self._depth_stamps = np.array(taken, dtype=np.int64)
        sensor = self.color or self.depth or self.cloud
        if sensor is None or not sensor.messages:
            raise SasError(f"The bag {path} has neither images nor clouds.")
        frame = sensor.messages[0].frame
        self.still = settings.still and not len(self.bag.transforms)
        if not self.still and frame not in self.bag.transforms:
            raise SasError(
                f"Nothing in the bag {path} says where {frame} was: it has "
                f"{len(self.bag.transforms)} transforms and {self.bag.odometry} odometry messages. "
                "Record /tf and /tf_static too; if the sensor stood still and nothing else is "
                "recorded, say so (--still)."
            )
        self.world = settings.world or (frame if self.still else self.bag.transforms.root(frame))
        if not self.still and self.world not in self.bag.transforms:
            raise SasError(f"No transform of the bag {path} speaks of the frame {self.world}.")

    def _topic(self, kind: str) -> Topic | None:
        """The topic of a kind; of several the only one that is named after it."""
        found = [topic for topic in self.bag.topics.values() if topic.kind == kind]
        if len(found) > 1:
            words = {"color": ("color", "rgb"), "depth": ("depth",), "cloud": ("points",)}[kind]
            named = [t for t in found if any(word in t.name.lower() for word in words)]
            found = named if named else found
        if len(found) > 1:
            names = ", ".join(sorted(topic.name for topic in found))
            raise SasError(
                f"The bag has several topics with {kind}: {names}. Say which ones are meant "
                "(--topics)."
            )
        return found[0] if found else None

    def scene(self, name: str) -> Scene:
        frames = self.settings.sampled(self._frames(), self._usual_step())
        for topic, reason in self.bag.left_out.items():
            frames.skipped.add(f"topic {topic}", reason)
        chosen = self.cloud is not None and self.cloud.name in self.settings.topics
        if self.settings.scan is not None or (self.depth is not None and not chosen):
            points, colors = cloud_of_frames(frames, self.settings.voxel, self.settings.scan)
        elif self.cloud is not None:
            points, colors = self._clouds(self.cloud, frames.skipped)
        else:
            raise SasError(f"The bag {self.bag.path} has images, but neither depths nor clouds.")
        return Scene(name, points, frames, colors)

    def _frames(self) -> Frames:
        if self.color is None:
            return no_frames()
        color = self.color
        names = tuple(str(message.stamp_ns) for message in color.messages)
        frames = Frames(names, lambda n: self._frame(color, color.messages[n]))
        for topic, count in self.bag.damaged.items():
            for number in range(count):
                name = f"message {number} of {topic}"
                frames.skipped.add(name, f"a message of {topic} is damaged")
        return frames

    def _usual_step(self) -> int:
        """How many colour images go by in half a second."""
        stamps = np.sort([m.stamp_ns for m in self.color.messages] if self.color else [])
        between = float(np.median(np.diff(stamps))) if len(stamps) > 1 else 0.0
        return max(1, round(_APART / between)) if between > 0 else 1

    def _pose(self, message: Message) -> Matrix:
        if self.still:
            return np.eye(4)
        return self.bag.transforms.lookup(message.frame, self.world, message.stamp_ns)

    def _frame(self, topic: Topic, message: Message) -> Frame:
        pose = self._pose(message)
        image = color_of(self.bag.read(topic, message))
        camera = self._camera(topic, image.shape[1], image.shape[0])
        matrix = camera.matrix
        image = undistorted(image, matrix, camera.model, camera.distortion)
        size = self.settings.size or (image.shape[1], image.shape[0])
        depth = None
        if self.depth is not None:
            depth, depth_camera, there = self._depth_near(message)
            finer = matrix[0, 0] / depth_camera[0, 0]
            if self.settings.size is None and finer > 1:
                size = (round(size[0] / finer), round(size[1] / finer))
            image, matrix = resized_color(image, matrix, size)
            shift = None if np.allclose(pose, there, atol=1e-9) else np.linalg.inv(pose) @ there
            depth = depth_for_image(depth, depth_camera, matrix, size, shift)
        else:
            image, matrix = resized_color(image, matrix, size)
        return Frame(str(message.stamp_ns), image, matrix, pose, depth, message.stamp_ns)

    def _camera(self, topic: Topic, width: int, height: int) -> Camera:
        camera = self.bag.camera_of(topic)
        if camera is None:
            raise SasError(f"no CameraInfo was recorded for {topic.name}")
        if not camera.matrix[0, 0] > 0:
            raise SasError(f"the CameraInfo for {topic.name} holds no calibration")
        if camera.size != (width, height):
            raise SasError(
                f"its image has {width} x {height} pixels and its CameraInfo speaks of "
                f"{camera.size[0]} x {camera.size[1]}"
            )
        return camera

    def _depth_near(self, message: Message) -> tuple[npt.NDArray[np.float32], Matrix, Matrix]:
        """Depth image nearest in time, its camera (3, 3), and its pose (4, 4)."""
        assert self.depth is not None
        apart = np.abs(self._depth_stamps - message.stamp_ns)
        if not len(apart) or apart.min() > _TOGETHER:
            raise SasError("no depth image was taken within 50 ms of it")
        found = self.depth.messages[int(apart.argmin())]
        stored = self.bag.read(self.depth, found)
        depth = depth_of(stored, self.settings.depth_units, self.settings.far)
        camera = self._camera(self.depth, depth.shape[1], depth.shape[0])
        if camera.distortion.any():
            raise SasError("its depth image has a distorted lens; record the rectified one")
        return depth, camera.matrix, self._pose(found)

    def _clouds(
        self, topic: Topic, skipped: Skipped
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8] | None]:
        """All clouds of a topic, each put where the sensor was, as means of voxels."""
        means, colored = VoxelMeans(self.settings.voxel), True
        before = len(skipped)
        for message in topic.messages[:: self.settings.every or 1]:
            try:
                pose = self._pose(message)
                cloud = read_cloud(self.bag.read(topic, message))
            except SasError as error:
                skipped.add(f"cloud {message.stamp_ns}", str(error).rstrip("."))
                continue
            places = cloud.points.astype(np.float64) + cloud.origin
            if self.settings.far is not None:
                places[np.linalg.norm(places, axis=1) > self.settings.far] = np.nan
            means.add(places @ pose[:3, :3].T + pose[:3, 3], cloud.colors)
            colored &= cloud.colors is not None
        points, colors = means.means()
        if not len(points):
            raise SasError(f"No cloud of {topic.name} can be used. {skipped.sentence()}".strip())
        if len(skipped) > before:
            warnings.warn(skipped.sentence(), RuntimeWarning, stacklevel=2)
        return points, colors if colored else None
