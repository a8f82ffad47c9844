# Every verb sets up what it needs; `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# The stamps say what is installed; they are renewed when the files that decide it change.
DEMO_READY := $(VENV)/.demo-ready
TEST_READY := $(VENV)/.test-ready
PEERS_READY := .venv-peers/.ready

# A process a core; a file's tests stay together, as they share what was costly to make.
PARALLEL := --numprocesses auto --maxprocesses 8 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test fast lint fmt types bench evidence docs clean

help:  ## list the verbs
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(DEMO_READY)  ## the whole way from labelled pictures to a better detector, on two cores
	@$(BIN)/tilth demo demo

test: $(TEST_READY)  ## every test that needs no GPU
	$(BIN)/python -m pytest -m "not gpu" $(PARALLEL)

fast: $(TEST_READY)  ## the quick lane: no slow, cluster or browser tests
	$(BIN)/python -m pytest -m "not slow and not gpu and not cluster and not browser" $(PARALLEL)

lint: $(TEST_READY)  ## ruff, the import contracts and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

fmt: $(TEST_READY)  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(TEST_READY) $(PEERS_READY)  ## run every benchmark beside its peers, then list the evidence
	$(BIN)/python benchmarks/run_all.py
	$(BIN)/python benchmarks/evidence.py

evidence: $(TEST_READY)  ## list every claim with goal, value and spread; write docs/evidence.md
	$(BIN)/python benchmarks/evidence.py

docs: $(TEST_READY)  ## write the generated pages: command line, formats, papers, evidence
	$(BIN)/python -m tilth.cli.reference docs/reference/cli.md
	$(BIN)/python docs/papers.py
	$(BIN)/python docs/label_formats.py
	$(BIN)/python docs/label_noise_figure.py
	$(BIN)/python docs/differentiable_models.py
	$(BIN)/python benchmarks/evidence.py

clean:  ## remove everything that the verbs above have made
	rm -rf $(VENV) .venv-* demo build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tilth needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(DEMO_READY): pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing Tilth into $(VENV) (some minutes the first time)"
	$(PIP) -e '.[train,demo]'
	@touch $@

$(TEST_READY): pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing Tilth and its test tools into $(VENV)"
	$(PIP) -e '.[dev]'
	@touch $@ $(DEMO_READY)

# The peers that benchmarks run beside us, each in an environment of its own.
$(PEERS_READY): benchmarks/peers.txt
	set -e; while read -r peer packages; do \
	    $(PYTHON) -m venv .venv-peers/$$peer; \
	    .venv-peers/$$peer/bin/python -m pip install --quiet $$packages; \
	done < benchmarks/peers.txt
	@touch $@
