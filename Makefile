# `make demo` and `make test` need nothing but Python 3.11 or later; the sandbox tests also a Docker engine (see README).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test unit check format clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all]" --group dev
	touch $(READY)

demo: $(READY)
	$(BIN)/nad code --selector knn --n 8 --seed 5 --max-new-tokens 160 \
	  "Write a Python function is_prime(n) that returns True if n is a prime number and False otherwise."

test: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" ./tests/run

unit: $(READY)
	$(BIN)/python -m pytest tests/unit

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/unit

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
