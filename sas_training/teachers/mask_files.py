"""Labelled masks on disk: a JSON file, and PNG files whose numbers say which pixels are meant.

The layout (format version 1, docs/formats.md) is also what foreign programs write (`program.py`).
A mask is the pixels of a PNG that have a certain number, so one file may hold many masks that do
not overlap. The PNG files are written first, the JSON last: without it there are no masks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.files import atomic_write
from sas_training.teachers.images import read_grey, write_grey
from sas_training.teachers.teacher import LabelledMask

FORMAT_VERSION = 1
KIND = "sas_labelled_masks"
SUFFIX = ".masks.json"
_PER_LAYER = 255


@dataclass(frozen=True, eq=False)
class MaskFile:
    """What a teacher said about one image.

    Attributes:
        masks: of the image's size.
        height, width: of the image.
        teacher: the teacher's `Description` as JSON; empty where a foreign program wrote it.
        image_sha256: `image_hash` of the image; empty where unknown.
    """

    masks: tuple[LabelledMask, ...]
    height: int
    width: int
    teacher: Mapping[str, Any] = field(default_factory=dict)
    image_sha256: str = ""

    def save(self, path: Path) -> None:
        """Write NAME.masks.json and as few NAME.masks-K.png beside it as overlaps allow."""
        path = Path(path)
        for one in self.masks:
            if one.mask.shape != (self.height, self.width):
                raise SasError(
                    f"The mask of {one.label!r} is {one.mask.shape}, the image "
                    f"{(self.height, self.width)}."
                )
        layers, places = _layers([one.mask for one in self.masks], self.height, self.width)
        stem = path.name.removesuffix(".json")
        names = [f"{stem}-{number}.png" for number in range(len(layers))]
        path.unlink(missing_ok=True)  # an old description must not name new pixels
        for name, layer in zip(names, layers, strict=True):
            write_grey(path.with_name(name), layer)
        entries = [
            {
                "file": names[layer],
                "value": value,
                "label": one.label,
                "score": float(one.score),
                **({"caption": one.caption} if one.caption else {}),
            }
            for one, (layer, value) in zip(self.masks, places, strict=True)
        ]
        content: dict[str, Any] = {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "width": self.width,
            "height": self.height,
            "masks": entries,
        }
        if self.teacher:
            content["teacher"] = dict(self.teacher)
        if self.image_sha256:
            content["image_sha256"] = self.image_sha256
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        atomic_write(path, (text + "\n").encode())

    @staticmethod
    def load(path: Path) -> MaskFile:
        """Read and validate a file and the PNG files it names.

        Raises:
            SasError: no such file, not JSON of this kind and version, an entry that is missing or
                of a wrong kind, or a PNG that is missing, of another size, or without the mask.
        """
        path = Path(path)
        if not path.is_file():
            raise SasError(f"There are no masks at {path}.")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise SasError(f"{path} is not valid JSON ({error}).") from error
        if not isinstance(content, dict) or content.get("kind") != KIND:
            raise SasError(f'{path} holds no masks: its entry "kind" is not "{KIND}".')
        version = content.get("format_version")
        if version != FORMAT_VERSION or isinstance(version, bool):
            raise SasError(
                f"{path} has mask format {version!r}; this version reads {FORMAT_VERSION}."
            )
        try:
            return _from_json(path, content)
        except SasError as error:
            raise SasError(f"{path} cannot be used. {error}") from error


def _layers(
    masks: Sequence[npt.NDArray[np.bool_]], height: int, width: int
) -> tuple[list[npt.NDArray[np.uint8]], list[tuple[int, int]]]:
    """Pictures of mask numbers, and for each mask which picture and number."""
    layers: list[npt.NDArray[np.uint8]] = []
    places: list[tuple[int, int]] = []
    used: list[int] = []
    for mask in masks:
        for number, layer in enumerate(layers):
            if used[number] < _PER_LAYER and not layer[mask].any():
                break
        else:
            number = len(layers)
            layers.append(np.zeros((height, width), np.uint8))
            used.append(0)
        used[number] += 1
        layers[number][mask] = used[number]
        places.append((number, used[number]))
    return layers, places


def _from_json(path: Path, content: Mapping[str, Any]) -> MaskFile:
    height, width = _whole(content, "height", 1), _whole(content, "width", 1)
    entries = content.get("masks")
    teacher, sha256 = content.get("teacher", {}), content.get("image_sha256", "")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SasError('The entry "masks" is not a list of objects.')
    if not isinstance(teacher, dict) or not isinstance(sha256, str):
        raise SasError('The entries "teacher" and "image_sha256" are an object and text.')
    pictures: dict[str, npt.NDArray[np.int64]] = {}
    masks = []
    for number, entry in enumerate(entries):
        try:
            file, label, score = _text(entry, "file"), _text(entry, "label"), entry.get("score")
            value = _whole(entry, "value", 0)
            caption = _text(entry, "caption") if "caption" in entry else ""
            if isinstance(score, bool) or not isinstance(score, int | float):
                raise SasError('It needs a number "score".')
            if not math.isfinite(score):
                raise SasError('Its "score" is not finite.')
            if file not in pictures:
                pictures[file] = read_grey(_inside(path.parent, file), (height, width))
            masks.append(LabelledMask(pictures[file] == value, label, float(score), caption))
        except SasError as error:
            raise SasError(f"Mask {number} is wrong. {error}") from error
    return MaskFile(tuple(masks), height, width, teacher, sha256)


def _inside(folder: Path, name: str) -> Path:
    """A file below `folder`; names that lead out of it are refused."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise SasError(f"Its file {name!r} must be a relative path below the JSON file's folder.")
    return folder.joinpath(*parts)


def _whole(entry: Mapping[str, Any], key: str, low: int) -> int:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value < 1 << 16:
        raise SasError(f'It needs a whole number "{key}" of {low} to 65535.')
    return value


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        raise SasError(f'It needs the text "{key}".')
    return value
