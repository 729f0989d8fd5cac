# Every target sets up what it needs in a virtual environment of its own, .venv. See "Development" in README.md.
#   PYTHON   the Python to make it with, 3.10 or newer:        make test PYTHON=python3.12
#   PIPFLAGS more options for its pip install, such as the index of smaller CPU builds of torch:
#            make test PIPFLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON = python3
PIPFLAGS =
ARGS =

BIN = .venv/bin
READY = .venv/.ready

.PHONY: demo test lint format types coverage bench clean

demo: $(READY)
	$(BIN)/pytest-robust demo

# The models of the tests are too small for threads: one is faster, and a process on each core. Fewer: make test ARGS=-n0
# They start many processes: where bytecode is not written by itself, each would compile the package again.
test: $(READY)
	$(BIN)/python -m compileall -q pytest_robust
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY)
	$(BIN)/mypy

coverage: $(READY)
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

bench: $(READY)
	$(BIN)/python benchmarks $(ARGS)

clean:
	rm -rf .venv build dist .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# The stamp is written last: an install that was interrupted is taken up again, a finished one is not repeated.
$(READY): pyproject.toml constraints-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "pytest-robust needs Python 3.10 or newer; $(PYTHON) is: `$(PYTHON) --version 2>&1`" >&2; \
	    echo "Name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIPFLAGS) -c constraints-dev.txt -e ".[dev]"
	@touch $@
