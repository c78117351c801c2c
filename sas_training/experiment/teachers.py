"""The trained networks as teachers: dense features in text space, or masks with words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError
from sas_ros.files import atomic_path
from sas_training.experiment.network import CELL, SmallNetwork, channels_last, network_input
from sas_training.experiment.settings import KINDS
from sas_training.teachers.registry import TeacherOptions, weights_hash
from sas_training.teachers.teacher import (
    DenseFeatures,
    Description,
    Image,
    LabelledMask,
    check_image,
)

FORMAT_VERSION = 1
LEAST_CELLS = 6
"""A region of fewer cells is left out of the masks."""
LEAST_SCORE = 0.3
_KEY = "sas_small_teacher"


@dataclass(frozen=True)
class TeacherFacts:
    """What a file of a teacher says about its network.

    Attributes:
        name: of the teacher.
        kind: "pixels" or "masks".
        words: that it knows, in the order of its outputs.
        text_encoder: of a pixel teacher's features.
        width, blur: see `TeacherSettings`.
        outputs: numbers that the last layer gives for a cell.
    """

    name: str
    kind: str
    words: tuple[str, ...]
    text_encoder: str
    width: int
    blur: int
    outputs: int


def save_teacher(path: Path, network: SmallNetwork, facts: TeacherFacts) -> None:
    """Write the weights as safetensors, atomically."""
    from safetensors.torch import save_file

    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    metadata = {"format_version": FORMAT_VERSION, **vars(facts), "words": list(facts.words)}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {_KEY: json.dumps(metadata, sort_keys=True)})


def load_small_teacher(path: Path) -> SmallPixelTeacher | SmallMaskTeacher:
    """Read a file of `save_teacher`.

    Raises:
        SasError: no such file, damaged, another kind of file or another version.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise SasError(f"There is no teacher at {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            raw = json.loads((file.metadata() or {}).get(_KEY, "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise SasError(f"{path} is no readable teacher ({error}); train it again.") from error
    facts = _facts(path, raw)
    network = SmallNetwork(facts.width, facts.outputs)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise SasError(f"The weights in {path} are not those of its network: {error}.") from error
    network = channels_last(network).eval()
    kind = SmallPixelTeacher if facts.kind == "pixels" else SmallMaskTeacher
    return kind(network, facts, weights_hash([path]))


def load(options: TeacherOptions) -> SmallPixelTeacher | SmallMaskTeacher:
    """The teacher `small` of the registry; raises SasError without weights."""
    if options.weights is None:
        raise SasError(
            'The teacher "small" needs the file of its weights, which `sas experiment` makes.'
        )
    return load_small_teacher(options.weights)


def _facts(path: Path, raw: object) -> TeacherFacts:
    if not isinstance(raw, Mapping) or raw.get("format_version") != FORMAT_VERSION:
        raise SasError(f"{path} is no small teacher that this version reads; train it again.")
    try:
        facts = TeacherFacts(
            name=str(raw["name"]),
            kind=str(raw["kind"]),
            words=tuple(str(word) for word in raw["words"]),
            text_encoder=str(raw["text_encoder"]),
            width=int(raw["width"]),
            blur=int(raw["blur"]),
            outputs=int(raw["outputs"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SasError(f"The description inside {path} is damaged ({error}).") from error
    fits = facts.kind == "pixels" or len(facts.words) == facts.outputs
    if facts.kind not in KINDS or not fits or not 1 <= facts.width <= 512:
        raise SasError(f"The description inside {path} is damaged.")
    return facts


class _Small:
    """What both kinds share."""

    def __init__(self, network: SmallNetwork, facts: TeacherFacts, model: str) -> None:
        self._network, self.facts, self._model = network, facts, model

    @property
    def description(self) -> Description:
        settings: dict[str, Any] = {"kind": self.facts.kind, "words": list(self.facts.words)}
        return Description(self.facts.name, self._model, settings)

    def _outputs(self, image: Image) -> torch.Tensor:
        """(rows, columns, outputs) float32 on the cells that cover an image of any size."""
        check_image(image)
        rows, columns = image.shape[:2]
        # Whole cells on all levels of the network.
        wanted = [-(-size // 32) * 32 - size for size in (rows, columns)]
        padded = np.pad(image, ((0, wanted[0]), (0, wanted[1]), (0, 0)), mode="edge")
        with torch.no_grad():
            inputs = network_input(torch.from_numpy(padded)[None], self.facts.blur)
            result: torch.Tensor = self._network.rows(inputs)[0] @ self._network.kernel
        return result[: -(-rows // CELL), : -(-columns // CELL)]


class SmallPixelTeacher(_Small):
    """A `PixelTeacher`: unit features in the space of its text encoder."""

    @property
    def channels(self) -> int:
        return self.facts.outputs

    @property
    def text_encoder(self) -> str:
        return self.facts.text_encoder

    def features(self, images: Sequence[Image]) -> list[DenseFeatures]:
        """Features of each image, a cell for 2 x 2 pixels."""
        result = []
        for image in images:
            unit = torch.nn.functional.normalize(self._outputs(image), dim=-1).half()
            result.append(DenseFeatures(unit.permute(2, 0, 1), 1 / CELL, 1 / CELL))
        return result


class SmallMaskTeacher(_Small):
    """A `MaskTeacher`: connected regions of its best words; small and doubtful ones left out."""

    def masks(self, images: Sequence[Image]) -> list[tuple[LabelledMask, ...]]:
        """Masks of each image; they do not overlap, and are in the order of its words."""
        return [tuple(self._masks_of(image)) for image in images]

    def _masks_of(self, image: Image) -> list[LabelledMask]:
        from scipy import ndimage

        rows, columns = image.shape[:2]
        shares = torch.softmax(self._outputs(image), dim=-1)
        best, word = (found.numpy() for found in shares.max(dim=-1))
        masks = []
        for number in np.unique(word):
            regions, count = ndimage.label(word == number)
            sizes = np.bincount(regions.reshape(-1), minlength=count + 1)
            scores = np.bincount(regions.reshape(-1), best.reshape(-1)) / np.maximum(sizes, 1)
            for region in range(1, count + 1):
                if sizes[region] < LEAST_CELLS or scores[region] < LEAST_SCORE:
                    continue
                mask = _grown(regions == region, rows, columns)
                score = float(min(scores[region], 1.0))
                masks.append(LabelledMask(mask, self.facts.words[number], score))
        return masks


def _grown(cells: npt.NDArray[np.bool_], rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """A mask of cells as one of the pixels (rows, columns) of the image."""
    return cells.repeat(CELL, axis=0).repeat(CELL, axis=1)[:rows, :columns].copy()
