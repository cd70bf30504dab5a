# Five words: `make demo`, `make test`, `make test-slow`, `make install`, `make clean`.  Each sets up what it needs.
# Wants Python 3.11 or newer with venv; another interpreter: `make PYTHON=python3.12 demo`.
# On Linux the torch of the package index brings CUDA along; PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
# in the environment takes the small one instead.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# As many processes as cores, each with one thread (tests/conftest.py).
PARALLEL := -n logical --maxprocesses 8 --dist worksteal
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: install demo test test-slow clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "prisbench needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; \
	    echo "cannot make .venv: install Python's venv module (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "installing into .venv (the first time takes minutes)"
	@$(PIP) install -qq --constraint constraints.txt torch
	@$(PIP) install -qq --constraint constraints.txt --editable '.[dev]'
	@$(PIP) install -qq --constraint constraints.txt --editable '.[crf]' >.venv/crf.log 2>&1 || \
	    echo "without the dense CRF: pydensecrf2 did not build (it wants a C++ compiler and Python's headers;" \
	         "see .venv/crf.log); all else works"
	@touch $(STAMP)

demo: install
	$(BIN)/prisbench demo

test: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy prisbench
	$(BIN)/python -m pytest -q -m "not slow" $(PARALLEL)
	$(BIN)/prisbench leaderboard --check
	$(BIN)/prisbench card --check

# What is heavier; here a skipped test is a failure.  Tests on real photos take part where PRISBENCH_DATA names them.
test-slow: install
	$(BIN)/python -m pytest -q -m "$(if $(PRISBENCH_DATA),slow or data,slow and not data)" --no-skips $(PARALLEL)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
