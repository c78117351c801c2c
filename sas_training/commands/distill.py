"""`sas distill`: distil 2D teachers' features into a student; goes on where it stopped."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sas_ros.commands import whole_number
from sas_ros.errors import SasError

if TYPE_CHECKING:
    from sas_ros.student.bundle import StudentBundle
    from sas_training.distill.distiller import Distiller
    from sas_training.distill.feature_scenes import FeatureScenes
    from sas_training.distill.parallel import Processes
    from sas_training.distill.recipes import Recipe
    from sas_training.distill.stages import Texts

_UNKNOWN_LICENCE = "not stated: see the licences of the teachers and of the scenes"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of scenes NAME.npz (docs/train.md)"
    )
    parser.add_argument("--features", type=Path, help="folder of NAME.features.safetensors (DATA)")
    parser.add_argument(
        "--superpoints", type=Path, help="folder of NAME.superpoints.safetensors (DATA)"
    )
    parser.add_argument("-o", "--output", type=Path, help="the .safetensors bundle to write")
    parser.add_argument(
        "--recipe",
        default="procedural-small",
        help="name in config/distill, or a .toml file (procedural-small)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a value of the recipe, as schedule.epochs=10; may be given again",
    )
    # torchrun takes --run for its own --run-path, wherever it stands.
    parser.add_argument(
        "--run", "--run-folder", type=Path, help="folder of the checkpoint (default: runs/NAME)"
    )
    parser.add_argument("--name", help="name of the student (default: name of the output file)")
    parser.add_argument("--init", type=Path, help="student whose weights to start from")
    parser.add_argument("--weights", type=Path, help="local weights of the text encoder")
    parser.add_argument(
        "--embeddings",
        type=Path,
        help=".npz or .safetensors with names and embeddings of the words, instead of the encoder",
    )
    parser.add_argument(
        "--validation",
        type=Path,
        help="folder of held-out labelled rooms: calibration and metrics of the finished student",
    )
    parser.add_argument("--licence", default=_UNKNOWN_LICENCE, help="of the student, as text")
    parser.add_argument(
        "--overfit",
        type=whole_number(1),
        metavar="STEPS",
        help="self-test: learn the first scene by heart in so many steps; writes no bundle",
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "cpu"))
    parser.add_argument(
        "--workers", type=whole_number(0), default=2, help="processes that prepare batches (2)"
    )
    parser.add_argument(
        "--checkpoint-every", type=whole_number(1), metavar="STEPS", help="(default: an epoch)"
    )
    parser.add_argument(
        "--keep-every",
        type=whole_number(1),
        metavar="STEPS",
        help="also write the student as it is every so many steps, as NAME-000800.safetensors",
    )
    parser.add_argument(
        "--cache", type=whole_number(0), default=512, metavar="MIB", help="scenes kept, per worker"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")


def run(arguments: argparse.Namespace) -> int:
    from sas_training.distill.feature_scenes import FeatureScenes
    from sas_training.distill.parallel import joined
    from sas_training.distill.recipes import load_recipe

    output = arguments.output
    if output is None and not arguments.overfit:
        raise SasError("Give the file of the student with -o NAME.safetensors.")
    if output is not None and output.suffix != ".safetensors":
        raise SasError(f"A student bundle is a .safetensors file; {output} is named otherwise.")
    recipe = load_recipe(arguments.recipe, arguments.set)
    scenes = FeatureScenes(
        arguments.data,
        arguments.features,
        arguments.superpoints,
        superpoints_needed=recipe.objective.targets == "superpoint",
        cache_mib=arguments.cache,
    )
    scenes.check_space(recipe.vocabulary.text_encoder)
    if arguments.validation and not arguments.overfit:
        _check_validation(arguments.validation, recipe)
    with joined(arguments.device) as processes:
        if arguments.overfit:
            return _overfit(arguments, scenes, recipe, processes)
        return _distil(arguments, scenes, recipe, processes)


def _distil(
    arguments: argparse.Namespace, scenes: FeatureScenes, recipe: Recipe, processes: Processes
) -> int:
    from contextlib import nullcontext

    from sas_ros.student.bundle import StudentBundle
    from sas_ros.student.locate import find_student
    from sas_training.distill.distilled import distilled_bundle, provenance_of
    from sas_training.distill.distiller import Distiller, LoopSettings
    from sas_training.distill.run_folder import RunFolder

    name = arguments.name or arguments.output.stem
    words, encoder, texts = _texts(arguments, recipe)
    start = None
    if arguments.init:
        start = StudentBundle.load(find_student(str(arguments.init))).network()
    folder = RunFolder(arguments.run or Path("runs") / name)
    with folder if processes.first else nullcontext():
        loop = LoopSettings(arguments.workers, arguments.checkpoint_every or 0)
        trainer = Distiller(scenes, texts, recipe, folder, processes, loop, start)
        if trainer.step and processes.first:
            print(f"going on from step {trainer.step} of {trainer.total}", file=sys.stderr)
        started = time.monotonic()

        def as_it_is() -> StudentBundle:
            provenance = provenance_of(
                scenes,
                recipe,
                trainer.student,
                steps=trainer.step,
                losses=trainer.losses,
                started_from=arguments.init.name if arguments.init else None,
                licence=arguments.licence,
            )
            return distilled_bundle(
                name, trainer.student, recipe, words, texts.vocabulary, provenance
            )

        _follow(arguments, trainer, folder.path, processes, as_it_is)
        if not processes.first:
            return 0
        bundle = as_it_is()
        metrics: dict[str, Any] = {}
        if arguments.validation:
            bundle, metrics = _calibrated(arguments, bundle, recipe, encoder)
        bundle.save(arguments.output)
    report = {
        "output": str(arguments.output),
        "student": name,
        "teachers": list(scenes.teachers),
        "scenes": len(scenes),
        "steps": trainer.step,
        "minutes_of_last_run": round((time.monotonic() - started) / 60, 2),
        "last_losses": bundle.provenance["last_losses"],
        "metrics": metrics,
    }
    print(json.dumps(report, indent=2) if arguments.json else _lines(report))
    return 0


def _follow(
    arguments: argparse.Namespace,
    trainer: Distiller,
    run: Path,
    processes: Processes,
    as_it_is: Callable[[], StudentBundle],
) -> None:
    """Train with a progress bar, curves and, with --keep-every, students on the way."""
    from tqdm import tqdm

    from sas_training.distill.scalars import Scalars

    def keep(step: int) -> None:
        if arguments.keep_every and processes.first and step and step % arguments.keep_every == 0:
            output: Path = arguments.output
            kept = output.with_name(f"{output.stem}-{step:06d}{output.suffix}")
            # Whoever was killed right after a checkpoint had not written its student.
            if step > begun or not kept.exists():
                as_it_is().save(kept)

    begun = trainer.step
    keep(begun)
    scalars = Scalars(run / "curves", trainer.step) if processes.first else None
    bar = tqdm(
        trainer.steps(),
        total=trainer.total,
        initial=trainer.step,
        disable=arguments.quiet or not processes.first,
        unit="step",
    )
    for step in bar:
        parts = {name: f"{value:.3f}" for name, value in step.losses.items()}
        bar.set_postfix(epoch=step.epoch, **parts, refresh=False)
        keep(step.number)
        if scalars is not None:
            values = {f"loss/{name}": value for name, value in step.losses.items()}
            values |= {"loss": step.loss, "learning_rate": step.learning_rate}
            values |= {"gradient_norm": step.gradient_norm, "voxels": step.voxels}
            scalars.add(step.number, values)
    if scalars is not None:
        scalars.close()


def _overfit(
    arguments: argparse.Namespace, scenes: FeatureScenes, recipe: Recipe, processes: Processes
) -> int:
    from tqdm import tqdm

    from sas_training.distill.overfit import GOAL, overfit
    from sas_training.distill.run_folder import RunFolder

    _, _, texts = _texts(arguments, recipe)
    with tempfile.TemporaryDirectory() as temporary, RunFolder(Path(temporary)) as folder:
        steps = overfit(scenes, texts, recipe, folder, processes, arguments.overfit)
        bar = tqdm(steps, total=arguments.overfit, disable=arguments.quiet, unit="step")
        for last in bar:
            bar.set_postfix(loss=f"{last.loss:.3f}", refresh=False)
        bar.close()
    report = {"scene": scenes.names[0], "steps": last.number, "loss": last.loss, "goal": GOAL}
    if arguments.json:
        print(json.dumps({**report, "learned": last.learned}, indent=2))
    elif last.learned:
        print(f"learned {scenes.names[0]}: loss {last.loss:.3f} after {last.number} steps")
    else:
        print(
            f"{scenes.names[0]} was not learned: the loss is {last.loss:.3f} after {last.number} "
            f"steps, wanted below {GOAL}. Give more steps; where it no longer falls, points, "
            "features and superpoints do not belong together, or teachers contradict themselves."
        )
    return 0 if last.learned else 1


def _texts(arguments: argparse.Namespace, recipe: Recipe) -> tuple[Any, Any, Texts]:
    """The words, the encoder (None with --embeddings), and the text vectors of a run."""
    from sas_ros.language.encoder import load_encoder
    from sas_training.distill.distilled import embed, words_of
    from sas_training.distill.stages import Texts

    vocabulary = recipe.vocabulary
    encoder = None
    if arguments.embeddings is None:
        encoder = load_encoder(vocabulary.text_encoder, weights=arguments.weights)
    words = words_of(vocabulary.labels, vocabulary.prompt)
    rows = embed(words, encoder, arguments.embeddings)
    classes = rows
    if recipe.self_distillation.classes:
        others = words_of(recipe.self_distillation.classes, vocabulary.prompt)
        classes = embed(others, encoder, arguments.embeddings)
    return words, encoder, Texts(rows, classes)


def _calibrated(
    arguments: argparse.Namespace, bundle: Any, recipe: Recipe, encoder: Any
) -> tuple[Any, dict[str, Any]]:
    from sas_ros.language.encoder import load_encoder
    from sas_training.distill.calibrate import calibrate_bundle
    from sas_training.evaluation.labels import LABEL_SETS

    said = {"calibration": "fitted to labelled held-out rooms; the weights saw no label"}
    bundle = replace(bundle, provenance={**bundle.provenance, **said})
    if encoder is None:
        encoder = load_encoder(recipe.vocabulary.text_encoder, weights=arguments.weights)
    labels = LABEL_SETS[recipe.vocabulary.labels]
    return calibrate_bundle(bundle, labels, encoder, arguments.validation)


def _check_validation(folder: Path, recipe: Recipe) -> None:
    """Raise SasError for what would fail only after all of the training."""
    from sas_training.evaluation.labels import LABEL_SETS
    from sas_training.evaluation.scoring import expand

    name = recipe.vocabulary.labels
    if name not in LABEL_SETS:
        raise SasError(
            f"The words of {name} are no label set, so that labelled rooms cannot calibrate them; "
            "leave --validation out."
        )
    expand([folder / "rooms" if (folder / "rooms").is_dir() else folder])


def _lines(report: dict[str, Any]) -> str:
    losses = ", ".join(f"{name} {value:.3f}" for name, value in report["last_losses"].items())
    lines = [
        f"wrote {report['output']}",
        f"  distilled from {', '.join(report['teachers'])}; no 3D labels",
        f"  {report['scenes']} scenes, {report['steps']} steps; last losses: {losses or 'none'}",
    ]
    return "\n".join([*lines, *(f"  {k}: {v}" for k, v in report["metrics"].items())])
