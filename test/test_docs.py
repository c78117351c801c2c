"""The pages a user reads: commands that exist, links that lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from sas_ros.cli import ROBOT_VERBS, make_parser
from sas_training.cli import TRAINING_VERBS
from sas_training.learn.settings import LearnSettings, load_settings

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


def test_downloads_give_each_pattern_an_option_of_its_own() -> None:
    """`hf` takes a further value for the name of a file, and then fetches that alone."""
    for page in PAGES:
        for line in re.findall(r"^hf download .*$", page.read_text().replace("\\\n", " "), re.M):
            _, _, repository, *rest = shlex.split(line)
            assert "/" in repository and len(rest) % 2 == 0, line
            assert all(one.startswith("--") for one in rest[::2]), line
            assert not any(one.startswith("-") for one in rest[1::2]), line


_SHELL = """
sas() {
    (IFS=$'\t'; echo "$*") >> calls
    case "$*" in *--names*) echo one ;; esac
}
"""
"""What the page's shell runs in place of `sas`: it writes down what it is given."""


def test_configurations_for_the_rows_of_the_paper_are_read(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "teachers.md").read_text()
    rows = text[text.index("## Rows of the paper") : text.index("### Published students")]
    for name, content in re.findall(r"`([a-z-]+\.toml)`[^`]*```toml\n(.*?)```", rows, re.DOTALL):
        (tmp_path / name).write_text(content)
    for name in re.findall(r"\b[a-z0-9]+_(?:train|test|val|drives)\.txt", rows):
        (tmp_path / name).write_text("one\n")
    for file in re.findall(r'= "([\w/.-]+\.(?:ckpt|safetensors|json))"|#(c[\w/-]+\.json)', rows):
        (tmp_path / "".join(file)).parent.mkdir(exist_ok=True)
        (tmp_path / "".join(file)).touch()
    report = tmp_path / "runs" / "nuscenes-val" / "fusion" / "report.md"
    report.parent.mkdir(parents=True)
    report.write_text("- maskclip: `said-maskclip-1`\n- fused: `features-1`\n")
    shell = _SHELL + "".join(re.findall(r"```bash\n(.*?)```", rows, re.DOTALL))
    subprocess.run(["bash", "-euc", shell], cwd=tmp_path, check=True)

    asked: dict[str, set[str]] = {}
    for line in (tmp_path / "calls").read_text().splitlines():
        words = line.split("\t")
        parser = make_parser({**ROBOT_VERBS, **TRAINING_VERBS}, words[0])
        given = vars(parser.parse_args(words))
        for key in ("config", "teachers"):
            if given.get(key) is not None:
                asked.setdefault(words[0], set()).add(Path(given[key]).stem)
        for key in ("student", "features"):
            if words[0] == "evaluate" and f"--{key}" in words:
                asked.setdefault(key, set()).add(words[words.index(f"--{key}") + 1])

    def read(name: str) -> LearnSettings:
        return load_settings(tmp_path / f"{name}.toml")

    sets = ("scannet", "matterport", "nuscenes")
    fusions = {f"{data}{rule}" for data in sets for rule in ("", "-addition", "-linear")}
    students = {f"{data}{row}" for data in sets for row in ("", "-pixel", "-superpoint")}
    three = {"scannet-three", "matterport-three"}
    assert asked["fuse"] == fusions and asked["learn"] == students | three
    assert asked["capability"] == {*sets, *three}
    learned = {name.replace("nuscenes", "street") for name in asked["learn"]}
    runs = {f"runs/{name.split('-')[0]}/{name}.safetensors" for name in learned}
    assert asked["student"] == runs
    folders = (
        "scannet-val/features-KEY",
        "nuscenes-val/said-seem-KEY",
        "nuscenes-val/features-KEY",
    )
    assert asked["features"] == {f"runs/{one}" for one in (*folders, "nuscenes-val/features-1")}
    for data in sets:
        assert read(data).recipe == data and read(data).fusion.rule == "capability"
        for rule in ("addition", "linear"):
            assert read(f"{data}-{rule}").fusion.rule == rule
        changed = [read(f"{data}-{name}").changes for name in ("pixel", "superpoint")]
        assert [len(one) for one in changed] == [2, 1] and changed[0][1] == changed[1][0]
    for name in three:
        assert [one.called for one in read(name).teachers] == ["lseg", "seem", "odise"]
    tables = [read(name).fusion.table for name in sets]
    assert len(set(tables)) == 3 and read("matterport-three").fusion.table == tables[1]
