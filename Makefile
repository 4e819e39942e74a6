# Everything a person needs: `make demo`, `make test`. Each target sets up .venv first, from pinned, hashed requirements.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
NAME   ?= all
SIZE   ?= full
# Test processes side by side, each with servers of its own; most of a test's time is waiting for one.
TESTERS ?= 2
UV     := 0.13.8
COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-emit-index-url

.PHONY: demo test check bench lock clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    an agent's runs end to end on embedded servers, verified, then tampered with and found out"
	@echo "make test    every test, on real Kafka and Postgres"
	@echo "make check   format, lint, types, layers"
	@echo "make bench   [NAME=append|latency|growth|verify|otlp] [SIZE=small|full]; results in bench/results/"

# uv reads the same lock many times faster; plain pip is the way where uv can't be had.
$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed; say which with: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@if $(BIN)/python -m pip install --quiet uv==$(UV) && \
		$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock; then :; \
	else $(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock; fi
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Real agent runtimes, which tests alone use, in environments of their own: shared by those that can share one.
RUNTIMES := $(VENV)/runtimes/shared/ready $(VENV)/runtimes/adk/ready

$(VENV)/runtimes/%/ready: tests/runtimes/%.lock | $(VENV)/ready
	$(BIN)/python -m venv --clear --without-pip $(@D)
	@if $(BIN)/uv pip sync --quiet --python $(@D)/bin/python --require-hashes $<; then :; \
	else $(BIN)/python -m pip --python $(@D)/bin/python install --quiet --require-hashes -r $<; fi
	@touch $@

demo: $(VENV)/ready
	$(BIN)/tally demo

test: $(VENV)/ready $(RUNTIMES)
	$(BIN)/python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder

check: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(VENV)/ready
	$(BIN)/python -m bench --name $(NAME) --size $(SIZE)

# Resolve the lock anew, then read the diff.
lock: $(VENV)/ready
	$(BIN)/python -m pip install --quiet uv==$(UV)
	$(COMPILE) --all-extras pyproject.toml -o requirements.lock
	$(COMPILE) tests/runtimes/shared.in -o tests/runtimes/shared.lock
	$(COMPILE) tests/runtimes/adk.in -o tests/runtimes/adk.lock

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
