"""LSeg as a pixel teacher: the extraction that OpenScene and SAS use (reference 1.2).

The image's long side is resized to twice its length (bilinear, corners aligned), and what is
missing to a square is filled with black on the right and below. The network's features have half
the resolution of what goes in, so they have exactly that of the image. Fed with the image itself
instead, results drop from about 50 to about 31 mIoU on ScanNet: the question asked most often about
this teacher. The pass over the mirrored square is mirrored back and added; sums are neither
averaged nor scaled, so pixel vectors are up to 2 long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate, pad

from sas_ros.errors import SasError
from sas_training.teachers.lseg.checkpoint import load_network
from sas_training.teachers.lseg.network import LsegNetwork
from sas_training.teachers.registry import TeacherOptions, half_on, pick_device, weights_hash
from sas_training.teachers.teacher import DenseFeatures, Description, Image, by_size

TEXT_ENCODER = "open_clip:ViT-B-32-quickgelu"
_STEP = 32


@dataclass(frozen=True)
class LsegSettings:
    """How images are looked at.

    Attributes:
        size: pixels that the long side is resized to; 0: twice the image's. The square is the next
            multiple of 32, which is the same for 640, 1280 and 1600 of the published settings.
        flip: whether the mirrored image is looked at too.
    """

    size: int = 0
    flip: bool = True

    def __post_init__(self) -> None:
        if self.size and self.size < _STEP:
            raise SasError(f"LSeg needs a size of {_STEP} pixels or more, not {self.size}.")


class LsegTeacher:
    """Dense features in the space of CLIP ViT-B/32; a `PixelTeacher`.

    Args:
        network: with its weights.
        model: which weights these are.
        settings: how images are looked at.
        device: "cpu" or "cuda"; on a GPU the network computes in float16 where that is safe.
    """

    text_encoder = TEXT_ENCODER

    def __init__(
        self,
        network: LsegNetwork,
        model: str,
        settings: LsegSettings | None = None,
        device: str = "cpu",
    ) -> None:
        self._settings = LsegSettings() if settings is None else settings
        self._network, self._device = network.to(device).eval(), torch.device(device)
        about = {**asdict(self._settings), "half": self._device.type == "cuda"}
        self.description = Description("lseg", model, about)

    @property
    def channels(self) -> int:
        return self._network.shape.out

    def features(self, images: Sequence[Image]) -> list[DenseFeatures]:
        """Features of each image; on a GPU those of one size go through the network together."""
        together = len(images) if self._device.type == "cuda" else 1
        return by_size(images, self._of_one_size, max(1, together))

    def _of_one_size(self, images: Sequence[Image]) -> list[DenseFeatures]:
        height, width = images[0].shape[:2]
        size = self._settings.size or 2 * max(height, width)
        rows = max(1, int(size * height / max(height, width) + 0.5))
        columns = max(1, int(size * width / max(height, width) + 0.5))
        side = math.ceil(size / _STEP) * _STEP
        colours = torch.tensor(np.stack(images), device=self._device).permute(0, 3, 1, 2).float()
        colours = interpolate(
            colours / 127.5 - 1, (rows, columns), mode="bilinear", align_corners=True
        )
        squares = pad(colours, (0, side - columns, 0, side - rows), value=-1.0)
        # Cells are two resized pixels wide.
        cells = self._passes(squares)[:, :, : math.ceil(rows / 2), : math.ceil(columns / 2)]
        scales = rows / (2 * height), columns / (2 * width)
        return [
            DenseFeatures(one.permute(1, 2, 0).half().contiguous().cpu().permute(2, 0, 1), *scales)
            for one in cells
        ]

    @torch.inference_mode()
    def _passes(self, squares: torch.Tensor) -> torch.Tensor:
        """The sum over squares as they are and mirrored, (B, C, side / 2, side / 2) float32."""
        found = self._forward(squares)
        if self._settings.flip:
            found += self._forward(squares.flip(3)).flip(3)
        return found

    def _forward(self, squares: torch.Tensor) -> torch.Tensor:
        with half_on(self._device):
            result: torch.Tensor = self._network(squares)
        return result


def load(options: TeacherOptions) -> LsegTeacher:
    """The teacher `lseg` of the registry."""
    settings = options.parsed("lseg", LsegSettings())
    if options.weights is None:
        raise SasError(
            "LSeg needs its weights as a local file, because nothing is downloaded; fetch "
            "LSeg's demo checkpoint, demo_e200.ckpt, and give its path as weights."
        )
    network = load_network(Path(options.weights))
    model = weights_hash([Path(options.weights)])
    return LsegTeacher(network, model, settings, pick_device(options.device))
