"""`sas calibrate --student S --data ROOMS -o NEW`: the same weights with a new calibration."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sas_ros.errors import SasError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--student",
        default="indoor-tiny",
        help="name of a shipped student or path of a .safetensors bundle (default: indoor-tiny)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder made by `sas world make`, of rooms that the student was not trained on",
    )
    parser.add_argument("--labels", default="scannet20", help="label set of the rooms")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .safetensors bundle")
    parser.add_argument(
        "--threshold", type=float, help="take this one, 0 to 1 (default: what the rooms ask for)"
    )
    parser.add_argument("--text-weights", type=Path, help="local weights of the text encoder")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    from sas_ros.language.encoder import check_encoder, load_encoder
    from sas_ros.student.bundle import StudentBundle
    from sas_ros.student.locate import find_student
    from sas_training.distill.calibrate import calibrate_bundle
    from sas_training.evaluation.labels import LABEL_SETS

    indoor = [name for name, labels in LABEL_SETS.items() if labels.nyu40_ids]
    if arguments.labels not in indoor:  # the phrases are about rooms
        raise SasError(
            f"The label set {arguments.labels!r} is unknown; known: {', '.join(indoor)}."
        )
    if arguments.threshold is not None and not 0 < arguments.threshold <= 1:
        raise SasError(f"The threshold is a probability above 0, not {arguments.threshold:g}.")
    bundle = StudentBundle.load(find_student(arguments.student))
    encoder = load_encoder(bundle.text_encoder, weights=arguments.text_weights)
    check_encoder(bundle.text_encoder, bundle.feature_dim, encoder)
    labels = LABEL_SETS[arguments.labels]
    bundle, metrics = calibrate_bundle(bundle, labels, encoder, arguments.data, arguments.threshold)
    bundle.save(arguments.output)
    result = {"output": str(arguments.output), "student": bundle.name, **metrics}
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        print(f"wrote {arguments.output}")
        for key, value in metrics.items():
            print(f"  {key}: {value}")
    return 0
