"""OpenScene's and SAS's published students: what their checkpoints leave unsaid, and the bundle.

A checkpoint holds weights only. Which text encoder it belongs to follows from the width of the
features; prompt, input and voxel size are those of the published training (reference 6.1, 7.2).
"""

from __future__ import annotations

import torch

from sas_ros import __version__
from sas_ros.errors import SasError
from sas_ros.language.available import OPEN_CLIP_PREFIX
from sas_ros.language.calibration import Calibration
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.student.bundle import StudentBundle
from sas_ros.student.checkpoint import Checkpoint
from sas_ros.student.minkunet import MinkUNetConfig
from sas_ros.student.recognition import family_name, fitting_weights, recognise

PROMPT = "a {} in a scene"

TEXT_ENCODERS = {
    512: f"{OPEN_CLIP_PREFIX}ViT-B-32-quickgelu",
    768: f"{OPEN_CLIP_PREFIX}ViT-L-14-336-quickgelu",
}
"""Text encoder by the width of the features: CLIP ViT-B/32 and ViT-L/14@336px with OpenAI's
weights, which want the quick approximation of GELU they were trained with."""

INDOOR_VOXEL, OUTDOOR_VOXEL = 0.02, 0.05
"""Metres: students of ScanNet and Matterport3D, and of nuScenes."""

CALIBRATION = Calibration(
    temperature=100.0, threshold=0.5, same_meaning_margin=0.02, same_meaning_floor=0.945
)
"""Assumed, not measured on the student: CLIP's own logit scale, and an even chance. The floor is
CLIP's: prompted texts are all alike, "person" and "picture" at cosine 0.94, "shelf" and "bookshelf"
at 0.95, so that a floor for sentence embeddings would make every word mean every other."""

LICENCE = (
    "weights derived from ScanNet, Matterport3D or nuScenes inherit their non-commercial terms; "
    "not for redistribution"
)


def text_encoder_of(width: int) -> str:
    """Name of the text encoder whose space features of `width` numbers lie in.

    Raises SasError for a width that no published student has.
    """
    if width not in TEXT_ENCODERS:
        raise SasError(
            f"The network makes features of {width} numbers; published students make "
            f"{' or '.join(map(str, TEXT_ENCODERS))}. Say with --text-encoder whose space they "
            "lie in."
        )
    return TEXT_ENCODERS[width]


def save_weights_command(encoder: str) -> str | None:
    """A shell command that fetches and saves the weights of an open_clip `encoder`."""
    if encoder not in TEXT_ENCODERS.values():
        return None
    model = encoder.removeprefix(OPEN_CLIP_PREFIX)
    return (
        'python -c "import open_clip, safetensors.torch as st; '
        f"m = open_clip.create_model('{model}', 'openai'); "
        "st.save_file({k: v.contiguous() for k, v in m.state_dict().items()}, "
        f"'{model}.safetensors')\""
    )


def published_network(
    checkpoint: Checkpoint,
) -> tuple[MinkUNetConfig, dict[str, torch.Tensor]]:
    """The network a checkpoint holds, and its weights, float32.

    Raises:
        SasError: no MinkUNet, tensors that do not fit it, or another input than the published one.
    """
    config = recognise(checkpoint.weights)
    weights = fitting_weights(config, checkpoint.weights)
    if config.in_channels != 3:
        raise SasError(
            f"The network takes {config.in_channels} input channels; published students take 3, "
            "all ones, and a checkpoint does not say what others would hold."
        )
    return config, weights


def student_from_checkpoint(
    checkpoint: Checkpoint,
    network: tuple[MinkUNetConfig, dict[str, torch.Tensor]],
    vocabulary: Vocabulary,
    *,
    name: str,
    text_encoder: str,
    voxel_size: float,
    embedded_by: str,
) -> StudentBundle:
    """The bundle of a checkpoint's network.

    Args:
        checkpoint: as read.
        network: of it, from `published_network`.
        vocabulary: words with embeddings as wide as the network's features.
        name: of the student.
        text_encoder: whose space the features and embeddings lie in.
        voxel_size: metres, that of the student's training.
        embedded_by: where the embeddings come from, for the provenance.

    Raises:
        SasError: embeddings of another width.
    """
    config, weights = network
    provenance = {
        "source_file": checkpoint.path.name,
        "source_sha256": checkpoint.sha256,
        "source_epoch": checkpoint.epoch,
        "source_best_iou": checkpoint.best_iou,
        "imported_by": f"sas import-checkpoint of sas_ros {__version__}",
        "architecture": family_name(config),
        "embeddings": embedded_by,
        "calibration": "assumed; neither temperature nor thresholds were calibrated",
        "licence": LICENCE,
    }
    return StudentBundle(
        name=name,
        architecture=config.to_dict(),
        weights=weights,
        inputs=("one",) * config.in_channels,
        voxel_size=voxel_size,
        text_encoder=text_encoder,
        prompt=PROMPT,
        vocabulary=vocabulary,
        calibration=CALIBRATION,
        provenance=provenance,
    )
