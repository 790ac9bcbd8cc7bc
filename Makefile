# Each target does all of its own set-up in .venv: a fresh machine needs Python (3.10 or later) and make.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready

.PHONY: setup demo test test-page test-slurm gpu lint docs

setup: $(READY)

demo: $(READY)
	$(VENV)/bin/python -m benchmark.run --quick

test: $(READY)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses auto --dist worksteal

# The report in Debian's Chromium; root can install it here, and without it the tests are skipped.
test-page: $(READY)
	tests/tools/chromium.sh
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest tests/integration/page_browser.py

# A real SLURM of one node; needs root and, the first time, Debian's packages.
test-slurm: $(READY)
	tests/integration/slurm_cluster.sh up
	SLURM_CONF=$${SLURM_TEST_FOLDER:-/var/tmp/debiasing-slurm}/slurm.conf OMP_NUM_THREADS=1 \
	  $(VENV)/bin/python -m pytest tests/integration/slurm_integration.py; code=$$?; \
	  tests/integration/slurm_cluster.sh down; exit $$code

# What only a GPU can show, in MINUTES at most; the same again goes on where it stood.
MINUTES ?= 25
gpu: $(READY)
	$(VENV)/bin/python tests/tools/gpu.py --minutes $(MINUTES)

# The site: the report and the pages of docs/, in site/.
docs: $(READY)
	$(VENV)/bin/python -m pip install --quiet --editable '.[docs]'
	$(VENV)/bin/python -m benchmark.run --all --render-only >/dev/null
	$(VENV)/bin/python -m mkdocs build --strict

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	touch $(READY)
