"""Stopped before any of its files is put in place, a run goes on and ends with the same ones.

Stopped here is Ctrl-C; test_capability_killed.py kills processes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from colour_teachers import ColourFeatures

from sas_training.capability.class_maps import Caller
from sas_training.capability.files import write_image, write_mask
from sas_training.capability.running import Plan, run
from sas_training.capability.segmenters import Segmented
from sas_training.capability.table import CapabilityTable

pytest.importorskip("scipy")

WORDS = ("red", "green", "blue")
SIZE = 32


class Bright:
    """A segmenter that takes what is as bright as the first point."""

    description = {"library": "bright"}  # noqa: RUF012

    def segment(self, image: Any, points: npt.NDArray[np.int64]) -> Segmented:
        x, y = points[0]
        return Segmented(np.abs(image.mean(axis=2) - image[y, x].mean()) < 60, 0.9)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("given")
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:SIZE, :SIZE]
    for label, name in enumerate(WORDS[:2]):
        for number in range(2):
            mask = (row - 16) ** 2 + (column - 14 - 3 * number) ** 2 < 60
            image = rng.integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8)
            image[mask, label] = 250
            write_image(root / "images" / name / f"{number}.png", image)
            write_mask(root / "coarse" / name / f"{number}.png", mask)
    return root


def go(given: Path, out: Path) -> None:
    plan = Plan(
        output=out,
        vocabulary=WORDS,
        classes=WORDS[:2],
        zero=WORDS[2:],
        given_images=given / "images",
        given_coarse=given / "coarse",
        batch=1,
    )
    teachers = {
        name: Caller(ColourFeatures(name), np.eye(3, dtype=np.float32)) for name in ("one", "two")
    }
    run(plan, None, Bright(), teachers)


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_stopped_before_any_file_it_ends_the_same(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count, stop = Path.replace, 0, -1

    def replace(self: Path, target: Any) -> Path:
        nonlocal count
        count += 1
        if count == stop:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    go(given, tmp_path / "whole")
    # Four masks with figures, eight answers, and the report's six.
    wanted, files = contents(tmp_path / "whole"), count
    assert files == len(wanted) == 4 * 2 + 4 * 2 + 6
    for stop in range(1, files + 1, 2):
        count = 0
        with pytest.raises(KeyboardInterrupt):
            go(given, tmp_path / f"{stop}")
        assert contents(tmp_path / f"{stop}").items() <= wanted.items()
        go(given, tmp_path / f"{stop}")
        assert contents(tmp_path / f"{stop}") == wanted


def test_a_second_run_asks_nobody_again(given: Path, tmp_path: Path) -> None:
    go(given, tmp_path)
    # As if measured before pooled scores had intervals.
    path = tmp_path / "capability.json"
    replace(CapabilityTable.load(path), pooled_intervals=None).save(path)
    plan = Plan(
        tmp_path,
        WORDS,
        WORDS[:2],
        given_images=given / "images",
        given_coarse=given / "coarse",
    )
    teacher = ColourFeatures("one")

    class Nobody:
        description = Bright.description

        def segment(self, image: Any, points: Any) -> Segmented:
            raise AssertionError

    outcome = run(plan, None, Nobody(), {"one": Caller(teacher, np.eye(3, dtype=np.float32))})
    assert teacher.asked == [] and outcome.table is not None
    assert outcome.table.scores.min() > 0
    assert CapabilityTable.load(path).pooled_intervals is not None
    page = (tmp_path / "report.md").read_text()
    assert "| class | images | one, mean [95%] | pooled [95%] |" in page
    assert page.count(" [0.0, 100.0] |") == 4  # two classes, both scores, of too few images
