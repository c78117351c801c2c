"""Where everything of a capability run lies, and the settings that its images were made with."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import atomic_path, atomic_write
from sas_training.teachers.images import pillow, write_grey
from sas_training.teachers.teacher import Image

FORMAT_VERSION = 1
RUN_KIND = "sas_capability_run"


class CapabilityFiles:
    """The folder of a run.

    Args:
        root: made when the first file is written.
        classes: names; each has a folder of its own inside those of images, attention and masks.

    Raises `SasError` when two classes would share a folder.
    """

    def __init__(self, root: Path, classes: Sequence[str]) -> None:
        self.root = Path(root)
        self._folder = folder_names(classes)

    def folder(self, name: str) -> str:
        """Name of a class's folder."""
        return self._folder[name]

    def image(self, name: str, seed: int) -> Path:
        """(H, W, 3) PNG of a class, made from a seed."""
        return self.root / "images" / self.folder(name) / f"{seed:04d}.png"

    def attention(self, rule: str, name: str, seed: int) -> Path:
        """(H, W) PNG, 0 to 255 for 0 to 1, by a rule of aggregation."""
        return self.root / "attention" / rule / self.folder(name) / f"{seed:04d}.png"

    def masks(self, key: str) -> Path:
        """Folder of pseudo masks and their figures, made with the settings of that key."""
        return self.root / f"masks-{key}"

    def said(self, title: str, key: str) -> Path:
        """Folder of what a teacher says about the images."""
        return self.root / f"said-{safe_name(title)}-{key}"

    def sheet(self, name: str) -> Path:
        """Contact sheet of a class."""
        return self.root / "sheets" / f"{self.folder(name)}.png"

    @property
    def run(self) -> Path:
        """What the images were made with."""
        return self.root / "run.json"

    @property
    def table(self) -> Path:
        return self.root / "capability.json"

    @property
    def scores(self) -> Path:
        return self.root / "scores.json"

    @property
    def report(self) -> Path:
        return self.root / "report.md"

    @property
    def chart(self) -> Path:
        return self.root / "chart.png"

    def same_settings(self, settings: Mapping[str, Any]) -> None:
        """Write run.json where there is none, else check that it says the same.

        Args:
            settings: that images are made with, plain JSON.

        Raises:
            SasError: images of other or unknown settings are there, or the file is damaged.
        """
        path = self.run
        wanted = json.loads(json.dumps(dict(settings), allow_nan=False))
        if not path.exists():
            if any((self.root / "images").glob("*/*.png")):
                raise SasError(
                    f"{self.root} has images but no run.json that says what they were made with; "
                    "give another folder, or remove the images, attention and masks in it."
                )
            about = {"kind": RUN_KIND, "format_version": FORMAT_VERSION, "images": wanted}
            atomic_write(path, (json.dumps(about, indent=2) + "\n").encode())
            return
        there = read_run(path)
        for key in dict.fromkeys([*there, *wanted]):
            if there.get(key) != wanted.get(key):
                raise SasError(
                    f"The images in {self.root} were made with {key} = {there.get(key)!r}, not "
                    f"{wanted.get(key)!r}; one run is not made of both. Give another folder, or "
                    "the settings in its run.json."
                )


def read_run(path: Path) -> dict[str, Any]:
    """Settings of the images from a run.json; raises `SasError` for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SasError(f"{path} cannot be read ({error}).") from error
    if not isinstance(content, dict) or content.get("kind") != RUN_KIND:
        raise SasError(f"{path} does not describe a run of `sas capability`.")
    if content.get("format_version") != FORMAT_VERSION:
        raise SasError(
            f"{path} has format {content.get('format_version')!r}; this version reads "
            f"{FORMAT_VERSION}."
        )
    if not isinstance(content.get("images"), dict):
        raise SasError(f"{path} is damaged: it has no settings of images.")
    return dict(content["images"])


def folder_names(classes: Sequence[str]) -> dict[str, str]:
    """Class -> name of its folder; raises `SasError` when two would share one."""
    names = {name: safe_name(name) for name in classes}
    seen: dict[str, str] = {}
    for name, folder in names.items():
        other = seen.setdefault(folder.casefold(), name)
        if other != name:
            raise SasError(
                f"The classes {other!r} and {name!r} would share the folder {folder!r}; rename one."
            )
    return names


def safe_name(name: str) -> str:
    """A name as part of a path: letters and digits of any language, `-`, the rest as `_`."""
    plain = unicodedata.normalize("NFC", name).strip()
    return re.sub(r"[^\w-]+", "_", plain).strip("_") or "_"


def write_image(path: Path, image: Image) -> None:
    """Write (H, W, 3) uint8 as a PNG, atomically."""
    with atomic_path(path) as temporary:
        pillow().fromarray(np.ascontiguousarray(image)).save(temporary, "PNG")


def write_share(path: Path, values: npt.NDArray[np.floating]) -> None:
    """Write (H, W) from 0 to 1 as a PNG from 0 to 255, atomically."""
    write_grey(path, np.rint(np.asarray(values, np.float64) * 255).astype(np.uint8))


def write_mask(path: Path, mask: npt.NDArray[np.bool_]) -> None:
    """Write (H, W) bool as a PNG of 0 and 255, atomically."""
    write_grey(path, np.where(mask, 255, 0).astype(np.uint8))


def read_plane(path: Path) -> npt.NDArray[np.int64]:
    """(H, W) numbers of a PNG with one channel; colours count as one where all are equal.

    Raises `SasError` for no such file, or one that is no such image.
    """
    from sas_training.teachers.images import read_grey

    module = pillow()
    if not path.is_file():
        raise SasError(f"There is no mask at {path}.")
    try:
        with module.open(path) as image:
            size = (image.height, image.width)
    except Exception as error:  # Pillow has an exception for each way to fail
        raise SasError(f"{path} is no readable image ({type(error).__name__}).") from error
    return read_grey(path, size)


def read_mask(path: Path) -> npt.NDArray[np.bool_]:
    """(H, W) bool of a PNG of one channel: everything above 0 is the mask."""
    return read_plane(path) > 0
