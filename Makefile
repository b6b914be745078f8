# Every target makes what it needs: `make demo` and `make test` work in a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HOME_DIR ?= $(HOME)/.sae_assets
INSTALLED := $(VENV)/.installed
REFERENCE := .venv-reference
TESTS ?= not living and not long
WORKERS ?= 2
# One thread per process; where a test asks for more, those that have nothing to do sleep.
THREADS := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
REFERENCE_INSTALLED := $(REFERENCE)/.installed
export DAGSTER_DISABLE_TELEMETRY := yes
# Without compiled files every process of the tests compiles the package anew, and pytest every assertion.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo check units test test-long test-living test-reference reference lint ruff mypy layers docs ui bench \
	browser chaos fuzz audit clean

demo: $(INSTALLED)
	$(BIN)/sae-assets demo --home $(HOME_DIR)

# What is worth a minute before every commit: lint beside all tests but those of the pipeline, processes and browsers.
check: $(INSTALLED)
	$(MAKE) --jobs 2 units lint

units: $(INSTALLED)
	$(THREADS) $(BIN)/python -m pytest -n 2 -m "not living and not long and not slow" \
		--ignore sae_assets_tests/pipeline --ignore sae_assets_tests/browser

test: $(INSTALLED)
	$(THREADS) $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder \
		-m "$(TESTS)"

# The demo's home, every kind of change by every decider, data that arrive, the same work cut in every way, simulations,
# figures from files alone, what is read and opened how often, full disks, signals, states of a process one by one,
# loops for the largest data sets and for other processors, models and SAEs of every library, protocols, recipes of
# CONTRIBUTING.md, and a browser.
test-long: $(INSTALLED)
	$(MAKE) test TESTS=long

# A real daemon, killed and restarted, and the UI driven by clicks: three groups of tests that often wait, side by side.
# Pictures of the UI are kept in out/screenshots.
test-living: $(INSTALLED)
	$(MAKE) test TESTS=living WORKERS=3

test-reference: reference
	SAE_ASSETS_REQUIRE_REFERENCE=1 $(THREADS) \
		$(BIN)/python -m pytest -m long sae_assets_tests/saes/reference_libraries

reference: $(REFERENCE_INSTALLED)

lint: ruff mypy layers

ruff: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

mypy: $(INSTALLED)
	$(BIN)/mypy

layers: $(INSTALLED)
	$(BIN)/lint-imports

# Tables in README.md and docs/ from the descriptions in the code.
docs: $(INSTALLED)
	$(BIN)/python -m tools.docs_tables

ui: $(INSTALLED)
	$(BIN)/sae-assets ui --home $(HOME_DIR)

# Every figure at a small size, on the home of `make demo`, into benchmarks/RESULTS.md.
bench: $(INSTALLED)
	$(BIN)/python benchmarks/run.py --home $(HOME_DIR)

browser: $(INSTALLED)
	$(BIN)/python -m sae_assets_tests.browser.screenshots --home $(HOME_DIR) --out out/screenshots

# Commands killed at 200 random moments, in homes as they are shipped; other moments with SEED=….
SEED ?= 0
chaos: $(INSTALLED)
	$(THREADS) $(BIN)/python -m sae_assets_tests.chaos --kills 200 --seed $(SEED)

# 2,000 random damages of a home and as many of annotations, each of which reading must notice.
fuzz: $(INSTALLED)
	$(THREADS) $(BIN)/python -m sae_assets_tests.fuzz --damages 2000 --seed $(SEED)

# Python compiles what it imports; to compile all that is installed takes a third of the time. The pip of
# Python 3.11 takes nearly twice today's CPU time for the same packages; setuptools warns of every editable installation.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14), f"Python 3.11 to 3.13 is needed, found {sys.version.split()[0]}; set PYTHON=…"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt --upgrade pip
	$(BIN)/python -W ignore -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# Libraries that our tests compare with, for the tests alone: beside .venv, from which it borrows torch and the rest.
$(REFERENCE_INSTALLED): constraints-reference.txt | $(INSTALLED)
	$(BIN)/python -m venv --clear --without-pip $(REFERENCE)
	echo '*' > $(REFERENCE)/.gitignore
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(REFERENCE)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth"
	$(BIN)/python -m pip --python $(REFERENCE)/bin/python install --quiet --no-compile --disable-pip-version-check \
		--no-deps -r constraints-reference.txt
	touch $@

# The versions that were tested beside known advisories, in an environment of its own. It fails where a package is affected, and
# where nothing could be found out, which is no verdict.
audit:
	$(PYTHON) -m venv .venv-audit
	echo '*' > .venv-audit/.gitignore
	.venv-audit/bin/pip install --quiet pip-audit
	.venv-audit/bin/pip-audit --strict --disable-pip --no-deps -r constraints.txt

clean:
	rm -rf $(VENV) $(REFERENCE) .venv-audit build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .grimp_cache
