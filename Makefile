# Every target makes what it needs: `make demo` and `make test` work in a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HOME_DIR ?= $(HOME)/.sae_assets
INSTALLED := $(VENV)/.installed
export DAGSTER_DISABLE_TELEMETRY := yes

.PHONY: demo test lint ui bench browser clean

demo: $(INSTALLED)
	$(BIN)/sae-assets demo --home $(HOME_DIR)

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ui: $(INSTALLED)
	$(BIN)/sae-assets ui --home $(HOME_DIR)

bench: $(INSTALLED)
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

browser: $(INSTALLED)
	$(BIN)/python -m sae_assets_tests.browser.screenshots --home $(HOME_DIR) --out out/screenshots

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14), f"Python 3.11 to 3.13 is needed, found {sys.version.split()[0]}; set PYTHON=…"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
