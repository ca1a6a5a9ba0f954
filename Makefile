# make chat   install what the app needs (first time only) and start it on the demo model
# make test   install what tests need and run all of them
# make native compile the native kernels again, and say what is missing where that fails
# make metallib   compile the Metal kernels beforehand, on a Mac with Xcode: for quicker first starts
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
# Tests run in so many processes: many of them wait rather than compute.
JOBS   ?= 2
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# All but the directory of the package itself, in which the build leaves its result, and what compiles for itself.
NATIVE := $(shell find metal_kernels/*/ metal_kernels/*.cpp metal_kernels/*.txt metal_kernels/*.cmake metal_kernels/build.py -not -path '*/__pycache__*' -not -path 'metal_kernels/emulator/*')

.PHONY: chat test quick check native metallib clean
# Two installations into one environment would get in each other's way.
.NOTPARALLEL:

chat: $(VENV)/.app $(VENV)/.native
	@$(BIN)/glasschat chat $(ARGS)

test: $(VENV)/.test $(VENV)/.native
	$(PYTEST) $(ARGS)

quick: $(VENV)/.test $(VENV)/.native
	$(PYTEST) -m "not slow" $(ARGS)

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

native: $(VENV)/.app
	@$(BIN)/python metal_kernels/build.py
	@touch $(VENV)/.native

metallib: $(BIN)/python
	@$(BIN)/python metal_kernels/metallib.py

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "glasschat needs Python 3.11 or newer: set PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -m venv $(VENV)

# A stamp per extra: a second start finds it newer than pyproject.toml and installs nothing.
$(VENV)/.app: pyproject.toml | $(BIN)/python
	@echo "installing glasschat into $(VENV), once; this takes a minute or two"
	@$(BIN)/python -m pip install --quiet -e '.[native]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	@echo "installing glasschat and what its tests need into $(VENV), once; this takes a few minutes"
	@$(BIN)/python -m pip install --quiet -e '.[native,test]'
	@touch $@ $(VENV)/.app

# Newer than every source after one attempt, failed or not: the app runs without the kernels, and trying again at every
# start would only say the same again.
$(VENV)/.native: $(NATIVE) $(VENV)/.app
	@echo "compiling the native kernels; this takes a minute or two the first time"
	@$(BIN)/python metal_kernels/build.py || true
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info metal_kernels/*.so metal_kernels/*.metallib
