"""Play a scan file into the perception node: `ros2 launch sas_ros replay.launch.py scan:=room.ply`.

For a bag, start perception.launch.py with use_sim_time:=true, and `ros2 bag play BAG --clock`.
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare


def generate_launch_description() -> LaunchDescription:
    """The replay node beside perception.launch.py, whose arguments all work here as well."""
    arguments = [
        DeclareLaunchArgument("scan", description="scan file: .ply .pcd .npy .npz or .bin"),
        DeclareLaunchArgument(
            "namespace", default_value="sas", description="ROS namespace of both nodes"
        ),
        DeclareLaunchArgument("rate", default_value="2.0", description="clouds per second"),
        DeclareLaunchArgument(
            "stamps",
            default_value="now",
            description="now: stamp clouds with the clock; original: with the file's own stamp",
        ),
        DeclareLaunchArgument(
            "reliability",
            default_value="reliable",
            description="of the publisher: reliable or best_effort",
        ),
    ]
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([FindPackageShare("sas_ros"), "launch", "perception.launch.py"])
        ),
        launch_arguments={
            "namespace": LaunchConfiguration("namespace"),
            "input_topic": "points",
        }.items(),
    )
    options = [
        word
        for name in ("rate", "stamps", "reliability")
        for word in (f"--{name}", LaunchConfiguration(name))
    ]
    replay = Node(
        package="sas_ros",
        executable="replay",
        name="replay",
        namespace=LaunchConfiguration("namespace"),
        arguments=[LaunchConfiguration("scan"), *options],
        output="screen",
        emulate_tty=True,
    )
    return LaunchDescription([*arguments, perception, replay])
