"""Capability-guided fusion: one feature per point out of those of several 2D teachers.

With c_m = cls(F_m), the class of the vocabulary that teacher m's feature of the point is closest
to, and S_m[j], its capability for class j, the paper's confidence of teacher m and the fusion are

    P_m = mean over k of S_m[c_k],    w = softmax(P / tau),    F = sum over m of w_m F_m

for two teachers; the mean over all classes named is its natural form for more.

Where paper and released code differ, rule `capability` is the paper and `released` the code:

- confidence: mean of the S_m[c_k] - or their sum, divided by its sum over the teachers, so that
  tau applies to relative confidences;
- tau: not given in the paper - 0.05 in the code. 0.05 is the default of both here;
- `other`: not mentioned - points whose FIRST teacher says `other` keep its feature alone; where
  only a later one says so, all are fused;
- length: not mentioned - features as stored, so that LSeg with its length up to 2 outweighs SEEM
  with up to 1 at equal weights. `released` does so; the other rules scale every teacher's feature
  to unit length first. `normalise` says otherwise;
- points that one teacher alone has seen: not mentioned - the code needs equal masks and misaligns
  rows when they differ. Every rule here takes the union of the masks and fuses those that have seen
  the point; what one alone has seen is its feature;
- all relative confidences 0 / 0: NaN in the code, equal weights here;
- scores of the table: mean IoU - pooled IoU; choose with `measure`, which is the mean, `macro`, for
  every rule until it is set: the code to the letter is `released` with `micro`. Neither asks how
  well they are known: `certainty` reads the table by its intervals instead
  (`sas_training.capability.certainty`);
- precision: the code multiplies float16; here it is float32, and ties take the first class.

Two baselines of the paper: `addition`, the plain sum, and `linear`, a sum weighted by a_m = max
over k of <F_m, text_k>. Whether these weights are to sum to one is not said; they are not made to,
and the class of the point does not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch

from sas_ros.errors import SasError
from sas_training.capability.certainty import CERTAINTIES, cautious
from sas_training.capability.table import MEASURES, CapabilityTable
from sas_training.fusion.features import PointFeatures

RULES = ("capability", "released", "addition", "linear")
MOST_TEACHERS = 8
"""As many as a source code has bits."""


@dataclass(frozen=True)
class FusionSettings:
    """How teachers are fused.

    Attributes:
        rule: one of `RULES`.
        tau: temperature of the softmax.
        normalise: scale features to unit length first; None: as the rule has it.
        other: the word that rule `released` treats apart; also the one that a capability table need
            not have, its capability then being 0.
        measure: which scores of the table, `macro` (paper) or `micro` (released).
        certainty: how scores are read, one of `CERTAINTIES`: `mean` (paper), the `lower` ends of
            their intervals, or `separate`, so that teachers differ only where intervals do. The
            intervals are those of `measure`.
        chunk: points at a time.
    """

    rule: str = "capability"
    tau: float = 0.05
    normalise: bool | None = None
    other: str = "other"
    measure: str = "macro"
    certainty: str = "mean"
    chunk: int = 65_536

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise SasError(f"{self.rule!r} is no fusion rule; known are {', '.join(RULES)}.")
        if not 0 < self.tau < float("inf"):
            raise SasError(f"The temperature of the fusion must be above 0, not {self.tau:g}.")
        if self.measure not in MEASURES:
            raise SasError(
                f"{self.measure!r} is no measure of a capability table; known are "
                f"{', '.join(MEASURES)}."
            )
        if self.certainty not in CERTAINTIES:
            raise SasError(
                f"{self.certainty!r} is no reading of capabilities; known are "
                f"{', '.join(CERTAINTIES)}."
            )
        if self.chunk < 1:
            raise SasError("A chunk needs at least one point.")

    @property
    def unit(self) -> bool:
        """Whether features are scaled to unit length first."""
        return self.rule != "released" if self.normalise is None else self.normalise


def fuse_teachers(
    teachers: Sequence[PointFeatures],
    text: npt.NDArray[np.floating],
    names: Sequence[str],
    table: CapabilityTable | None = None,
    settings: FusionSettings | None = None,
    *,
    device: str | torch.device = "cpu",
) -> PointFeatures:
    """Fuse two or more teachers' features of one scene, point by point.

    Args:
        teachers: features of the same N points and of the same width C; the order matters for the
            source codes and for `released`.
        text: (K, C) unit text features of the vocabulary.
        names: K words of the vocabulary, as the table calls the classes.
        table: capabilities; not needed for `addition` and `linear`.
        settings: the paper's form when not given.
        device: where the products are computed; `chunk` points are there at a time.

    Returns:
        Features of all points that any teacher has seen, with source codes.

    Raises:
        SasError: fewer than two teachers or more than eight, features that do not belong together
            or lie in different spaces,
            a vocabulary that does not fit, or a table that is missing or lacks a name.
    """
    settings = settings or FusionSettings()
    words, space = _checked_text(teachers, text, names), _space(teachers)
    other = names.index(settings.other) if settings.other in names else None
    scores = torch.zeros((len(teachers), len(names)), dtype=torch.float32, device=device)
    if settings.rule in ("capability", "released"):
        if table is None:
            raise SasError(f"The fusion rule {settings.rule!r} needs a capability table.")
        scores = torch.from_numpy(_scores(table, teachers, names, settings)).float().to(device)
    words = words.to(device)
    seen = np.stack([one.mask for one in teachers], axis=1)
    mask: npt.NDArray[np.bool_] = np.logical_or.reduce(seen, axis=1)
    sources = (seen << np.arange(len(teachers))).sum(axis=1).astype(np.uint8)
    fused = np.empty((int(np.count_nonzero(mask)), teachers[0].channels), dtype=np.float16)
    first = [0] * len(teachers)
    done = 0
    for start in range(0, len(mask), settings.chunk):
        part = seen[start : start + settings.chunk]
        any_seen = mask[start : start + settings.chunk]
        rows = int(np.count_nonzero(any_seen))
        if rows == 0:
            continue
        own = torch.from_numpy(part[any_seen]).to(device)
        stack = torch.zeros((len(teachers), rows, fused.shape[1]), device=device)
        for number, one in enumerate(teachers):
            last = first[number] + int(np.count_nonzero(part[:, number]))
            here = torch.from_numpy(np.ascontiguousarray(one.features[first[number] : last]))
            stack[number, own[:, number]] = here.to(device).float()
            first[number] = last
        result = _fused(stack, own, scores, words, other, settings).half()
        if not torch.isfinite(result).all():
            raise SasError("Fused features are too large for float16; normalise them.")
        fused[done : done + rows] = result.cpu().numpy()
        done += rows
    return PointFeatures(
        features=fused,
        mask=mask,
        teacher=f"{settings.rule}({', '.join(one.teacher for one in teachers)})",
        scene=teachers[0].scene,
        settings={
            **asdict(settings),
            "normalise": settings.unit,
            "other": settings.other if other is not None else "",
            "teachers": [one.teacher for one in teachers],
            "vocabulary": list(names),
            **({"text_encoder": space} if space else {}),
        },
        sources=sources,
    )


def _fused(
    features: torch.Tensor,
    seen: torch.Tensor,
    scores: torch.Tensor,
    text: torch.Tensor,
    other: int | None,
    settings: FusionSettings,
) -> torch.Tensor:
    """(n, C) fusion of `features (T, n, C)`, zero where `seen (n, T)` is false."""
    if settings.unit:
        features = torch.nn.functional.normalize(features, dim=-1)
    if settings.rule == "addition":
        return features.sum(dim=0)
    best = (features @ text.T).max(dim=-1)
    alone = seen.sum(dim=1) == 1
    if settings.rule == "linear":
        weights = best.values.T * seen
        weights = torch.where(alone[:, None], seen.float(), weights)
    else:
        weights = capability_weights(best.indices.T, seen, scores, other, settings)
    result = weights[:, 0, None] * features[0]
    for number in range(1, len(features)):
        result.addcmul_(weights[:, number, None], features[number])
    return result


def capability_weights(
    classes: torch.Tensor,
    seen: torch.Tensor,
    scores: torch.Tensor,
    other: int | None,
    settings: FusionSettings,
) -> torch.Tensor:
    """Weights (n, T) of the teachers at n points; 0 for teachers that have not seen the point.

    Args:
        classes: (n, T) int64, c_m of each teacher; arbitrary where it has not seen the point.
        seen: (n, T) bool, a teacher at least in each row.
        scores: (T, K) capabilities S.
        other: class that rule `released` treats apart, or None.
        settings: rule and temperature.
    """
    # (n, T, T): S_m[c_k], with m along the second and k along the last axis.
    named = scores[:, classes].permute(1, 0, 2) * seen[:, None, :]
    confidence = named.sum(dim=2)
    if settings.rule == "released":
        confidence = confidence * seen
        total = confidence.sum(dim=1, keepdim=True)
        confidence = torch.where(total > 0, confidence / total, torch.zeros_like(confidence))
    else:
        confidence = confidence / seen.sum(dim=1, keepdim=True)
    weights = torch.softmax((confidence / settings.tau).masked_fill(~seen, -torch.inf), dim=1)
    if settings.rule == "released" and other is not None:
        kept = seen[:, 0] & (classes[:, 0] == other)
        weights[kept] = torch.eye(weights.shape[1], dtype=weights.dtype, device=weights.device)[0]
    return weights


def _checked_text(
    teachers: Sequence[PointFeatures], text: npt.NDArray[np.floating], names: Sequence[str]
) -> torch.Tensor:
    """The text features as float32, when everything belongs together."""
    if not 2 <= len(teachers) <= MOST_TEACHERS:
        raise SasError(f"Fusion takes 2 to {MOST_TEACHERS} teachers, not {len(teachers)}.")
    first = teachers[0]
    for one in teachers[1:]:
        if (one.scene, one.points, one.channels) != (first.scene, first.points, first.channels):
            raise SasError(
                f"The features of {one.teacher!r} ({one.scene!r}, {one.points} points, "
                f"{one.channels} channels) and of {first.teacher!r} ({first.scene!r}, "
                f"{first.points} points, {first.channels} channels) do not belong together."
            )
    if len({one.teacher for one in teachers}) != len(teachers):
        raise SasError("A teacher is there twice; fusion needs different ones.")
    words = np.array(text, dtype=np.float32)
    if words.shape != (len(names), first.channels) or len(set(names)) != len(names) or not names:
        raise SasError(
            f"A vocabulary of {len(names)} different words and features of {first.channels} "
            f"channels need text features of shape ({len(names)}, {first.channels}), not "
            f"{words.shape}."
        )
    if not np.isfinite(words).all():
        raise SasError("The text features hold values that are no finite numbers.")
    return torch.from_numpy(words)


def _space(teachers: Sequence[PointFeatures]) -> str:
    """Name of the text encoder that the features can be compared with, "" where none says it."""
    said = {one.teacher: str(one.settings.get("text_encoder", "")) for one in teachers}
    spaces = {space for space in said.values() if space}
    if len(spaces) > 1:
        told = ", ".join(f"of {name!r} {space}" for name, space in said.items() if space)
        raise SasError(
            f"Features of different spaces cannot be fused; the text encoders are {told}."
        )
    return spaces.pop() if spaces else ""


def _scores(
    table: CapabilityTable,
    teachers: Sequence[PointFeatures],
    names: Sequence[str],
    settings: FusionSettings,
) -> npt.NDArray[np.float64]:
    """(T, K) capabilities; only the word `other` may be missing."""
    own = [one.teacher for one in teachers]
    known = [name for name in names if name != settings.other or name in table.classes]
    scores = np.zeros((len(own), len(names)))
    columns = [names.index(name) for name in known]
    # Others in the table must not decide whether two of these are told apart.
    measured = table.of_teachers(own).of_measure(settings.measure)
    if settings.certainty != "mean" and measured.intervals is None and table.intervals is not None:
        raise SasError(
            "This capability table has intervals of its macro scores alone; with the measure "
            f"{settings.measure!r}, certainty must be mean. `sas capability` in the folder that "
            "the table is from adds the others, and asks no teacher again."
        )
    read = cautious(measured, settings.certainty)
    scores[:, columns] = read.aligned(own, known)
    return scores
