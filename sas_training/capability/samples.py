"""The images of a table with their masks: synthetic ones of a run, or given ones.

Three ways to come by them, so that a link of the chain can be replaced by the truth:

- `synthetic`: made images, coarse masks of their attention, pseudo masks of these;
- `prompted`: given images and coarse masks, pseudo masks of these;
- `given`: given images and masks.

Given images lie in a folder for each class, named after it (`shower curtain` or `shower_curtain`);
a mask has the name of its image, ending in .png, in such a folder of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sas_ros.errors import SasError
from sas_training.capability.files import (
    CapabilityFiles,
    read_mask,
    read_plane,
    read_run,
    safe_name,
)
from sas_training.capability.measure import Example
from sas_training.capability.points import Mask, coarse_mask
from sas_training.capability.pseudo_masks import (
    MaskSettings,
    PseudoMask,
    Quality,
    RejectionRule,
    about_masks,
    kept_or_made,
    refine,
)
from sas_training.capability.segmenters import Segmenter
from sas_training.jobs import key_of
from sas_training.teachers.cache import image_hash
from sas_training.teachers.images import SUFFIXES, read_image

Progress = Callable[[Sequence[Any]], Iterable[Any]]


@dataclass(frozen=True, eq=False)
class Sample:
    """An image of a class with its mask.

    Attributes:
        of: the class.
        name: of the image, within its class.
        image, mask: their files.
        coarse: makes the coarse mask, for pictures; None where there is none.
        attention: its file, None where there is none.
        quality: of a pseudo mask, None for a given one.
        reason: why it is left out, "" where it is not.
    """

    of: str
    name: str
    image: Path
    mask: Path
    coarse: Callable[[], Mask] | None = None
    attention: Path | None = None
    quality: Quality | None = None
    reason: str = ""

    @property
    def example(self) -> Example:
        """As it is measured with."""
        return Example(self.name, self.image, self.mask)


def examples_of(samples: Sequence[Sample], classes: Sequence[str]) -> dict[str, list[Example]]:
    """Class -> the images that are not left out, in order."""
    return {
        name: [one.example for one in samples if one.of == name and not one.reason]
        for name in classes
    }


def synthetic(
    files: CapabilityFiles,
    classes: Sequence[str],
    images: int,
    settings: MaskSettings,
    segmenter: Segmenter | None,
    rejection: RejectionRule | None,
    progress: Progress = lambda work: work,
) -> list[Sample]:
    """Pseudo masks of `images` made images of each class; those that are there are kept.

    Raises:
        SasError: an image or its attention is missing or damaged, or run.json is, which says how
            the images were made.
    """
    folder = files.masks(key_of(about_masks(settings, segmenter), read_run(files.run)))
    samples = []
    for name, seed in progress([(name, seed) for name in classes for seed in range(images)]):
        image, attention = files.image(name, seed), files.attention(settings.rule, name, seed)

        def coarse(path: Path = attention) -> Mask:
            if not path.is_file():
                raise SasError(
                    f"There is no attention at {path}. A pipeline may have no layers that the "
                    f"rule {settings.rule!r} takes; take the other rule, or remove the images."
                )
            return coarse_mask(read_plane(path) / 255, settings.threshold)

        path = folder / files.folder(name) / f"{seed:04d}.png"
        made = _pseudo(path, image, coarse, settings, segmenter)
        samples.append(
            Sample(
                of=name,
                name=f"{seed:04d}",
                image=image,
                mask=path,
                coarse=coarse,
                attention=attention,
                quality=made.quality,
                reason=rejection.reason(made.quality) if rejection else "",
            )
        )
    return samples


def prompted(
    files: CapabilityFiles,
    classes: Sequence[str],
    images: Path,
    coarse_masks: Path,
    settings: MaskSettings,
    segmenter: Segmenter | None,
    rejection: RejectionRule | None,
    progress: Progress = lambda work: work,
) -> list[Sample]:
    """Pseudo masks of given images from given coarse masks; those that are there are kept."""
    folder = files.masks(key_of(about_masks(settings, segmenter)))
    samples = []
    for name, image, given in progress(_pairs(classes, images, coarse_masks)):

        def coarse(path: Path = given) -> Mask:
            return read_mask(path)

        # Others may have put another image or mask there since.
        content = hashlib.sha256(image_hash(read_image(image)).encode() + given.read_bytes())
        path = folder / files.folder(name) / f"{image.stem}-{content.hexdigest()[:12]}.png"
        made = _pseudo(path, image, coarse, settings, segmenter)
        reason = rejection.reason(made.quality) if rejection else ""
        samples.append(Sample(name, image.stem, image, path, coarse, None, made.quality, reason))
    return samples


def given(classes: Sequence[str], images: Path, masks: Path) -> list[Sample]:
    """Given images with their masks; those with an empty mask are left out.

    Raises:
        SasError: no images, or an image without a mask.
    """
    return [
        Sample(name, image.stem, image, mask, reason="" if read_mask(mask).any() else "empty mask")
        for name, image, mask in _pairs(classes, images, masks)
    ]


def _pseudo(
    path: Path,
    image: Path,
    coarse: Callable[[], Mask],
    settings: MaskSettings,
    segmenter: Segmenter | None,
) -> PseudoMask:
    made, _ = kept_or_made(
        path, lambda: refine(read_image(image), coarse(), segmenter, settings.frame)
    )
    return made


def _pairs(classes: Sequence[str], images: Path, masks: Path) -> list[tuple[str, Path, Path]]:
    """(class, image, mask) of two folders with a folder for each class; classes may be missing."""
    found = []
    for name in classes:
        folder = _class_folder(images, name)
        if folder is None:
            continue
        of_masks = _class_folder(masks, name)
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        twice = {path.stem for path in paths if sum(p.stem == path.stem for p in paths) > 1}
        if twice:
            raise SasError(f"{folder} has several images named {min(twice)}; rename all but one.")
        for path in paths:
            mask = (of_masks or masks / safe_name(name)) / f"{path.stem}.png"
            if not mask.is_file():
                raise SasError(f"The image {path} has no mask; wanted is {mask}.")
            found.append((name, path, mask))
    if not found:
        raise SasError(
            f"{images} has no images of any class; wanted are folders named after the classes, "
            f"such as {images / safe_name(classes[0])}."
        )
    return found


def _class_folder(root: Path, name: str) -> Path | None:
    for folder in (root / name, root / safe_name(name)):
        if folder.is_dir():
            return folder
    return None
