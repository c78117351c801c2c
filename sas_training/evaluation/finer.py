"""Below the class: is an armchair told from an office chair where both are called by their names?

Generated rooms know the finer name of everything (`sas_training.distill.words.FINER`) and of things
that have no class of their own (`CLUTTER`). Each group, the names of a class or those of the
clutter, is asked about its own points only, so the figure says nothing about classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sas_ros.errors import SasError
from sas_ros.language.encoder import TextEncoder
from sas_ros.language.prompts import apply_prompt
from sas_ros.observation import Up
from sas_ros.segmenter import Segmenter
from sas_training.distill.words import CLUTTER, FINER
from sas_training.evaluation.labelled import read_objects

GROUPS: dict[str, tuple[str, ...]] = {
    **{name: kinds for name, kinds in FINER.items() if len(kinds) > 1},
    "no class": CLUTTER,
}
"""Name of a group -> the finer names that are told apart in it."""


def finer_names(
    segmenter: Segmenter, files: Sequence[Path], encoder: TextEncoder, up: Up
) -> dict[str, Any]:
    """How often the nearest finer name of a group is the right one.

    Returns:
        by group, `names` (those that are there), `points`, `recall` (mean over the names that are
        there of the share of their points that is right) and `chance` (one over the number of names
        in the group); `recall` and `chance`: means over the groups.

    Raises:
        SasError: a scan without the names of its objects.
    """
    prompt = segmenter.bundle.prompt
    texts = {
        group: encoder.encode([apply_prompt(prompt, name) for name in names])
        for group, names in GROUPS.items()
    }
    counts = {group: np.zeros((len(names), 2), np.int64) for group, names in GROUPS.items()}
    for path in files:
        scan = read_objects(path)
        if scan.instances is None or not scan.names:
            raise SasError(f"{path} does not say what its objects are called.")
        scene = segmenter.segment(scan.cloud, up)
        features = scene.features.float().cpu().numpy()
        known = (scan.instances >= 0) & (scan.instances < len(scan.names))
        instance = np.where(known, scan.instances, 0)
        for group, names in GROUPS.items():
            truth = np.array([names.index(n) if n in names else -1 for n in scan.names])[instance]
            rows = np.flatnonzero(known & (truth >= 0) & (scene.element_of_point >= 0))
            guess = (features @ texts[group].T).argmax(axis=1)[scene.element_of_point[rows]]
            total = np.bincount(truth[rows], minlength=len(names))
            right = np.bincount(truth[rows][guess == truth[rows]], minlength=len(names))
            counts[group] += np.stack([total, right], axis=1)
    groups = {}
    for group, (total, right) in ((group, count.T) for group, count in counts.items()):
        there = total > 0
        if there.sum() > 1:  # one name alone is no choice
            groups[group] = {
                "names": int(there.sum()),
                "points": int(total.sum()),
                "recall": float((right[there] / total[there]).mean()),
                "chance": 1 / len(GROUPS[group]),
            }
    if not groups:
        return {"groups": {}}
    means = {key: float(np.mean([g[key] for g in groups.values()])) for key in ("recall", "chance")}
    return {**means, "groups": groups}
