# make demo: installs, then trains a character language model and lets it write
# make test: installs, then formats, lints, type-checks and runs the fast tier of the tests, in at most 6 minutes on two cores
# make test-all: the same with every test
# make test-rest: the tests that the fast tier leaves out, and nothing else
#   The fast tier takes each test that is not marked `long`, and of a test with many cases one in four, so that it meets
#   every law, every cell and every option; tests/conftest.py chooses. At its end pytest prints how many programs were
#   compiled and by which tests: that, not arithmetic, is where the time goes.
# make cuda: NVIDIA's compiler, with which benchmarks.gpu_programs and a test compile for a GPU on a machine without one
# make benchmark: speed and memory beside every other LSTM that is installed, three workloads in 3 minutes

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: demo check test test-all test-rest benchmark cuda install clean

demo: install
	$(BIN)/python examples/char_lm.py

check: install
	$(BIN)/ruff format .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check
	$(PYTEST) --tier fast

test-rest: install
	$(PYTEST) --tier rest

test-all: check
	$(PYTEST)

benchmark: install
	$(BIN)/python -m benchmarks.run --quick

cuda: install
	$(BIN)/python -c 'import jax, sys; sys.exit(jax.__version_info__ < (0, 11) and "jax 0.11 or newer is needed: make cuda PYTHON=python3.13 VENV=.venv-newest")'
	version=$$($(BIN)/python -c 'import jax; print(jax.__version__)') && $(BIN)/python -m pip install --quiet \
		--disable-pip-version-check --no-deps --upgrade --target $(VENV)/cuda -c constraints.txt \
		jax-cuda13-plugin==$$version jax-cuda13-pjrt==$$version nvidia-cuda-nvcc nvidia-nvvm nvidia-cuda-nvdisasm

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.13 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	touch $@

clean:
	rm -rf $(VENV)
