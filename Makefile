PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
EPOCHS ?= 4

.PHONY: install demo test test-slow lint format

install: $(VENV)/installed

$(VENV)/installed: setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	# For the data that they carry alone; what they would import is not needed.
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps aeon seglearn
	touch $@

demo: install
	mkdir -p $(DEMO)
	$(BIN)/dsae prepare toy-sprites $(DEMO)/toy-sprites.h5 --overwrite
	$(BIN)/dsae fit $(DEMO)/toy-sprites.h5 $(DEMO)/run --epochs $(EPOCHS) --overwrite
	$(BIN)/dsae reconstruct $(DEMO)/run
	$(BIN)/dsae swap $(DEMO)/run

test: install
	$(BIN)/python -m pytest

test-slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
