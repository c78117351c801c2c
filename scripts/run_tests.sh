#!/usr/bin/env bash
# All tests: those with nodes one after the other, since they wait and measure; then the others, two files at a time.
# With arguments, pytest with these.
set -uo pipefail
if (($#)); then exec python -m pytest "$@"; fi
python -m pytest -m graph
graph=$?
python -m pytest -m "not graph" -n 2 --dist loadfile --no-loadscope-reorder
others=$?
exit $((graph != 0 ? graph : others))
