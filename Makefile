# make lab    set up and open the book in JupyterLab
# make test   set up and run every test, notebooks and browser included
# make site   build the static site into _site/
# make serve  build the site, serve it and print its address
# make gpu    set up and measure the kernels on this machine's GPU (under 8 minutes)

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt
# Where to take torch from, if not from the default index, e.g. TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# How many unit tests run side by side. The browser draws in software and keeps two cores busy by itself.
WORKERS ?= 2
SETUP  := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help lab test notebooks site serve bench gpu constraints clean

help:
	@sed -n 's/^# make/  make/p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "attnbook needs Python 3.11 or newer; try: make PYTHON=python3.12"; exit 1; }
	@# Debian and Ubuntu leave venv out of python3; what a failed try leaves behind would pass for a set-up.
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); tools/ensure-venv && $(PYTHON) -m venv $(VENV); } || \
	  { rm -rf $(VENV); exit 1; }

# Stamps: each level of set-up runs once, and again only when a pin changes.
$(VENV)/.lab: $(BIN)/python $(SETUP)
	@echo "attnbook: setting up .venv (once; a few minutes)"
	$(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) torch==2.13.0)
	$(PIP) -e .
	@touch $@

$(VENV)/.site: $(VENV)/.lab package-lock.json
	$(PIP) -e '.[site]'
	$(BIN)/npm ci --loglevel=error --no-audit --no-fund
	@touch $@

$(VENV)/.test: $(VENV)/.site
	$(PIP) -e '.[site,test]'
	@touch $@

lab: $(VENV)/.lab
	$(BIN)/attnbook lab

site: $(VENV)/.site
	$(BIN)/attnbook site

serve: $(VENV)/.site
	$(BIN)/attnbook serve

test: $(VENV)/.test
	tools/ensure-chromium
	$(BIN)/python -m pytest tests --ignore=tests/browser -n $(WORKERS) -m 'not alone'
	$(BIN)/python -m pytest tests --ignore=tests/browser -m alone
	$(BIN)/python -m pytest --nbval --nbval-current-env --nbval-sanitize-with tests/nbval.cfg notebooks
	$(BIN)/attnbook site
	$(BIN)/python -m pytest tests/browser

# Run every notebook afresh and store its outputs: what nbval compares and the site shows.
notebooks: $(VENV)/.test
	$(BIN)/python tools/run_notebooks.py

bench: $(VENV)/.test
	$(BIN)/python benchmarks/measure.py

gpu: $(VENV)/.lab
	$(BIN)/attnbook bench gpu

constraints: $(VENV)/.test
	(head -1 constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed 's/^\(torch==[0-9.]*\).*/\1/') > .constraints.new
	mv .constraints.new constraints.txt

clean:
	rm -rf $(VENV) node_modules _site .site-build
