# The two commands: `make run` (ARGS=--once for scripts) and `make test`.
VENV ?= .venv
PYTHON ?= python3
STATE ?= .lanesync/quickstart
ARGS ?=

.PHONY: run test soak tools lint bench docs clean

run: $(VENV)/.installed
	@$(VENV)/bin/lanesync run specs/01-quickstart --state-dir $(STATE) $(ARGS)

test: tools lint
	$(VENV)/bin/pytest -n 2 -q

# Faults at random instants, many times; each round prints the seed that repeats it. Laws with other examples.
soak: tools $(VENV)/.installed-dev
	FAULT_FACTOR=$${FAULT_FACTOR:-25} FAULT_SEED=$${FAULT_SEED:-$$(date +%s)} $(VENV)/bin/pytest -n 2 -q -rs tests/fault \
	  tests/fuzz tests/unit

# Programs of other projects that tests use; where one is missing its tests are skipped.
tools:
	@sh tests/tools.sh

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# Beside the peers that are installed, at small sizes; `python -m bench --record` measures what the page tells.
bench: $(VENV)/.installed-dev
	$(VENV)/bin/python -m bench

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet
	@echo "the documentation is in site/index.html"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) .lanesync build dist site
