"""The result on disk: ablation.json, the same as a Markdown table, and a chart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sas_ros import __version__
from sas_ros.errors import SasError
from sas_ros.files import atomic_path, atomic_write
from sas_training.evaluation.report import made_with
from sas_training.experiment.chart import draw_chart
from sas_training.experiment.checks import checks_markdown
from sas_training.experiment.figures import LEVEL, RowCounts, all_figures
from sas_training.experiment.settings import ExperimentSettings
from sas_training.scenes.procedural.manifest import WORLD_VERSION

FORMAT_VERSION = 2
KIND = "sas_ablation"
NAME = "ablation"
BOOTSTRAP_SEED = 1


def result_of(
    settings: ExperimentSettings,
    group: str,
    rows: Mapping[str, RowCounts],
    checks: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of ablation.json from the confusions of every row and the checks."""
    seeds, made = settings.seeds(group), made_with()
    return {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "world_version": WORLD_VERSION,
        "scale": settings.scale,
        "seeds": {"group": group, "world": seeds.world, "runs": list(seeds.runs)},
        "held_out_rooms": settings.rooms.held_out,
        "level": LEVEL,
        "made_with": f"sas_ros {__version__}",
        "commit": made["commit"],
        "changed": made["changed"],
        **all_figures(rows, BOOTSTRAP_SEED),
        "checks": dict(checks),
        "settings": settings.to_dict(),
    }


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write ablation.json, ablation.md and ablation.png."""
    from sas_ros.pictures import write_png

    text = json.dumps(result, indent=2, sort_keys=False, allow_nan=False)
    with atomic_path(folder / f"{NAME}.png") as temporary:
        write_png(temporary, draw_chart(_title(result), result["rows"]))
    atomic_write(folder / f"{NAME}.md", markdown(result).encode())
    atomic_write(folder / f"{NAME}.json", (text + "\n").encode())


def read_result(path: Path) -> dict[str, Any]:
    """Read an ablation.json.

    Raises:
        SasError: no such file, or not one of these.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SasError(f"There is no result at {path}.") from None
    except (OSError, ValueError) as error:
        raise SasError(f"{path} is no readable JSON file ({error}).") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise SasError(f"{path} is no result of `sas experiment ablation`.")
    if content.get("format_version") != FORMAT_VERSION:
        raise SasError(
            f"{path} has the format {content.get('format_version')!r}; this version reads "
            f"{FORMAT_VERSION}."
        )
    return content


def _title(result: Mapping[str, Any]) -> str:
    seeds, rooms = result["seeds"], result["held_out_rooms"]
    repeated = len(seeds["runs"])
    times = "1 repetition" if repeated == 1 else f"{repeated} repetitions"
    return f"scale {result['scale']}, {seeds['group']} seeds, {rooms} rooms, {times}"


def markdown(result: Mapping[str, Any]) -> str:
    """The result as tables in Markdown."""
    lines = [
        f"# Ablation: {_title(result)}",
        "",
        "mIoU in per cent over all held-out rooms, mean over the repetitions; the interval is a "
        f"{100 * result['level']:.0f} % bootstrap over rooms. `seen`: of points that frames show."
        f"{_world(result)}",
        "",
        *rows_markdown(result["rows"]),
        "",
        "A step adds when its interval, of the difference in the same rooms, lies above zero. The "
        "interval is over rooms alone: how far trainings with other seeds differ is not in it, but "
        "can be read off the last column, the difference in each repetition"
        f"{_SHARED if result['settings']['teachers_once'] else ''}. Where their signs differ, the "
        "interval decides nothing about the step itself.",
        "",
        *steps_markdown(result["rows"], result["steps"]),
        "",
        *checks_markdown(result["checks"]),
    ]
    return "\n".join(lines) + "\n"


def rows_markdown(rows: Sequence[Mapping[str, Any]], *, seen: bool = True) -> list[str]:
    """The table of all rows as lines of Markdown, with the column of points that frames show."""
    more = " seen |" if seen else ""
    lines = [f"| row | mIoU | deviation | interval |{more}", f"|---|---|---|---|{more and '---|'}"]
    for row in rows:
        line = (
            f"| {row['name']} | {_percent(row['miou_mean'])} | {_percent(row['miou_std'])} | "
            f"{_percent(row['low'])} to {_percent(row['high'])} |"
        )
        lines.append(f"{line} {_percent(row['miou_seen'])} |" if seen else line)
    return lines


def steps_markdown(
    rows: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The table of all steps between `rows` as lines of Markdown."""
    lines = [
        "| from | to | difference | interval | | repetitions |",
        "|---|---|---|---|---|---|",
    ]
    per_seed = {row["name"]: row["per_seed"] for row in rows}
    for step in steps:
        verdict = "adds" if step["adds"] else "takes" if step["takes"] else "undecided"
        pairs = zip(per_seed[step["from"]], per_seed[step["to"]], strict=True)
        # Of a step from 2D to 3D, which is on other points than its rows, they are not kept.
        each = ", ".join(f"{100 * (after - before):+.1f}" for before, after in pairs)
        each = each if step["points"] == "all" else ""
        lines.append(
            f"| {step['from']} | {step['to']} | {100 * step['difference']:+.1f} | "
            f"{100 * step['low']:+.1f} to {100 * step['high']:+.1f} | {verdict} | {each} |"
        )
    return lines


_SHARED = "; repetitions share their teachers, so that rows of teachers do not differ at all"


def _world(result: Mapping[str, Any]) -> str:
    """Which version of the world the rooms are of; older results do not say it."""
    version = result.get("world_version")
    return "" if version is None else f" Rooms are of version {version} of the world."


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
