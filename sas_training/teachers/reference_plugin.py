"""A plug-in as a starting point: copy this file, replace `segment` and `caption`, fill in `ABOUT`.

It runs in an environment of its own, with numpy and Pillow, and imports nothing of sas_ros:

    python reference_plugin.py --describe
    python reference_plugin.py REQUEST_FOLDER ANSWER_FOLDER

What is in the folders is described in docs/teachers.md and docs/formats.md.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ABOUT = {
    "kind": "sas_teacher_program",
    "format_version": 1,
    "name": "brightness",  # of the model
    "model": "none",  # which weights: a hash, or name and version; part of what answers are kept by
    "licence": "Apache-2.0",  # of code and weights
    "tasks": ["segment", "caption"],  # what this program can do
}


def segment(image: np.ndarray, labels: list[str]) -> Iterator[tuple[np.ndarray, str, float]]:
    """Yield (mask, label, score): (height, width) bool with a pixel or more, text, 0 to 1.

    Masks may overlap and need not cover the image. `labels` are the user's words for models that
    take some; it may be empty.
    """
    bright = image.mean(axis=2) >= 128
    for mask, label in ((bright, "light"), (~bright, "shade")):
        if mask.any():
            yield mask, label, 0.5


def caption(image: np.ndarray, mask: np.ndarray, label: str) -> str:
    """A sentence about the part of the image (height, width, 3) uint8 that `mask` marks."""
    red, green, blue = image[mask].mean(axis=0)
    tint = "red" if red > max(green, blue) else "green" if green > blue else "blue"
    return f"a {tint} patch"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--describe", action="store_true")
    parser.add_argument("folders", nargs="*", type=Path)
    arguments = parser.parse_args()
    if arguments.describe:
        print(json.dumps(ABOUT))
        return
    request_folder, answer_folder = arguments.folders
    request = json.loads((request_folder / "request.json").read_text(encoding="utf-8"))
    for entry in request["images"]:
        image = np.array(Image.open(request_folder / entry["file"]).convert("RGB"))
        if request["task"] == "segment":
            found: list[tuple[Any, ...]] = list(segment(image, request["labels"]))
        else:
            found = []
            given = json.loads((request_folder / entry["masks"]).read_text(encoding="utf-8"))
            for one in given["masks"]:
                # The masks' files lie beside the JSON file that names them.
                path = (request_folder / entry["masks"]).parent / one["file"]
                mask = np.array(Image.open(path)) == one["value"]
                found.append((mask, one["label"], one["score"], caption(image, mask, one["label"])))
        write(answer_folder, entry["name"], image.shape[:2], found)


def write(folder: Path, name: str, size: tuple[int, ...], found: list[tuple[Any, ...]]) -> None:
    """The masks of one image, each as a PNG; the JSON last."""
    masks = []
    for number, (mask, label, score, *text) in enumerate(found):
        file = f"{name}-{number}.png"
        Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(folder / file)
        masks.append({"file": file, "value": 255, "label": label, "score": score})
        if text:
            masks[-1]["caption"] = text[0]
    content = {"kind": "sas_labelled_masks", "format_version": 1, "masks": masks}
    content |= {"height": int(size[0]), "width": int(size[1])}
    (folder / f"{name}.masks.json").write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    main()
