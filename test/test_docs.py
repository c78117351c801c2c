"""The pages a user reads: commands that exist, links that lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from sas_ros.cli import ROBOT_VERBS, make_parser
from sas_training.cli import TRAINING_VERBS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(page: Path) -> list[str]:
    """Lines of the page's code blocks that call `sas`, continued lines joined."""
    blocks = re.findall(r"```(?:bash)?\n(.*?)```", page.read_text(), flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if re.match(r"\s*(\.venv/bin/)?sas ", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_sas_command_parses(page: Path) -> None:
    for line in commands(page):
        words = shlex.split(line, comments=True)[1:]
        words = words[: words.index("--ros-args")] if "--ros-args" in words else words
        parser = make_parser({**ROBOT_VERBS, **TRAINING_VERBS}, words[0])
        try:
            parser.parse_args(words)
        except SystemExit:
            pytest.fail(f"{page.name} shows a command that does not exist: {line}")


def test_the_readme_shows_commands() -> None:
    assert len(commands(ROOT / "README.md")) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_gap_is_left_to_be_filled_in(page: Path) -> None:
    assert not re.search(r"@[A-Z0-9]+@", page.read_text())
