# make quickstart   a retriever trained, indexed, searched and measured on this machine's own docstrings
# make test         the test suite
# make examples     every example end to end on a small collection, a few steps each
# make docs         the documentation as a site: build/docs/index.html
# Each sets up .venv if it is missing. PYTHON=python3.12 chooses the interpreter (3.11 or later).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv

.PHONY: help quickstart test examples docs clean
help:
	@grep '^# ' Makefile | cut -c3-

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "drtools needs Python 3.11 or later; $(PYTHON) is older: say make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cpu,demo,test]'
	touch $@

quickstart: $(VENV)/ready
	@$(MAKE) --no-print-directory -f examples/quickstart/Makefile

test: $(VENV)/ready
	$(VENV)/bin/python -m pytest

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
