# Needs Python 3.11 or newer and make; everything else is installed into .venv.

PORT  ?= 8000
MODEL ?= embedded
# Empty on a developer's machine: a test that fails once has failed.  CI names the tests that it had to repeat.
RERUNS ?=
DATA  ?= ./data
# They measure times and memory of a whole service, so no other tests run beside them.
ALONE := tests/hostile tests/e2e/test_hostile_images.py tests/e2e/test_slow_clients.py
# The first Python that is new enough; PYTHON=... chooses another one.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)

VENV := .venv/bin
INSTALLED := .venv/installed

.DEFAULT_GOAL := help
.PHONY: help install serve test check test-compose bench chaos lock sbom

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 | \2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
		|| sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1   \2/p' $(MAKEFILE_LIST)
	@echo
	@echo "  make serve takes PORT=$(PORT) MODEL=$(MODEL) DATA=$(DATA)"

serve: $(INSTALLED) ## Run the whole service on this machine until Ctrl-C
	@exec $(VENV)/python -m deploy.local --port "$(PORT)" --model "$(MODEL)" --data "$(DATA)"

test: check ## Lint, types, import rules and all tests that need neither Docker nor a GPU
	$(VENV)/python -m pytest -p xdist -n auto --maxprocesses 4 --dist loadfile $(RERUNS) tests/unit
	$(VENV)/python -m pytest -p xdist -n 2 --dist loadfile $(RERUNS) -m "not compose and not gpu" --ignore tests/unit $(ALONE:%=--ignore %)
	$(VENV)/python -m pytest $(RERUNS) $(ALONE)

check: $(INSTALLED) ## Lint, formatting, types and import rules
	$(VENV)/ruff check --quiet .
	$(VENV)/ruff format --check --quiet .
	$(VENV)/mypy
	$(VENV)/lint-imports --no-logo

test-compose: $(INSTALLED) ## Test the compose file; needs a Docker engine
	$(VENV)/python -m pytest -m compose tests/e2e/test_compose.py

bench: $(INSTALLED) ## Measure throughput and latency
	$(VENV)/python -m tests.bench

chaos: $(INSTALLED) ## Kill, freeze and empty processes under load, and judge the jobs; ARGS="--seed 3"
	$(VENV)/python -m tests.chaos $(ARGS)

lock: $(INSTALLED) ## Write requirements.lock and torch.lock from pyproject.toml; ARGS=--upgrade takes the newest versions
	$(VENV)/python -m deploy.dev.lock $(ARGS)

sbom: $(INSTALLED) ## Write a CycloneDX SBOM for each image under build/sbom
	$(VENV)/python -m deploy.dev.sbom build/sbom

install: $(INSTALLED) ## Make .venv from the lock; TORCH_INDEX= is the index of another build of torch

# A named index replaces an installed torch, so this is done again whenever `make install` names one.
.PHONY: named-index
$(INSTALLED): requirements.lock torch.lock $(if $(and $(TORCH_INDEX),$(filter install,$(MAKECMDGOALS))),named-index)
	@test -n "$(PYTHON)" || { echo "maskmill: there is no Python 3.11 or newer here; install one, or name it with PYTHON=..." >&2; exit 1; }
	@TORCH_INDEX="$(TORCH_INDEX)" $(PYTHON) deploy/dev/install.py
	@touch $@
