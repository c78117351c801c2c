"""The files in examples/ can be parsed, and name what the node really has."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from sas_ros.doctor.facts import OUTPUTS

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
SHOWN = {f"/sas/{name}" for name in OUTPUTS} - {"/sas/instances"}


def test_the_table_names_every_example() -> None:
    table = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.rglob("*"):
        if path.is_file() and path.name not in ("README.md", "start.sh"):
            assert f"`{path.relative_to(EXAMPLES)}`" in table


def test_the_rviz_layout_shows_the_outputs_with_matching_qos() -> None:
    yaml = pytest.importorskip("yaml")
    layout = yaml.safe_load((EXAMPLES / "rviz" / "sas.rviz").read_text())
    displays = layout["Visualization Manager"]["Displays"]
    topics = [display["Topic"] for display in displays if "Topic" in display]
    assert {topic["Value"] for topic in topics} == SHOWN
    for topic in topics:
        assert topic["Durability Policy"] == "Volatile", "the outputs are volatile"


def test_the_foxglove_layout_shows_the_outputs() -> None:
    layout = json.loads((EXAMPLES / "foxglove" / "sas.json").read_text())
    panels = layout["configById"]
    assert set(panels["3D!sas"]["topics"]) == SHOWN

    def leaves(node: object) -> set[str]:
        if isinstance(node, dict):
            return leaves(node["first"]) | leaves(node["second"])
        return {str(node)}

    assert leaves(layout["layout"]) == set(panels)
    assert json.loads(panels["CallService!query"]["requestPayload"]) == {"text": "chair"}


def names(enclave: str, what: str, how: str) -> set[str]:
    root = ElementTree.parse(EXAMPLES / "sros2" / "policy.xml").getroot()
    (found,) = [e for e in root.iter("enclave") if e.get("path") == enclave]
    return {str(item.text) for g in found.iter(f"{what}s") if g.get(how) == "ALLOW" for item in g}


def test_the_policy_gives_each_no_more_than_its_part() -> None:
    """test/graph/test_policy.py compares it with running nodes."""
    outputs = {*OUTPUTS, "label_info", "/diagnostics", "/rosout"}
    assert outputs <= names("/sas/perception", "topic", "publish")
    assert names("/sas/perception", "service", "request") == set()
    assert names("/sas/planner", "service", "request") == {"query"}
    assert not {"points", *OUTPUTS} & names("/sas/planner", "topic", "publish")
    assert names("/sas/driver", "topic", "publish") - {"/rosout", "/parameter_events"} == {"points"}


def test_the_service_file_ends_the_node_as_it_wants_to_be_ended() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(EXAMPLES / "systemd" / "sas-perception.service")
    assert set(unit.sections()) == {"Unit", "Service", "Install"}
    service = unit["Service"]
    assert service["KillSignal"] == "SIGINT" and service["RestartPreventExitStatus"] == "2"
    command = service["ExecStart"].split()
    assert (ROOT / Path(command[0]).relative_to("/opt/sas_ros")).is_file()
    assert command[1:4] == ["sas", "run", "--ros-args"]


def test_the_image_takes_its_base_by_argument_and_runs_as_a_user() -> None:
    lines = (EXAMPLES / "docker" / "Dockerfile").read_text().splitlines()
    instructions = [line.split()[0] for line in lines if re.match(r"[A-Z]+ ", line)]
    assert instructions[:2] == ["ARG", "FROM"] and "FROM ${BASE}" in lines
    assert instructions.index("USER") < instructions.index("ENTRYPOINT")
    start = EXAMPLES / "docker" / "start.sh"
    assert os.access(start, os.X_OK)
    assert subprocess.run(["bash", "-n", start]).returncode == 0
    assert (ROOT / "scripts" / "setup.sh").is_file() and "scripts/setup.sh demo" in "\n".join(lines)


def test_the_image_asks_for_the_pythons_that_the_set_up_takes() -> None:
    setup = (ROOT / "scripts" / "setup.sh").read_text()
    (ros,) = re.findall(r"import sys, rclpy; sys\.exit\(sys\.version_info < \(3, (\d+)\)\)", setup)
    ((low, high),) = re.findall(r"\(3, (\d+)\) <= sys\.version_info\[:2\] <= \(3, (\d+)\)", setup)
    comment = (EXAMPLES / "docker" / "Dockerfile").read_text().split("ARG BASE")[0]
    assert f"a ROS 2 image with Python 3.{ros} or newer" in comment
    assert f"with Python 3.{low} to 3.{high}" in comment


def test_the_image_gets_no_history_and_nothing_that_was_made_here() -> None:
    ignored = {
        line.removeprefix("**/")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if not line.startswith("#")
    }
    made = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    assert {".git", *made} <= ignored
    for needed in ("scripts", "requirements", "config", "msg", "cmake", "sas_ros", "sas_training"):
        assert (ROOT / needed).is_dir() and needed not in ignored


# ------------------------------------------------------------------------------ docs/security.md
FORBIDDEN = {"pickle", "shelve", "marshal", "requests", "urllib", "http", "ftplib", "socket"}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_the_robots_half_opens_no_connection_and_unpickles_nothing() -> None:
    for path in sources("sas_ros"):
        for node in ast.walk(ast.parse(path.read_text())):
            found = set()
            if isinstance(node, ast.Import):
                found = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found = {str(node.module).split(".")[0]}
            assert not found & FORBIDDEN, f"{path} imports {found & FORBIDDEN}"


def test_loaders_refuse_code() -> None:
    wanted = {("torch", "load"): ("weights_only", True), ("np", "load"): ("allow_pickle", False)}
    seen = 0
    for path in [*sources("sas_ros"), *sources("sas_training")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            rule = wanted.get((owner, node.func.attr))
            if owner in ("yaml", "builtins") and node.func.attr in ("load", "eval", "exec"):
                raise AssertionError(f"{path}:{node.lineno} calls {owner}.{node.func.attr}")
            if rule is None:
                continue
            seen += 1
            given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
            assert given.get(rule[0]) is rule[1], f"{path}:{node.lineno} needs {rule}"
    assert seen > 5
