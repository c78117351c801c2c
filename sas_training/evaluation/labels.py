"""Label sets: the class names, ids and colours that points are labelled with.

What they hold is in config/labels; here they have their names.
"""

from __future__ import annotations

from sas_training.evaluation.label_files import LabelSet, load_label_set

__all__ = [
    "LABEL_SETS",
    "MATTERPORT21",
    "MATTERPORT40",
    "MATTERPORT80",
    "MATTERPORT160",
    "NUSCENES16",
    "NUSCENES43",
    "SCANNET20",
    "STUFF",
    "LabelSet",
]

STUFF = frozenset(
    {"wall", "floor", "ceiling", "curtain", "shower curtain", "window"}
    | {"drivable surface", "other flat", "sidewalk", "terrain", "manmade", "vegetation", "building"}
    | {"road", "curb", "traffic island", "traffic median", "grass", "grassland", "lawn", "meadow"}
    | {"turf", "sod", "awning", "woods"}
)
"""Classes that are no countable objects: no instances are made of them."""

SCANNET20 = load_label_set("scannet20")

MATTERPORT21 = load_label_set("matterport21")
MATTERPORT160 = load_label_set("matterport160")
MATTERPORT80 = MATTERPORT160.first(80, "matterport80")
MATTERPORT40 = MATTERPORT160.first(40, "matterport40")

NUSCENES16 = load_label_set("nuscenes16")


def _finer(labels: LabelSet, name: str) -> LabelSet:
    """The prompt names of a set as classes, in the colours of those they belong to."""
    words = [(word, k) for k, group in enumerate(labels.prompt_names) for word in group]
    sentences = [sentence for group in labels.prompts for sentence in group]
    return LabelSet(
        name=name,
        names=tuple(word for word, _ in words),
        ids=tuple(range(len(words))),
        colors=tuple(labels.colors[k] for _, k in words),
        prompts=tuple((sentence,) for sentence in sentences),
        prompt_names=tuple((word,) for word, _ in words),
    )


NUSCENES43 = _finer(NUSCENES16, "nuscenes43")
"""The finer names of `NUSCENES16`. Nothing is annotated with them, so nothing is scored with them:
they are words for a vocabulary."""

LABEL_SETS: dict[str, LabelSet] = {
    labels.name: labels
    for labels in (
        SCANNET20,
        MATTERPORT21,
        MATTERPORT40,
        MATTERPORT80,
        MATTERPORT160,
        NUSCENES16,
    )
}
"""Label sets that scans are annotated with, by the name given on the command line."""
