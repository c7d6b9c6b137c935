# make repro   set up, run the pipeline, print where the tables are: first those of the comparison
# make test    set up, run the tests that take seconds
# make help    everything else

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1
export HF_HUB_DISABLE_TELEMETRY := 1
# a uv that is there is used; else one is put into its own environment, away from the project's
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
NAME ?= mini

.DEFAULT_GOAL := help
# the points that the studies of params.yaml leave out, for `make wide`
WIDE := frames.counts=[1,2,4,6,8,12,16,24,32] \
  ablations.temperature.learnt=[true,false] \
  ablations.frame_count.frames=[1,2,4,6,8,12,16,24,32] \
  ablations.frame_count.sampling=[uniform,rand] \
  ablations.frame_count.surface.frames=[2,12,32] \
  ablations.scene_diversity.scenes=[1,2,3,4,6] \
  ablations.search.trials=16

# every file of baselines/, for `make methods`
comma := ,
empty :=
METHODS := $(subst $(empty) $(empty),$(comma),$(patsubst baselines/%.py,%,$(filter-out %/__init__.py,$(wildcard baselines/*.py))))

.PHONY: help setup repro check-paper wide methods dashboard demo study-worker verify test check bench doctor docs setting lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

.tools/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check uv

# uv brings the Python that the lock was made for when the machine's own is out of its range
$(VENV)/.ready: requirements.lock pyproject.toml $(filter .tools/bin/uv,$(UV))
	test -d $(VENV) || $(UV) venv --quiet --python '>=3.11,<3.14' $(VENV)
	VIRTUAL_ENV=$(VENV) $(UV) pip sync --quiet --compile-bytecode --require-hashes requirements.lock
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

setup: $(VENV)/.ready ## Create the environment in .venv from requirements.lock
	@test ! -e .git || git config --replace-all include.path ../.ci/notebook.gitconfig notebook.gitconfig || echo "notebooks saved with outputs will show in git"

repro: setup ## Run the pipeline (mini benchmarks by default) and print where the tables are
	@test -e .git || { echo "error: no .git here, which DVC needs (an unpacked archive?): git init && git add --all && git commit -m start"; exit 2; }
	dvc repro results attention
	@python -m xpool summary
	dvc repro
	@python -m xpool summary

check-paper: setup ## Score the authors' checkpoints without training, and judge the paper: make check-paper FROM=/disk/official
	@python -m xpool check-paper $(if $(FROM),--from '$(FROM)')

wide: setup ## Run the studies of the mini setting on wide grids, which it writes into params.yaml
	dvc exp run $(foreach value,$(WIDE),--set-param '$(value)')

methods: setup ## Compare X-Pool with every method of baselines/, which it writes into params.yaml
	dvc exp run results --set-param 'baselines=[$(METHODS)]' --set-param embeddings.words=true
	@python -m xpool summary

dashboard: setup ## Show all studies in the browser, while they run and after: make dashboard PORT=8080
	@python -m xpool dashboard $(if $(PORT),--port $(PORT))

demo: setup ## Serve a page to search with any trained run: make demo PORT=8090
	@python -m xpool demo $(if $(PORT),--port $(PORT))

study-worker: setup ## Run trials of a study beside other workers: make study-worker STUDY=temperature
	@test -n "$(STUDY)" || { echo "error: which study? make study-worker STUDY=temperature"; exit 2; }
	@python -m xpool study-worker --study $(STUDY)

verify: setup ## Confirm results from the saved runs, all or one: make verify RUN=results/mini/train/xpool/msvd/0
	@python -m xpool verify $(RUN)

test: setup ## Run the tests that take seconds, in six minutes; make test ALL=1 runs whole pipelines too, in sixteen
	python -m pytest $(if $(ALL),,-m "not slow")

check: setup ## Lint, check formatting and types
	ruff check .
	ruff format --check .
	mypy

# alone on its machine: threads that wait spin for some ten microseconds, which halves scoring's time
bench: export GOMP_SPINCOUNT := 10000
bench: setup ## Time the fast paths against their baselines: make bench DEVICE=cuda JSON=file.json
	@python -m performance $(if $(DEVICE),--device $(DEVICE)) $(if $(JSON),--json $(JSON))

doctor: setup ## Print what is there: Python, torch, device, codecs, disk, data
	@python -m xpool doctor

docs: setup ## Build the documentation as a site that opens without a network: reports/docs/index.html
	ruff check --quiet xpool baselines studies
	@NO_MKDOCS_2_WARNING=1 mkdocs build --config-file website/mkdocs.yml
	@echo "reports/docs/index.html"

setting: setup ## Install a setting: make setting NAME=paper (or mini)
	@python -m xpool setting $(NAME)

lock: ## Resolve pyproject.toml anew into requirements.lock
	$(UV) pip compile pyproject.toml --extra dev --extra fleet --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade --quiet -o requirements.lock

clean: ## Remove what was made in a setting: make clean NAME=mini (the default), paper or check (of check-paper); keeps real files and .optuna
	@case "$(NAME)" in mini|paper|check) ;; *) echo "error: which setting? make clean NAME=mini, NAME=paper or NAME=check"; exit 2;; esac
	rm -rf results/$(NAME) reports/$(NAME) .work/*/$(NAME)-* $(filter-out data/$(NAME)/raw,$(wildcard data/$(NAME)/*))
	test $(NAME) != mini || rm -rf data/mini .work/generate
	test $(NAME) != check || rm -rf data/check data/check-* results/check-* .work/check-paper
