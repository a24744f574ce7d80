# make demo: see a whole campaign.  make test: the test suite.  make lint: style, types, architecture.
# make docs: the manual, site/index.html.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all fuzz crash lint docs ci clean

demo: $(STAMP)
	$(BIN)/labloop demo

# The suite is many small computations: a process a core and one more, for those that wait, one thread each, their bytecode
# kept; tests/conftest.py says what stays together. On Linux they are forks of one that has imported everything.
WORKERS = $$(( $$($(BIN)/python -c 'import os; print(os.cpu_count())') + 1 ))
ifeq ($(shell uname),Linux)
TOGETHER = --forks $(WORKERS)
else
TOGETHER = -n $(WORKERS) --dist loadscope --no-loadscope-reorder
endif
test test-all: export OMP_NUM_THREADS = 1
test test-all: export PYTHONDONTWRITEBYTECODE =
test: $(STAMP)
	$(BIN)/pytest $(TOGETHER) -m "not slow"

test-all: $(STAMP)
	$(BIN)/pytest $(TOGETHER)

# The readers against 10,000 spoiled files and as many drawn ones, each before a ledger that must not move if it is refused;
# and `verify` against 2,000 flipped bits of a ledger and 200 tamperings, each of which must be told or harmless.
fuzz: $(STAMP)
	LABLOOP_FUZZ=10000 OMP_NUM_THREADS=1 $(BIN)/pytest tests/test_readers.py -k whatever
	LABLOOP_FLIPS=2000 LABLOOP_TAMPERINGS=200 OMP_NUM_THREADS=1 $(BIN)/pytest tests/test_damage.py -k whatever

# Kills a campaign 200 times at random moments, and ingests 200 files by 8 processes, on SQLite and PostgreSQL; minutes.
crash: $(STAMP)
	LABLOOP_KILLS=200 LABLOOP_FILES=200 OMP_NUM_THREADS=1 $(BIN)/pytest tests/test_crash.py

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Offline; a warning, such as a link inside that leads nowhere, is an error.
docs: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -q -W --keep-going -b html docs site

ci: lint docs test

# The pins are what we test with; users may take any version in pyproject's ranges.
# design-bench asks for packages that it does not need and that break each other, so it comes alone.
$(STAMP): pyproject.toml config/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c config/constraints.txt pip setuptools wheel
	$(BIN)/pip install -q -c config/constraints.txt torch
	$(BIN)/pip install -q -c config/constraints.txt -e '.[dev]'
	$(BIN)/pip install -q --no-deps --no-build-isolation design-bench==2.0.20
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info labloop-demo site docs/reference/made
