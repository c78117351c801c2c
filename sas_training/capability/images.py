"""Images of classes by a text-to-image model, with where it looked for the class name.

An image depends on its prompt and seed alone: its noise comes from a generator of its own on the
CPU, so other batches and machines begin with the same. Files are written whole; what is there is
kept, and a batch of which a file is missing is made again as the batch it was, so that a run that
was cut off ends with the files of one that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError
from sas_training.capability.aggregation import RULES
from sas_training.capability.attention import Recording, recorded
from sas_training.capability.files import CapabilityFiles, write_image, write_share
from sas_training.capability.pipelines import TextToImage
from sas_training.capability.tokens import PROMPTS, class_tokens, prompt_of, template_of
from sas_training.teachers.teacher import Image

Progress = Callable[[Sequence[Any]], Iterable[Any]]


@dataclass(frozen=True)
class ImageSettings:
    """How images are made.

    Attributes:
        prompt: template, or the name of one of `PROMPTS`.
        steps: of the scheduler.
        guidance: scale of classifier-free guidance; 1 and less: none.
        size: of the square images in pixels; 0: what the pipeline was trained with.
    """

    prompt: str = "paper"
    steps: int = 50
    guidance: float = 7.0
    size: int = 0

    def __post_init__(self) -> None:
        template_of(self.prompt)
        if self.steps < 1:
            raise SasError(f"Images take one step or more, not {self.steps}.")
        if not 0 <= self.guidance <= 100:
            raise SasError(f"The guidance lies between 0 and 100, not {self.guidance:g}.")
        if self.size < 0 or self.size % 8:
            raise SasError(f"Images are a multiple of 8 pixels large, not {self.size}.")

    @property
    def template(self) -> str:
        """With one `{}` for the class."""
        return template_of(self.prompt)


@dataclass(frozen=True, eq=False)
class MadeImage:
    """One image of a class.

    Attributes:
        seed: that it was made from.
        image: (H, W, 3) uint8 RGB.
        attention: rule -> (H, W) float32 from 0 to 1.
    """

    seed: int
    image: Image
    attention: dict[str, npt.NDArray[np.float32]]


def about_images(model: TextToImage, settings: ImageSettings) -> dict[str, Any]:
    """Everything that images depend on besides class and seed, for run.json."""
    return {
        "pipeline": model.kind,
        "model": model.model,
        "scheduler": model.scheduler,
        "precision": model.precision,
        **asdict(settings),
        "prompt": settings.template,
        "size": settings.size or model.size,
        "attention": list(RULES),
    }


def make_batch(
    model: TextToImage, name: str, seeds: Sequence[int], settings: ImageSettings
) -> list[MadeImage]:
    """Images of a class from some seeds, in one call of the pipeline.

    Raises:
        SasError: the class name is cut off in the prompt, the pipeline's attention cannot be
            recorded, or it makes numbers that are no colours (as float16 may).
    """
    pipe, size = model.pipe, settings.size or model.size
    prompt = prompt_of(settings.template, name)
    recording = Recording(len(seeds), class_tokens(pipe.tokenizer, prompt))
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    with torch.no_grad(), recorded(pipe.unet, recording):
        made = pipe(
            prompt=[prompt.text] * len(seeds),
            height=size,
            width=size,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            generator=generators,
            output_type="np",
        ).images
    recording.check(len(pipe.scheduler.timesteps))
    colors = np.asarray(made, dtype=np.float64)
    maps = {rule: recording.maps.finish(rule, size, size).numpy() for rule in _possible(recording)}
    if not all(np.isfinite(one).all() for one in (colors, *maps.values())):
        raise SasError(
            f"The pipeline makes an image of {name!r} that is no image; take --precision float32."
        )
    pixels = np.rint(np.clip(colors, 0, 1) * 255).astype(np.uint8)
    return [
        MadeImage(seed, pixels[number], {rule: one[number] for rule, one in maps.items()})
        for number, seed in enumerate(seeds)
    ]


def _possible(recording: Recording) -> list[str]:
    return [rule for rule in recording.maps.rules if recording.maps.has(rule)]


def make_images(
    model: TextToImage,
    files: CapabilityFiles,
    classes: Sequence[str],
    settings: ImageSettings,
    *,
    images: int,
    batch: int = 4,
    progress: Progress = lambda work: work,
) -> int:
    """Make what is missing of `images` images of each class, with seeds 0, 1, ...

    Args:
        model: makes them.
        files: where they go.
        classes: names.
        settings: see there; of a run, all images have the same.
        images: m, of each class.
        batch: seeds of one call of the pipeline.
        progress: shows how far a list of work is, as tqdm does.

    Returns:
        how many images were made.

    Raises:
        SasError: the folder holds images of other settings, and see `make_batch`.
    """
    files.same_settings(about_images(model, settings))
    work = [
        (name, list(range(start, min(start + batch, images))))
        for name in classes
        for start in range(0, images, batch)
    ]
    todo = [(name, seeds) for name, seeds in work if _missing(files, name, seeds)]
    count = 0
    for name, seeds in progress(todo):
        for one in make_batch(model, name, seeds, settings):
            if not _missing(files, name, [one.seed]):
                continue
            for rule, values in one.attention.items():
                write_share(files.attention(rule, name, one.seed), values)
            # The image is last: where it is, its attention is.
            write_image(files.image(name, one.seed), one.image)
            count += 1
    return count


def _missing(files: CapabilityFiles, name: str, seeds: Sequence[int]) -> list[Path]:
    paths = [files.image(name, seed) for seed in seeds]
    return [path for path in paths if not path.is_file()]


__all__ = [
    "PROMPTS",
    "ImageSettings",
    "MadeImage",
    "about_images",
    "make_batch",
    "make_images",
]
