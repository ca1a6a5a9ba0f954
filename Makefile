# make chat   install what the app needs (first time only) and start it on the demo model
# make test   install what tests need and run all of them
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: chat test quick check clean

chat: $(VENV)/.app
	@$(BIN)/glasschat chat $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest $(ARGS)

quick: $(VENV)/.test
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "glasschat needs Python 3.11 or newer: set PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -m venv $(VENV)

# A stamp per extra: a second start finds it newer than pyproject.toml and installs nothing.
$(VENV)/.app: pyproject.toml | $(BIN)/python
	@echo "installing glasschat into $(VENV), once; this takes a minute or two"
	@$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	@echo "installing glasschat and what its tests need into $(VENV), once; this takes a few minutes"
	@$(BIN)/python -m pip install --quiet -e '.[test]'
	@touch $@ $(VENV)/.app

clean:
	rm -rf $(VENV) build dist *.egg-info
