"""The whole way: clouds, superpoints, teachers, fusion, distillation, report."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sas_ros.errors import SasError
from sas_ros.student.bundle import StudentBundle
from sas_training.commands import distill
from sas_training.fusion.features import PointFeatures
from sas_training.jobs import Job, Workers
from sas_training.learn import stages
from sas_training.learn.files import LearnFiles
from sas_training.learn.report import write_report

Say = Callable[[str], None]


def learn(
    files: LearnFiles,
    names: Sequence[str],
    output: Path,
    *,
    workers: Workers,
    device: str = "auto",
    say: Say = print,
) -> StudentBundle:
    """Make what is missing, train, and write the bundle and the report beside the files.

    Args:
        names: scenes of the recording.
        output: the bundle; its stem is the student's name.

    Raises:
        SasError: a scene or teacher that cannot be read, or no scene that a teacher saw enough of.
    """
    refuse_inside(files, output)
    make_inputs(files, names, workers=workers, device=device)
    chosen = seen_enough(files, names, say)
    train(files, chosen, output, device)
    bundle = StudentBundle.load(output)
    write_report(files, chosen, bundle, output)
    say(f"report: {files.run / 'report' / 'report.md'}")
    return bundle


def make_inputs(
    files: LearnFiles, names: Sequence[str], *, workers: Workers, device: str = "auto"
) -> None:
    """Everything that the distillation reads."""
    make_clouds(files, names, workers)
    workers.do(
        "superpoints",
        [Job(files.superpoint_file(n), stages.make_superpoints, (files, n)) for n in names],
    )
    make_features(files, names, workers=workers, device=device)


def make_clouds(files: LearnFiles, names: Sequence[str], workers: Workers) -> None:
    """The points of the scenes."""
    workers.do("clouds", [Job(files.cloud(n), stages.make_cloud, (files, n)) for n in names])


def make_features(
    files: LearnFiles, names: Sequence[str], *, workers: Workers, device: str = "auto"
) -> None:
    """What the teachers say about the points, and that fused."""
    workers.do("teachers", [_said(files, name, device) for name in names])
    workers.do(
        "fusion",
        [Job(files.feature_file(n), stages.make_features, (files, n, device)) for n in names],
    )


def _said(files: LearnFiles, name: str, device: str) -> Job:
    """One walk over the frames of a scene for all teachers that have not said anything yet."""
    numbers = range(len(files.settings.teachers))
    missing = [number for number in numbers if not files.said(number, name).exists()]
    looking = [number for number in missing if files.settings.teachers[number].looks]
    last = (looking or missing or numbers)[-1]
    target = files.said(last, name)
    return Job(target, stages.make_said, (files, name, missing, device))


def seen_enough(files: LearnFiles, names: Sequence[str], say: Say) -> list[str]:
    """The scenes to train on; raises SasError where there is none."""
    chosen = []
    for name in names:
        share = float(PointFeatures.load(files.feature_file(name)).mask.mean())
        if share >= files.settings.fewest_seen and share > 0:
            chosen.append(name)
        else:
            say(f"{name} is left out: the teachers say something about {share:.1%} of its points")
    if not chosen:
        raise SasError(
            "The teachers say hardly anything about the points of any scene: the poses, the "
            "intrinsics or the depths do not fit the images. `sas scenes KIND PATH --check` shows "
            "which frames agree with the cloud."
        )
    return chosen


def refuse_inside(files: LearnFiles, output: Path) -> None:
    """Raise SasError for a bundle that would become part of the recording."""
    recording, run = files.recording.path.resolve(), files.run.resolve()
    parents = output.resolve().parents
    if recording in parents and run not in parents:
        raise SasError(
            f"{output} lies inside the recording {files.recording.path}, which would then be "
            "another one at the next run; write it somewhere else."
        )


def train(files: LearnFiles, names: Sequence[str], output: Path, device: str) -> None:
    """`sas distill` on these scenes; goes on where it stopped."""
    changes = [*files.settings.changes, *for_few_scenes(files, len(names))]
    training = files.training(names, changes)
    data = training / "scenes"
    data.mkdir(parents=True, exist_ok=True)
    for name in names:
        link = data / f"{name}.npz"
        link.unlink(missing_ok=True)  # it may be from before the folders were moved
        link.symlink_to(files.cloud(name).resolve())
    parser = argparse.ArgumentParser()
    distill.configure(parser)
    given = ["--data", data, "--features", files.features(), "--superpoints", files.superpoints()]
    given += ["--run", training / "run", "-o", output, "--device", device]
    given += ["--recipe", files.settings.recipe]
    if files.settings.text_weights:
        given += ["--weights", files.settings.text_weights]
    given += [part for change in changes for part in ("--set", change)]
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for the report
        distill.run(parser.parse_args([str(part) for part in given]))


def for_few_scenes(files: LearnFiles, scenes: int) -> list[str]:
    """Changes to the recipe that let it work on fewer scenes than it was made for."""
    schedule = files.recipe.schedule
    batch = min(schedule.batch, scenes)
    steps = schedule.epochs * schedule.repeats * math.ceil(scenes / batch)
    changes = []
    if batch < schedule.batch:
        changes += [f"schedule.batch={batch}", "schedule.accumulate=1"]
    if steps < files.settings.fewest_steps:
        repeats = schedule.repeats * math.ceil(files.settings.fewest_steps / steps)
        changes.append(f"schedule.repeats={repeats}")
    return changes
