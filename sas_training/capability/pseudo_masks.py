"""Pseudo masks of images, how good each looks, and which are left out.

Of a coarse mask three points are taken (`points`), a segmenter makes the mask of what they lie on,
and figures that need no truth say how far to trust it. `RejectionRule` is the one rule that leaves
images out; it looks at the figures alone, so that another rule costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sas_ros.errors import SasError
from sas_ros.files import atomic_write
from sas_training.capability.aggregation import RULES
from sas_training.capability.files import read_mask, write_mask
from sas_training.capability.points import FRAME, THRESHOLD, Mask, prompt_points, without_frame
from sas_training.capability.segmenters import Segmenter
from sas_training.teachers.teacher import Image


@dataclass(frozen=True)
class MaskSettings:
    """How pseudo masks are made of attention.

    Attributes:
        rule: of aggregation, one of `sas_training.capability.aggregation.RULES`.
        threshold: of attention from 0 to 1.
        frame: of the coarse mask that is cleared, as a share of the size.
    """

    rule: str = "paper"
    threshold: float = THRESHOLD
    frame: float = FRAME

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise SasError(f"{self.rule!r} is no rule for attention; known are {', '.join(RULES)}.")
        if not 0 < self.threshold < 1:
            raise SasError(f"The threshold lies between 0 and 1, not {self.threshold:g}.")
        if not 0 <= self.frame < 0.5:
            raise SasError(f"The frame is a share from 0 to below 0.5, not {self.frame:g}.")


@dataclass(frozen=True)
class Quality:
    """What can be said about a pseudo mask without the truth.

    Attributes:
        points: ((x, y), ...) of pixels that the segmenter was given.
        parts: of the coarse mask without its frame.
        fallback: there was no coarse mask inside the frame; points of the middle were taken.
        score: the segmenter's own prediction of the mask's IoU; None without a segmenter.
        inside: share of the coarse mask (without frame) that lies in the mask; 0 without any.
        agreement: IoU of the same two.
        share: of the image that the mask covers.
        coarse_share: of the image that the whole coarse mask covers.
        blank: the image has one colour, as a pipeline's safety check leaves it.
    """

    points: tuple[tuple[int, int], ...]
    parts: int
    fallback: bool
    score: float | None
    inside: float
    agreement: float
    share: float
    coarse_share: float
    blank: bool

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        atomic_write(path, (json.dumps(asdict(self)) + "\n").encode())

    @staticmethod
    def load(path: Path) -> Quality:
        """Read a file of `save`; raises `SasError` for anything else."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            score = content["score"]
            return Quality(
                points=tuple((int(x), int(y)) for x, y in content["points"]),
                parts=int(content["parts"]),
                fallback=bool(content["fallback"]),
                score=None if score is None else float(score),
                inside=float(content["inside"]),
                agreement=float(content["agreement"]),
                share=float(content["share"]),
                coarse_share=float(content["coarse_share"]),
                blank=bool(content["blank"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SasError(
                f"{path} holds no figures of a pseudo mask ({error}); remove it."
            ) from error


@dataclass(frozen=True, eq=False)
class PseudoMask:
    """A mask (H, W) bool and its figures."""

    mask: Mask
    quality: Quality


@dataclass(frozen=True)
class RejectionRule:
    """Which images are left out; the first reason that holds counts.

    Always those of one colour, and those whose attention has nothing inside the frame, so that the
    points are arbitrary.

    Attributes:
        least_score: of the segmenter's own prediction, where there is one.
        least_inside: share of the coarse mask in the mask: below, the points led elsewhere.
        shares: of the image that a mask covers, from and to.
    """

    least_score: float = 0.7
    least_inside: float = 0.5
    shares: tuple[float, float] = (0.005, 0.95)

    def reason(self, quality: Quality) -> str:
        """Why the image is left out, "" where it is not."""
        if quality.blank:
            return "blank image"
        if quality.fallback:
            return "no attention"
        if quality.score is not None and quality.score < self.least_score:
            return "unsure mask"
        if quality.inside < self.least_inside:
            return "mask elsewhere"
        if quality.share < self.shares[0]:
            return "small mask"
        if quality.share > self.shares[1]:
            return "large mask"
        return ""


def refine(
    image: Image, coarse: Mask, segmenter: Segmenter | None, frame: float = FRAME
) -> PseudoMask:
    """The pseudo mask of an image (H, W, 3) from a coarse mask (H, W).

    Args:
        segmenter: None: the mask is the coarse one, without its frame.
        frame: of the coarse mask that is cleared, as a share of the size.

    Raises `SasError` when they do not belong together.
    """
    if coarse.shape != image.shape[:2]:
        raise SasError(f"A mask of {coarse.shape} does not belong to an image of {image.shape}.")
    prompt = prompt_points(coarse, frame)
    inner = without_frame(coarse, frame)
    score: float | None = None
    mask = inner
    if segmenter is not None:
        made = segmenter.segment(image, prompt.points)
        mask, score = made.mask, made.score
    both, either, coarse_pixels = (
        int(np.count_nonzero(one)) for one in (inner & mask, inner | mask, inner)
    )
    quality = Quality(
        points=tuple((int(x), int(y)) for x, y in prompt.points),
        parts=prompt.parts,
        fallback=prompt.fallback,
        score=score,
        inside=both / max(1, coarse_pixels),
        agreement=both / max(1, either),
        share=float(mask.mean()),
        coarse_share=float(coarse.mean()),
        blank=bool((image == image[0, 0]).all()),
    )
    return PseudoMask(mask, quality)


def kept_or_made(path: Path, make: Callable[[], PseudoMask]) -> tuple[PseudoMask, bool]:
    """A pseudo mask from `path` and the figures beside it; made, and written, where they are not.

    Returns:
        the mask, and whether it was made.
    """
    figures = path.with_suffix(".json")
    if path.is_file() and figures.is_file():
        return PseudoMask(read_mask(path), Quality.load(figures)), False
    made = make()
    write_mask(path, made.mask)
    made.quality.save(figures)
    return made, True


def about_masks(settings: MaskSettings, segmenter: Segmenter | None) -> dict[str, Any]:
    """Everything that pseudo masks depend on besides their images, plain JSON."""
    return {
        **asdict(settings),
        "segmenter": {"library": "none"} if segmenter is None else segmenter.description,
    }
