# Short names for the commands that the README spells out; nothing here that snakemake and pytest do not do.
PYTHON ?= .venv/bin/python
BIN := $(dir $(PYTHON))

LINTS := lint-style lint-types lint-workflow

.PHONY: all smoke test coverage cluster-test lint $(LINTS) freeze lock schema

all: ## the embedded study
	$(BIN)snakemake --cores all

smoke: ## the same workflow on tiny models
	$(BIN)snakemake --cores all --configfile config/smoke.yaml

test: ## every test; makes a smoke run if there is none
	$(BIN)pytest

coverage: ## lines of ramp/ that the unit tests run, in processes that they start too; pip install coverage first
	$(BIN)coverage run -m pytest -n 0 tests/unit
	$(BIN)coverage combine --quiet
	$(BIN)coverage report

cluster-test: ## the smoke study through a SLURM of one node (root, slurm-wlm, munge); needs results/smoke to compare with
	$(PYTHON) -m tests.cluster.smoke --local results/smoke --csv results/published/cluster.csv

lint: $(LINTS) ## what CI checks before it runs anything

lint-style:
	$(BIN)ruff check .
	$(BIN)ruff format --check .
	$(BIN)snakefmt --check Snakefile workflow

lint-types:
	$(BIN)mypy

lint-workflow:
	$(BIN)snakemake --lint

freeze: ## workflow/envs/NAME.constraints.txt and packages.lock, from the packages' environments below .envs
	$(PYTHON) -m workflow.scripts.freeze_environments

lock: ## requirements.lock, torch.lock and environment.yml, from the packages installed for $(PYTHON)
	$(PYTHON) -m workflow.scripts.make_environment

schema: ## workflow/schemas/config.schema.json, from ramp/study/__main__.py
	$(PYTHON) -m ramp schema > workflow/schemas/config.schema.json
