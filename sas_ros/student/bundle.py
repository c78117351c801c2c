"""The student on disk: ONE `.safetensors` file with weights and everything needed to use them.

Layout (format version 1, see docs/formats.md): the network's tensors under `model.`, the (K, C)
class embeddings as `vocabulary.embeddings`, and one metadata entry `sas_student` holding JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sas_ros.errors import SasError
from sas_ros.files import atomic_path
from sas_ros.language.calibration import Calibration
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.student.inputs import INPUTS

if TYPE_CHECKING:
    import torch

    from sas_ros.student.minkunet import MinkUNet

FORMAT_VERSION = 1
_METADATA_KEY = "sas_student"
_MODEL_PREFIX = "model."
_EMBEDDINGS = "vocabulary.embeddings"
_PHRASES = "vocabulary.phrases"

KINDS = ("sparse_unet",)
"""Kinds of student this version runs; `backbone_adapter` and `image_model` are reserved."""


@dataclass(frozen=True, eq=False)
class StudentBundle:
    """A trained student, its text side and where it comes from.

    Attributes:
        name: what diagnostics and answers call it.
        architecture: shape of the network, `MinkUNetConfig.to_dict()`.
        weights: state dict, float32 tensors with MinkowskiEngine's key names.
        inputs: names of the input channels, a subset of `INPUTS`.
        voxel_size: metres.
        text_encoder: name of the encoder whose space the features live in.
        prompt: template with one `{}` that words are put into before they are embedded.
        vocabulary: words with embeddings, which work without any text encoder.
        calibration: temperature and threshold of query scores.
        provenance: data, supervision, metrics, licence: plain JSON, for people.
        kind: which adapter runs it.
        requires: what an observation must hold.
    """

    name: str
    architecture: dict[str, Any]
    weights: Mapping[str, torch.Tensor]
    inputs: tuple[str, ...]
    voxel_size: float
    text_encoder: str
    prompt: str
    vocabulary: Vocabulary
    calibration: Calibration
    provenance: dict[str, Any] = field(default_factory=dict)
    kind: str = "sparse_unet"
    requires: tuple[str, ...] = ("points",)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SasError(
                f"The student {self.name!r} is of kind {self.kind!r}; this version runs "
                f"{', '.join(KINDS)}. Update sas_ros or use another student."
            )
        unknown = sorted(set(self.inputs) - set(INPUTS))
        if unknown or not self.inputs:
            raise SasError(
                f"The student {self.name!r} wants the inputs {', '.join(unknown) or '(none)'}; "
                f"known are {', '.join(INPUTS)}."
            )
        if not 0.001 <= self.voxel_size <= 10:
            raise SasError(f"A voxel size of {self.voxel_size} m is not between 1 mm and 10 m.")
        if self.prompt.count("{}") != 1:
            raise SasError(f"The prompt {self.prompt!r} needs exactly one {{}} for the word.")
        if self.vocabulary.dim != self.feature_dim:
            raise SasError(
                f"The student {self.name!r} makes features of {self.feature_dim} numbers, but its "
                f"vocabulary has embeddings of {self.vocabulary.dim}."
            )

    @property
    def feature_dim(self) -> int:
        """Width C of the features, the same as of the text embeddings."""
        value = self.architecture.get("out_channels")
        if not isinstance(value, int):
            raise SasError(f"The architecture of the student {self.name!r} lacks out_channels.")
        return value

    def network(self) -> MinkUNet:
        """Build the network with its weights, in evaluation mode, on the CPU.

        Raises:
            SasError: weights that do not fit the architecture, or that are no finite numbers; names
                the first of them.
        """
        import torch

        from sas_ros.student.minkunet import MinkUNet, MinkUNetConfig

        config = MinkUNetConfig.from_dict(self.architecture)
        if config.in_channels != len(self.inputs):
            raise SasError(
                f"The student {self.name!r} names {len(self.inputs)} inputs but its network takes "
                f"{config.in_channels} channels."
            )
        # A damaged description may ask for more memory than there is.
        held = sum(value.numel() for value in self.weights.values())
        if config.least_numbers > held:
            raise SasError(
                f"The weights of the student {self.name!r} do not fit its architecture, which "
                f"needs more than {config.least_numbers} numbers; the file holds {held}."
            )
        model = MinkUNet(config)
        own = model.state_dict()
        expected = {key: tuple(value.shape) for key, value in own.items()}
        given = {key: tuple(value.shape) for key, value in self.weights.items()}
        for key in sorted(expected.keys() | given.keys()):
            if expected.get(key) != given.get(key):
                raise SasError(
                    f"The weights of the student {self.name!r} do not fit its architecture: "
                    f"{key} is {given.get(key, 'missing')}, expected {expected.get(key, 'none')}."
                )
        for key, value in self.weights.items():
            if own[key].is_floating_point() and not (
                value.is_floating_point() and bool(torch.isfinite(value).all())
            ):
                raise SasError(
                    f"The weights of the student {self.name!r} are damaged: {key} holds values "
                    "that are no finite numbers."
                )
        model.load_state_dict(dict(self.weights))
        return model.eval()

    def save(self, path: Path) -> None:
        """Write the bundle atomically."""
        import torch
        from safetensors.torch import save_file

        tensors = {
            f"{_MODEL_PREFIX}{k}": v.detach().cpu().contiguous() for k, v in self.weights.items()
        }
        tensors[_EMBEDDINGS] = torch.from_numpy(np.array(self.vocabulary.embeddings))
        if self.vocabulary.phrases is not None:
            tensors[_PHRASES] = torch.from_numpy(np.array(self.vocabulary.phrases.embeddings))
        metadata = {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "kind": self.kind,
            "requires": list(self.requires),
            "architecture": self.architecture,
            "inputs": list(self.inputs),
            "voxel_size": self.voxel_size,
            "text_encoder": self.text_encoder,
            "prompt": self.prompt,
            "vocabulary": self.vocabulary.to_metadata(),
            "calibration": self.calibration.to_metadata(),
            "provenance": self.provenance,
        }
        with atomic_path(Path(path)) as temporary:
            save_file(tensors, temporary, {_METADATA_KEY: json.dumps(metadata, sort_keys=True)})

    @staticmethod
    def load(path: Path) -> StudentBundle:
        """Read and validate a bundle.

        Raises:
            SasError: no such file, not a safetensors file, not a student, a newer format, or an
                entry that is missing or of the wrong kind.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        if not path.is_file():
            raise SasError(f"There is no student bundle at {path}.")
        try:
            with safe_open(path, framework="pt") as file:
                raw = (file.metadata() or {}).get(_METADATA_KEY)
                tensors = {key: file.get_tensor(key) for key in file.keys()}
        except (SafetensorError, OSError, ValueError) as error:
            raise SasError(
                f"{path} is no readable safetensors file ({error}); it may be cut off: "
                "copy it again."
            ) from error
        if raw is None:
            raise SasError(
                f"{path} holds tensors but no student description; it is not a student bundle. "
                "Make one with `sas train`."
            )
        return _from_parts(path, raw, tensors)


def _from_parts(path: Path, raw: str, tensors: dict[str, torch.Tensor]) -> StudentBundle:
    try:
        metadata = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise SasError(f"The description inside {path} is not valid JSON ({error}).") from error
    if not isinstance(metadata, dict):
        raise SasError(f"The description inside {path} is not a JSON object.")
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise SasError(
            f"{path} has student format {version!r}; this version reads {FORMAT_VERSION}. "
            "Update sas_ros, or export the student again."
        )
    if _EMBEDDINGS not in tensors:
        raise SasError(f"{path} lacks the tensor {_EMBEDDINGS}.")

    def entry(key: str, kind: type | tuple[type, ...]) -> Any:
        value = metadata.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise SasError(
                f"The entry {key!r} of the student {path} is missing or of a wrong kind."
            )
        return value

    embeddings = tensors.pop(_EMBEDDINGS).float().numpy()
    phrases = tensors[_PHRASES].float().numpy() if _PHRASES in tensors else None
    weights = {
        key.removeprefix(_MODEL_PREFIX): value
        for key, value in tensors.items()
        if key.startswith(_MODEL_PREFIX)
    }
    return StudentBundle(
        name=entry("name", str),
        architecture=entry("architecture", dict),
        weights=weights,
        inputs=tuple(str(value) for value in entry("inputs", list)),
        # However many digits there are: out of range is said further on.
        voxel_size=float(max(min(entry("voxel_size", (int, float)), 1e9), -1e9)),
        text_encoder=entry("text_encoder", str),
        prompt=entry("prompt", str),
        vocabulary=Vocabulary.from_metadata(entry("vocabulary", dict), embeddings, phrases),
        calibration=Calibration.from_metadata(entry("calibration", dict)),
        provenance=entry("provenance", dict),
        kind=entry("kind", str),
        requires=tuple(str(value) for value in entry("requires", list)),
    )
