# Every command sets up what it needs. PYTHON names the interpreter that makes the environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TINY := mlx_llava/embedded/tiny-llava-hf
# MLX's backend: part of its wheel on macOS, an extra on Linux.
ifeq ($(shell uname)-$(shell uname -m),Linux-x86_64)
PLATFORM := cpu,fast-cpu
else ifeq ($(shell uname),Linux)
PLATFORM := cpu
else
PLATFORM := metal
endif
INSTALL = $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable
export TRANSFORMERS_VERBOSITY = error

.PHONY: ask replay test parity check wheel stages golden reference clean

ask: $(VENV)/.run  ## set up, convert the embedded model, answer a question about a picture
	$(BIN)/mlx-llava convert --hf-path $(TINY) --mlx-path out/tiny -q --overwrite
	$(BIN)/mlx-llava ask --model out/tiny --stats $(TINY)/examples/two_shapes_wide.png "What color is the square?"

replay: $(VENV)/.test  ## the terminal chat with answers that are made up: for work on the screen
	PYTHONPATH=tests $(BIN)/python tests/replay.py

test: $(VENV)/.test  ## every test that needs no torch
	$(BIN)/python -m pytest tests --ignore=tests/parity

parity: $(VENV)/.parity $(VENV)/.check  ## against torch and transformers, for real; the types of these tests too
	$(BIN)/pyright --project tests/parity
	$(BIN)/python -m pytest tests/parity

check: $(VENV)/.check  ## lint, format, floors, types; needs no torch
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

wheel: $(VENV)/bin/python  ## build the wheel and see that it holds everything
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(BIN)/python tests/wheel.py dist/*.whl

stages: $(VENV)/.test  ## every stage of training, on a small world, and that each has learned
	rm -rf out/stages
	QUICK=1 PYTHON=$(BIN)/python examples/runs/tiny.sh out/stages

golden: $(VENV)/.parity  ## record again what transformers answers
	$(BIN)/python tests/parity/record.py
	$(BIN)/python tests/parity/make_pixels_golden.py
	$(BIN)/python tests/parity/record_embedded.py

reference: $(VENV)/.run  ## write docs/commands.md again, from --help
	$(BIN)/python tests/reference.py > docs/commands.md

clean:
	rm -rf $(VENV) build dist out

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# One stamp for each set of extras; a change of pyproject.toml installs again.
$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) ".[$(PLATFORM)]"
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(INSTALL) ".[$(PLATFORM),test]"
	touch $@

$(VENV)/.parity: $(VENV)/.test
	$(INSTALL) ".[$(PLATFORM),test,parity]"
	touch $@

$(VENV)/.check: $(VENV)/.test
	$(INSTALL) ".[$(PLATFORM),test,check]"
	touch $@
