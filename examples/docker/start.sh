#!/usr/bin/env bash
# Runs a command of sas_ros with the image's ROS, where it has one.
set -eo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if [[ -n ${ROS_DISTRO:-} && -f /opt/ros/$ROS_DISTRO/setup.bash ]]; then
  source "/opt/ros/$ROS_DISTRO/setup.bash"
fi
exec scripts/in_venv.sh "$@"
