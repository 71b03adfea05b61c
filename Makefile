# eclctl: every target works as the first command on a fresh clone, with Python, make and the package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: help setup lint format test bench demo run clean

help: ## show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: $(STAMP) ## make .venv with eclctl and the development tools, from the lock file

# setuptools leaves a start-up hook in the environment that costs every `eclctl check` milliseconds: it goes once it has built.
$(STAMP): pyproject.toml requirements-dev.lock
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . --config-settings editable_mode=compat
	$(BIN)/python -m pip uninstall --quiet --yes setuptools
	touch $@

lint: $(STAMP) ## ruff, mypy strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## format the code
	$(BIN)/ruff format .

test: $(STAMP) ## every test that this machine can run
	$(BIN)/python -m pytest -n auto --dist worksteal

bench: $(STAMP) ## ratios against floors measured in the same run; written to benchmarks/
	$(BIN)/python -m benchmarks

demo: $(STAMP) ## a real daemon over a small image library: asks, denies, explains, reloads, stops
	$(BIN)/python -m examples.demo

run: $(STAMP) ## the demo's daemon in the foreground, until Ctrl-C
	$(BIN)/python -m examples.demo --serve

clean: ## remove what the targets made
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
