"""The result of the experiment about capabilities as tables in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sas_training.experiment.agreement import HEADLINES
from sas_training.experiment.capability_files import LINKS, WHOLE
from sas_training.experiment.settings import PAIR, TEACHERS


def last_measured(result: Mapping[str, Any]) -> str:
    """The link to be shown: the whole chain, or the last before it that has measured anything."""
    found = [name for name, link in result["links"].items() if link["measured"]]
    return str(found[-1]) if found else WHOLE


def markdown(result: Mapping[str, Any]) -> str:
    """The result as tables in Markdown."""
    lines = [
        f"# Capability: scale {result['scale']}, {result['seeds']['group']} seeds, "
        f"{result['n']} classes, {result['held_out_rooms']} rooms",
        "",
        f"Measured capabilities against the true IoU in held-out rooms. Rank correlation over "
        f"classes, the mean of {len(TEACHERS)} teachers; of the difference of two teachers, and "
        "how often its sign is right (a tie counts half, guessing gives 0.50), the mean of all "
        "pairs. In brackets: "
        f"{100 * result['level']:.0f} % bootstrap over classes.{_world(result)}",
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
    last = last_measured(result)
    shown = result["links"][last]
    lines += _link_steps(result)
    lines += [
        "",
        f"Of {LINKS[last]}, by teacher and pair:",
        "",
        "| of | classes | Spearman | signs right, ties half | right, tied, wrong |",
        "|---|---|---|---|---|",
        *(f"| {name} | {shown['n']} | {_figure(one)} | | |" for name, one in _teachers(shown)),
        *(_pair(name, shown["n"], one) for name, one in shown["pairs"].items()),
        *(
            _pair(f"{name}, known to both", one["known_to_both"]["n"], one["known_to_both"])
            for name, one in shown["pairs"].items()
            if one["known_to_both"] and one["known_to_both"]["n"] < shown["n"]
        ),
        *_fused_pair(result),
        "",
        "Fusion of the first two teachers in the held-out rooms, mIoU in per cent:",
        "",
        *_rows_and_steps(result),
    ]
    lines += _gains(result)
    for pair, found in result.get("other_pairs", {}).items():
        lines += ["", f"Fusion of {pair} in their place:", "", *_rows_and_steps(found)]
    heads = [f"{name}, {what}" for name in TEACHERS for what in ("true", "measured")]
    lines += ["", f"`images`: of {LINKS[last]}, left to measure the class with.", ""]
    lines += [f"| class | images | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    for entry in result["per_class"]:
        values = [f"{entry[what][name]:.2f}" for name in TEACHERS for what in ("true", last)]
        lines.append(f"| {entry['class']} | {entry['used'][last]} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def _world(result: Mapping[str, Any]) -> str:
    """Which version of the world the rooms are of; older results do not say it."""
    version = result.get("world_version")
    return "" if version is None else f" Rooms and pictures are of version {version} of the world."


def _rows_and_steps(figures: Mapping[str, Any]) -> list[str]:
    """The tables of `rows` and `steps`."""
    lines = ["| row | mIoU | interval |", "|---|---|---|"]
    for row in figures["rows"]:
        lines.append(
            f"| {row['name']} | {100 * row['miou_mean']:.1f} | {100 * row['low']:.1f} to "
            f"{100 * row['high']:.1f} |"
        )
    lines += ["", "| from | to | difference | interval | |", "|---|---|---|---|---|"]
    for step in figures["steps"]:
        verdict = "adds" if step["adds"] else "takes" if step["takes"] else "undecided"
        lines.append(
            f"| {step['from']} | {step['to']} | {100 * step['difference']:+.1f} | "
            f"{100 * step['low']:+.1f} to {100 * step['high']:+.1f} | {verdict} |"
        )
    return lines


def _teachers(link: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float]]]:
    return list(link["teachers"].items())


def _pair(name: str, classes: int, one: Mapping[str, Any]) -> str:
    counts = ", ".join(str(one["signs"][what]) for what in ("right", "tied", "wrong"))
    figures = " | ".join(_figure(one[what]) for what in HEADLINES[1:])
    return f"| {name} | {classes} | {figures} | {counts} |"


def _link_steps(result: Mapping[str, Any]) -> list[str]:
    """What replacing one link changes."""
    if not result["link_steps"]:
        return []
    lines = [
        "",
        "What replacing one link changes, on the same draws of classes:",
        "",
        "| from | to | Spearman | of differences | signs right |",
        "|---|---|---|---|---|",
    ]
    for step in result["link_steps"]:
        figures = " | ".join(_figure(step[name], "+") for name in HEADLINES)
        lines.append(f"| {LINKS[step['from']]} | {LINKS[step['to']]} | {figures} |")
    return lines


def _fused_pair(result: Mapping[str, Any]) -> list[str]:
    """The pair that is fused by every link, of all classes and of those that both know."""
    title = " - ".join(PAIR)
    lines = [
        "",
        f"Of {title}, the pair that is fused, by link:",
        "",
        "| link | classes | of differences | signs right, ties half | right, tied, wrong |",
        "|---|---|---|---|---|",
    ]
    for link in result["links"].values():
        pair = link["pairs"].get(title)
        if pair is None:
            continue
        lines.append(_pair(link["what"], link["n"], pair))
        both = pair["known_to_both"]
        if both:
            lines.append(_pair(f"{link['what']}, known to both", both["n"], both))
    return lines if len(lines) > 5 else []


def _gains(result: Mapping[str, Any]) -> list[str]:
    """Shares of what the truth gains, and which classes the gains come from."""
    lines = ["", "| row | share of what the truth gains | interval |", "|---|---|---|"]
    for row, share in result["gain_shares"].items():
        figures = ["none", ""]
        if share is not None:
            low, high = (f"{100 * share[end]:.0f}" for end in ("low", "high"))
            figures = [f"{100 * share['value']:.0f} %", f"{low} to {high} %"]
        lines.append(f"| {row} | {' | '.join(figures)} |")
    gains = result["gain_by_class"]
    lines += ["", "What each class adds to mIoU, over 2d/addition, in points:", ""]
    lines += [f"| class | {' | '.join(gains)} |", "|---" * (len(gains) + 1) + "|"]
    for name in next(iter(gains.values())):
        lines.append(f"| {name} | " + " | ".join(f"{100 * g[name]:+.2f}" for g in gains.values()))
        lines[-1] += " |"
    return lines


def _figure(figure: Mapping[str, float] | None, sign: str = "") -> str:
    if figure is None:
        return "none"
    value, low, high = (f"{figure[name]:{sign}.2f}" for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"
