"""The report of `sas fuse`: what teachers say about images and points, and how right it is."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sas_ros.files import atomic_write
from sas_ros.pictures import write_png
from sas_training.fusion.features import PointFeatures
from sas_training.learn.asked_words import AskedWords, Tally
from sas_training.learn.cloud_panels import cloud_panels
from sas_training.learn.files import LearnFiles
from sas_training.learn.lifted_labels import lifted_labels
from sas_training.learn.looking import FUSED, Looked, Looker
from sas_training.learn.report import nearest_words
from sas_training.learn.shown import shown_points
from sas_training.learn.stages import read_scene
from sas_training.scenes.scene import Frames, Scene
from sas_training.scenes.sheet import Panel, draw_panels
from sas_training.teachers.images import read_image

FORMAT_VERSION = 1
_PANEL = (400, 300)
_ROW = 4
_MOST_SCENES = 6
_MOST_FRAMES = 24


@dataclass(frozen=True)
class Wanted:
    """What a report is made of.

    Attributes:
        scenes: of the recording, fused already; empty for images without poses.
        images: files without poses.
        frames: of each scene that are looked at, pixel by pixel, spread evenly.
        device: where teachers compute.
    """

    scenes: tuple[str, ...] = ()
    images: tuple[Path, ...] = ()
    frames: int = 4
    device: str = "auto"


def write_fusion_report(files: LearnFiles, asked: AskedWords, wanted: Wanted) -> dict[str, Any]:
    """`fusion/report.md`, `report.json` and pictures under the run; returns the report.

    Raises:
        SasError: a teacher, scene or image that cannot be read.
    """
    folder = files.run / "fusion"
    looker = Looker(files, asked, wanted.device, _PANEL)
    called = [choice.called for choice in files.settings.teachers]
    whose = [*called, *([FUSED] if len(called) > 1 else [])]
    tallies = {name: Tally(asked.vocabulary.names) for name in whose}
    images: list[dict[str, Any]] = []

    def note(looked: Looked) -> None:
        row: dict[str, Any] = {"name": looked.name, "masks": looked.masks}
        if len(images) < _MOST_FRAMES:
            row["picture"] = f"image-{len(images):03d}.png"
            write_png(folder / row["picture"], draw_panels(_rows(looked.panels), _PANEL))
        images.append(row)

    for path in wanted.images:
        note(looker.look(path.name, read_image(path)))
    scenes, panels = [], []
    for number, name in enumerate(wanted.scenes):
        scene = read_scene(files, name)
        for looked in _frames(scene, asked, looker, wanted.frames):
            note(looked)
        row, drawn = _points(files, scene, asked, tallies, draw=number < _MOST_SCENES)
        scenes.append(row)
        panels += _rows(drawn)
    if panels:
        write_png(folder / "scenes.png", draw_panels(panels, _PANEL))
    drawn_now = {row.get("picture") for row in images}
    for old in folder.glob("image-*.png"):
        if old.name not in drawn_now:  # of a run with more images
            old.unlink()
    report = {
        "kind": "sas_fusion_report",
        "format_version": FORMAT_VERSION,
        "recording": files.recording.path.name,
        "scene_kind": files.recording.kind,
        "words": list(asked.vocabulary.names),
        "text_encoder": files.recipe.vocabulary.text_encoder,
        "fusion": files.settings.fusion.rule if len(called) > 1 else "",
        "teachers": {
            name: looker.teachers[name].description.to_json() if name in looker.teachers else None
            for name in called
        },
        "pixels": {name: one.facts() for name, one in looker.tallies.items()} if images else {},
        "masks": looker.mask_counts,
        "points": {name: one.facts() for name, one in tallies.items()} if scenes else {},
        "scenes": scenes,
        "images": images,
        "features": {
            **{
                choice.called: files.said(number, "x").parent.name
                for number, choice in enumerate(files.settings.teachers)
            },
            FUSED: files.features().name,
        }
        if scenes
        else {},
    }
    text = json.dumps(report, indent=2, sort_keys=True, allow_nan=False)
    atomic_write(folder / "report.json", text.encode())
    atomic_write(folder / "report.md", "\n".join(_markdown(report)).encode())
    return report


def _rows(panels: Sequence[Panel]) -> list[list[Panel]]:
    return [list(panels[start : start + _ROW]) for start in range(0, len(panels), _ROW)]


def _frames(scene: Scene, asked: AskedWords, looker: Looker, most: int) -> Iterator[Looked]:
    """Frames of a scene that can be used, spread over the recording."""
    if not most:
        return
    chosen: Frames = scene.frames.sampled(most=most)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # skipped frames are in the report
        for _, frame in chosen.usable():
            truth = asked.truth(scene, frame.labels)
            yield looker.look(f"{scene.name} {frame.name}", frame.image, truth)


def _points(
    files: LearnFiles, scene: Scene, asked: AskedWords, tallies: dict[str, Tally], *, draw: bool
) -> tuple[dict[str, Any], list[Panel]]:
    name = scene.name
    with np.load(files.cloud(name), allow_pickle=False) as stored:
        points = stored["points"]
        colors = stored["colors"] if "colors" in stored else None
        up_from = str(stored["up_from"])
    choices = files.settings.teachers
    features = {
        choice.called: PointFeatures.load(files.said(number, name))
        for number, choice in enumerate(choices)
    }
    if len(choices) > 1:
        features[FUSED] = PointFeatures.load(files.feature_file(name))
    walked = [one.settings["frames"] for one in features.values() if "frames" in one.settings]
    frames = dict(walked[0]) if walked else {}
    said = {whose: nearest_words(one, asked.vocabulary) for whose, one in features.items()}
    # Features that were there already may be of points that these frames do not show.
    masks = [one.mask for one in features.values()]
    shown = np.logical_or.reduce([shown_points(files, scene), *masks])
    truth, truth_from = asked.truth(scene, scene.labels), "points"
    if truth is None:
        truth = lifted_labels(scene, asked, files.projection)
        truth_from = "frames"
    row: dict[str, Any] = {
        "name": name,
        "points": len(points),
        "up_from": up_from,
        "frames": frames.get("frames", 0),
        "used": frames.get("used", 0),
        "skipped": frames.get("skipped", {}),
        "walks": frames.get("walks", 1),
        "shown": float(shown.mean()),
        "truth_from": "" if truth is None else truth_from,
        "who": {},
    }
    for whose, words in said.items():
        tallies[whose].add(words, shown, truth)
        own = Tally(asked.vocabulary.names)
        own.add(words, shown, truth)
        row["who"][whose] = own.facts()
    if not draw:
        return row, []
    every = {**said, **({} if truth is None else {"truth": truth})}
    return row, cloud_panels(name, points, colors, every, asked.vocabulary, _PANEL)


def _markdown(report: dict[str, Any]) -> list[str]:
    lines = [
        f"# What 2D teachers say about {report['recording']}",
        "",
        f"Teachers: {', '.join(report['teachers'])}"
        + (f"; fused by {report['fusion']}" if report["fusion"] else "")
        + f". Each pixel and point has the nearest of {len(report['words'])} words. Nothing was "
        "learned from these images.",
        "",
    ]
    if report["pixels"]:
        lines += [f"## Pixels of {len(report['images'])} images", ""]
        lines += _table(report["pixels"], report["masks"])
    if report["points"]:
        lines += ["## Points", "", "![Colours, teachers, fusion](scenes.png)", ""]
        lines += ["| scene | points | frames used | shown | skipped |", "|---|---|---|---|---|"]
        for row in report["scenes"]:
            skipped = ", ".join(f"{why} ({count})" for why, count in row["skipped"].items())
            often = f", read {row['walks']} times" if row["walks"] > 1 else ""
            lines.append(
                f"| {row['name']} | {row['points']} | {row['used']} of {row['frames']}{often} | "
                f"{row['shown']:.1%} | {skipped or '-'} |"
            )
        lines += ["", *_table(report["points"], {})]
        lines += ["Files for `sas evaluate --features`:", ""]
        lines += [f"- {who}: `{folder}`" for who, folder in report["features"].items()] + [""]
    for row in report["images"]:
        if "picture" not in row:
            continue
        lines += [f"## {row['name']}", "", f"![{row['name']}]({row['picture']})", ""]
        for who, masks in row["masks"].items():
            lines += [f"| {who} | label | score | of the image | caption | sentence |"]
            lines += ["|---|---|---|---|---|---|"]
            for place, one in enumerate(masks, start=1):
                lines.append(
                    f"| {place} | {_cell(one['label'])} | {one['score']:.2f} | {one['share']:.1%} |"
                    f" {_cell(one['caption']) or '-'} | {_cell(one['sentence'])} |"
                )
            lines.append("")
    return lines


def _cell(text: str) -> str:
    """Text that does not end a column or line of a table."""
    return " ".join(text.replace("|", "/").split())


def _table(facts: dict[str, dict[str, Any]], masks: dict[str, int]) -> list[str]:
    lines = [
        "| who | masks | silent | mIoU | mAcc | commonest words |",
        "|---|---|---|---|---|---|",
    ]
    for who, one in facts.items():
        words = ", ".join(f"{word} {share:.0%}" for word, share in one["words"].items())
        figures = one["figures"]
        miou = f"{figures['miou_present']:.1%}" if figures else "-"
        macc = f"{figures['macc']:.1%}" if figures else "-"
        lines.append(
            f"| {who} | {masks.get(who, '-')} | {one['silent']:.1%} | {miou} | {macc} | {words} |"
        )
    lines.append("")
    scored = {who: one["figures"]["per_class"] for who, one in facts.items() if one["figures"]}
    if not scored:
        return lines
    lines += [f"| IoU | {' | '.join(scored)} |", f"|---|{'---|' * len(scored)}"]
    first = next(iter(scored.values()))
    for word in first:
        if first[word]["points"]:
            shares = [f"{one[word]['iou']:.1%}" for one in scored.values()]
            lines.append(f"| {word} | {' | '.join(shares)} |")
    return [
        *lines,
        "",
        "Means are over the words that the labels have. Silence about what an image shows is "
        "wrong; what no image shows is left out of the IoU.",
        "",
    ]
