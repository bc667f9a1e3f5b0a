# make demo | make test | make setup: nothing is needed beforehand but Python >= 3.11, make and git.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo web test test-quick soak growth lint format docs lock audit clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

setup: $(READY)  ## make the environment in .venv from requirements.lock

# Nothing is reinstalled until one of these two files changes. uv is brought by pip, into the environment itself.
$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed, $(PYTHON) is " + sys.version.split()[0] + "; try: make $(MAKECMDGOALS) PYTHON=python3.12")'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m uv --version >/dev/null 2>&1 || $(PY) -m pip install --quiet --disable-pip-version-check uv
	$(PY) -m uv pip install --quiet --python $(PY) --requirement requirements.lock
	$(PY) -m uv pip install --quiet --python $(PY) --no-deps --editable .
	@touch $@

demo: $(READY)  ## train the four upsamplers on the embedded scenes, compare them in outputs/demo/report.md
	rm -rf outputs/demo
	$(PY) src/train.py sweep=demo
	$(PY) src/report.py runs=outputs/demo

# Models of make demo or of any training will do; where there is none, two small ones are trained once.
web: $(READY)  ## open a page on this machine that compares two models on an image; PORT (7860)
	@find outputs/demo outputs/train outputs/multirun -path '*/checkpoints/best.ckpt' 2>/dev/null | grep -q . || test -e outputs/web/.trained || { \
	  echo "No trained model yet: two small ones are trained first, once. Better ones: make demo."; \
	  $(PY) src/train.py sweep=web && touch outputs/web/.trained; }
	$(PY) src/web.py port=$(or $(PORT),7860)

test: $(READY)  ## all tests, offline
	$(PY) -m pytest

test-quick: $(READY)  ## the tests that take seconds
	$(PY) -m pytest -m "not slow"

soak: $(READY)  ## train for MINUTES (30) while it is killed at least KILLS (20) times; the result must be the undisturbed one
	$(PY) -m tests.soak minutes=$(or $(MINUTES),30) kills=$(or $(KILLS),20)

growth: $(READY)  ## train STEPS (1000) steps of a tiny model and see whether its memory on the host grows
	$(PY) -m tests.growth steps=$(or $(STEPS),1000)

lint: $(READY)  ## formatter, linter and type checker, nothing changed
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

format: $(READY)  ## format, mend what can be mended, clear the notebooks' outputs
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .
	$(PY) -m tests.notebooks || true  # 1: it has cleared outputs

lock: $(READY)  ## pin the newest versions that pyproject.toml admits; no download host is recorded
	$(PY) -m uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	  --no-emit-index-url --no-header --no-annotate --upgrade --output-file requirements.lock

docs: $(READY)  ## build the documentation into outputs/docs, offline
	$(PY) -m fastfcn.documentation out=outputs/docs

# pip-audit (Apache-2.0, of the Python Packaging Authority) in an environment of its own. --strict: a package that the list
# does not know fails, instead of passing as harmless.
audit: $(READY)  ## look the locked packages up in the list of known vulnerabilities; needs the network
	@if found=$$($(PY) -m uv tool run --from 'pip-audit>=2.9,<3' pip-audit --requirement requirements.lock --no-deps \
	  --disable-pip --strict --progress-spinner off 2>&1); then echo "$$found"; \
	elif echo "$$found" | grep -qE 'Found [0-9]+ known vulnerabilit'; then echo "$$found"; exit 1; \
	else echo "$$found" | tail -n 1; echo "audit: the list of known vulnerabilities cannot be asked from here (no network, or an index \
	without that list): nothing is known of the packages; call it where there is one." | tr -d '\t' >&2; exit 2; fi

clean:  ## remove the environment and caches; outputs/ and data/ stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
