# flawline: `make demo` on a fresh clone runs the whole line; `make help` lists the rest.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# DVC runs `flawline stage …` by name.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# No tool phones home (`true`, not `1`: MLflow accepts nothing else).
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo full install test test-servers bench bench-plots lint format ui clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(INSTALLED)  ## the whole line, from data to a promoted prompt set
	@$(BIN)/flawline retrain
	@echo "next:     .venv/bin/flawline score data/boards/pcb/test --out out/scored    or    make ui"

full: $(INSTALLED)  ## every method of params.yaml side by side (names them all in tune.methods)
	@$(BIN)/flawline retrain --set 'tune.methods=[anomalyclip, apt, dapo, faprompt, human_free, patch_memory, promptad, winclip, words]'

install: $(INSTALLED)  ## only the environment

test: $(INSTALLED)  ## all tests but those that start servers
	@$(BIN)/python -m pytest -n logical --dist worksteal --ignore=tests/servers

test-servers: $(INSTALLED)  ## the tests that drive real servers: Prefect, MLflow, S3, PostgreSQL
	@$(BIN)/python -m pytest tests/servers -n 2 --dist loadfile

bench: $(INSTALLED)  ## what is fast and what it costs: ratios into benchmarks/results.json (an hour, on a quiet machine)
	@for name in streaming_metrics evaluate_memory manifest_20000 scoring cached_tuning orchestration workers; do \
	  echo "== $$name"; $(BIN)/python -m benchmarks.$$name; done

bench-plots: $(INSTALLED)  ## cost against size: measures (an hour, on a quiet machine), then draws docs/images/bench
	@for name in streaming_metrics evaluate_memory cached_tuning scoring; do \
	  echo "== $$name"; $(BIN)/python -m benchmarks.$$name sizes; done
	@for name in orchestration workers; do \
	  echo "== $$name"; $(BIN)/python -m benchmarks.$$name --sizes; done
	@$(BIN)/python -m benchmarks.plots

lint: $(INSTALLED)  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(INSTALLED)  ## let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

ui: $(INSTALLED)  ## Prefect, MLflow and a worker on loopback, until Ctrl-C
	@exec $(BIN)/flawline ui

clean:  ## remove derived files and state; data, samples, decisions and your files stay
	@rm -rf out .state .flawline reports .pytest_cache .mypy_cache .ruff_cache
	@find src flows tests -type d -name __pycache__ -prune -exec rm -rf {} +

# Runs only when the requirements changed. An interrupted install leaves no stamp and is simply continued.
$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) on PATH: install Python 3.11 or newer, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $$($(PYTHON) --version) is too old: install Python 3.11 or newer, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "making .venv and installing (about three minutes)"; $(PYTHON) -m venv $(VENV) >/dev/null 2>&1; } || { echo "error: $(PYTHON) cannot make a virtual environment: install its venv module (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@$(BIN)/python -m pip install -qq -c constraints.txt -e ".[test,lint]"
	@touch $@
