"""Start the perception node: `ros2 launch sas_ros perception.launch.py`."""

from __future__ import annotations

from typing import Any

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

# Launch arguments that are parameters of the node, too. An empty one does not touch what
# `params_file` says.
OVERRIDES: dict[str, tuple[type, str]] = {
    "use_sim_time": (bool, "true: take the time from /clock"),
    "autostart": (bool, "false: wait for a lifecycle manager to configure and activate the node"),
    "device": (str, "where the student runs: auto, cuda or cpu"),
    "student": (str, "name of a shipped student, or path of a student bundle"),
}


def generate_launch_description() -> LaunchDescription:
    """Arguments first, then the node they are wired to."""
    own = PathJoinSubstitution([FindPackageShare("sas_ros"), "config", "perception.yaml"])
    arguments = [
        DeclareLaunchArgument(
            "namespace", default_value="sas", description="ROS namespace of the node"
        ),
        DeclareLaunchArgument(
            "params_file", default_value=own, description="YAML file with the node's parameters"
        ),
        DeclareLaunchArgument(
            "input_topic",
            default_value="points",
            description="topic of the point clouds; in the namespace unless it starts with /",
        ),
        DeclareLaunchArgument(
            "use_respawn", default_value="false", description="start the node again when it ends"
        ),
        DeclareLaunchArgument(
            "log_level", default_value="info", description="debug, info, warn, error or fatal"
        ),
    ]
    overrides = [
        DeclareLaunchArgument(
            name, default_value="", description=f"{meaning}; empty: as in params_file"
        )
        for name, (_, meaning) in OVERRIDES.items()
    ]
    buffered = SetEnvironmentVariable("RCUTILS_LOGGING_BUFFERED_STREAM", "1")
    return LaunchDescription([*arguments, *overrides, buffered, OpaqueFunction(function=_node)])


def _node(context: Any) -> list[Node]:
    given = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, (kind, _) in OVERRIDES.items()
        if context.launch_configurations[name]
    }
    node = Node(
        package="sas_ros",
        executable="perception_node",
        name="perception",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file"), *([given] if given else [])],
        remappings=[("points", LaunchConfiguration("input_topic"))],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        respawn=LaunchConfiguration("use_respawn"),
        respawn_delay=2.0,
        output="screen",
        emulate_tty=True,
    )
    return [node]
