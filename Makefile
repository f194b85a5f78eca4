# make quickstart   a retriever trained, indexed, searched and measured on this machine's own docstrings
# make test         the test suite, a few minutes
# make test-slow    what takes longer: kills in number, whole examples, every model family, packaging, other processors
# make lint         format, style and types
# make coverage     the test suite, with what it covers: build/coverage/index.html
# make examples     every example end to end on a small collection, a few steps each
# make docs         the documentation as a site: build/docs/index.html
# Each sets up .venv if it is missing. PYTHON=python3.12 chooses the interpreter (3.11 or later).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv

.PHONY: help quickstart test test-slow lint coverage examples docs clean
help:
	@grep '^# ' Makefile | cut -c3-

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "drtools needs Python 3.11 or later; $(PYTHON) is older: use make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cpu,demo,test]'
	touch $@

quickstart: $(VENV)/ready
	@$(MAKE) --no-print-directory -f examples/quickstart/Makefile

test: $(VENV)/ready
	$(VENV)/bin/python -m pytest

# what is promised bit for bit is repeated as on a processor without AVX512, for each library that chooses its own kernels
test-slow: $(VENV)/ready $(VENV)/lint-ready $(VENV)/engines-ready
	$(VENV)/bin/python -m pytest -m slow
	ONEDNN_MAX_CPU_ISA=AVX2 $(VENV)/bin/python -m pytest -m bits
	ATEN_CPU_CAPABILITY=avx2 $(VENV)/bin/python -m pytest -m bits
	MKL_ENABLE_INSTRUCTIONS=AVX2 $(VENV)/bin/python -m pytest -m bits

$(VENV)/engines-ready: $(VENV)/ready
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cpu,engines]'
	touch $@

$(VENV)/lint-ready: $(VENV)/ready
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cpu,lint]'
	touch $@

lint: $(VENV)/lint-ready
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

coverage: $(VENV)/lint-ready
	$(VENV)/bin/python -m pytest --cov --cov-report term:skip-covered --cov-report html:build/coverage
	@echo build/coverage/index.html

examples: $(VENV)/ready
	@$(MAKE) --no-print-directory -f examples/Makefile

$(VENV)/docs-ready: $(VENV)/ready
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cpu,docs]'
	touch $@

docs: $(VENV)/docs-ready
	$(VENV)/bin/python -m sphinx -W --keep-going --quiet docs build/docs
	@echo build/docs/index.html

clean:
	rm -rf $(VENV) build quickstart *.egg-info
