"""The result on disk: capability.json, the same as Markdown tables, and a chart."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sas_ros import __version__
from sas_ros.errors import SasError
from sas_ros.files import atomic_path, atomic_write
from sas_training.capability.table import CapabilityTable
from sas_training.experiment.agreement import LEVEL, RESAMPLES, agreement
from sas_training.experiment.capability_chart import draw_agreement
from sas_training.experiment.capability_files import LINKS, VOCABULARY, WHOLE, CapabilityRun
from sas_training.experiment.capability_rows import STEPS
from sas_training.experiment.capability_tables import Measured, Nothing, total
from sas_training.experiment.capability_truth import classes_shown
from sas_training.experiment.figures import RowCounts, all_figures
from sas_training.experiment.settings import PAIR, TEACHERS
from sas_training.priors.saving import read_report

FORMAT_VERSION = 1
KIND = "sas_capability_experiment"
NAME = "capability"
HEADLINES = ("spearman", "spearman_difference", "sign_agreement")
_OF_PRIORS = ("weights", "training", "held_out", "settings")


def result_of(
    about: CapabilityRun,
    group: str,
    truth: CapabilityTable,
    tables: Mapping[str, Measured],
    rows: Mapping[str, RowCounts],
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
        rows: confusions of the fusions.
    """
    measure = about.ablation.settings.capability.measure
    known = {name: one for name, one in tables.items() if isinstance(one, CapabilityTable)}
    shown = classes_shown(truth)
    names = [one for one in shown if all(one in table.classes for table in known.values())]
    links = {
        name: _link(name, one, truth, names, measure, about.settings.seed)
        for name, one in tables.items()
    }
    whole, priors = links[WHOLE], read_report(about.priors)
    seeds = about.ablation.seeds
    return {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "made_with": f"sas_ros {__version__}",
        "scale": about.settings.scale,
        "seeds": {"group": group, "world": seeds.world, "teachers": about.seed},
        "held_out_rooms": about.ablation.rooms("held_out"),
        "level": LEVEL,
        "resamples": RESAMPLES,
        "bootstrap": "over classes; of rows and steps over rooms",
        "n": whole["n"],
        **{name: whole[name] for name in HEADLINES},
        "reason": whole["reason"],
        "fused_pair": whole["pairs"].get(" - ".join(PAIR)),
        "per_class": _per_class(names, truth, known, measure),
        "left_out": {
            "not_shown": [one for one in VOCABULARY if one not in shown],
            "not_measured": [one for one in shown if one not in names],
        },
        "links": links,
        **all_figures(rows, about.settings.seed, STEPS),
        "settings": about.settings.to_dict(),
        "priors": {name: priors[name] for name in _OF_PRIORS if name in priors},
    }


def _link(
    name: str,
    measured: Measured,
    truth: CapabilityTable,
    names: Sequence[str],
    measure: str,
    seed: int,
) -> dict[str, Any]:
    """One entry of `links`, compared on the classes `names`."""
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
    if not names:
        reason = "No class that the rooms show was measured by every link."
        return {**entry, "reason": reason, **empty}
    found, true = (one.aligned(TEACHERS, names, measure=measure) for one in (measured, truth))
    error = float(np.abs(found - true).mean())
    figures = agreement(TEACHERS, found, true, seed)
    return {**entry, "reason": None, **figures, "mean_error": error}


def _per_class(
    names: Sequence[str],
    truth: CapabilityTable,
    tables: Mapping[str, CapabilityTable],
    measure: str,
) -> list[dict[str, Any]]:
    result = []
    for name in names:
        entry: dict[str, Any] = {"class": name, "pixels": truth.made.notes["pixels"][name]}
        for title, table in (("true", truth), *tables.items()):
            values = table.aligned(TEACHERS, (name,), measure=measure)[:, 0]
            entry[title] = dict(zip(TEACHERS, values.tolist(), strict=True))
        result.append(entry)
    return result


def _last_measured(result: Mapping[str, Any]) -> str:
    """The link to be shown: the whole chain, or the last before it that has measured anything."""
    found = [name for name, link in result["links"].items() if link["measured"]]
    return str(found[-1]) if found else WHOLE


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write capability.json, capability.md and capability.png."""
    from sas_ros.pictures import write_png

    text = json.dumps(result, indent=2, allow_nan=False)
    last = _last_measured(result)
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


def markdown(result: Mapping[str, Any]) -> str:
    """The result as tables in Markdown."""
    lines = [
        f"# Capability: scale {result['scale']}, {result['seeds']['group']} seeds, "
        f"{result['n']} classes, {result['held_out_rooms']} rooms",
        "",
        f"Measured capabilities against the true IoU in held-out rooms. Rank correlation over "
        f"classes, the mean of {len(TEACHERS)} teachers; of the difference of two teachers, and "
        "how often its sign is right, the mean of all pairs. In brackets: "
        f"{100 * result['level']:.0f} % bootstrap over classes.",
        "",
        "| link | classes | images | Spearman | of differences | signs right | mean error |",
        "|---|---|---|---|---|---|---|",
    ]
    for link in result["links"].values():
        figures = " | ".join(_figure(link[name]) for name in HEADLINES)
        used = sum(link["used"].values())
        error = "none" if link["mean_error"] is None else f"{link['mean_error']:.2f}"
        lines.append(
            f"| {link['what']} | {link['n']} of {link['measured']} | {used} | {figures} | {error} |"
        )
    for link in result["links"].values():
        if link["reason"]:
            lines += ["", f"{link['what']}: {link['reason']}"]
    last = _last_measured(result)
    shown = result["links"][last]
    lines += [
        "",
        f"Of {LINKS[last]}, by teacher and pair:",
        "",
        "| of | Spearman | signs right |",
        "|---|---|---|",
        *(f"| {name} | {_figure(one)} | |" for name, one in shown["teachers"].items()),
        *(
            f"| {name} | {_figure(one['spearman_difference'])} | {_figure(one['sign_agreement'])} |"
            for name, one in shown["pairs"].items()
        ),
        "",
        "Fusion of the first two teachers in the held-out rooms, mIoU in per cent:",
        "",
        "| row | mIoU | interval |",
        "|---|---|---|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| {row['name']} | {100 * row['miou_mean']:.1f} | {100 * row['low']:.1f} to "
            f"{100 * row['high']:.1f} |"
        )
    lines += ["", "| from | to | difference | interval | |", "|---|---|---|---|---|"]
    for step in result["steps"]:
        verdict = "adds" if step["adds"] else "takes" if step["takes"] else "undecided"
        lines.append(
            f"| {step['from']} | {step['to']} | {100 * step['difference']:+.1f} | "
            f"{100 * step['low']:+.1f} to {100 * step['high']:+.1f} | {verdict} |"
        )
    heads = [f"{name}, {what}" for name in TEACHERS for what in ("true", "measured")]
    lines += ["", f"| class | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for entry in result["per_class"]:
        values = [f"{entry[what][name]:.2f}" for name in TEACHERS for what in ("true", last)]
        lines.append(f"| {entry['class']} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def _figure(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return "none"
    return f"{figure['value']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"
