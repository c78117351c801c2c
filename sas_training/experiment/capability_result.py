"""The result on disk: capability.json, the same as Markdown tables, and a chart."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sas_ros import __version__
from sas_ros.errors import SasError
from sas_ros.files import atomic_path, atomic_write
from sas_training.capability.table import CapabilityTable
from sas_training.experiment.agreement import (
    HEADLINES,
    LEVEL,
    RESAMPLES,
    Values,
    agreement,
    agreement_step,
)
from sas_training.experiment.capability_chart import draw_agreement
from sas_training.experiment.capability_files import LINKS, VOCABULARY, WHOLE, CapabilityRun
from sas_training.experiment.capability_gain import gain_by_class, gain_shares
from sas_training.experiment.capability_page import last_measured, markdown
from sas_training.experiment.capability_rows import STEPS, known_table, other_pairs, pair_name
from sas_training.experiment.capability_tables import Measured, Nothing, total
from sas_training.experiment.capability_truth import classes_shown
from sas_training.experiment.figures import RowCounts, all_figures
from sas_training.experiment.settings import PAIR, TEACHERS
from sas_training.priors.saving import read_report
from sas_training.scenes.procedural.manifest import WORLD_VERSION

FORMAT_VERSION = 1
KIND = "sas_capability_experiment"
NAME = "capability"
LINK_STEPS = (
    ("truth", "sam"),
    ("sam", "attention"),
    ("attention", "generated"),
    ("coarse", "generated"),
)
"""What replacing one link changes; the third replaces the images alone, the last the masks."""
_OF_PRIORS = ("weights", "training", "held_out", "settings")


def result_of(
    about: CapabilityRun,
    group: str,
    truth: CapabilityTable,
    tables: Mapping[str, Measured],
    rows: Mapping[tuple[str, ...], Mapping[str, RowCounts]],
) -> dict[str, Any]:
    """The content of capability.json.

    All links are compared on the same classes: those that the held-out rooms show and that every
    link has measured. A link that has measured none is left out of that; its figures are None, and
    it has a `reason`. So has every link where no class is left.

    Args:
        about: the run.
        group: of the ablation's seeds.
        truth: IoU in held-out rooms.
        tables: of every one of `LINKS`.
        rows: confusions of the fusions, by pair; those of `PAIR` must be there.
    """
    measure = about.ablation.settings.capability.measure
    known = {name: one for name, one in tables.items() if isinstance(one, CapabilityTable)}
    shown = classes_shown(truth)
    names = [one for one in shown if all(one in table.classes for table in known.values())]
    seed = about.settings.seed
    words = known_table(about).aligned(TEACHERS, names) > 0
    found = {name: one.aligned(TEACHERS, names, measure=measure) for name, one in known.items()}
    true = truth.aligned(TEACHERS, names, measure=measure)
    links = {
        name: _link(name, one, found.get(name), true, words, seed) for name, one in tables.items()
    }
    steps = [
        {"from": first, "to": second, **agreement_step(found[first], found[second], true, seed)}
        for first, second in LINK_STEPS
        if names and first in found and second in found
    ]
    fusions = all_figures(rows[PAIR], seed, STEPS)
    whole, priors = links[WHOLE], read_report(about.priors)
    seeds = about.ablation.seeds
    return {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "made_with": f"sas_ros {__version__}",
        "world_version": WORLD_VERSION,
        "scale": about.settings.scale,
        "seeds": {"group": group, "world": seeds.world, "teachers": about.seed},
        "held_out_rooms": about.ablation.rooms("held_out"),
        "level": LEVEL,
        "resamples": RESAMPLES,
        "bootstrap": "over classes; of rows and steps over rooms",
        "n": whole["n"],
        **{name: whole[name] for name in HEADLINES},
        "reason": whole["reason"],
        "fused_pair": whole["pairs"].get(pair_name(PAIR)),
        "per_class": _per_class(names, truth, known, measure, words),
        "left_out": {
            "not_shown": [one for one in VOCABULARY if one not in shown],
            "not_measured": [one for one in shown if one not in names],
        },
        "links": links,
        "link_steps": steps,
        **fusions,
        "gain_shares": gain_shares(rows[PAIR], seed),
        "gain_by_class": gain_by_class(fusions["rows"]),
        "other_pairs": other_pairs(rows, seed),
        "settings": about.settings.to_dict(),
        "priors": {name: priors[name] for name in _OF_PRIORS if name in priors},
    }


def _link(
    name: str,
    measured: Measured,
    found: Values | None,
    true: Values,
    known: npt.NDArray[np.bool_],
    seed: int,
) -> dict[str, Any]:
    """One entry of `links`; `found`, `true` and `known` are (T, K) of the classes compared."""
    what = LINKS[name]
    empty: dict[str, Any] = {
        "n": 0,
        **dict.fromkeys((*HEADLINES, "mean_error")),
        "teachers": {},
        "pairs": {},
    }
    if isinstance(measured, Nothing):
        left = {"measured": 0, "used": {}, "rejected": total(measured.rejected)}
        return {"what": what, **left, "reason": measured.reason, **empty}
    notes = measured.made.notes
    entry = {
        "what": what,
        "measured": len(measured.classes),
        "used": notes.get("used", {}),
        "rejected": total(notes.get("rejected", {})),
    }
    if found is None or not true.size:
        reason = "No class that the rooms show was measured by every link."
        return {**entry, "reason": reason, **empty}
    error = float(np.abs(found - true).mean())
    figures = agreement(TEACHERS, found, true, seed, known)
    return {**entry, "reason": None, **figures, "mean_error": error}


def _per_class(
    names: Sequence[str],
    truth: CapabilityTable,
    tables: Mapping[str, CapabilityTable],
    measure: str,
    words: npt.NDArray[np.bool_],
) -> list[dict[str, Any]]:
    result = []
    for number, name in enumerate(names):
        entry: dict[str, Any] = {
            "class": name,
            "pixels": truth.made.notes["pixels"][name],
            "used": {
                link: table.made.notes.get("used", {}).get(name, 0)
                for link, table in tables.items()
            },
            "known": dict(zip(TEACHERS, words[:, number].tolist(), strict=True)),
        }
        for title, table in (("true", truth), *tables.items()):
            values = table.aligned(TEACHERS, (name,), measure=measure)[:, 0]
            entry[title] = dict(zip(TEACHERS, values.tolist(), strict=True))
        result.append(entry)
    return result


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write capability.json, capability.md and capability.png."""
    from sas_ros.pictures import write_png

    text = json.dumps(result, indent=2, allow_nan=False)
    last = last_measured(result)
    chart = draw_agreement(result["per_class"], last, LINKS[last], TEACHERS, PAIR)
    with atomic_path(folder / f"{NAME}.png") as temporary:
        write_png(temporary, chart)
    atomic_write(folder / f"{NAME}.md", markdown(result).encode())
    atomic_write(folder / f"{NAME}.json", (text + "\n").encode())


def read_result(path: Path) -> dict[str, Any]:
    """Read and check a capability.json.

    Raises:
        SasError: no such file, not one of these, or figures that cannot be.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SasError(f"There is no result at {path}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise SasError(f"{path} is no readable JSON file ({error}).") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise SasError(f"{path} is no result of `sas experiment capability`.")
    if content.get("format_version") != FORMAT_VERSION:
        raise SasError(
            f"{path} has the format {content.get('format_version')!r}; this version reads "
            f"{FORMAT_VERSION}."
        )
    reason, entries = content.get("reason"), content.get("per_class")
    if reason is not None and not (isinstance(reason, str) and reason):
        raise SasError(f"{path} is damaged: the reason is no sentence.")
    for name, least in zip(HEADLINES, (-1, -1, 0), strict=True):
        fits = content.get(name) is None if reason else _is_figure(content.get(name), least)
        if not fits:
            raise SasError(
                f"{path} is damaged: {name} is "
                + ("there although the chain has none." if reason else "no value with an interval.")
            )
    compared = 0 if reason or not isinstance(entries, list) else len(entries)
    if not isinstance(entries, list) or content.get("n") != compared or not (compared or reason):
        raise SasError(f"{path} is damaged: n is not the number of classes in per_class.")
    return content


def _is_figure(value: object, least: float) -> bool:
    if not isinstance(value, dict) or set(value) != {"value", "low", "high"}:
        return False
    numbers = list(value.values())
    fits = all(type(one) in (int, float) and math.isfinite(one) for one in numbers)
    return fits and all(least - 1e-9 <= one <= 1 + 1e-9 for one in numbers) and (
        value["low"] <= value["high"]
    )  # fmt: skip
