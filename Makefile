# The few commands that people type. They need Python 3.11 or newer, git and make; all else is
# installed, at the versions of constraints.txt, into .venv on the first call.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Compiling every file of every package would double the time that an installation takes.
PIP    := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile

# No argument lists the commands.
help:
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' Makefile

.PHONY: help demo test test-big test-faults docs lint bench clean

demo: $(VENV)/runtime.stamp  ## judge the bundled examples with the bundled model and meta RM
	$(BIN)/grm judge --meta-rm tiny-meta

test: lint docs  ## everything that CI checks
	$(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder --nbmake tests $(wildcard notebooks)

test-big: $(VENV)/dev.stamp  ## what CI has no room for: 11 GB of disk, 8 GB of memory, minutes
	$(BIN)/python -m pytest -m big -o faulthandler_timeout=3600 tests

test-faults: $(VENV)/dev.stamp  ## kills, damage, a full disk, two processes, NaN: half an hour
	$(BIN)/python -m tests.faults.run

docs: $(VENV)/dev.stamp  ## the site, in dist/docs; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs dist/docs

lint: $(VENV)/dev.stamp  ## style, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/runtime.stamp  ## speed and memory, measured here
	$(BIN)/grm bench

clean:  ## remove the environment and all caches
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# A stamp is older than what it was made from when a pin or a dependency has changed.
$(VENV)/runtime.stamp: constraints.txt pyproject.toml
	$(call install,.)

$(VENV)/dev.stamp: constraints.txt pyproject.toml
	$(call install,.[dev])
	@touch $(VENV)/runtime.stamp

define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"grm_jax needs Python 3.11 or newer, this is " + sys.version.split()[0] + \
		": name another with `make PYTHON=python3.12 ...`")'
	@echo "Installing grm-jax$(1:.%=%) into $(VENV): once, in one to three minutes."
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt --editable '$(1)'
	@touch $@
endef
