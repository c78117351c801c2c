"""`sas train`: fit a student and write its bundle; interrupted runs go on where they stopped."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sas_ros.commands import whole_number
from sas_ros.errors import SasError

if TYPE_CHECKING:
    from sas_training.distill.trainer import Trainer


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder made by `sas world make`")
    parser.add_argument(
        "--validation", type=Path, help="folder of held-out rooms: calibration and metrics"
    )
    parser.add_argument("--supervision", choices=("class-labels",), default="class-labels")
    parser.add_argument("--labels", default="scannet20")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .safetensors bundle")
    parser.add_argument("--run", type=Path, help="folder of the checkpoint (default: runs/NAME)")
    parser.add_argument("--name", help="name of the student (default: name of the output file)")
    parser.add_argument("--steps", type=whole_number(1), default=5000)
    parser.add_argument("--scans-per-step", type=whole_number(1), default=4)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--voxel-size", type=float, default=0.08, help="metres")
    parser.add_argument("--no-colours", action="store_true", help="a student of geometry alone")
    parser.add_argument("--text-encoder", default="minilm-l6-v2")
    parser.add_argument("--weights", type=Path, help="local weights of the text encoder")
    parser.add_argument("--prompt", default="{}", help="template the words are put into")
    parser.add_argument("--init", type=Path, help="student whose weights to start from")
    parser.add_argument("--seed", type=whole_number(0), default=0)
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "cpu"))
    parser.add_argument(
        "--workers", type=whole_number(0), default=1, help="processes that prepare batches"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from sas_ros.language.encoder import load_encoder
    from sas_ros.student.bundle import StudentBundle
    from sas_ros.student.inputs import INPUTS
    from sas_ros.student.locate import find_student
    from sas_ros.student.minkunet import MinkUNetConfig, count_parameters
    from sas_training.distill.dataset import LabelledScans, SampleConfig
    from sas_training.distill.export import Recipe, export_student
    from sas_training.distill.trainer import TINY_PLANES, TrainConfig, Trainer
    from sas_training.distill.words import WordBank
    from sas_training.evaluation.labels import LABEL_SETS

    indoor = [name for name, labels in LABEL_SETS.items() if labels.nyu40_ids]
    if arguments.labels not in indoor:  # the phrases of the calibration are about rooms
        raise SasError(
            f"The label set {arguments.labels!r} is unknown; known: {', '.join(indoor)}."
        )
    labels = LABEL_SETS[arguments.labels]
    name = arguments.name or arguments.output.stem
    encoder = load_encoder(arguments.text_encoder, weights=arguments.weights)
    words = WordBank(labels, encoder, arguments.prompt)
    samples = SampleConfig(
        voxel_size=arguments.voxel_size,
        inputs=("one", "height") if arguments.no_colours else INPUTS,
        scans_per_step=arguments.scans_per_step,
    )
    scans = LabelledScans(
        arguments.data, labels, samples, steps=arguments.steps, seed=arguments.seed
    )
    architecture = MinkUNetConfig(
        in_channels=len(samples.inputs),
        out_channels=encoder.dim,
        stem=TINY_PLANES[0],
        planes=TINY_PLANES,
        layers=(1,) * 8,
    )
    config = TrainConfig(
        steps=arguments.steps,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        device=arguments.device,
        workers=arguments.workers,
    )
    trainer = Trainer(scans, words, architecture, config, arguments.run or Path("runs") / name)
    if arguments.init and not trainer.step:
        trainer.start_from(StudentBundle.load(find_student(str(arguments.init))).network())
    if trainer.step:
        print(f"going on from step {trainer.step} of {config.steps}", file=sys.stderr)
    started = time.monotonic()
    bar = tqdm(
        trainer.steps(),
        total=config.steps,
        initial=trainer.step,
        disable=arguments.quiet,
        unit="step",
    )
    for _ in bar:
        bar.set_postfix(loss=f"{trainer.loss:.3f}", refresh=False)
    recipe = Recipe(
        name=name,
        labels=labels,
        words=words,
        text_encoder=arguments.text_encoder,
        prompt=arguments.prompt,
        inputs=samples.inputs,
        voxel_size=samples.voxel_size,
    )
    facts = _provenance(arguments, trainer, count_parameters(trainer.averaged), started)
    metrics = export_student(
        arguments.output, trainer.averaged, recipe, facts, encoder, arguments.validation
    )
    print(f"wrote {arguments.output}")
    for key, value in metrics.items():
        print(f"  {key}: {value}")
    return 0


def _provenance(
    arguments: argparse.Namespace, trainer: Trainer, parameters: int, started: float
) -> dict[str, Any]:
    return {
        "supervision": "class labels of generated rooms; no distillation from 2D teachers",
        "data": "procedural rooms of sas_training.scenes.procedural; no real scans",
        "steps": trainer.step,
        "started_from": str(arguments.init.name) if arguments.init else None,
        "scans_per_step": arguments.scans_per_step,
        "seed": arguments.seed,
        "minutes_of_last_run": round((time.monotonic() - started) / 60, 1),
        "parameters": parameters,
        "licence": "Apache-2.0",
    }
