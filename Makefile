# make demo: installs, then trains a character language model and lets it write
# make test: installs, then formats, lints, type-checks and tests
# make cuda: NVIDIA's compiler, with which benchmarks.gpu_programs and a test compile for a GPU on a machine without one
# make benchmark: speed and memory beside every other LSTM that is installed, three workloads in 3 minutes

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test benchmark cuda install clean

demo: install
	$(BIN)/python examples/char_lm.py

test: install
	$(BIN)/ruff format .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile

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
