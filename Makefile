# make demo   sweep the bundled model and draw the figures
# make test   run the test suite
# Both set up .venv from constraints.txt first, once.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test slow lint types format clean

demo: .venv/.installed
	$(BIN)/impasto run attend_first --out runs/attend_first

test: .venv/.installed-dev
	$(BIN)/python -m pytest -m "not slow" --durations=10

slow: .venv/.installed-dev
	$(BIN)/python -m pytest -m slow --ignore tests/study/cluster/test_ray.py
	$(BIN)/python -m pytest -m slow -n 0 tests/study/cluster/test_ray.py  # its clusters see each other

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache

types: .venv/.installed-dev
	$(BIN)/pyright

format: .venv/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "impasto needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(PIP) --editable .
	touch $@

.venv/.installed-dev: .venv/.installed
	$(PIP) --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv .pytest_cache .hypothesis .ruff_cache runs
