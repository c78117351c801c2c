#!/usr/bin/env bash
# Makes .venv with everything that `make demo` or `make test` needs:   scripts/setup.sh demo|test
#
# Each step leaves a stamp, written last, that holds a hash of what went into it. A step whose stamp fits is skipped, so
# the script can be stopped at any moment and run again, and costs well under a second when there is nothing to do.
# With a ROS 2 installation sourced, that one is used; without, real ROS 2 comes from its PyPI wheels.
#
# `test` also builds MinkowskiEngine, an optional second engine. SAS_SKIP_MINKOWSKI=1 leaves it out;
# SAS_REQUIRE_MINKOWSKI=1 makes a failed build fail the set-up.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
STATE=$VENV/.sas-setup

# Measured download sizes in MB: torch apart, because two builds of it differ by a factor of 14.
TORCH_CPU_MB=192
TORCH_PUBLIC_MB=2730
REST_MB=220       # numpy, ROS 2, transformers, the text encoder's weights
TEST_MB=270       # on top, for the tests
DISK_CPU_MB=3000  # what must be free before anything is installed
DISK_PUBLIC_MB=9000

say() { printf '%s\n' "$*"; }
fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

case "${1:-}" in
  demo | test) PROFILE=$1 ;;
  *) fail "say what to set up: scripts/setup.sh demo|test" ;;
esac
cd "$ROOT"
trap 'printf "\nsetup: stopped. Run the same command again; finished steps are kept.\n" >&2; exit 130' INT TERM

# ---------------------------------------------------------------------------------------------------- stamps
hash_of() { sha256sum | cut -c1-32; }
is_done() { [[ -f $STATE/$1 && $(<"$STATE/$1") == "$2" ]]; }
finish() {
  printf '%s\n' "$2" >"$STATE/$1.new"
  mv "$STATE/$1.new" "$STATE/$1"
}

# ---------------------------------------------------------------------------------------------------- which ROS 2
# A ROS 2 installation counts when it is sourced and its rclpy can be imported by the python3 it belongs to.
ROS_PYTHON=
if [[ -n ${ROS_DISTRO:-} && -n ${AMENT_PREFIX_PATH:-} ]]; then
  for candidate in /usr/bin/python3 python3; do
    if "$candidate" -c 'import sys, rclpy; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      ROS_PYTHON=$(command -v "$candidate")
      break
    fi
  done
  [[ -n $ROS_PYTHON ]] || say "ROS_DISTRO is '$ROS_DISTRO', but no python3 >= 3.10 here can import rclpy: using ROS 2 wheels instead."
fi
if [[ -n $ROS_PYTHON ]]; then
  MODE="ROS 2 $ROS_DISTRO"
else
  MODE="ROS 2 wheels"
  # Leftovers of another ROS installation or of another environment's start-up hook would load foreign libraries.
  unset PYTHONPATH PYTHONHOME LD_LIBRARY_PATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH
  unset ROS_DISTRO _ROS_WHEELS_BOOTSTRAP_COMPLETE
fi

# ---------------------------------------------------------------------------------------------------- which Python
check_machine() {
  [[ $(uname -s) == Linux ]] || fail "this works on Linux only; this machine runs $(uname -s)."
  [[ -n $ROS_PYTHON ]] && return
  local remedy="Install ROS 2 for this machine (https://docs.ros.org), source it, and run the same command again."
  [[ $(uname -m) == x86_64 ]] || fail "ROS 2 wheels exist for x86-64 only; this machine is $(uname -m). $remedy"
  local glibc
  glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2) || true
  [[ -n $glibc && $(printf '%s\n' 2.28 "$glibc" | sort -V | head -n1) == 2.28 ]] ||
    fail "ROS 2 wheels need glibc 2.28 or newer; this machine has ${glibc:-another C library}. $remedy"
}

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

find_python() {
  if [[ -n $ROS_PYTHON ]]; then
    echo "$ROS_PYTHON"
    return
  fi
  if [[ -n ${PYTHON:-} ]]; then
    fits "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11, 3.12 or 3.13."
    command -v "$PYTHON"
    return
  fi
  local candidate
  for candidate in python3 python3.11 python3.12 python3.13; do
    if fits "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  local here
  here=$(python3 --version 2>/dev/null) || here="no python3 at all"
  fail "no Python 3.11, 3.12 or 3.13 found ($here). Install one, or name one: make $PROFILE PYTHON=/path/to/python3.12"
}

# ---------------------------------------------------------------------------------------------------- system packages
install_system_packages() {
  local python=$1 version missing=()
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=("python$version-venv")
  "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
    missing+=("python$version-dev")
  if ! command -v c++ >/dev/null || ! command -v cc >/dev/null; then missing+=(build-essential); fi
  if [[ -n $ROS_PYTHON ]] && ! command -v cmake >/dev/null; then missing+=(cmake); fi
  ((${#missing[@]})) || return 0
  apt_install "${missing[@]}" || fail "$PROBLEM"
}

# Installs Debian packages; on failure returns 1 and leaves a sentence in PROBLEM.
apt_install() {
  local command="apt-get install -y --no-install-recommends $*"
  if ! command -v apt-get >/dev/null; then
    PROBLEM="these Debian packages, or this system's counterparts, are needed first: $*"
    return 1
  fi
  local sudo=()
  if ((EUID != 0)); then
    if ! sudo -n true 2>/dev/null; then
      PROBLEM="some system packages are missing. Run this, then the same command again:
    sudo apt-get update && sudo $command"
      return 1
    fi
    sudo=(sudo -n)
  fi
  say "Installing system packages: $*"
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive sh -c "apt-get update -q && $command" >"$LOG" 2>&1 </dev/null && return
  PROBLEM="apt-get failed: $(grep -E '^E:' "$LOG" | head -n1). The whole output is in $LOG."
  return 1
}

# ---------------------------------------------------------------------------------------------------- pip
explain_pip_failure() {
  local reason
  reason=$(grep -E '^ERROR|Error' "$LOG" | tail -n1 | cut -c1-300) || true
  if grep -qE 'No space left on device|Errno 28|Disk quota' "$LOG"; then
    fail "the disk is full ($(df -Ph "$ROOT" | awk 'NR == 2 {print $4}') free here, $(df -Ph "${TMPDIR:-/tmp}" | awk 'NR == 2 {print $4}') in ${TMPDIR:-/tmp}). Free some space, or set TMPDIR to a larger folder, and run again."
  fi
  if grep -qiE 'name resolution|Name or service|No route|unreachable|Connection (refused|reset|aborted)|timed out|ProxyError|NewConnectionError' "$LOG"; then
    fail "the Python package index could not be reached. Check the network (and proxy settings), then run again; finished downloads are kept. Details: $LOG"
  fi
  if grep -qE 'HASHES|hashes' "$LOG"; then
    fail "a downloaded file is not the pinned one: ${reason:-its hash differs}. Details: $LOG"
  fi
  fail "pip failed: ${reason:-see the log}. The whole output is in $LOG."
}

# Shows pip's own progress on a terminal, one line per large download elsewhere; its warnings go to the log.
run_pip() {
  if [[ -t 1 ]]; then
    "$VENV/bin/python" -m pip "$@" 2>"$LOG" </dev/null || explain_pip_failure
  else
    "$VENV/bin/python" -m pip "$@" --progress-bar off 2>"$LOG" </dev/null |
      awk '/Downloading .*\(([5-9]|[0-9][0-9]+)(\.[0-9]+)? [MG]B\)|Downloading .* GB/ {print "  " $1, $2, $3, $4; fflush()}
           /^Installing collected/ {print "  Installing", NF - 3, "packages"; fflush()}' || explain_pip_failure
  fi
}

# What is about to be fetched. Also the first contact with the index, so a missing network is noticed early.
announce_downloads() {
  if [[ $PROFILE == test ]] && is_done packages-demo "$(packages_key demo)"; then
    say "Downloads: about $TEST_MB MB for the tests."
    return
  fi
  local rest=$REST_MB versions wanted size=public
  [[ $PROFILE == test ]] && rest=$((rest + TEST_MB))
  wanted=$(sed -n 's/^torch==//p' requirements/base.txt)
  versions=$("$VENV/bin/python" -m pip index versions torch --retries 2 2>"$LOG" </dev/null) ||
    { grep -qiE 'Connection|timed out|resolution' "$LOG" && explain_pip_failure; }
  if [[ $versions == *" $wanted+cpu"* ]]; then size=cpu; fi
  if [[ $size == cpu ]]; then
    say "Downloads: about $((rest + TORCH_CPU_MB)) MB (torch as a CPU-only build, which pip finds here)."
    check_disk $DISK_CPU_MB
  else
    say "Downloads: about $(((rest + TORCH_PUBLIC_MB + 50) / 100 * 100)) MB, of which $TORCH_PUBLIC_MB MB are torch with its CUDA libraries (it also runs without a GPU)."
    say "  A CPU-only build is taken instead when pip can find one, and saves 2.5 GB: see docs/dependencies.md."
    check_disk $DISK_PUBLIC_MB
  fi
}

check_disk() {
  local free
  free=$(df -Pm "$ROOT" | awk 'NR == 2 {print $4}')
  ((free >= $1)) || fail "this needs $1 MB of free disk in $ROOT; there are $free MB."
}

# ---------------------------------------------------------------------------------------------------- steps
# Names every installed package of which files are missing: what a pip that was killed half-way leaves behind.
find_damage() {
  "$VENV/bin/python" - <<'PY'
import importlib.metadata, pathlib, sysconfig

site = pathlib.Path(sysconfig.get_path("purelib"))
damage = [path.name for path in site.glob("~*")]
for path in site.glob("*.dist-info"):
    files = importlib.metadata.Distribution.at(path).files
    if files is None or not all(f.locate().exists() for f in files if f.suffix != ".pyc"):
        damage.append(path.stem)
print(" ".join(damage))
PY
}

remove_venv() {
  say "$1: making .venv anew."
  rm -rf "$VENV"
}

prepare_venv() {
  local key="$ROOT | $MODE"
  if [[ -e $VENV && ! -d $STATE ]]; then
    fits "$VENV/bin/python" || [[ -n $ROS_PYTHON ]] ||
      fail ".venv was not made by this script and has no Python 3.11 to 3.13. Move it away and run again."
    say "Using the .venv that is here."
    mkdir -p "$STATE"
    finish venv "$key"
  elif [[ -d $STATE ]]; then
    if ! is_done venv "$key"; then
      remove_venv "The virtual environment is half-made, was moved, or was for another ROS 2"
    elif ! "$VENV/bin/python" -c pass 2>/dev/null; then
      remove_venv "The virtual environment's Python no longer runs"
    elif [[ -n ${PYTHON:-} && -z $ROS_PYTHON && $("$PYTHON" -c "$VERSION_CODE") != $("$VENV/bin/python" -c "$VERSION_CODE") ]]; then
      remove_venv "PYTHON names another version"
    elif [[ -f $STATE/pip-at-work ]]; then
      local damage
      damage=$(find_damage 2>/dev/null) || damage="pip itself"
      [[ -z $damage ]] || remove_venv "An interrupted installation left incomplete packages ($damage)"
    fi
  fi
  [[ -d $STATE ]] && return

  check_machine
  local python
  python=$(find_python)
  LOG=$(mktemp)
  install_system_packages "$python"
  say "Making .venv with $("$python" --version) and $MODE"
  mkdir -p "$STATE"
  touch "$VENV/COLCON_IGNORE" # colcon must not search it for packages
  local options=()
  [[ -n $ROS_PYTHON ]] && options=(--system-site-packages)
  "$python" -m venv "${options[@]}" "$VENV" >"$LOG" 2>&1 ||
    fail "the virtual environment could not be made: $(tail -n1 "$LOG")"
  rm -f "$LOG"
  finish venv "$key"
}

package_lists() {
  local lists=(requirements/base.txt requirements/demo.txt)
  [[ -z $ROS_PYTHON ]] && lists+=(requirements/ros.txt)
  [[ $1 == test ]] && lists+=(requirements/test.txt)
  echo "${lists[@]}"
}

packages_key() {
  local lists
  read -ra lists <<<"$(package_lists "$1")"
  { cat "${lists[@]}" requirements/constraints.txt requirements/text.txt && echo "$PYTHON_VERSION $MODE"; } | hash_of
}

install_packages() {
  # The tests' packages include the demo's.
  if is_done packages-test "$(packages_key test)"; then return; fi
  if [[ $PROFILE == demo ]] && is_done packages-demo "$(packages_key demo)"; then return; fi
  announce_downloads
  local lists arguments=()
  read -ra lists <<<"$(package_lists "$PROFILE")"
  if [[ -z $ROS_PYTHON ]]; then
    for list in "${lists[@]}"; do arguments+=(-r "$list"); done
    arguments+=(-c requirements/constraints.txt)
  else
    # The installation's own packages were built against its numpy, so that one stays. Our pins become upper bounds
    # where its Python is too old for them.
    sed '/^numpy==/d' "${lists[@]}" >"$STATE/requirements.txt"
    "$VENV/bin/python" -c 'import numpy; print("numpy==" + numpy.__version__)' >"$STATE/constraints.txt" 2>/dev/null ||
      : >"$STATE/constraints.txt"
    if "$VENV/bin/python" -c 'import sys; sys.exit(sys.version_info >= (3, 11))'; then
      sed -i 's/==/<=/' "$STATE/requirements.txt"
    fi
    arguments=(-r "$STATE/requirements.txt" -c "$STATE/constraints.txt")
  fi
  touch "$STATE/pip-at-work"
  run_pip install --no-input "${arguments[@]}"
  run_pip install --no-input --no-deps --require-hashes -r requirements/text.txt
  rm -f "$STATE/pip-at-work"
  finish "packages-$PROFILE" "$(packages_key "$PROFILE")"
}

# Apart from the other packages, see requirements/vision.txt.
install_vision() {
  local key
  key=$({ cat requirements/vision.txt && echo "$PYTHON_VERSION"; } | hash_of)
  is_done vision "$key" && return
  rm -rf "$VENV/vision"
  run_pip install --no-input --quiet --no-deps --target "$VENV/vision" -r requirements/vision.txt
  finish vision "$key"
}

install_interfaces() {
  local key build=$STATE/build-msgs
  key=$({ find msg cmake scripts/ros_libraries.py -type f -print0 | sort -z | xargs -0 sha256sum && cat requirements/ros.txt && echo "$PYTHON_VERSION $MODE"; } | hash_of)
  is_done interfaces "$key" && return
  say "Building the interface package sas_msgs"
  local site options=("-DCMAKE_PROJECT_INCLUDE=$ROOT/cmake/drop_missing_include_dirs.cmake")
  site=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  if [[ -z $ROS_PYTHON ]]; then
    export AMENT_PREFIX_PATH=$VENV
    options+=(-G Ninja "-DCMAKE_PREFIX_PATH=$VENV" "-DPython3_EXECUTABLE=$VENV/bin/python")
  else
    # The generators run under the interpreter (and the empy) they were installed for.
    options+=("-DPython3_EXECUTABLE=$ROS_PYTHON" "-DPYTHON_INSTALL_DIR=${site#"$VENV/"}")
  fi
  rm -rf "$build"
  {
    cmake -S msg -B "$build" "-DCMAKE_INSTALL_PREFIX=$VENV" -DBUILD_TESTING=OFF "${options[@]}" &&
      cmake --build "$build" --parallel &&
      rm -rf "$site/sas_msgs" "$VENV"/share/sas_msgs "$VENV"/include/sas_msgs "$VENV"/lib/libsas_msgs__* &&
      cmake --install "$build"
  } >"$LOG" 2>&1 </dev/null ||
    fail "the interface package did not build: $(grep -iE -A2 -m1 'error' "$LOG" | tr -s '\n ' ' ' | cut -c1-300). The whole output is in $LOG."
  if [[ -n $ROS_PYTHON ]]; then
    cp scripts/ros_libraries.py "$site/_sas_ros_libraries.py"
    echo "import _sas_ros_libraries" >"$site/sas_ros_libraries.pth"
  fi
  rm -rf "$build"
  finish interfaces "$key"
}

install_package() {
  local key
  key=$({ cat setup.py setup.cfg && echo "$ROOT $PYTHON_VERSION"; } | hash_of)
  is_done package "$key" && return
  say "Installing sas_ros (editable)"
  run_pip install --no-input --quiet --no-deps --no-build-isolation --editable .
  finish package "$key"
}

# ---------------------------------------------------------------------------------------------------- MinkowskiEngine
# Built from source, optional: without it the engine of plain PyTorch computes the same. The wheel fits one torch, one
# Python and these flags; it is kept in the user's cache, so another .venv does not build it again.
MINKOWSKI_BUILD="--cpu_only --blas=openblas"

minkowski_failed() {
  [[ -z ${SAS_REQUIRE_MINKOWSKI:-} ]] || fail "MinkowskiEngine is required here, but $*"
  say "Going on without MinkowskiEngine, which is optional (the native engine does not need it): $*"
}

has_openblas() {
  printf '#include <cblas.h>\nint main(void) { return 0; }\n' | cc -x c - -lopenblas -o /dev/null 2>/dev/null
}

# MB of memory that one compiler of this build needs, and so how many may run at once.
minkowski_jobs() {
  local free cores
  free=$(awk '/^MemAvailable/ {print int($2 / 1024 / 1800)}' /proc/meminfo)
  cores=$(nproc)
  ((free < cores)) && cores=$free
  ((cores > 0)) && echo "$cores" || echo 1
}

install_minkowski() {
  [[ -z ${SAS_SKIP_MINKOWSKI:-} ]] || return 0
  local version fits key cache wheels log=$STATE/minkowski.txt
  version=$(sed -n 's/^MinkowskiEngine==//p' requirements/minkowski.txt)
  fits=$("$VENV/bin/python" -c 'import importlib.metadata, sysconfig
print("torch" + importlib.metadata.version("torch"), sysconfig.get_config_var("SOABI"), sep="-")')
  key=$(echo "$version $fits $MINKOWSKI_BUILD" | hash_of)
  is_done minkowski "$key" && return
  if [[ -z ${SAS_REQUIRE_MINKOWSKI:-} ]] && is_done minkowski-failed "$key"; then
    minkowski_failed "its build failed before, see $log. To try again, remove $STATE/minkowski-failed."
    return
  fi
  if ! has_openblas && ! apt_install libopenblas-dev; then
    minkowski_failed "$PROBLEM"
    return
  fi
  cache=${XDG_CACHE_HOME:-${HOME:-$STATE}/.cache}/sas_ros
  mkdir -p "$cache" 2>/dev/null || cache=$STATE
  wheels=$cache/minkowski-$version-$fits-${key:0:8}
  if ! compgen -G "$wheels/*.whl" >/dev/null; then
    say "Building MinkowskiEngine $version (some minutes, once; SAS_SKIP_MINKOWSKI=1 leaves it out)"
    rm -rf "$STATE/wheels"
    # For older pip: it would not pass settings on without PEP 517, and keeps only the last of two of the same name.
    if ! CFLAGS=-g0 PIP_USE_PEP517=1 MAX_JOBS=$(minkowski_jobs) "$VENV/bin/python" -m pip wheel --no-input \
      --no-build-isolation --no-deps --no-cache-dir --wheel-dir "$STATE/wheels" \
      "--config-settings=--global-option=$MINKOWSKI_BUILD" "MinkowskiEngine==$version" >"$log" 2>&1 </dev/null; then
      rm -rf "$STATE/wheels"
      # A package index that could not be reached is asked again next time; a compiler's refusal is not.
      if grep -q '^Building wheel' "$log"; then finish minkowski-failed "$key"; fi
      minkowski_failed "it did not build: $(minkowski_reason "$log"). The whole output is in $log."
      return
    fi
    rm -rf "$wheels" "$wheels.new"
    cp -r "$STATE/wheels" "$wheels.new"
    mv "$wheels.new" "$wheels"
    rm -rf "$STATE/wheels"
  fi
  if ! {
    "$VENV/bin/python" -m pip install --no-input --no-deps --no-index --force-reinstall "$wheels"/*.whl &&
      "$VENV/bin/python" -c 'import torch
from sas_ros.sparse import minkowski
minkowski.check(torch.device("cpu"))'
  } >"$log" 2>&1 </dev/null; then
    rm -rf "$wheels"
    minkowski_failed "it was built but does not run: $(minkowski_reason "$log"). Details: $log."
    return
  fi
  rm -f "$log" "$STATE/minkowski-failed"
  finish minkowski "$key"
}

minkowski_reason() {
  local reason
  reason=$(grep -vE 'subprocess-exited|ERROR: Failed' "$1" | grep -m1 -E '(error|Error|ERROR): ' | sed 's/^ *//' | cut -c1-200) ||
    reason=$(grep -E '^ERROR' "$1" | tail -n1)
  echo "${reason:-no reason was given}"
}

check_result() {
  local key
  key=$(cat "$STATE"/{packages-*,interfaces,package} | hash_of)
  is_done checked "$key" && return 1
  "$VENV/bin/python" -c 'import numpy, safetensors, torch, rclpy, sas_ros
from sas_msgs.srv import Query' 2>"$LOG" ||
    fail "everything is installed, but does not import: $(tail -n1 "$LOG"). Details: $LOG"
  finish checked "$key"
}

VERSION_CODE='import sys; print("%d.%d" % sys.version_info[:2])'
SECONDS=0
if command -v flock >/dev/null; then
  exec 9<"$ROOT/requirements" # children keep it open: a pip that outlives this script still holds the lock
  flock -w 10 9 || fail "another set-up of this folder is running; wait for it to finish."
fi
prepare_venv
LOG=$STATE/log.txt
PATH=$VENV/bin:$PATH
PYTHON_VERSION=$("$VENV/bin/python" -c "$VERSION_CODE")
export PIP_DISABLE_PIP_VERSION_CHECK=1
install_packages
install_interfaces
install_package
if [[ $PROFILE == test ]]; then
  install_vision
  install_minkowski
fi
printf '%s\n' "$MODE" >"$STATE/mode"
if check_result; then say "Set up in $SECONDS s ($(du -sm "$VENV" | cut -f1) MB in .venv)."; fi
