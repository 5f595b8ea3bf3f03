# Two commands from a bare checkout: `make run` (the main job) and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# The Triton of the GPU host, whatever this torch asks for: kernels are compiled and interpreted with it in the tests.
TRITON := triton==3.6.0
SCENARIO ?= scenarios/mixtral.yaml

.PHONY: run test test-full lint setup schema clean
.DEFAULT_GOAL := run

run: $(STAMP)
	$(BIN)/harness run $(SCENARIO)

test: $(STAMP) lint
	$(BIN)/python -m pytest

test-full: $(STAMP)
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .

schema: $(STAMP)
	$(BIN)/python -m harness.scenario.export scenarios/schema.json

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(TRITON)
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info
