# `make demo` and `make test` do everything on a fresh machine: Python >= 3.10 and a package index are enough.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
READY := .venv/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test mutants export refresh bench docs readme lock

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s  %s\n", $$1, $$2}' Makefile

demo: $(READY)  ## export module 04, run its tests, train models with its losses
	@$(BIN)/tito demo $(ARGS)

test: $(READY)  ## run every notebook and every test (ARGS="-k losses" for some)
	@$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

mutants: $(READY)  ## plant small faults and see which no test notices (ARGS="--count 20 --only nn/losses")
	@$(BIN)/python tests/mutants.py $(ARGS)

export: $(READY)  ## write the notebooks' exported cells to tinytorch/, and the types of tinytorch.nn
	@$(BIN)/nbdev_export
	@$(BIN)/python -m tinytorch.notebooks.stubs

refresh: $(READY)  ## run the notebooks and save their outputs
	@$(BIN)/tito refresh $(ARGS)

bench: .venv/.bench  ## time the losses beside PyTorch and JAX (ARGS="--quick" for a minute)
	@$(BIN)/tito bench $(ARGS)

docs: $(READY)  ## build the site in _docs/
	@$(BIN)/tito docs $(ARGS)

readme: $(READY)  ## write README.md from nbs/index.ipynb
	@$(BIN)/tito readme $(ARGS)

.venv/.bench: $(READY)
	@echo 'Installing PyTorch and JAX into .venv (once) ...'
	@$(PIP) --editable '.[bench]'
	@touch $@

# The set-up. It runs again when the requirements change, and after an installation that was cut short.
$(READY): setup.py settings.ini requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo 'TinyTorch needs Python 3.10 or newer. Name one: make PYTHON=python3.12 demo'; exit 1; }
	@test -x $(BIN)/pip || { echo 'Making .venv ...'; $(PYTHON) -m venv .venv; }
	@echo 'Installing into .venv (once; a minute or two) ...'
	@$(PIP) --require-hashes --requirement requirements.txt || { \
	  echo "If no release in requirements.txt fits this machine: see \"Set up\" in CONTRIBUTING.md."; exit 1; }
	@$(PIP) --no-deps --use-pep517 --no-build-isolation --editable .
	@touch $@

# The releases that `make` and CI install, for every system, with the hashes of their files.
LOCK := $(BIN)/uv pip compile setup.py --extra dev --universal --python-version 3.10 --generate-hashes --no-annotate

lock: $(READY)  ## write requirements.txt anew, with the newest releases that settings.ini allows
	@$(PIP) uv==0.13.9
	@$(LOCK) --upgrade --quiet --custom-compile-command 'make lock' --output-file requirements.txt
