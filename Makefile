# Every target installs what it needs into VENV. PYTHON is the interpreter that creates VENV.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TINY := mlx_llava/embedded/tiny-llava-hf
INSTALL = $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable
# MKL where the C extension was not built, for lack of a compiler.
FAST_CPU = $(BIN)/python -c "import mlx_llava.program._cpu" 2>/dev/null || $(INSTALL) ".[fast-cpu]"
export TRANSFORMERS_VERBOSITY = error

.PHONY: ask replay test parity check wheel stages golden reference clean

ask: $(VENV)/.run  ## install, convert the bundled model to 4 bits, answer a question about an image
	$(BIN)/mlx-llava convert --hf-path $(TINY) --mlx-path out/tiny -q --q-group-size 32 --overwrite
	$(BIN)/mlx-llava ask --model out/tiny --stats $(TINY)/examples/two_shapes_wide.png "What color is the square?"

replay: $(VENV)/.test  ## the terminal chat with scripted answers, to work on the screen without a model
	PYTHONPATH=tests $(BIN)/python tests/replay.py

test: $(VENV)/.test  ## all tests that do not need torch
	$(BIN)/python -m pytest tests --ignore=tests/parity

parity: $(VENV)/.parity $(VENV)/.check  ## tests against torch and transformers, and their types
	$(BIN)/pyright --project tests/parity
	$(BIN)/python -m pytest tests/parity

check: $(VENV)/.check  ## lint, format, layers and types, without torch
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

wheel: $(VENV)/bin/python  ## build the wheel; check that it is complete and answers in a new environment
	rm -rf build dist mlx_llava.egg-info
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(BIN)/python tests/wheel.py dist/*.whl

stages: $(VENV)/.test  ## run every training stage on little data and check that each learns
	rm -rf out/stages
	QUICK=1 PYTHON=$(BIN)/python examples/runs/tiny.sh out/stages

golden: $(VENV)/.parity  ## record transformers' answers again
	$(BIN)/python tests/parity/record.py
	$(BIN)/python tests/parity/make_pixels_golden.py
	$(BIN)/python tests/parity/record_embedded.py

reference: $(VENV)/.run  ## regenerate docs/commands.md, the manual page and the list of files in ARCHITECTURE.md
	$(BIN)/python tests/reference.py

clean:
	rm -rf $(VENV) build dist out

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# One stamp file per set of extras; a changed pyproject.toml or extension reinstalls.
$(VENV)/.run: pyproject.toml constraints.txt setup.py $(wildcard mlx_llava/program/_cpu*.[ch]) | $(VENV)/bin/python
	$(INSTALL) "."
	$(FAST_CPU)
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(INSTALL) ".[test]"
	touch $@

$(VENV)/.parity: $(VENV)/.test
	$(INSTALL) ".[test,parity]"
	touch $@

$(VENV)/.check: $(VENV)/.test
	$(INSTALL) ".[test,check]"
	touch $@
