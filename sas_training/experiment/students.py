"""The rows that need a student: distilling one, and what it says about held-out rooms.

Everything that this experiment takes from the distillation is in `distil`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.language.calibration import Calibration
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.observation import Cloud, Up
from sas_ros.student.bundle import StudentBundle
from sas_training.distill.recipes import Recipe
from sas_training.distill.self_distillation import variant
from sas_training.evaluation.labels import SCANNET20, STUFF
from sas_training.experiment.words import Words
from sas_training.jobs import followed

COSINE = "3d/superpoint-cosine"
"""`3d/superpoint` with the paper's distance, 1 - cos, whatever the recipe has."""

ROWS_3D = ("3d/pixel", "3d/superpoint", COSINE, "3d/self-distillation", "3d/three-teachers")
"""The rows of students, but for `COSINE` each with one thing more than the one before."""

SAME_AT_FIRST = ("3d/superpoint", "3d/self-distillation")
"""Rows that do the same until the second of them prepares its stage 2."""

_ABOUT = {"supervision": "distilled from small 2D teachers of generated rooms; an experiment"}


def recipe_of(row: str, base: Recipe, seed: int) -> Recipe:
    """The recipe of a row: `base`, with what the row is about changed, of equal length.

    Raises:
        SasError: no such row.
    """
    if row not in ROWS_3D:
        raise SasError(f"{row!r} is no row of a student; known are {', '.join(ROWS_3D)}.")
    targets = "pixel" if row == "3d/pixel" else "superpoint"
    distance = "cosine" if row == COSINE else base.objective.distance
    used = row in ("3d/self-distillation", "3d/three-teachers")
    return replace(
        base,
        description=row,
        seed=seed,
        objective=replace(base.objective, targets=targets, distance=distance),
        self_distillation=base.self_distillation if used else variant("none"),
    )


def distil(
    clouds: Path,
    features: Path,
    superpoints: Path,
    recipe: Recipe,
    words: Words,
    run: Path,
    target: Path,
    keep: tuple[int, Path] | None = None,
    begin: Path | None = None,
) -> None:
    """Distil a student and write its bundle; a run that was killed goes on.

    Args:
        clouds, features, superpoints: folders of the rooms' files.
        recipe: of the run.
        words: the classes are the student's vocabulary.
        run: folder of its checkpoint.
        target: the bundle.
        keep: epochs after which the checkpoint is copied, and where to.
        begin: such a copy, to begin with where it is there; see `Distiller`.
    """
    from sas_ros.student.inputs import choose_device
    from sas_training.distill.distiller import Distiller, LoopSettings, Step
    from sas_training.distill.feature_scenes import FeatureScenes
    from sas_training.distill.parallel import Processes
    from sas_training.distill.run_folder import RunFolder
    from sas_training.distill.stages import Texts

    needed = recipe.objective.targets == "superpoint"
    scenes = FeatureScenes(clouds, features, superpoints, superpoints_needed=needed, cache_mib=1024)
    texts = Texts(words.classes, words.classes)
    processes = Processes(choose_device("auto"))
    with RunFolder(run) as folder:
        loop = LoopSettings(workers=0)
        known = begin if begin is not None and begin.is_file() else None
        distiller = Distiller(scenes, texts, recipe, folder, processes, loop, begin=known)
        last = keep[0] * distiller.epoch_steps if keep is not None else -1

        def keep_a_copy() -> None:
            # There is one after every epoch; without a copy the other row trains from the start.
            if keep is not None and distiller.step == last:
                folder.keep(keep[1])

        keep_a_copy()
        steps: Iterable[Step] = distiller.steps()
        for _ in followed(steps, distiller.total, distiller.step, recipe.description):
            keep_a_copy()
        network = distiller.student
    StudentBundle(
        name=target.stem,
        architecture=network.config.to_dict(),
        weights={key: value.detach().cpu().clone() for key, value in network.state_dict().items()},
        inputs=recipe.network.inputs,
        voxel_size=recipe.samples.voxel_size,
        text_encoder=recipe.vocabulary.text_encoder,
        prompt=recipe.vocabulary.prompt,
        vocabulary=Vocabulary(
            names=SCANNET20.names,
            embeddings=words.classes,
            things=tuple(name not in STUFF for name in SCANNET20.names),
            colors=np.array(SCANNET20.colors, dtype=np.uint8),
        ),
        calibration=Calibration(),
        provenance={**_ABOUT, "recipe": recipe.to_dict()},
    ).save(target)


class StudentClasses:
    """What a student says, through the same code as on the robot."""

    def __init__(self, bundle: Path) -> None:
        from sas_ros.segmenter import Segmenter

        self._segmenter = Segmenter(StudentBundle.load(bundle))
        self._up = Up(np.array([0.0, 0.0, 1.0]), "parameter")

    def of(
        self, points: npt.NDArray[np.float32], colors: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.int64]:
        """(N,) classes of points (N, 3) metres, z up, with colours (N, 3); -1 for none."""
        scene = self._segmenter.segment(Cloud(points, colors), self._up)
        label = self._segmenter.label(scene, self._segmenter.bundle.vocabulary).label
        element = scene.element_of_point
        return np.where(element >= 0, label[element], -1).astype(np.int64)
