# `make quickstart` and `make test` are all that a fresh clone needs: each installs what it misses, once.
# They work in the virtual environment that is active, or else in .venv, which they create with $(PYTHON).

PYTHON ?= python3
VENV := $(or $(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
FLOOR_VENV := .venv-floor
# Quiet where nobody watches.
PIP_FLAGS ?= $(if $(CI),--quiet)
PIP_INSTALL = -m pip install --disable-pip-version-check --progress-bar off $(PIP_FLAGS)
# Two workers, or one on a machine with one core: each loads torch and transformers, more of them wait for one another.
PYTEST_FLAGS ?= -n logical --maxprocesses 2 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-slow test-floor quality style docs site clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

quickstart: $(VENV)/.hf_rationale-run  ## train a small model and explain with it
	$(BIN)/python examples/quickstart.py

test: $(VENV)/.hf_rationale-dev  ## the fast tests
	$(BIN)/python -m pytest tests $(PYTEST_FLAGS)

test-slow: $(VENV)/.hf_rationale-dev  ## the slow tests
	$(BIN)/python -m pytest tests -m slow

test-floor: $(FLOOR_VENV)/.hf_rationale-dev  ## the fast tests, on the oldest versions that setup.cfg allows
	$(FLOOR_VENV)/bin/python -m pytest tests $(PYTEST_FLAGS)

quality: $(VENV)/.hf_rationale-dev  ## lint, and check the format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

style: $(VENV)/.hf_rationale-dev  ## fix what can be fixed of both
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.hf_rationale-dev  ## write the tables of methods, corpora and encoders into the documents
	$(BIN)/python docs/tables.py

site: $(VENV)/.hf_rationale-dev  ## build the documentation as a site, in the folder site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

clean:  ## remove the environments made here, build products and caches
	rm -rf .venv $(FLOOR_VENV) build dist site *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An install is repeated when the files that describe it change. The stamps live in the environment and go with it.
$(VENV)/.hf_rationale-run: setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing hf_rationale into $(VENV) (once; a minute or more)"
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e .
	@touch $@

$(VENV)/.hf_rationale-dev: setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing hf_rationale and its development tools into $(VENV) (once; a minute or more)"
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e ".[dev]"
	@touch $@ $(VENV)/.hf_rationale-run

# The floors are read from setup.cfg (every ">=" becomes "=="); torch alone stays at its pin in constraints.txt, as older
# CPU wheels are not to be had everywhere.
$(FLOOR_VENV)/.hf_rationale-dev: setup.cfg pyproject.toml constraints.txt | $(FLOOR_VENV)/bin/python
	sed -nE 's/^ +([a-z0-9_-]+)>=([0-9.]+),.*/\1==\2/p' setup.cfg | grep -v '^torch==' > $(FLOOR_VENV)/floor.txt
	grep '^torch==' constraints.txt >> $(FLOOR_VENV)/floor.txt
	$(FLOOR_VENV)/bin/python $(PIP_INSTALL) -c $(FLOOR_VENV)/floor.txt -e ".[test]"
	@touch $@

$(VENV)/bin/python $(FLOOR_VENV)/bin/python:
	$(PYTHON) -m venv $(patsubst %/bin/python,%,$@)
