#!/usr/bin/env bash
# Runs a command of .venv as scripts/setup.sh set it up:   scripts/in_venv.sh sas demo
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ $(cat "$ROOT/.venv/.sas-setup/mode" 2>/dev/null) == "ROS 2 wheels" ]]; then
  # A sourced ROS installation that set-up could not use must not get in the way either.
  unset PYTHONPATH PYTHONHOME LD_LIBRARY_PATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH
  unset ROS_DISTRO _ROS_WHEELS_BOOTSTRAP_COMPLETE
fi
PATH=$ROOT/.venv/bin:$PATH exec "$@"
