"""How each data set is projected, in the paper and in the released code.

They differ in one number: points of ScanNet may lie off the measured depth by 0.2 of it in the
paper and by 0.25 in the code. The code also resizes Replica's intrinsics, a data set that the paper
does not have, as if its images had been cropped. The paper is the default, the code goes by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sas_ros.errors import SasError
from sas_training.fusion.projection import Intrinsics, ProjectionSettings

VERSIONS = ("paper", "released")


@dataclass(frozen=True)
class DatasetConstants:
    """How one data set is projected by the paper and by the released code.

    Attributes:
        image: width and height of the images that teachers see.
        reference: width and height that the data set's intrinsics belong to.
        intrinsics: at the reference size, where one set serves all scenes; else None.
        depth_units: stored depth values in one metre; None: no depth.
        boundary: b, pixels.
        occlusion, occlusion_released: t of the paper and of the released code; None: no test.
        resize, resize_released: rule for the intrinsics. The paper names none.
        frames: which frames are used.
    """

    image: tuple[int, int]
    reference: tuple[int, int]
    intrinsics: Intrinsics | None
    depth_units: float | None
    boundary: int
    occlusion: float | None
    occlusion_released: float | None
    resize: str
    resize_released: str
    frames: str

    def settings(self, version: str = "paper") -> ProjectionSettings:
        """What counts as seen, in the paper or as `released`."""
        occlusion = self.occlusion_released if _released(version) else self.occlusion
        return ProjectionSettings(self.boundary, occlusion)

    def camera(self, intrinsics: Intrinsics | None = None, version: str = "paper") -> Intrinsics:
        """Intrinsics at the size of the images, from `intrinsics` at the reference size or from
        the ones that serve all scenes."""
        camera = intrinsics or self.intrinsics
        if camera is None:
            raise SasError("This data set has intrinsics for each image; they must be given.")
        rule = self.resize_released if _released(version) else self.resize
        return camera.resized(self.reference, self.image, rule)


DATASETS: Mapping[str, DatasetConstants] = MappingProxyType(
    {
        "scannet": DatasetConstants(
            image=(320, 240),
            reference=(640, 480),
            intrinsics=Intrinsics(577.870605, 577.870605, 319.5, 239.5),
            depth_units=1000.0,
            boundary=10,
            occlusion=0.2,
            occlusion_released=0.25,
            resize="width_crop",
            resize_released="width_crop",
            frames="every 20th",
        ),
        "matterport3d": DatasetConstants(
            image=(640, 512),
            reference=(1280, 1024),
            intrinsics=None,
            depth_units=4000.0,
            boundary=10,
            occlusion=0.02,
            occlusion_released=0.02,
            resize="width_crop",
            resize_released="width_crop",
            frames="cameras inside the region's box; for testing, if none, the 100 nearest",
        ),
        "nuscenes": DatasetConstants(
            image=(800, 450),
            reference=(1600, 900),
            intrinsics=None,
            depth_units=None,
            boundary=5,
            occlusion=None,
            occlusion_released=None,
            resize="width_crop",
            resize_released="width_crop",
            frames="six cameras at the last time stamp of the 0.5 s window",
        ),
        # Not in the paper. Its images are simply scaled, which the released rule does not know.
        "replica": DatasetConstants(
            image=(640, 360),
            reference=(1200, 680),
            intrinsics=Intrinsics(600.0, 600.0, 599.5, 339.5),
            depth_units=6553.5,
            boundary=10,
            occlusion=0.25,
            occlusion_released=0.25,
            resize="plain",
            resize_released="width_crop",
            frames="every 10th",
        ),
    }
)
"""Constants of the data sets by name."""


def dataset_constants(name: str) -> DatasetConstants:
    """Constants of a data set by name; raises `SasError` for one that is not there."""
    try:
        return DATASETS[name]
    except KeyError:
        raise SasError(
            f"There are no projection constants for {name!r}; known are {', '.join(DATASETS)}."
        ) from None


def _released(version: str) -> bool:
    if version not in VERSIONS:
        raise SasError(f"{version!r} is no version; known are {', '.join(VERSIONS)}.")
    return version == "released"
