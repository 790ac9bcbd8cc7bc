# Each target does all of its own set-up in .venv: a fresh machine needs Python (3.10 or later) and make.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready

.PHONY: demo test lint

demo: $(READY)
	$(VENV)/bin/python -m benchmark.run --quick

test: $(READY)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	touch $(READY)
