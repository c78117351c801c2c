"""`sas import-checkpoint FILE -o BUNDLE`: a published OpenScene or SAS student becomes a bundle."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sas_ros.errors import SasError

if TYPE_CHECKING:
    from sas_ros.language.vocabulary import Vocabulary
    from sas_training.vocabularies import Words

_OUTDOOR_WIDTH = 768


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", type=Path, help=".pth, .pth.tar, .pt or .safetensors with the 3D network"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .safetensors bundle")
    parser.add_argument(
        "--labels",
        metavar="SET|FILE",
        help="scannet20, matterport21, nuscenes16, nuscenes43, or a file with a word per line "
        "(default: scannet20 for features of 512 numbers, nuscenes16 for 768)",
    )
    parser.add_argument("--voxel-size", type=float, help="metres (default: 0.02, streets 0.05)")
    parser.add_argument("--text-encoder", help="whose space the features lie in (default: CLIP)")
    parser.add_argument("--text-weights", type=Path, help="local weights of the text encoder")
    parser.add_argument(
        "--embeddings",
        type=Path,
        help=".npz or .safetensors with names and embeddings of the labels, instead of the encoder",
    )
    parser.add_argument("--name", help="name of the student (default: name of the output file)")
    parser.add_argument("--force", action="store_true", help="write over an existing file")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")


def run(arguments: argparse.Namespace) -> int:
    from sas_ros.student.checkpoint import read_checkpoint
    from sas_ros.student.minkunet import count_parameters
    from sas_ros.student.published import (
        published_network,
        student_from_checkpoint,
        text_encoder_of,
    )
    from sas_ros.student.recognition import family_name

    output: Path = arguments.output
    _check_output(arguments.checkpoint, output, arguments.force)
    checkpoint = read_checkpoint(arguments.checkpoint)
    config, weights = published_network(checkpoint)
    width = config.out_channels
    text_encoder = arguments.text_encoder or text_encoder_of(width)
    words, voxel_size, assumed = _choices(arguments, width)
    vocabulary, embedded_by = _vocabulary(arguments, words, text_encoder, width)
    bundle = student_from_checkpoint(
        checkpoint,
        (config, weights),
        vocabulary,
        name=arguments.name or output.stem,
        text_encoder=text_encoder,
        voxel_size=voxel_size,
        embedded_by=embedded_by,
    )
    parameters = count_parameters(bundle.network())
    bundle.save(output)
    report = {
        "output": str(output),
        "student": bundle.name,
        "checkpoint": str(checkpoint.path),
        "sha256": checkpoint.sha256,
        "epoch": checkpoint.epoch,
        "best_iou": checkpoint.best_iou,
        "architecture": family_name(config),
        "parameters": parameters,
        "in_channels": config.in_channels,
        "out_channels": width,
        "text_encoder": text_encoder,
        "embeddings": embedded_by,
        "label_set": words.source,
        "labels": list(vocabulary.names),
        "voxel_size": voxel_size,
        "ignored": dict(checkpoint.ignored),
        "assumed": assumed,
        "licence": bundle.provenance["licence"],
    }
    print(json.dumps(report, indent=2) if arguments.json else _lines(report))
    return 0


def _check_output(checkpoint: Path, output: Path, force: bool) -> None:
    if output.suffix != ".safetensors":
        raise SasError(f"A student bundle is a .safetensors file; {output} is named otherwise.")
    if output.exists():
        if checkpoint.exists() and output.samefile(checkpoint):
            raise SasError(f"{output} is the checkpoint itself; give another output.")
        if not force:
            raise SasError(f"{output} is there already; give --force to write over it.")


def _choices(arguments: argparse.Namespace, width: int) -> tuple[Words, float, list[str]]:
    """The words, the voxel size, and sentences about what was taken for granted."""
    from sas_ros.student.published import INDOOR_VOXEL, OUTDOOR_VOXEL, PROMPT
    from sas_training.evaluation.labels import NUSCENES16, NUSCENES43, SCANNET20
    from sas_training.vocabularies import read_embeddings, read_words, words_named

    assumed = []
    if arguments.labels:
        words = read_words(arguments.labels, PROMPT)
    elif arguments.embeddings:
        words = words_named(read_embeddings(arguments.embeddings)[0], arguments.embeddings.name)
    else:
        chosen = NUSCENES16 if width == _OUTDOOR_WIDTH else SCANNET20
        words = read_words(chosen.name, PROMPT)
        assumed.append(f"labels {chosen.name}, because features have {width} numbers (--labels)")
    outdoor = words.source in (NUSCENES16.name, NUSCENES43.name)
    voxel_size = arguments.voxel_size
    if voxel_size is None:
        voxel_size = OUTDOOR_VOXEL if outdoor else INDOOR_VOXEL
        assumed.append(
            f"voxels of {voxel_size:g} m, as students of {'streets' if outdoor else 'rooms'} "
            "were trained with (--voxel-size)"
        )
    assumed.append("input of ones in all channels: no colour, no height")
    assumed.append("temperature and thresholds: nothing was calibrated")
    return words, voxel_size, assumed


def _vocabulary(
    arguments: argparse.Namespace, words: Words, text_encoder: str, width: int
) -> tuple[Vocabulary, str]:
    """The words with embeddings as wide as the features, and where these come from."""
    from sas_ros.language.encoder import check_encoder, load_encoder
    from sas_ros.student.published import save_weights_command
    from sas_training.vocabularies import pick_rows, read_embeddings

    if arguments.embeddings:
        names, rows = read_embeddings(arguments.embeddings)
        if rows.shape[1] != width:
            raise SasError(
                f"The embeddings in {arguments.embeddings} have {rows.shape[1]} numbers, but the "
                f"network's features have {width}; they come from different text encoders."
            )
        vocabulary = words.vocabulary(pick_rows(words, names, rows))
        return vocabulary, f"read from {arguments.embeddings.name}"
    try:
        encoder = load_encoder(text_encoder, weights=arguments.text_weights)
    except SasError as error:
        command = save_weights_command(text_encoder)
        advice = f" Where there is a network, this saves its weights: {command}" if command else ""
        raise SasError(
            f"The {len(words.names)} labels must be embedded once, by the text encoder with its "
            "weights (--text-weights FILE), or be given with embeddings (--embeddings FILE). "
            f"{error}{advice}"
        ) from error
    check_encoder(text_encoder, width, encoder)
    return words.vocabulary(words.embedded(encoder)), f"computed with {text_encoder}"


def _lines(report: dict[str, Any]) -> str:
    lines = [
        f"{report['checkpoint']}: {report['architecture']}, {report['parameters']:,} parameters, "
        f"{report['in_channels']} channels in, features of {report['out_channels']} numbers",
        f"  text encoder  {report['text_encoder']}; embeddings {report['embeddings']}",
        f"  labels        {report['label_set']}: {', '.join(report['labels'])}",
    ]
    trained = {"epoch": report["epoch"], "best_iou": report["best_iou"]}
    said = [f"{key} {value:g}" for key, value in trained.items() if value is not None]
    if said:
        lines.append(f"  training      {', '.join(said)}")
    if report["ignored"]:
        count = sum(report["ignored"].values())
        parts = ", ".join(f"{name} {number}" for name, number in report["ignored"].items())
        lines.append(f"  ignored       {count} tensors outside the 3D network ({parts})")
    lines += [f"  assumed       {sentence}" for sentence in report["assumed"]]
    return "\n".join([*lines, f"  licence       {report['licence']}", f"wrote {report['output']}"])
