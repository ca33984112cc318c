# `make demo` and `make test` need Python 3.11 or later, and a connection to PyPI the first time.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

DOCS   := $(VENV)/.docs

.PHONY: demo test unit lint check format docs reference diagrams clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all]" --group dev
	touch $(READY)

demo: $(READY)
	$(BIN)/nad code --selector knn --n 8 --seed 5 --max-new-tokens 160 \
	  "Write a Python function is_prime(n) that returns True if n is a prime number and False otherwise."

# everything, with the real model and the real sandboxes
test: unit
	OMP_NUM_THREADS=1 sandbox/engine.sh with $(BIN)/python -m pytest tests/integration tests/standard

# a minute; no network, no weights
unit: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal tests/unit

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# before every commit
check: lint unit

# the site, in site/; needs none of the library's dependencies, since the API is read from the sources
docs: $(DOCS)
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet

$(DOCS): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group docs
	touch $(DOCS)

# the pages of docs/reference that follow from the code
reference: $(READY)
	$(BIN)/python docs/scripts/reference.py

# the pictures of the pages' diagrams; needs npm and a browser
diagrams: $(READY)
	$(BIN)/python docs/scripts/diagrams.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
