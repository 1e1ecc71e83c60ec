# Every target makes its own environment in .venv from the tested versions in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check slow bench clean

.venv/.demo: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/.test: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@ .venv/.demo

demo: .venv/.demo  ## the whole story on embedded images; ends in demo/index.html
	$(BIN)/ssl-transfer demo --out demo --overwrite true

test: check  ## lint, types, layers, and the tests
	$(BIN)/python -m pytest -q

check: .venv/.test  ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

slow: .venv/.test  ## the tests that take minutes
	$(BIN)/python -m pytest -q -m slow

bench: .venv/.test  ## measure what the README states; about an hour
	$(BIN)/python benchmarks/fashion_mnist.py

clean:
	rm -rf .venv build *.egg-info
