"""Launch files: arguments, nodes, parameters and wiring, with and without a ROS installation.

Without the `launch` packages (the wheels do not have them), small recording classes stand in for
the few that our files use.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PERCEPTION = ROOT / "launch" / "perception.launch.py"
REPLAY = ROOT / "launch" / "replay.launch.py"


# ------------------------------------------------------------------------------------ stand-ins
class Recorded:
    """Remembers how it was made."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs


def stand_ins() -> dict[str, ModuleType]:
    """Modules with a recording class for every name our launch files import."""
    names = {
        "launch": ["LaunchDescription"],
        "launch.actions": [
            "DeclareLaunchArgument",
            "IncludeLaunchDescription",
            "OpaqueFunction",
            "SetEnvironmentVariable",
        ],
        "launch.launch_description_sources": ["PythonLaunchDescriptionSource"],
        "launch.substitutions": ["LaunchConfiguration", "PathJoinSubstitution"],
        "launch_ros": [],
        "launch_ros.actions": ["Node"],
        "launch_ros.parameter_descriptions": ["ParameterValue"],
        "launch_ros.substitutions": ["FindPackageShare"],
    }
    modules = {}
    for module_name, classes in names.items():
        modules[module_name] = ModuleType(module_name)
        for name in classes:
            setattr(modules[module_name], name, type(name, (Recorded,), {}))
    return modules


Generate = Callable[[Path], list[Any]]


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> Generate:
    """Runs a launch file against the stand-ins and returns its entities."""
    for name, module in stand_ins().items():
        monkeypatch.setitem(sys.modules, name, module)

    def run(path: Path) -> list[Any]:
        description = load(path).generate_launch_description()
        return list(description.args[0])

    return run


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.name.replace(".", "_"), path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of_kind(entities: list[Any], kind: str) -> list[Any]:
    return [entity for entity in entities if type(entity).__name__ == kind]


def arguments(entities: list[Any]) -> dict[str, dict[str, Any]]:
    return {e.args[0]: e.kwargs for e in of_kind(entities, "DeclareLaunchArgument")}


def plain(value: Any) -> Any:
    """A recorded substitution as `$name`, a path or a plain value."""
    kind = type(value).__name__
    if kind == "LaunchConfiguration":
        return f"${value.args[0]}"
    if kind == "FindPackageShare":
        return f"share:{value.args[0]}"
    if kind == "PathJoinSubstitution":
        return "/".join(plain(part) for part in value.args[0])
    if kind == "ParameterValue":
        return plain(value.args[0]), value.kwargs["value_type"]
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def perception_node(entities: list[Any], **given: str) -> dict[str, Any]:
    """The node as wired when the launch arguments `given` are on the command line."""
    configurations = dict.fromkeys(arguments(entities), "") | given
    (function,) = of_kind(entities, "OpaqueFunction")
    nodes = function.kwargs["function"](SimpleNamespace(launch_configurations=configurations))
    (node,) = nodes
    return {key: plain(value) for key, value in node.kwargs.items()}


# ------------------------------------------------------------------------------------ perception
def test_perception_arguments_have_defaults_and_descriptions(generate: Generate) -> None:
    declared = arguments(generate(PERCEPTION))
    defaults = {name: plain(kwargs["default_value"]) for name, kwargs in declared.items()}
    assert defaults == {
        "namespace": "sas",
        "params_file": "share:sas_ros/config/perception.yaml",
        "input_topic": "points",
        "use_respawn": "false",
        "log_level": "info",
        "use_sim_time": "",
        "autostart": "",
        "device": "",
        "student": "",
    }
    assert all(kwargs["description"] for kwargs in declared.values())


def test_perception_starts_one_node_wired_to_its_arguments(generate: Generate) -> None:
    entities = generate(PERCEPTION)
    node = perception_node(entities)
    assert (node["package"], node["executable"]) == ("sas_ros", "perception_node")
    assert (node["name"], node["namespace"]) == ("perception", "$namespace")
    assert node["remappings"] == [("points", "$input_topic")]
    assert node["arguments"] == ["--ros-args", "--log-level", "$log_level"]
    assert node["respawn"] == "$use_respawn"
    (variable,) = of_kind(entities, "SetEnvironmentVariable")
    assert variable.args == ("RCUTILS_LOGGING_BUFFERED_STREAM", "1")


def test_arguments_that_are_not_given_leave_the_parameter_file_alone(generate: Generate) -> None:
    assert perception_node(generate(PERCEPTION))["parameters"] == ["$params_file"]


def test_arguments_that_are_given_override_the_parameter_file(generate: Generate) -> None:
    node = perception_node(generate(PERCEPTION), device="cpu", use_sim_time="true")
    assert node["parameters"] == [
        "$params_file",
        {"device": ("$device", str), "use_sim_time": ("$use_sim_time", bool)},
    ]


def test_overriding_arguments_are_parameters_of_the_node(generate: Generate) -> None:
    from sas_ros.nodes.parameters import SPECS

    generate(PERCEPTION)
    kinds = {spec.name: type(spec.default) for spec in SPECS} | {"use_sim_time": bool}
    for name, (kind, _) in load(PERCEPTION).OVERRIDES.items():
        assert kinds[name] is kind


def test_node_name_is_the_one_the_node_gives_itself() -> None:
    pytest.importorskip("rclpy")
    from sas_ros.nodes.perception_node import NODE_NAME

    assert NODE_NAME == "perception"


# ------------------------------------------------------------------------------------ replay
def test_replay_plays_a_scan_into_the_same_namespace(generate: Generate) -> None:
    entities = generate(REPLAY)
    declared = arguments(entities)
    assert "default_value" not in declared["scan"]
    assert {n: k.get("default_value") for n, k in declared.items() if n != "scan"} == {
        "namespace": "sas",
        "rate": "2.0",
        "stamps": "now",
        "reliability": "reliable",
    }
    (include,) = of_kind(entities, "IncludeLaunchDescription")
    assert plain(include.args[0].args[0]) == "share:sas_ros/launch/perception.launch.py"
    handed_on = {name: plain(value) for name, value in include.kwargs["launch_arguments"]}
    assert handed_on == {"namespace": "$namespace", "input_topic": "points"}
    (node,) = of_kind(entities, "Node")
    assert node.kwargs["executable"] == "replay"
    assert plain(node.kwargs["namespace"]) == "$namespace"


def test_replay_passes_options_that_its_node_knows(generate: Generate) -> None:
    import argparse

    from sas_ros.nodes.replay import add_arguments

    (node,) = of_kind(generate(REPLAY), "Node")
    defaults = {
        n: k.get("default_value", "room.ply") for n, k in arguments(generate(REPLAY)).items()
    }
    words = [str(word) for word in plain(node.kwargs["arguments"])]
    filled = [defaults[word[1:]] if word.startswith("$") else word for word in words]
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    parsed = parser.parse_args(filled)
    assert str(parsed.scan) == "room.ply"
    assert (parsed.rate, parsed.stamps, parsed.reliability) == (2.0, "now", "reliable")


# ------------------------------------------------------------------------------------ real launch
def has_launch() -> bool:
    # The folder launch/ of this repository can look like a namespace package: ask for a loader.
    found = [importlib.util.find_spec(name) for name in ("launch", "launch_ros")]
    return all(spec is not None and spec.origin is not None for spec in found)


@pytest.mark.skipif(not has_launch(), reason="needs the launch packages of a ROS installation")
@pytest.mark.parametrize("path", [PERCEPTION, REPLAY], ids=["perception", "replay"])
def test_real_launch_accepts_the_file(path: Path) -> None:
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    description = get_launch_description_from_python_launch_file(str(path))
    names = {argument.name for argument in description.get_launch_arguments()}
    assert "namespace" in names
