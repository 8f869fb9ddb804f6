# Everything starts from a bare clone with python3 and make: the first target that needs it builds .venv.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready

# Another build of torch: TORCH_INDEX=<package index that carries it>; TORCH_CPU=1 insists on the build without CUDA,
# which lies on such an index or in a folder that pip is told of (PIP_FIND_LINKS).
TORCH       ?= 2.13.0
TORCH_INDEX ?=
TORCH_CPU   ?=

TORCH_BUILD  = torch==$(TORCH)$(if $(filter 1 yes true,$(TORCH_CPU)),+cpu)
PIP_INSTALL  = $(PY) -m pip install --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo test bench lint format notebooks clean distclean

help:  ## Say what can be made
	@echo "make <target>  [PYTHON=python3.12] [TORCH_INDEX=<index>] [TORCH_CPU=1]"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile

venv: $(READY)  ## Build .venv with everything in it (a few minutes, once)

demo: $(READY)  ## The whole road on the simulated demo city, ending in .demo/report.html
	@$(PY) -m flows.demo

test: $(READY)  ## All tests, notebooks included
	@$(PY) -m pytest $(ARGS)

bench: $(READY)  ## A row per figure against its bar (ONLY=name for one)
	@$(PY) -m tests.bench.run $(if $(ONLY),--only '$(ONLY)')

lint: $(READY)  ## Format, lint, types and import directions
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/pyright
	@$(VENV)/bin/lint-imports

format: $(READY)  ## Put the code into shape
	@$(VENV)/bin/ruff check --fix-only --quiet .
	@$(VENV)/bin/ruff format .

notebooks: $(READY)  ## Execute the notebooks and keep their outputs
	@$(VENV)/bin/jupyter-execute --inplace notebooks/*.ipynb

clean:  ## Remove what tests, demo and tools left
	rm -rf .demo .bench .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist build
	find . -name .venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean  ## Remove the environment too
	rm -rf $(VENV)

$(READY): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) was not found: install Python 3.11, 3.12 or 3.13, or name one with make PYTHON=python3.12" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) -V 2>&1): Python 3.11, 3.12 or 3.13 is needed; name one with make PYTHON=python3.12" >&2; \
	  exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV): a few minutes, once."
	@$(PIP_INSTALL) $(if $(TORCH_INDEX),--index-url '$(TORCH_INDEX)') '$(TORCH_BUILD)'
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $@
