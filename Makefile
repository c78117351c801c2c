# Two commands: `make demo` and `make test`. Both set up .venv first, which is quick when there is nothing to do.
SHELL := /bin/bash
RUN := scripts/in_venv.sh
ROOMS := 800
STEPS := 9000
MORE_STEPS := 2500

.DEFAULT_GOAL := help
.PHONY: help all demo student test lint setup clean

help:
	@echo "make demo                        set up, scan a generated room, label it, ask for things, write pictures"
	@echo "make demo SCAN=path [UP=x,y,z]   the same on a scan of yours (.ply .pcd .npy .npz .bin)"
	@echo "make test [ARGS='-k clouds']     set up, then run all tests and checks"
	@echo "make student                     train a student like the shipped one, from rooms to bundle (an hour and a half)"
	@echo "make all                         set up everything for both, the second engine included, and run nothing"
	@echo "make lint                        style and types only"
	@echo "make clean                       remove .venv and everything that was built"

setup:
	@scripts/setup.sh demo

demo: setup
	@$(RUN) sas demo $(if $(SCAN),--scan "$(SCAN)") $(if $(UP),--up="$(UP)")

# A student like config/students/indoor-tiny.safetensors (docs/students.md says what differs); interrupted, it goes on.
student: setup
	@$(RUN) python -m pip install --quiet --no-input -r requirements/training.txt -c requirements/constraints.txt
	@$(RUN) sas world make -o runs/indoor-tiny/rooms --rooms $(ROOMS) --seed 60001
	@$(RUN) sas world make -o runs/indoor-tiny/held_out --rooms 30 --seed 920277
	@OMP_NUM_THREADS=1 $(RUN) sas train --supervision class-labels --data runs/indoor-tiny/rooms \
	  --run runs/indoor-tiny/first --steps $(STEPS) --patches 0 --seed 7 -o runs/indoor-tiny/first.safetensors
	@OMP_NUM_THREADS=1 $(RUN) sas train --supervision class-labels --data runs/indoor-tiny/rooms \
	  --init runs/indoor-tiny/first.safetensors --learning-rate 1.5e-3 \
	  --run runs/indoor-tiny/second --steps $(MORE_STEPS) --seed 8 -o runs/indoor-tiny/second.safetensors --name indoor-tiny
	@$(RUN) sas calibrate --student runs/indoor-tiny/second.safetensors --data runs/indoor-tiny/held_out \
	  -o runs/indoor-tiny/indoor-tiny.safetensors

all:
	@scripts/setup.sh test

test: all
	@$(RUN) scripts/run_tests.sh $(ARGS)

lint:
	@SAS_SKIP_MINKOWSKI=1 scripts/setup.sh test
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy

clean:
	rm -rf .venv build install log demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
