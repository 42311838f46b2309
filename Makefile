# Every habit of the house, one line each: `make help`.
# PYTHON is only the interpreter that makes .venv (3.11 or 3.12, by default the one that made it,
# or python3); everything else runs in .venv.

PYTHON ?= $(or $(wildcard $(shell sed -n 's/^executable = //p' .venv/pyvenv.cfg 2>&-)),python3)
BIN := .venv/bin
NAME ?= all
SOAK_MINUTES ?= 20
SEED ?=
STEPS ?= 100000
PYTEST := $(BIN)/pytest

.DEFAULT_GOAL := help
.PHONY: help install demo up stop status test test-all sim soak check fmt protos bench clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Returns at once when nothing is missing, so every target may ask for it.
install: ## install what is missing: system packages, .venv, jars, buf
	@$(PYTHON) -m deploy.local.install

demo: install ## a minute of real traffic on the real servers, checked, with a report
	@$(BIN)/millrace demo

up: install ## servers, services and processors until Ctrl-C
	@$(BIN)/millrace up

stop: install ## stop what `make up` started, from another terminal
	@$(BIN)/python -m deploy.local stop

status: install ## what runs, and where
	@$(BIN)/python -m deploy.local status

test: install ## all tests but the slow ones, on the real servers
	$(PYTEST) -m "not slow"

test-all: install ## all tests
	$(PYTEST)

sim: install ## the core on twins under faults, by a seed: make sim SEED=7 STEPS=100000
	@PYTHONPATH=.:protos/gen $(BIN)/python -m tests.simulation $(SEED:%=--seed %) --steps $(STEPS)

soak: install ## mixed traffic at 70 % of capacity, then growth, audit, checks: make soak SOAK_MINUTES=20
	@$(BIN)/millrace soak --minutes $(SOAK_MINUTES)

check: install ## what CI checks before it tests: style, types, protos, imports, tidiness
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/buf lint protos
	$(BIN)/buf breaking protos --against protos/image.binpb
	$(BIN)/python protos/generate.py --check
	$(BIN)/lint-imports
	$(PYTEST) -q tests/test_tidy.py

fmt: install ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: install ## regenerate code from the protos
	$(BIN)/python protos/generate.py

bench: install ## measure against the bare parts: make bench NAME=fanout|likes|rpc|feed-read|overload|replay
	@$(BIN)/millrace bench $(NAME)

clean: ## remove caches and reports; data (.millrace) and .venv stay
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
