"""`sas train`: fit a student and write its bundle; interrupted runs go on where they stopped."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sas_ros.commands import whole_number
from sas_ros.errors import SasError

if TYPE_CHECKING:
    from sas_ros.language.encoder import TextEncoder
    from sas_ros.student.bundle import StudentBundle
    from sas_training.distill.dataset import SampleConfig
    from sas_training.distill.parallel import Processes
    from sas_training.distill.words import WordBank
    from sas_training.evaluation.labels import LabelSet


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder made by `sas world make`")
    parser.add_argument(
        "--validation", type=Path, help="folder of held-out rooms: calibration and metrics"
    )
    parser.add_argument("--supervision", choices=("class-labels",), default="class-labels")
    parser.add_argument("--labels", default="scannet20", help="label set of the rooms (scannet20)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .safetensors bundle")
    # torchrun takes --run for its own --run-path, wherever it stands.
    parser.add_argument(
        "--run", "--run-folder", type=Path, help="folder of the checkpoint (default: runs/NAME)"
    )
    parser.add_argument("--name", help="name of the student (default: name of the output file)")
    parser.add_argument("--steps", type=whole_number(1), default=10000, help="(10000)")
    parser.add_argument("--scans-per-step", type=whole_number(1), default=2, help="(2)")
    parser.add_argument("--optimiser", choices=("muon", "adamw"), default="muon", help="(muon)")
    parser.add_argument(
        "--learning-rate", type=float, default=4e-3, help="the highest, soon after the start (4e-3)"
    )
    parser.add_argument(
        "--patches",
        type=whole_number(0),
        default=4,
        help="at most so many boxes of space in a scan get another colour",
    )
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
    parser.add_argument(
        "--checkpoint-every",
        type=whole_number(1),
        default=250,
        metavar="STEPS",
        help="between two checkpoints (250)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> int:
    from sas_ros.language.encoder import load_encoder
    from sas_ros.student.inputs import INPUTS
    from sas_training.distill.augment import AugmentConfig
    from sas_training.distill.dataset import SampleConfig
    from sas_training.distill.parallel import joined
    from sas_training.distill.words import WordBank
    from sas_training.evaluation.labels import LABEL_SETS

    indoor = [name for name, labels in LABEL_SETS.items() if labels.nyu40_ids]
    if arguments.labels not in indoor:  # the phrases of the calibration are about rooms
        raise SasError(
            f"The label set {arguments.labels!r} is unknown; known: {', '.join(indoor)}."
        )
    labels = LABEL_SETS[arguments.labels]
    encoder = load_encoder(arguments.text_encoder, weights=arguments.weights)
    words = WordBank(labels, encoder, arguments.prompt)
    samples = SampleConfig(
        voxel_size=arguments.voxel_size,
        inputs=("one", "height") if arguments.no_colours else INPUTS,
        scans_per_step=arguments.scans_per_step,
        augment=AugmentConfig(patches=arguments.patches),
    )
    with joined(arguments.device) as processes:
        return _train(arguments, labels, words, encoder, samples, processes)


def _train(
    arguments: argparse.Namespace,
    labels: LabelSet,
    words: WordBank,
    encoder: TextEncoder,
    samples: SampleConfig,
    processes: Processes,
) -> int:
    from contextlib import nullcontext

    from tqdm import tqdm

    from sas_ros.student.bundle import StudentBundle
    from sas_ros.student.locate import find_student
    from sas_ros.student.minkunet import MinkUNetConfig, count_parameters
    from sas_training.distill.dataset import LabelledScans
    from sas_training.distill.export import Recipe, export_student
    from sas_training.distill.run_folder import RunFolder
    from sas_training.distill.trainer import TINY_PLANES, TrainConfig, Trainer
    from sas_training.evaluation.report import file_sha256

    name = arguments.name or arguments.output.stem
    scans = LabelledScans(
        arguments.data,
        labels,
        samples,
        steps=arguments.steps,
        seed=arguments.seed,
        rank=processes.rank,
        world=processes.world,
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
        optimiser=arguments.optimiser,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        workers=arguments.workers,
        checkpoint_every=arguments.checkpoint_every,
    )
    start, start_sha256 = None, ""
    if arguments.init:
        path = find_student(str(arguments.init))
        start, start_sha256 = StudentBundle.load(path), file_sha256(path)
    origin = origin_of(arguments.data, scans.counts, start)
    run_folder = arguments.run or Path("runs") / name
    # One run at a time.
    with RunFolder(run_folder) if processes.first else nullcontext():
        trainer = Trainer(scans, words, architecture, config, run_folder, start_sha256, processes)
        if start is not None and not trainer.step:
            trainer.start_from(start.network(), start.inputs, samples.inputs)
        if trainer.step and processes.first:
            print(f"going on from step {trainer.step} of {config.steps}", file=sys.stderr)
        started = time.monotonic()
        bar = tqdm(
            trainer.steps(),
            total=config.steps,
            initial=trainer.step,
            disable=arguments.quiet or not processes.first,
            unit="step",
        )
        for _ in bar:
            bar.set_postfix(loss=f"{trainer.loss:.3f}", refresh=False)
    if not processes.first:
        return 0
    recipe = Recipe(
        name=name,
        labels=labels,
        words=words,
        text_encoder=arguments.text_encoder,
        prompt=arguments.prompt,
        inputs=samples.inputs,
        voxel_size=samples.voxel_size,
    )
    facts = {
        **origin,
        "steps": trainer.step,
        # In the fingerprint of the run, so that no run goes on from another.
        "started_from": None if start is None else {"name": start.name, "sha256": start_sha256},
        "scans_per_step": arguments.scans_per_step,
        "optimiser": arguments.optimiser,
        **({} if processes.world == 1 else {"processes": processes.world}),
        "seed": arguments.seed,
        "minutes_of_last_run": round((time.monotonic() - started) / 60, 1),
        "parameters": count_parameters(trainer.averaged),
    }
    metrics = export_student(
        arguments.output, trainer.averaged, recipe, facts, encoder, arguments.validation
    )
    print(f"wrote {arguments.output}")
    for key, value in metrics.items():
        print(f"  {key}: {value}")
    return 0


_NO_TEACHERS, _NO_SCANS, _OURS = "no distillation from 2D teachers", "no real scans", "Apache-2.0"


def origin_of(data: Path, counts: tuple[int, int], start: StudentBundle | None) -> dict[str, str]:
    """`supervision`, `data` and `licence` of a student, as far as they are known.

    Only of rooms that `sas world make` signed with a `world.json` it is known that nothing real is
    in them; and a student that was started from another has in it whatever that one has.

    Args:
        data: the folder trained with.
        counts: rooms and views in it.
        start: the student started from.

    Raises:
        SasError: a `world.json` that cannot be read.
    """
    from sas_training.scenes.procedural.manifest import manifest_path, read_manifest

    world = read_manifest(data) if manifest_path(data).is_file() else None
    if world is None:
        labels = "class labels"
        rooms = f"{counts[0]} labelled scans and {counts[1]} single views, not known where from"
    else:
        labels = "class labels of generated rooms"
        rooms = (
            f"procedural rooms of sas_training.scenes.procedural, version {world['world']}, seed "
            f"{world['seed']}"
        )
    before = {} if start is None else start.provenance
    known = [str(before.get(key, "not stated")) for key in ("supervision", "data", "licence")]
    ours = _NO_TEACHERS in known[0] and _NO_SCANS in known[1] and known[2] == _OURS
    if world is not None and (start is None or ours):
        labels, rooms, licence = f"{labels}; {_NO_TEACHERS}", f"{rooms}; {_NO_SCANS}", _OURS
    else:
        licence = "not stated: see those of the scans and of the student started from"
        labels += "" if start is None else f"; before that: {known[0]}"
        rooms += "" if start is None else f"; before that: {known[1]}"
    return {"supervision": labels, "data": rooms, "licence": licence}
