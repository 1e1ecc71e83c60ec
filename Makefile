# Every target makes its own environment in .venv from the tested versions in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: demo test check slow docs bench clean

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
	$(PYTEST)

check: .venv/.test  ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

slow: .venv/.test  ## the tests that take minutes
	$(PYTEST) -m slow

docs: .venv/.test  ## the documentation site, in site/
	$(BIN)/mkdocs build --strict

ROOT ?= data
bench: .venv/.test  ## measure what the README states: hours; each script goes on where it was stopped
	$(BIN)/python benchmarks/startup.py --root $(ROOT)
	$(BIN)/python benchmarks/embedding.py --root $(ROOT)
	$(BIN)/python benchmarks/throughput.py --root $(ROOT)
	$(BIN)/python benchmarks/diagnostics.py --root $(ROOT)
	$(BIN)/python benchmarks/frozen.py --root $(ROOT)
	$(BIN)/python benchmarks/time_to_accuracy.py --root $(ROOT)
	$(BIN)/python benchmarks/fashion_mnist.py --root $(ROOT)
	$(BIN)/python benchmarks/one_class.py --root $(ROOT)
	$(BIN)/python benchmarks/magnetic_tile.py --root $(ROOT)
	$(BIN)/python benchmarks/false_alarms.py --root $(ROOT) --tiles $(ROOT)/magnetic_tile
	$(BIN)/python benchmarks/anomalib_patchcore.py --root $(ROOT)
	$(BIN)/python benchmarks/reduction.py --root $(ROOT)
	$(BIN)/python benchmarks/clustering.py --root $(ROOT)
	$(BIN)/python benchmarks/explorer.py --root $(ROOT)
	$(BIN)/python benchmarks/evidence.py --root $(ROOT)
	$(BIN)/python benchmarks/backbone.py --root $(ROOT)
	$(BIN)/python benchmarks/partial.py --root $(ROOT)
	$(BIN)/python benchmarks/adviser.py --root $(ROOT)
	$(BIN)/python benchmarks/adaptation.py --root $(ROOT) --photographs $(ROOT)/bsds500
	$(BIN)/python benchmarks/adaptation_pretrained.py --root $(ROOT) --photographs $(ROOT)/bsds500
	$(BIN)/python benchmarks/adaptation_verdict.py --root $(ROOT) --photographs $(ROOT)/bsds500
	$(BIN)/python benchmarks/configurations.py
	$(BIN)/python benchmarks/export.py

clean:
	rm -rf .venv build *.egg-info
