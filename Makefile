# Two commands: `make demo` and `make test`. Both set up .venv first, which is quick when there is nothing to do.
SHELL := /bin/bash
RUN := scripts/in_venv.sh

.DEFAULT_GOAL := help
.PHONY: help all demo test lint setup clean

help:
	@echo "make demo                        set up, scan a generated room, label it, ask for things, write pictures"
	@echo "make demo SCAN=path [UP=x,y,z]   the same on a scan of yours (.ply .pcd .npy .npz .bin)"
	@echo "make test [ARGS='-k clouds']     set up, then run all tests and checks"
	@echo "make all                         set up everything for both, the second engine included, and run nothing"
	@echo "make lint                        style and types only"
	@echo "make clean                       remove .venv and everything that was built"

setup:
	@scripts/setup.sh demo

demo: setup
	@$(RUN) sas demo $(if $(SCAN),--scan "$(SCAN)") $(if $(UP),--up="$(UP)")

all:
	@scripts/setup.sh test

test: all
	@$(RUN) python -m pytest $(ARGS)

lint:
	@SAS_SKIP_MINKOWSKI=1 scripts/setup.sh test
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy

clean:
	rm -rf .venv build install log demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
